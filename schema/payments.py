"""Payments in the contract: methods, attempts, and what the buyer does next."""

from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

import i18n
from domain.core import ids
from domain.core.money import Money as CoreMoney
from domain.payments import SavedMethod as SavedRow
from resolvers.context import Asked
from resolvers.orders import Paid, offer_of
from resolvers.payments import Offered
from schema.field import derived, field, object_type
from schema.money import Money
from schema.node import Node
from schema.scalars import JSON, CurrencyCode

if TYPE_CHECKING:
    from schema.orders import Order


@strawberry.enum(description="How a method is used.")
class PaymentMethodKind(Enum):
    """See domain.payments.ports.MethodKind."""

    CARD = "card"
    WALLET = "wallet"
    QR = "qr"
    BANK = "bank"
    CRYPTO = "crypto"
    REDIRECT = "redirect"


@strawberry.enum(description="Where an attempt to pay stands.")
class PaymentStatus(Enum):
    """CASES M02. UNKNOWN is left only by a provider's word, a query or a person."""

    STARTED = "started"
    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"
    UNKNOWN = "unknown"
    CAPTURED = "captured"
    DECLINED = "declined"
    FAILED = "failed"
    VOIDED = "voided"


def _name(root: strawberry.Parent[Any], info: Asked) -> str:
    return i18n.text(f"method.{root.method.code}", info.context.language)


@object_type(description="A way to pay.", rows=(Offered,))
class PaymentMethod:
    """A method with the reasons of its rank."""

    code: str = derived(lambda one: one.method.code, description="What `pay(method:)` takes.")
    name: str = field(description="Its name in the language of the request.", resolver=_name)
    currencies: list[CurrencyCode] = derived(
        lambda one: list(one.method.currencies), description="Currencies it can take."
    )
    kind: PaymentMethodKind = derived(
        lambda one: PaymentMethodKind(one.method.kind), description="How it is used."
    )
    reasons: list[str] = derived(
        lambda one: list(one.reasons),
        description="Why it stands where it does, strongest first: LOCAL, ON_DEVICE, FITS_PLATFORM, "
        "LOWEST_COST, WORLDWIDE.",
    )
    surcharge: Money | None = field(description="What the buyer pays on top; null when nothing.")
    can_save: bool = derived(
        lambda one: one.method.can_save, description="Whether `pay(saveMethod:)` can save it."
    )


def _saved_with(saved: SavedRow) -> Offered:
    return Offered(offer_of(saved.provider, saved.method).method)


@object_type(
    description="What a buyer paid by and can pay by again at once. Never card data.",
    rows=(SavedRow,),
)
class SavedMethod:
    """Owned by the order it was saved with and those bought again from it."""

    id: strawberry.ID = derived(
        lambda saved: ids.encode("svm", saved.id), description="Opaque id, `svm_…`."
    )
    order_id: strawberry.ID = derived(
        lambda saved: ids.encode("ord", saved.owner_id),
        description="The order it was saved with, `ord_…`; names it in `buyAgain` and `forgetMethod`.",
    )
    label: str = field(description='The provider\'s words for it, e.g. "Sandbox ····4242".')
    method: PaymentMethod = derived(_saved_with, description="The method it was saved with.")
    saved_at: datetime = derived(lambda saved: saved.created_at, description="When it was saved.")


@strawberry.type(description="Send the buyer's browser to `url`.")
class RedirectAction:
    """Hosted payment page."""

    url: str = field(description="An absolute http(s) address.")


@strawberry.type(description="Show `content` as a QR code.")
class QrCodeAction:
    """Scanned with the buyer's wallet."""

    content: str = field(description="Text of the code.")
    expires_at: datetime = field(description="When the code stops working.")


@strawberry.type(description="Open the device's wallet sheet.")
class WalletAction:
    """Apple Pay and its kind."""

    wallet: str = field(description="Which wallet, e.g. apple_pay.")
    payload: JSON = field(description="What its sheet takes.")


@strawberry.type(description="The buyer sends exactly `amount` to `address`.")
class TransferAction:
    """Bank transfer or chain payment."""

    address: str = field(description="Account or chain address.")
    amount: Money = field(description="The exact amount.")
    expires_at: datetime = field(description="When the address stops being watched for this order.")


@strawberry.type(description="The payer proves who they are at `url`.")
class ChallengeAction:
    """3-D Secure."""

    url: str = field(description="An absolute https address.")


NextAction = Annotated[
    RedirectAction | QrCodeAction | WalletAction | TransferAction | ChallengeAction,
    strawberry.union("NextAction", description="What the buyer does next."),
]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def next_action(paid: Paid) -> Any:
    """The stored action as a member of the union; None once nothing is left to do."""
    stored = paid.action
    if stored is None or paid.state not in ("requires_action", "processing", "unknown"):
        return None
    match stored["kind"]:
        case "redirect":
            return RedirectAction(url=stored["url"])
        case "qr":
            return QrCodeAction(content=stored["content"], expires_at=_moment(stored["expires_at"]))
        case "wallet":
            return WalletAction(wallet=stored["wallet"], payload=stored["payload"])
        case "transfer":
            return TransferAction(
                address=stored["address"],
                amount=CoreMoney(stored["minor"], stored["ccy"]),  # type: ignore[arg-type]
                expires_at=_moment(stored["expires_at"]),
            )
        case _:
            return ChallengeAction(url=stored["url"])


def _offered(paid: Paid) -> Offered:
    return Offered(paid.offer.method)


@object_type(description="One attempt to pay an order.", rows=(Paid,))
class Payment(Node):
    """At most one attempt of an order takes money."""

    id: strawberry.ID = derived(
        lambda paid: ids.encode("pay", paid.id), description="Opaque id, `pay_…`."
    )
    status: PaymentStatus = derived(
        lambda paid: PaymentStatus(paid.state if paid.state != "authorized" else "processing"),
        description="Where it stands.",
    )
    method: PaymentMethod = derived(_offered, description="How it is paid.")
    amount: Money = field(description="What was asked of the buyer.")
    next_action: NextAction | None = derived(
        next_action,
        description="What the buyer does next; null when nothing is left to do, and for everyone else.",
    )
    order: Annotated["Order", strawberry.lazy("schema.orders")] = derived(
        lambda paid: paid.seen, description="The order it pays."
    )
    access_key: str | None = field(
        description="Opens the order for its buyer; only in the answer of `buyAgain`, which placed it, else null."
    )
