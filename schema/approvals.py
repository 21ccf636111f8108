"""Four eyes in the contract: what one person asks and another one approves."""

from datetime import datetime
from typing import Annotated

import strawberry

from domain.core import four_eyes, ids
from domain.core.four_eyes import ApprovalState
from resolvers import approvals as resolve
from resolvers.stepup import FRESH
from schema.field import Who, derived, field, mutation_field, object_type, query_field
from schema.page import Connection
from schema.problems import Conflict, InvalidInput, NotFound, Problem, Unavailable, problem
from schema.scalars import JSON

strawberry.enum(
    ApprovalState,
    description="OPEN waits for a second person, APPROVED was approved (and may cool down), DECLINED by "
    "another person, WITHDRAWN by who asked, EXPIRED was not approved in time, STOPPED while it cooled down.",
)


@object_type(
    description="Something that takes two people: what is asked, and by whom.",
    rows=(four_eyes.Approval,),
)
class Approval:
    """Nothing happens before somebody else approves exactly this, in time."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("apr", one.id), description="Opaque id, `apr_…`."
    )
    kind: str = field(
        description="What it is about: payment.manual, refund.manual, goods.export, "
        "payout.method, provider.account."
    )
    state: ApprovalState = derived(
        lambda one: ApprovalState(one.state), description="What has become of it."
    )
    request: JSON = field(description="What is asked; read it before you approve it.")
    request_hash: str = derived(
        lambda one: one.request_hash.hex(),
        description="SHA-256 of kind, subject and request, in hex; the approval names it.",
    )
    asked_by: strawberry.ID = derived(
        lambda one: ids.encode("acc", one.asked_by), description="The account that asks, `acc_…`."
    )
    asked_at: datetime = field(description="When it was asked.")
    expires_at: datetime = field(description="Until when it can be approved.")
    approved_by: strawberry.ID | None = derived(
        lambda one: ids.encode("acc", one.approved_by) if one.approved_by else None,
        description="The account that approved it, `acc_…`; null when nobody did.",
    )
    usable_at: datetime | None = field(
        description="When it begins to hold; until then `declineApproval` stops it. Null before it is approved, and "
        "for what holds at once."
    )
    cool_down_hours: int = derived(
        lambda one: -(-one.cool_down_s // 3600),
        description="How many hours it can still be stopped after it was approved; 0 for what holds at once.",
    )


@problem(four_eyes.SamePerson, description="Who asked for it cannot be the one who approves it.")
class SamePerson(Problem):
    """Code SAME_PERSON."""


@problem(
    four_eyes.ApproverTooNew,
    description="Your role, password or second factor changed a short while ago: somebody else has to approve it.",
)
class ApproverTooNew(Problem):
    """Code APPROVER_TOO_NEW."""

    until: datetime = field(description="From when on you may.")


@problem(
    four_eyes.ApprovalClosed,
    four_eyes.ApprovalDiffers,
    description="It was approved or ended before, its time is over, or it is not what you have read.",
)
class ApprovalRefused(Problem):
    """Code APPROVAL_CLOSED or APPROVAL_DIFFERS."""


ApproveChangeResult = Annotated[
    Approval
    | SamePerson
    | ApproverTooNew
    | ApprovalRefused
    | Conflict
    | NotFound
    | InvalidInput
    | Unavailable,
    strawberry.union("ApproveChangeResult", description="The approval, or why there is none."),
]
DeclineApprovalResult = Annotated[
    Approval | ApprovalRefused | NotFound | InvalidInput | Unavailable,
    strawberry.union("DeclineApprovalResult", description="The end of a request, or why not."),
]


@strawberry.type
class ApprovalQuery:
    """Reads."""

    approvals: Connection[Approval] = query_field(
        resolve.waiting,
        who=(Who.MERCHANT, Who.OPERATOR),
        description="What waits for a second person, and what was approved and still cools down, oldest first. With "
        "`merchantId` what the caller may approve there: exports for who stocks the shop, payout destinations and "
        "provider accounts "
        "for finance, everything for an owner. Without it payments and refunds put in by hand, for operators in "
        "finance.",
        args={
            "merchantId": "The merchant, `mer_…`; null for the platform's own.",
            "first": "How many from the start, 1 to 100.",
            "last": "How many from the end, 1 to 100.",
            "after": "Cursor to continue behind.",
            "before": "Cursor to continue before.",
        },
    )


@strawberry.type
class ApprovalMutation:
    """Writes."""

    approve_change: ApproveChangeResult = mutation_field(
        resolve.approve_change,
        who=Who.MERCHANT,
        step_up=FRESH,
        description="Approve exactly what a colleague asked for, where nothing but the change itself comes of it: "
        "payout destinations and provider accounts. What cools down holds from `usableAt` on. Problems: SAME_PERSON, "
        "APPROVER_TOO_NEW, "
        "APPROVAL_CLOSED, APPROVAL_DIFFERS, CONFLICT, NOT_FOUND.",
        args={"input": "The approval and the hash of what was read."},
    )
    decline_approval: DeclineApprovalResult = mutation_field(
        resolve.decline,
        who=(Who.MERCHANT, Who.OPERATOR),
        description="Keep something from happening: whoever asked takes it back, everybody else who could approve it "
        "declines it, or stops it while it cools down. It takes no second factor: stopping must be easy. "
        "Problems: APPROVAL_CLOSED, NOT_FOUND, INVALID_INPUT.",
        args={"input": "The approval, and why."},
    )
