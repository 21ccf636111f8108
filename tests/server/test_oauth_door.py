"""App tokens at the door beyond plain queries: event streams, and what a challenge says."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import orjson
import pytest
from graphql import GraphQLError

from domain.core import clock, ids
from domain.identity import AppPass, Viewer
from resolvers.context import Context
from resolvers.errors import InsufficientScope, MfaRequired
from server.graphql import presented
from tests import make
from tests.server.oauth_client import FAPI, Answer, person, registered, send
from tests.server.test_oauth_codes import ORDERS
from tests.server.test_oauth_tokens import tokens


def asked_by_app(key: str | None = None) -> Context:
    now = clock.now()
    app = AppPass(UUID(int=3), UUID(int=2), UUID(int=7), frozenset({"orders:read"}), now, key)
    later = now + timedelta(minutes=10)
    return Context(viewer=Viewer(UUID(int=1), "owner@shop.test", None, UUID(int=2), later, app=app))


def test_h21_a_field_that_wants_a_fresh_proof_says_so_in_the_header() -> None:
    behind = MfaRequired(acr_values=["mfa", "phr"], max_age=900)
    errors = [GraphQLError("x"), GraphQLError("y", original_error=behind)]

    told = presented.of_fields(errors, asked_by_app())
    bound = presented.of_fields(errors, asked_by_app("k"))

    inner = b'error="insufficient_user_authentication", acr_values="mfa phr", max_age=900'
    assert told == [(b"www-authenticate", b"Bearer " + inner)]
    assert bound == [(b"www-authenticate", b"DPoP " + inner + b', algs="ES256 Ed25519"')]
    assert presented.of_fields(errors[:1], asked_by_app()) is None


def test_h20_what_is_missing_is_named_in_the_header_to_apps_alone() -> None:
    error = InsufficientScope(scope="money:read")

    told = presented.challenge(error, asked_by_app())

    inner = b'Bearer error="insufficient_scope", scope="money:read"'
    assert told == [(b"www-authenticate", inner)]
    assert presented.challenge(error, Context()) is None


@pytest.mark.parametrize(
    ("path", "is_good"), [("/graphql/stream", True), ("/graphql", False), (None, False)]
)
async def test_h19_an_event_stream_takes_a_proof_of_its_own_address(
    db: None, path: str | None, is_good: bool
) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, FAPI)
    token = (await tokens(by, app, scope="orders:read"))["access_token"]
    variables = {"id": ids.encode("mer", by.merchant_id)}
    headers = {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "authorization": f"DPoP {token}",
    }
    if path is not None:
        headers["dpop"] = app.proof("POST", path, token=token)

    answer: Answer = await send(
        "POST", "/graphql/stream", orjson.dumps({"query": ORDERS, "variables": variables}), headers
    )

    assert ('"nodes":[]' in answer.text) is is_good
    assert ("UNAUTHENTICATED" in answer.text) is not is_good
