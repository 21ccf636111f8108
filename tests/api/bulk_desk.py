"""Bulk work asked for at a desk: the documents, the turns of a worker, and the result as it would be fetched."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import orjson
from joserfc.jwk import ECKey

from domain import bulk, catalogue, identity, partners
from domain.bulk import Asker
from domain.core import clock, db, ids
from domain.core.audit import Actor
from domain.identity import AppPass, Role, Viewer
from domain.orders import Order
from domain.partners import Asked as Allowed
from domain.partners import AuthMethod, GrantType, Manifest
from resolvers.context import Context
from schema.root import schema
from server.graphql import bulk as contract
from server.graphql.door import Door
from server.graphql.request import Asked
from tests import make

JOB = """id kind state done total failed progress size eventCursor url createdAt startedAt finishedAt expiresAt
    problem { code message }"""
PROBLEMS = (
    """... on Problem { code path retryable } ... on InvalidInput { problems { code path } }"""
)
EXPORT = f"""
mutation ($input: BulkExportInput!, $key: String!) {{
  bulkExport(input: $input) @idempotent(key: $key) {{ __typename ... on BulkJob {{ {JOB} }} {PROBLEMS}
    ... on QueryNotExportable {{ reason allowed }} ... on BulkLimit {{ max }} }}
}}"""
IMPORT = f"""
mutation ($input: BulkImportInput!, $key: String!) {{
  bulkImport(input: $input) @idempotent(key: $key) {{ __typename ... on BulkJob {{ {JOB} }} {PROBLEMS}
    ... on MutationNotImportable {{ reason allowed }} ... on BulkLimit {{ max }} ... on BulkFileInvalid {{ max }} }}
}}"""
CANCEL = f"""
mutation ($input: CancelBulkJobInput!) {{
  cancelBulkJob(input: $input) {{ __typename ... on BulkJob {{ {JOB} }} {PROBLEMS} }}
}}"""
NODE = f"query ($id: ID!) {{ node(id: $id) {{ ... on BulkJob {{ {JOB} }} }} }}"
JOBS = """query ($merchant: ID!, $first: Int, $after: String) {
  bulkJobs(merchantId: $merchant, first: $first, after: $after) {
    nodes { id kind state } pageInfo { hasNextPage endCursor } } }"""
ORDERS = (
    "query ($merchantId: ID!) { orders(merchantId: $merchantId) { nodes { id version status } } }"
)
PRODUCT = """mutation ($input: CreateProductInput!) { createProduct(input: $input) {
  __typename ... on MerchantProduct { id version texts { language title } }
  ... on Problem { code } ... on InvalidInput { problems { code path } } } }"""

_door = Door(schema)
_keys = itertools.count(1)


class Caller:
    """Somebody who asks: a signed-in member, or an app under a grant."""

    def __init__(self, viewer: Viewer, of: make.Shop) -> None:
        self.viewer = viewer
        self.merchant = ids.encode("mer", of.merchant_id)

    @property
    def asker(self) -> Asker:
        """As a job keeps it."""
        app = self.viewer.app
        if app is None:
            return Asker(self.viewer.account_id)
        return Asker(self.viewer.account_id, app.app_id, app.grant_id, tuple(app.scopes))

    async def ask(self, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        """One operation; the whole answer."""
        context = Context(request_id="bulk", address="203.0.113.9", viewer=self.viewer)
        answer = await _door.answer(Asked(document, variables=variables), context)
        found: dict[str, Any] = orjson.loads(answer.body)
        return found

    async def data(self, document: str, variables: dict[str, Any]) -> Any:
        """Its only field, when nothing was refused at the top."""
        answer = await self.ask(document, variables)
        assert "errors" not in answer, answer["errors"]
        (found,) = answer["data"].values()
        return found

    async def export(self, query: str = ORDERS, *, key: str | None = None, **more: Any) -> Any:
        """bulkExport; the union member."""
        given = {"merchantId": self.merchant, "query": query, **more}
        return await self.data(EXPORT, {"input": given, "key": key or f"blk-{next(_keys)}"})

    async def upload(self, content: bytes) -> str:
        """A file that waits; its public id."""

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        made = await catalogue.receive_upload(chunks(), self.viewer.account_id)
        return ids.encode("upl", made.id)

    async def import_(
        self, mutation: str, content: bytes, *, key: str | None = None, **more: Any
    ) -> Any:
        """bulkImport of a new upload; the union member."""
        given = {
            "merchantId": self.merchant,
            "mutation": mutation,
            "uploadId": await self.upload(content),
            **more,
        }
        return await self.data(IMPORT, {"input": given, "key": key or f"blk-{next(_keys)}"})

    async def job(self, job_id: str) -> Any:
        """The job as it is now."""
        return await self.data(NODE, {"id": job_id})

    async def result(self, job_id: str) -> bytes:
        """The result as it would be sent."""
        job = await bulk.find(ids.decode(job_id, "blk"), self.asker)
        assert job is not None
        return b"".join([piece async for piece in bulk.result(job)])

    async def lines(self, job_id: str) -> list[Any]:
        """The result, line by line."""
        return [orjson.loads(line) for line in (await self.result(job_id)).splitlines()]


async def person(of: make.Shop, role: Role = Role.OWNER) -> Caller:
    """A new member of the shop's merchant."""
    contract.install()
    email = f"{ids.uuid7().hex}@shop.test"
    account = await identity.register(email, "correct horse battery")
    await identity.grant(of.merchant_id, account, role)
    signed = await identity.sign_in(email, "correct horse battery", "203.0.113.9")
    viewer = await identity.viewer(signed.token)
    assert viewer is not None
    return Caller(viewer, of)


async def app(of: make.Shop, *scopes: str, role: Role = Role.OWNER) -> Caller:
    """An app that a new member has let in, with a grant in the database."""
    by = await person(of, role)
    key = ECKey.generate_key("P-256").as_dict(private=False)
    manifest = Manifest(
        name="Till",
        redirect_uris=(),
        scopes=scopes,
        grant_types=(GrantType.CLIENT,),
        auth_method=AuthMethod.KEY,
        jwks={"keys": [{**key, "kid": "k1"}]},
        requires_par=True,
        dpop_bound=True,
    )
    actor = Actor("merchant", ids.encode("acc", by.viewer.account_id))
    app_id, _ = await partners.register(
        of.merchant_id, manifest, account_id=by.viewer.account_id, actor=actor
    )
    (made,) = (await partners.apps([app_id])).values()
    await partners.allow_client(
        made,
        Allowed(scopes),
        merchant_id=of.merchant_id,
        account_id=by.viewer.account_id,
        auth_at=clock.now(),
    )
    grant_id = await db.value("SELECT id FROM app_grant WHERE app_id = $1", app_id)
    grant = AppPass(app_id, grant_id, of.merchant_id, frozenset(scopes), clock.now())
    return Caller(
        Viewer(
            account_id=by.viewer.account_id,
            email=by.viewer.email,
            locale=None,
            session_id=grant_id,
            expires_at=by.viewer.expires_at,
            roles={of.merchant_id: role},
            app=grant,
        ),
        of,
    )


async def newest(of: make.Shop, count: int) -> list[Order]:
    """So many new orders in the order of a list: those of one millisecond are not in the order they were placed."""
    placed = [await make.order(of) for _ in range(count)]
    return sorted(placed, key=lambda order: order.id, reverse=True)


async def work() -> int:
    """What the workers would do until nothing is due; how many turns that took."""
    turns = 0
    while await bulk.turn():
        turns += 1
    return turns


async def rows_of(job_id: str) -> dict[str, int]:
    """How many pieces of result and of input a job has in the database."""
    job = ids.decode(job_id, "blk")
    return {
        table: await db.value(f"SELECT count(*) FROM {table} WHERE job_id = $1", job)
        for table in ("bulk_piece", "bulk_input")
    }


async def clone(of: UUID, count: int) -> None:
    """`count` more orders that are like this one."""
    names = await db.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0"
        " AND attname NOT IN ('id', 'number') AND attgenerated = ''"
    )
    columns = ", ".join(row["attname"] for row in names)
    await db.execute(
        f"INSERT INTO orders (id, number, {columns}) SELECT gen_random_uuid(), 'C' || n, {columns}"
        " FROM orders, generate_series(1, $2) AS n WHERE id = $1",
        of,
        count,
    )
