"""The API application: the GraphQL door, provider callbacks, health, and in development GraphiQL.

`create_app()` is what `kami serve` runs. The door is asked before the router: its requests are most of the traffic
and its sockets live long, so they carry no middleware with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import strawberry
import structlog
from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from domain import fx, identity, partners
from domain.core import bell, db, live, once
from domain.core.settings import API_CONNECTIONS, Settings, settings
from plugins import installed
from server import (
    account,
    account_home,
    account_order,
    account_security,
    account_sign_in,
    bulk,
    callbacks,
    exports,
    graphiql,
    health,
    mailbox,
    oauth,
    oauth_limits,
    oauth_pages,
    pages,
    uploads,
)
from server.edge import Edge, hosts
from server.graphql import bulk as contract_of_bulk
from server.graphql import shaping, trusted
from server.graphql.limits import (
    GENEROUS,
    STREAMS_GENEROUS,
    STREAMS_MAX,
    STRICT,
    LocalBuckets,
    Size,
)
from server.graphql.shared import SharedBuckets
from server.graphql.trusted import Trusted, documents_only
from server.graphql.view import GraphQL

_log = structlog.get_logger(__name__)


class App:
    """The door and, for every other path, the router."""

    def __init__(self, graphql: GraphQL, rest: ASGIApp) -> None:
        self.graphql = graphql
        self.rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, or the lifespan."""
        if self.graphql.serves(scope):
            await self.graphql(scope, receive, send)
        else:
            await self.rest(scope, receive, send)


def create_app(schema: strawberry.Schema | None = None) -> Edge:
    """The application of this process; `schema` replaces the contract in tests."""
    found = settings()
    if schema is None:
        from schema.root import schema as contract

        schema = contract
    size = bucket(found)
    buckets = LocalBuckets(size) if found.redis_url is None else SharedBuckets(size)
    graphql = GraphQL(
        schema,
        is_open=found.in_development,
        origins=origins(found),
        buckets=buckets,
        streams_max=streams(found),
        registered=Trusted(pages.site().texts()),
        documents_only=partial(documents_only, is_production=not found.in_development),
    )
    rest = Starlette(routes=_routes(found), lifespan=_lifespan)
    rest.state.buckets = buckets
    rest.state.door = graphql.door  # pages of accounts ask it in this process
    return Edge(
        App(graphql, rest),
        hosts=hosts(found),
        origins=found.allowed_origins,
        is_open=found.in_development,
    )


def bucket(found: Settings) -> Size:
    """How much query cost one caller has (API.md rule 8)."""
    usual = GENEROUS if found.in_development else STRICT
    return Size(found.cost_capacity or usual.capacity, found.cost_refill or usual.refill)


def streams(found: Settings) -> int:
    """How many live streams one caller may have open on one process."""
    return found.streams_max or (STREAMS_GENEROUS if found.in_development else STREAMS_MAX)


def origins(found: Settings) -> list[str]:
    """The pages that may open a WebSocket: our own, and those that are listed."""
    parts = urlsplit(found.public_url)
    return [f"{parts.scheme}://{parts.netloc}", *found.allowed_origins]


def _routes(found: Settings) -> Sequence[BaseRoute]:
    routes: list[BaseRoute] = [
        *callbacks.routes(),
        *health.routes,
        *uploads.routes(),
        *exports.routes(),
        *bulk.routes(),
        *mailbox.routes(found),
        *oauth.routes(found),
        *oauth_pages.routes(),
        *pages.routes(found),
        *account.routes(),
        *account_sign_in.routes(),
        *account_home.routes(),
        *account_order.routes(),
        *account_security.routes(),
    ]
    if found.in_development:
        routes += graphiql.routes()
    return routes


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    """Open what requests need: the pool, the bell, the writer of idempotent answers."""
    found = settings()
    assert found.database_url is not None, "`kami serve` names the database"
    await db.open(found.database_url, minsize=2, maxsize=API_CONNECTIONS)
    if found.redis_url is not None:
        bell.open(found.redis_url)
    installed.load(found)
    shaping.install()
    contract_of_bulk.install()
    trusted.install()
    await _first_rates()
    tasks = [
        asyncio.ensure_future(once.keep_flushing()),
        asyncio.ensure_future(fx.keep_fresh()),
        asyncio.ensure_future(live.hub().run()),
        asyncio.ensure_future(identity.connections().run()),
        asyncio.ensure_future(partners.connections().run()),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        live.forget()
        await once.flush()
        if isinstance(app.state.buckets, SharedBuckets):
            await app.state.buckets.close()
        await oauth_limits.close()
        await installed.close()
        await bell.close()
        await db.close()


async def _first_rates() -> None:
    """A database without rates asks the feed once; a feed that is away leaves prices in listed currencies."""
    if (await fx.load()).newest_no == 0:
        try:
            await fx.refresh()
        except fx.FeedFailed as error:
            _log.warning("fx.no_rates", error=str(error))
        # Another process may have stored the same rates first: then ours had nothing to store.
        await fx.load()
