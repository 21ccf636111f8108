"""The partner app of docs/examples, as it stands there, against the running platform."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from domain import webhooks
from domain.core import db as core
from domain.core import ids
from domain.core.audit import Actor
from domain.core.settings import settings
from domain.partners import Webhook
from server import processes
from server.graphql import shaping
from tests import make
from tests.live import LiveServer, free_port
from tests.server.oauth_client import PASSWORD, PUBLIC, person
from tests.server.test_graphql_clients import NODE, packages, pytestmark, run

__all__ = ["packages", "pytestmark"]

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "partner-app" / "app.mjs"
LINES_MAX = 80
START_S = 20.0
TOLD_S = 30.0
DELIVERED = "SELECT count(*) FROM webhook_delivery WHERE order_id = $1 AND state = 'delivered'"


@contextmanager
def running(port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """The app, beside the packages it needs."""
    copy = NODE / f"example-{port}.mjs"
    shutil.copy(EXAMPLE, copy)
    process = subprocess.Popen(
        ["node", copy.name],
        cwd=NODE,
        env={**os.environ, **environment, "PORT": str(port)},
        stdout=subprocess.PIPE,
        preexec_fn=processes.on_parent_death(signal.SIGTERM),
    )
    try:
        until = time.monotonic() + START_S
        while time.monotonic() < until and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(10)
        copy.unlink()


@pytest.fixture
async def live(
    own_live_server: Callable[..., LiveServer], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LiveServer]:
    """A platform that may call this machine, and its database."""
    monkeypatch.setenv("KAMI_WEBHOOKS_TO_LOOPBACK", "true")
    settings.cache_clear()
    shaping.install()
    found = own_live_server(KAMI_WEBHOOKS_TO_LOOPBACK="true")
    await core.open(found.database_url, minsize=1, maxsize=4)
    try:
        yield found
    finally:
        await core.close()
        settings.cache_clear()


async def test_it_lets_a_merchant_in_lists_orders_and_is_told_of_the_next_one(
    live: LiveServer, packages: None
) -> None:
    shop = await make.shop(keys=1)
    before = await make.order(shop)
    by = await person(shop)
    port = free_port()
    here = f"http://127.0.0.1:{port}"
    manifest = replace(
        PUBLIC,
        redirect_uris=(f"{here}/callback",),
        scopes=("orders:read",),
        webhooks=(Webhook(f"{here}/hook"),),
    )
    app_id, _, (hook,) = await webhooks.register_app(
        by.merchant_id, manifest, account_id=by.account_id, actor=Actor("merchant", "acc_test")
    )
    assert hook.new_secret is not None
    merchant = ids.encode("mer", by.merchant_id)
    who = {
        "app": here,
        "secret": hook.new_secret,
        "issuer": live.url,
        "redirect": f"{here}/callback",
        "email": by.email,
        "password": PASSWORD,
        "merchant": merchant,
    }
    known = {
        "KAMI_URL": live.url,
        "CLIENT_ID": ids.encode("app", app_id),
        "WEBHOOK_SECRET": hook.new_secret,
    }

    with running(port, **known) as process:
        seen = run("example.mjs", json.dumps(who))
        after = await make.order(shop)
        async with asyncio.timeout(TOLD_S):
            while await core.value(DELIVERED, after.id) != 1:
                await asyncio.sleep(0.05)
    assert process.stdout is not None
    opened, made_up, told = process.stdout.read().decode().splitlines()
    process.stdout.close()

    assert seen == {
        "stolen": 400,
        "orders": [200, [merchant, f"{before.number} AWAITING_PAYMENT 100.00 USD"]],
        "hook": 204,
        "forged": 401,
    }
    assert opened == f"open {here}/login"
    assert made_up == '{"type":"order.paid","data":{"number":"1"}}'
    event = json.loads(told)
    grant_id = await core.value("SELECT id FROM app_grant WHERE app_id = $1", app_id)
    assert event["type"] == "order.placed"
    assert event["data"]["order"]["number"] == after.number
    assert event["data"]["merchantId"] == merchant
    assert event["data"]["grantId"] == ids.encode("gnt", grant_id)
    assert await core.value("SELECT count(*) FROM webhook_delivery") == 1


def test_the_example_stays_a_few_dozen_lines() -> None:
    assert len(EXAMPLE.read_text("utf-8").splitlines()) <= LINES_MAX
