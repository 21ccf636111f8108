"""The audit log in the contract: a merchant's own part of it."""

from datetime import datetime

import strawberry

from resolvers import audit as resolve
from resolvers.audit import Audited
from schema.field import Who, derived, object_type, query_field
from schema.page import Connection
from schema.scalars import JSON


@object_type(
    description="Something that somebody did, as it was recorded with it.", rows=(Audited,)
)
class AuditEntry:
    """Never changed and never removed; chained to the row before it."""

    at: datetime = derived(lambda one: one.entry.at, description="When.")
    action: str = derived(lambda one: one.entry.action, description="What, e.g. `member.role`.")
    actor_kind: str = derived(
        lambda one: one.entry.actor_kind,
        description="As what: merchant, account, operator, buyer, system, link.",
    )
    actor_id: strawberry.ID | None = derived(
        lambda one: one.actor_id,
        description="The account, `acc_…`; null when it is nobody of the merchant's own.",
    )
    actor_email: str | None = derived(
        lambda one: one.email, description="Its e-mail address; null as `actorId`."
    )
    subject_id: str = derived(
        lambda one: str(one.entry.subject_id), description="To which object, as a UUID."
    )
    address: str | None = derived(
        lambda one: one.address,
        description="From which address; null when unknown, and for operators and buyers.",
    )
    request_id: str | None = derived(
        lambda one: one.entry.request_id, description="In which request; null when in none."
    )
    before: JSON | None = derived(
        lambda one: one.state("before"), description="What was before; null when there was nothing."
    )
    after: JSON | None = derived(
        lambda one: one.state("after"), description="What is after; null when there is nothing."
    )
    facts: JSON = derived(lambda one: one.facts, description="What else was recorded.")
    is_sealed: bool = derived(
        lambda one: one.entry.is_sealed,
        description="Whether it is part of the hash chain yet; it is within seconds.",
    )


@strawberry.type
class AuditQuery:
    """Reads."""

    audit_log: Connection[AuditEntry] = query_field(
        resolve.log,
        who=Who.MERCHANT,
        description="Who did what in a merchant, the newest first; for its owners. Not an object of somebody else's: "
        "NOT_FOUND; another role: FORBIDDEN.",
        args={
            "merchantId": "The merchant, `mer_…`.",
            "first": "How many, 1 to 100.",
            "after": "Cursor to continue behind.",
        },
    )
