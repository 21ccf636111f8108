"""Money that people move, in the contract: what one operator says and another one approves."""

from typing import Annotated

import strawberry

from domain import payments
from resolvers import manual as resolve
from resolvers.stepup import FRESH
from schema.approvals import Approval, ApprovalRefused, ApproverTooNew, SamePerson
from schema.checkout import UnsupportedCurrency
from schema.delivery import OrderHandled
from schema.field import Who, mutation_field
from schema.orders import OrderStateConflict, RefundExceedsCaptured
from schema.problems import (
    InvalidInput,
    NotFound,
    Problem,
    Unavailable,
    problem,
)


@problem(
    payments.EvidenceUsed,
    description="This evidence has counted already.",
)
class EvidenceUsed(Problem):
    """Code EVIDENCE_USED."""


@problem(
    payments.AttemptLive,
    description="Money that contradicts a payment of this order waits for a person first.",
)
class AttemptLive(Problem):
    """Code ATTEMPT_LIVE."""


ProposeManualPaymentResult = Annotated[
    Approval
    | EvidenceUsed
    | AttemptLive
    | OrderStateConflict
    | NotFound
    | InvalidInput
    | Unavailable,
    strawberry.union(
        "ProposeManualPaymentResult", description="What a second person has to approve, or why not."
    ),
]
ApproveManualPaymentResult = Annotated[
    OrderHandled
    | SamePerson
    | ApproverTooNew
    | ApprovalRefused
    | EvidenceUsed
    | AttemptLive
    | OrderStateConflict
    | NotFound
    | InvalidInput
    | Unavailable,
    strawberry.union(
        "ApproveManualPaymentResult", description="The order, or why nothing was approved."
    ),
]
ProposeManualRefundResult = Annotated[
    Approval
    | EvidenceUsed
    | RefundExceedsCaptured
    | UnsupportedCurrency
    | NotFound
    | InvalidInput
    | Unavailable,
    strawberry.union(
        "ProposeManualRefundResult", description="What a second person has to approve, or why not."
    ),
]
ApproveManualRefundResult = Annotated[
    OrderHandled
    | SamePerson
    | ApproverTooNew
    | ApprovalRefused
    | EvidenceUsed
    | RefundExceedsCaptured
    | NotFound
    | InvalidInput
    | Unavailable,
    strawberry.union(
        "ApproveManualRefundResult", description="The order, or why nothing was approved."
    ),
]


@strawberry.type
class ManualMutation:
    """Writes."""

    propose_manual_payment: ProposeManualPaymentResult = mutation_field(
        resolve.propose,
        who=Who.OPERATOR,
        idempotent=True,
        step_up=FRESH,
        description="Say that what is left of an order's total was paid; a second operator in finance approves it "
        "within 24 hours. Problems: ORDER_STATE_CONFLICT, EVIDENCE_USED, ATTEMPT_LIVE, NOT_FOUND.",
        args={"input": "The order, why, and where the payment can be seen."},
    )
    approve_manual_payment: ApproveManualPaymentResult = mutation_field(
        resolve.approve,
        who=Who.OPERATOR,
        idempotent=True,
        step_up=FRESH,
        description="Approve exactly what somebody else proposed; the payment is then fulfilled like every other. "
        "Problems: SAME_PERSON, APPROVER_TOO_NEW, APPROVAL_CLOSED, APPROVAL_DIFFERS, ORDER_STATE_CONFLICT, "
        "EVIDENCE_USED, ATTEMPT_LIVE, NOT_FOUND.",
        args={"input": "The approval and the hash of what was read."},
    )
    propose_manual_refund: ProposeManualRefundResult = mutation_field(
        resolve.propose_refund,
        who=Who.OPERATOR,
        idempotent=True,
        step_up=FRESH,
        description="Say that money of an order was sent back by hand; a second operator in finance approves it "
        "within 24 hours. Problems: REFUND_EXCEEDS_CAPTURED, UNSUPPORTED_CURRENCY, EVIDENCE_USED, NOT_FOUND.",
        args={"input": "The order, how much, why, and where the transfer can be seen."},
    )
    approve_manual_refund: ApproveManualRefundResult = mutation_field(
        resolve.approve_refund,
        who=Who.OPERATOR,
        idempotent=True,
        step_up=FRESH,
        description="Approve exactly what somebody else proposed; the refund is then booked as sent, and the "
        "merchant's part becomes debt where they have too little. Problems: SAME_PERSON, APPROVER_TOO_NEW, "
        "APPROVAL_CLOSED, APPROVAL_DIFFERS, REFUND_EXCEEDS_CAPTURED, EVIDENCE_USED, NOT_FOUND.",
        args={"input": "The approval and the hash of what was read."},
    )
