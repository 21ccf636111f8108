"""Bulk export of goods in the contract: two people, one download."""

from datetime import datetime
from typing import Annotated

import strawberry

from resolvers import exports as resolve
from resolvers.exports import Ready
from resolvers.stepup import FRESH
from schema.alarms import ExportsStopped
from schema.approvals import Approval, ApprovalRefused, ApproverTooNew, SamePerson
from schema.field import Who, derived, field, mutation_field, object_type, query_field
from schema.page import Connection
from schema.problems import InvalidInput, NotFound, Unavailable


@object_type(
    name="GoodsExport", description="An approved export, to be fetched once.", rows=(Ready,)
)
class ReadyExport:
    """`POST /exports` with `{"token": …}` and the session of who approved answers the goods as CSV."""

    token: str = field(description="What to send; worth nothing without the approver's session.")
    expires_at: datetime = derived(
        lambda one: one.export.until, description="Until when it can be fetched; ten minutes."
    )


ProposeGoodsExportResult = Annotated[
    Approval | ExportsStopped | NotFound | InvalidInput | Unavailable,
    strawberry.union(
        "ProposeGoodsExportResult", description="What a colleague has to approve, or why not."
    ),
]
ApproveGoodsExportResult = Annotated[
    ReadyExport
    | SamePerson
    | ApproverTooNew
    | ApprovalRefused
    | ExportsStopped
    | NotFound
    | InvalidInput
    | Unavailable,
    strawberry.union(
        "ApproveGoodsExportResult",
        description="How to fetch the goods, or why nothing was approved.",
    ),
]


@strawberry.type
class ExportQuery:
    """Reads."""

    goods_exports: Connection[Approval] = query_field(
        resolve.waiting,
        who=Who.MERCHANT,
        description="Exports that wait for a second person, oldest first; for who may stock the shop.",
        args={
            "merchantId": "The merchant, `mer_…`.",
            "first": "How many from the start, 1 to 100.",
            "last": "How many from the end, 1 to 100.",
            "after": "Cursor to continue behind.",
            "before": "Cursor to continue before.",
        },
    )


@strawberry.type
class ExportMutation:
    """Writes; each is a row of the audit log."""

    propose_goods_export: ProposeGoodsExportResult = mutation_field(
        resolve.propose,
        who=Who.MERCHANT,
        idempotent=True,
        step_up=FRESH,
        description="Ask for card keys in the clear; a colleague approves it within 24 hours. "
        "Problems: EXPORTS_STOPPED, NOT_FOUND, INVALID_INPUT.",
        args={"input": "Of what, how many, and why."},
    )
    approve_goods_export: ApproveGoodsExportResult = mutation_field(
        resolve.approve,
        who=Who.MERCHANT,
        idempotent=True,
        step_up=FRESH,
        description="Approve exactly what a colleague asked for, and get the token to fetch it with. Exported keys are "
        "off the shelf for ever; one line among them is a honey key. "
        "Problems: EXPORTS_STOPPED, SAME_PERSON, APPROVER_TOO_NEW, APPROVAL_CLOSED, APPROVAL_DIFFERS, "
        "NOT_FOUND.",
        args={"input": "The approval and the hash of what was read."},
    )
