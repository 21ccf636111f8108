"""Payout destinations in the contract: where a merchant's money may be sent, changed by two people."""

from datetime import datetime
from typing import Annotated

import strawberry

from domain import payouts
from domain.core import ids
from domain.payouts import PayoutMethod
from resolvers import payouts as resolve
from resolvers.payouts import KindName, StateName
from resolvers.scalars import CurrencyCode
from resolvers.stepup import FRESH
from schema.approvals import Approval
from schema.field import Who, derived, field, mutation_field, object_type, query_field
from schema.problems import Conflict, InvalidInput, NotFound, Problem, Unavailable, problem
from schema.versions import Versioned, aggregate


@object_type(
    name="PayoutMethod", description="Where a merchant's money may be sent.", rows=(PayoutMethod,)
)
class Destination(Versioned):
    """Its details are sealed: nobody is shown more than this."""

    id: strawberry.ID = derived(
        lambda one: ids.encode(resolve.PREFIX, one.id), description="Opaque id, `pom_…`."
    )
    version: int = field(description="Counts from 1; send it as `expectedVersion` with a change.")
    kind: KindName = derived(
        lambda one: KindName(one.kind.value), description="How money is sent there."
    )
    currency: CurrencyCode = derived(lambda one: one.ccy, description="What is paid out to it.")
    state: StateName = derived(
        lambda one: StateName(one.state.value),
        description="PENDING_APPROVAL waits for a second person, COOLING was approved and can still be stopped, "
        "USABLE holds, REMOVED is over or never held.",
    )
    account: str = derived(
        lambda one: one.masked,
        description="What is shown of it: the country of an IBAN and the last four characters.",
    )
    replaces: strawberry.ID | None = derived(
        lambda one: ids.encode(resolve.PREFIX, one.replaces_id) if one.replaces_id else None,
        description="The destination it takes the place of, `pom_…`; null when of none.",
    )
    asked_by: strawberry.ID = derived(
        lambda one: ids.encode("acc", one.changed_by), description="Who asked for it, `acc_…`."
    )
    approved_by: strawberry.ID | None = derived(
        lambda one: ids.encode("acc", one.approved_by) if one.approved_by else None,
        description="Who approved it, `acc_…`; null when nobody did.",
    )
    asked_at: datetime = derived(lambda one: one.created_at, description="When it was asked for.")
    usable_at: datetime | None = field(
        description="From when on money may be sent there; null when it was not approved."
    )
    removed_at: datetime | None = field(description="When it ended; null while it has not.")


@problem(
    payouts.PayoutMethodKnown,
    description="The merchant has this destination in this currency, or somebody has asked for it.",
)
class PayoutMethodKnown(Problem):
    """Code PAYOUT_METHOD_KNOWN."""


@problem(
    payouts.PayoutMethodNotUsable,
    description="Only a usable destination can be replaced or removed, and replaced by one request at a time.",
)
class PayoutMethodNotUsable(Problem):
    """Code PAYOUT_METHOD_NOT_USABLE."""


ProposePayoutMethodResult = Annotated[
    Approval
    | PayoutMethodKnown
    | PayoutMethodNotUsable
    | Conflict
    | NotFound
    | InvalidInput
    | Unavailable,
    strawberry.union(
        "ProposePayoutMethodResult", description="What a second person has to approve, or why not."
    ),
]
ProposePayoutMethodRemovalResult = Annotated[
    Approval | PayoutMethodNotUsable | Conflict | NotFound | InvalidInput | Unavailable,
    strawberry.union(
        "ProposePayoutMethodRemovalResult",
        description="What a second person has to approve, or why not.",
    ),
]

aggregate(resolve.PREFIX, load=resolve.current)


@strawberry.type
class PayoutQuery:
    """Reads."""

    payout_methods: list[Destination] = query_field(
        resolve.methods,
        who=Who.MERCHANT,
        cost=5,
        description="A merchant's payout destinations, the newest first, at most 200; for owners, finance and who may "
        "read. Somebody else's: NOT_FOUND; another role: FORBIDDEN.",
        args={"merchantId": "The merchant, `mer_…`."},
    )


@strawberry.type
class PayoutMutation:
    """Writes; each is a row of the audit log."""

    propose_payout_method: ProposePayoutMethodResult = mutation_field(
        resolve.propose,
        who=Who.MERCHANT,
        idempotent=True,
        step_up=FRESH,
        description="Ask for a payout destination to be added, or to take the place of another one; a second person "
        "in finance or an owner approves it within 24 hours (`approveChange`), then it cools down. Problems: "
        "PAYOUT_METHOD_KNOWN, PAYOUT_METHOD_NOT_USABLE, CONFLICT, NOT_FOUND, INVALID_INPUT.",
        args={"input": "The destination."},
    )
    propose_payout_method_removal: ProposePayoutMethodRemovalResult = mutation_field(
        resolve.propose_removal,
        who=Who.MERCHANT,
        idempotent=True,
        step_up=FRESH,
        description="Ask for a payout destination to be removed; it goes as soon as a second person approves it. "
        "Problems: PAYOUT_METHOD_NOT_USABLE, CONFLICT, NOT_FOUND, INVALID_INPUT.",
        args={"input": "The destination and its version."},
    )
