"""Who may: plain checks at the parent object, before anything below it is resolved.

Somebody else's object is NOT_FOUND, in the same words as one that does not exist; a right that is
missing in one's own merchant is FORBIDDEN.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol
from uuid import UUID

from domain import orders, partners
from domain.core import ids, vault
from domain.core.audit import Actor
from domain.core.errors import NotFound
from domain.core.money import Money
from domain.core.settings import settings
from domain.identity import Forbidden, OperatorRole, Role, Unauthenticated, Viewer
from domain.orders import Order
from domain.partners import Scope, Seller
from resolvers.context import Context

# Who may do what in a merchant; an owner may all of it, an admin of the platform too.
REFUNDERS = (Role.FINANCE, Role.SUPPORT, OperatorRole.FINANCE, OperatorRole.SUPPORT)
STOCKERS = (Role.CATALOGUE,)
MONEY_READERS = (
    *(Role.FINANCE, Role.READ_ONLY, Role.SUPPORT),
    *(OperatorRole.FINANCE, OperatorRole.SUPPORT),
)
SHELF_READERS = (*Role, OperatorRole.FINANCE, OperatorRole.RISK, OperatorRole.SUPPORT)


def require_viewer(context: Context) -> Viewer:
    """Who is signed in. Errors: Unauthenticated."""
    if context.viewer is None:
        raise Unauthenticated()
    return context.viewer


def require_merchant(context: Context, merchant_id: UUID, *allowed: Role | OperatorRole) -> Viewer:
    """The viewer, when they hold one of `allowed` in the merchant or on the platform.

    Without `allowed` every member may; operators pass only where one of their roles is named.
    Errors: Unauthenticated; NotFound for somebody else's merchant; Forbidden for the wrong role in
    one's own.
    """
    return require_member(require_viewer(context), merchant_id, *allowed)


def require_member(viewer: Viewer, merchant_id: UUID, *allowed: Role | OperatorRole) -> Viewer:
    """The same for somebody known already, outside of GraphQL too. Errors: NotFound, Forbidden."""
    # Roles of both kinds share words ("finance"), so they are told apart by type, never by value.
    roles = [role for role in allowed if isinstance(role, Role)]
    platform = [role for role in allowed if isinstance(role, OperatorRole)]
    if platform and viewer.may_operate(*platform):
        return viewer
    if viewer.may(merchant_id, *(roles or ([Role.OWNER] if allowed else []))):
        return viewer
    if merchant_id in viewer.roles or viewer.operator:
        raise Forbidden()
    raise NotFound()


def limit(context: Context, scope: str) -> Callable[[Money], Awaitable[None]] | None:
    """What counts money against the limits of the app that asks; None when a person does."""
    viewer = context.viewer
    if viewer is None or viewer.app is None:
        return None
    return partial(partners.spend, viewer.app.grant_id, scope)


class Owned(Protocol):
    """Something that belongs to a merchant."""

    @property
    def merchant_id(self) -> UUID:
        """Whose it is."""
        ...


def stocker(context: Context, of: Owned | UUID | None, *path: str) -> Actor:
    """The viewer as the audit log names them, when they run the shelf that `of` (or the merchant) is on.

    Errors: Unauthenticated; NotFound at `path` of the input for what is not theirs; Forbidden for the
    wrong role.
    """
    require_viewer(context)
    merchant_id = _owner(of)
    if merchant_id is None or not may_see(context, merchant_id):
        raise NotFound(path=("input", *path))
    return actor(context, require_merchant(context, merchant_id, *STOCKERS))


def actor(context: Context, viewer: Viewer, kind: str = "merchant") -> Actor:
    """Who the audit log names: the person, or the app that acts for them under a grant of theirs."""
    if viewer.app is None:
        return Actor(kind, ids.encode("acc", viewer.account_id), request_id=context.request_id)
    return Actor("app", ids.encode("gnt", viewer.app.grant_id), request_id=context.request_id)


def _owner(of: Owned | UUID | None) -> UUID | None:
    return of if of is None or isinstance(of, UUID) else of.merchant_id


def shelf_reader(context: Context, of: Owned | UUID | None) -> None:
    """Pass members of the merchant and operators. Errors: Unauthenticated, NotFound, Forbidden."""
    require_viewer(context)
    merchant_id = _owner(of)
    if merchant_id is None:
        raise NotFound()
    require_merchant(context, merchant_id, *SHELF_READERS)


def require_operator(context: Context, *roles: OperatorRole) -> Viewer:
    """The viewer, when they are an operator in one of `roles` (any, without). Errors:
    Unauthenticated, Forbidden."""
    viewer = require_viewer(context)
    if not viewer.may_operate(*roles):
        raise Forbidden()
    return viewer


def buyer_of(context: Context, order: Order) -> UUID | None:
    """The viewer's account, when the order was placed with an address that was theirs, proved, then or first after.

    A typed address proves nothing, so whoever has not proved it is nobody's buyer (E19).
    """
    viewer = context.viewer
    if viewer is None or not any(
        held.holds(order.email, order.created_at) for held in viewer.addresses
    ):
        return None
    return viewer.account_id


async def key_for(
    context: Context, order_id: UUID, given: str | None, *path: str, saved: bool = False
) -> str:
    """The access key that opens an order for its buyer: the given one, or that of an order of the signed-in buyer.

    `saved`: to use what was saved with it, the order it was saved with must be theirs too. Errors: NotFound, in the
    same words as a wrong key.
    """
    if given is not None:
        return given
    if context.viewer is not None and context.viewer.addresses:
        wanted = {order_id, await orders.root_of(order_id)} if saved else {order_id}
        found = await orders.views(wanted)
        if len(found) == len(wanted) and all(
            buyer_of(context, one.order) is not None for one in found.values()
        ):
            return vault.access_key(order_id)
    raise NotFound(path=path)


async def is_buyer(context: Context, order_id: UUID, access_key: str | None) -> bool:
    """Whether an access key makes the caller the order's buyer.

    An app is in the buyer's place for what it placed itself, in the merchant of its grant, and for nothing else:
    another order's key, wherever it has it from, opens nothing.
    """
    if not vault.is_access_key(order_id, access_key):
        return False
    app = context.viewer.app if context.viewer is not None else None
    if app is None:
        return True
    return Scope.CHECKOUT_WRITE in app.scopes and await partners.sold(
        app.app_id, app.merchant_id, order_id
    )


async def check_text(context: Context, text: str) -> None:
    """A document inside of a request (bulk work) is held to what holds for the request itself (J26).

    Errors: Forbidden for a text that its app has not registered, where it runs nothing else; in production for any
    that came with the cookie of our own pages, which send none.
    """
    app = context.viewer.app if context.viewer is not None else None
    if app is None:
        is_free = context.came_by_cookie and not settings().in_development
    else:
        id = partners.document_id(text)
        is_free = app.documents_only and await partners.document(app.app_id, id) is None
    if is_free:
        raise Forbidden()


def reads_orders(context: Context) -> bool:
    """Whether orders are read by right: an app takes a scope for it, a person's role says the rest."""
    app = context.viewer.app if context.viewer is not None else None
    return app is None or Scope.ORDERS_READ in app.scopes


def selling(context: Context) -> UUID | None:
    """The grant of the app that asks; None for people."""
    app = context.viewer.app if context.viewer is not None else None
    return None if app is None else app.grant_id


def seller(context: Context) -> Seller | None:
    """The app that sells; None when a buyer does everything themselves."""
    app = context.viewer.app if context.viewer is not None else None
    return None if app is None else Seller(app.app_id, app.grant_id, app.merchant_id)


def may_see_money(context: Context, merchant_id: UUID) -> bool:
    """Whether the viewer may read the merchant's balances, and how a sale was split."""
    viewer = context.viewer
    return viewer is not None and (
        merchant_id in money_of(viewer)
        or viewer.may_operate(*(one for one in MONEY_READERS if isinstance(one, OperatorRole)))
    )


def money_of(viewer: Viewer) -> list[UUID]:
    """The merchants whose money the viewer reads as a member."""
    roles = [role for role in MONEY_READERS if isinstance(role, Role)]
    return [merchant_id for merchant_id in viewer.roles if viewer.may(merchant_id, *roles)]


def may_see(context: Context, merchant_id: UUID) -> bool:
    """Whether the viewer may read what belongs to the merchant: its members and operators."""
    viewer = context.viewer
    return viewer is not None and (viewer.operator or merchant_id in viewer.roles)
