"""Bulk work asked for, watched and cancelled; fetched by who asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import cast
from uuid import UUID

import strawberry

from domain import bulk, catalogue
from domain.bulk import Asker, BulkKind, Job
from domain.core import db, ids
from domain.core.audit import Actor
from domain.core.errors import NotFound
from domain.core.settings import settings
from domain.identity import OperatorRole, Role, Viewer
from resolvers import access, following
from resolvers.context import Asked, Context
from resolvers.inputs import decode
from resolvers.page import Listing, Page

JOBS = Listing("merchant.bulk", UUID)
PATH = "/bulk/{}.jsonl"

# Lists that can be exported.
EXPORTABLE = frozenset(
    {
        "appGrants",
        "auditLog",
        "goodReports",
        "merchantCoupons",
        "merchantProducts",
        "moneyExceptions",
        "orders",
        "stockLots",
    }
)
# Of the lists that name no merchant the caller is shown what their memberships open: here those of the job's merchant.
OF_MEMBERS = frozenset({"goodReports", "moneyExceptions", "stockLots"})

# Mutations that can be run per line, and who may: of the catalogue, its stock, and goods made by hand.
_GOODS = (Role.CATALOGUE, Role.SUPPORT)
IMPORTABLE: Mapping[str, tuple[Role, ...]] = {
    "createCoupon": access.STOCKERS,
    "createProduct": access.STOCKERS,
    "createVariant": access.STOCKERS,
    "deliverGoods": _GOODS,
    "endCoupon": access.STOCKERS,
    "restoreCards": access.STOCKERS,
    "setPrices": access.STOCKERS,
    "setReusableContent": access.STOCKERS,
    "updateCoupon": access.STOCKERS,
    "updateProduct": access.STOCKERS,
    "updateVariant": access.STOCKERS,
    "withdrawCards": access.STOCKERS,
}


@strawberry.input(description="A list to be read out whole.")
class BulkExportInput:
    """Paging is ours: the query has no `first`, `after`, `last` or `before` at its list."""

    merchant_id: strawberry.ID = strawberry.field(description="The merchant, `mer_…`.")
    query: str = strawberry.field(
        description="A document of one query with one list at its root, e.g. `query ($merchantId: ID!) "
        "{ orders(merchantId: $merchantId) { nodes { id number status } } }`; `$merchantId` is filled in. At most "
        "32 KiB."
    )


@strawberry.input(description="A mutation to be run for every line of a file.")
class BulkImportInput:
    """Each line is a JSON object of the mutation's variables."""

    merchant_id: strawberry.ID = strawberry.field(description="The merchant, `mer_…`.")
    mutation: str = strawberry.field(
        description="A document of one mutation with one variable, e.g. `mutation ($input: CreateProductInput!) "
        "{ createProduct(input: $input) { __typename ... on Problem { code } } }`; no `@idempotent`, each line has a "
        "key of its own. At most 32 KiB."
    )
    upload_id: strawberry.ID = strawberry.field(
        description='A file sent to POST /uploads by the same account, `upl_…`: a line is `{"input": {…}}`, at most '
        "256 KiB; at most 100,000 lines."
    )


@strawberry.input(description="A job to be ended.")
class CancelBulkJobInput:
    """Only its own caller may."""

    job_id: strawberry.ID = strawberry.field(description="The job, `blk_…`.")


def asker_of(viewer: Viewer) -> Asker:
    """Who asks, as a job keeps it."""
    app = viewer.app
    if app is None:
        return Asker(viewer.account_id)
    return Asker(viewer.account_id, app.app_id, app.grant_id, tuple(sorted(app.scopes)))


def narrowed(viewer: Viewer, merchant_id: UUID, root: str) -> Viewer:
    """The viewer within one merchant: what else they may, and what they may as a buyer, is not the job's."""
    held = viewer.roles.get(merchant_id)
    is_operator = viewer.operator and root not in OF_MEMBERS
    return replace(
        viewer,
        roles={} if held is None else {merchant_id: held},
        operator=is_operator,
        operator_roles=viewer.operator_roles if is_operator else frozenset(),
        is_verified=False,
        addresses=(),
    )


def _merchant(context: Context, merchant_id: str, *path: str) -> UUID:
    """A merchant the viewer belongs to, or an operator may look into. Errors: NotFound."""
    found = decode(merchant_id, "mer", *path)
    try:
        access.require_merchant(context, found, *Role, *OperatorRole)
    except NotFound as error:
        error.path = ("input", *path)
        raise
    return found


async def export(info: Asked, input: BulkExportInput) -> Job:
    """Have a list read out. What happens from the answer on is in `merchantEvents` behind `eventCursor`."""
    context = info.context
    viewer = access.require_viewer(context)
    merchant_id = _merchant(context, input.merchant_id, "merchantId")
    await access.check_text(context, input.query)
    root = bulk.runner().check_export(input.query, input.merchant_id)
    # Before the first row is read, so that nothing can happen between the two.
    cursor = await following.cursor_of_now(merchant_id)
    wanted = _wanted(context, viewer, merchant_id, BulkKind.EXPORT, input.query, root)
    await bulk.runner().admit(wanted, viewer)
    return await _start(info, replace(wanted, event_cursor=cursor))


async def import_(info: Asked, input: BulkImportInput) -> Job:
    """Have a mutation run for every line of an upload."""
    context = info.context
    viewer = access.require_viewer(context)
    merchant_id = _merchant(context, input.merchant_id, "merchantId")
    upload_id = decode(input.upload_id, "upl", "uploadId")
    await access.check_text(context, input.mutation)
    root = bulk.runner().check_import(input.mutation)
    wanted = _wanted(context, viewer, merchant_id, BulkKind.IMPORT, input.mutation, root)
    await bulk.runner().admit(wanted, viewer)
    earlier = await _earlier(info)
    if earlier is not None:
        return earlier
    try:
        content = await catalogue.upload_content(upload_id, viewer.account_id)
    except NotFound as error:
        error.path = ("input", "uploadId")
        raise
    job = await _start(info, wanted, await asyncio.to_thread(bulk.cut, content))
    await catalogue.forget_upload(upload_id)
    return job


def _wanted(
    context: Context, viewer: Viewer, merchant_id: UUID, kind: BulkKind, document: str, root: str
) -> Job:
    market = context.market
    return bulk.draft(
        merchant_id,
        asker_of(viewer),
        kind,
        document=document,
        root=root,
        country=market.country,
        language=market.language,
    )


async def _earlier(info: Asked) -> Job | None:
    """The job that an earlier call under this key has started: its upload is gone by now."""
    once = info.context.once(info)
    found = await once.find()
    return None if found is None else await _started(info, found["job_id"])


async def _started(info: Asked, job_id: str) -> Job:
    viewer = access.require_viewer(info.context)
    job = await bulk.find(UUID(job_id), asker_of(viewer))
    if job is None:
        raise NotFound()
    return job


async def _start(info: Asked, wanted: Job, lines: list[bulk.Lines] | None = None) -> Job:
    once = info.context.once(info)
    async with db.transaction():
        earlier = await once.claim({"job_id": str(wanted.id)})
        if earlier is None:
            viewer = access.require_viewer(info.context)
            return await bulk.start(
                wanted, lines or [], actor=_actor(info.context, viewer, wanted.merchant_id)
            )
    return await _started(info, earlier["job_id"])


def _actor(context: Context, viewer: Viewer, merchant_id: UUID) -> Actor:
    return access.actor(context, viewer, "merchant" if merchant_id in viewer.roles else "operator")


async def cancel(info: Asked, input: CancelBulkJobInput) -> Job:
    """End a job of the viewer's own; one that is over stays as it is."""
    viewer = access.require_viewer(info.context)
    job_id = decode(input.job_id, "blk", "jobId")
    found = await bulk.cancel(job_id, asker_of(viewer)) or await bulk.find(job_id, asker_of(viewer))
    if found is None:
        raise NotFound(path=("input", "jobId"))
    return found


async def jobs(
    info: Asked, merchant_id: strawberry.ID, first: int | None = None, after: str | None = None
) -> Page[Job]:
    """The jobs the viewer has asked for in a merchant, newest first."""
    viewer = access.require_viewer(info.context)
    merchant = _merchant(info.context, merchant_id)
    window = JOBS.window(merchant, first=first, after=after)
    key = cast("tuple[UUID] | None", window.key)
    rows = await bulk.jobs(merchant, asker_of(viewer), key[0] if key else None, window.limit + 1)
    return window.page(rows, key=lambda one: (one.id,))


async def by_id(info: Asked, job_id: UUID) -> Job | None:
    """A job of the viewer's own."""
    viewer = info.context.viewer
    return None if viewer is None else await bulk.find(job_id, asker_of(viewer))


def url_of(job: Job) -> str | None:
    """Where the result is fetched; None while there is none."""
    if not job.has_result:
        return None
    return settings().public_url + PATH.format(ids.encode("blk", job.id))


async def fetch(viewer: Viewer, job_id: UUID, context: Context) -> Job:
    """A job whose result the viewer may fetch, under audit; the right is looked at again.

    Errors: NotFound for another's, and while there is none; Forbidden, InsufficientScope; ResultExpired.
    """
    job = await bulk.find(job_id, asker_of(viewer))
    if job is None or not job.has_result:
        raise NotFound()
    await bulk.runner().admit(job, viewer)
    if job.is_expired:
        raise bulk.ResultExpired()
    await bulk.fetched(job, actor=_actor(context, viewer, job.merchant_id))
    return job
