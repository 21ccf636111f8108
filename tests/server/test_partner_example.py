"""The partner app of docs/examples, as it stands there, against the running platform."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from domain.core import ids
from server import processes
from tests import make
from tests.live import LiveServer, free_port
from tests.server.oauth_client import PASSWORD, PUBLIC, person, registered
from tests.server.test_graphql_clients import NODE, packages, pytestmark, run

__all__ = ["packages", "pytestmark"]

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "partner-app" / "app.mjs"
LINES_MAX = 80
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
START_S = 20.0


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


async def test_it_lets_a_merchant_in_lists_orders_and_hears_a_webhook(
    live_server: LiveServer, live_db: None, packages: None
) -> None:
    shop = await make.shop(keys=1)
    placed = await make.order(shop)
    by = await person(shop)
    port = free_port()
    here = f"http://127.0.0.1:{port}"
    app = await registered(
        by, replace(PUBLIC, redirect_uris=(f"{here}/callback",), scopes=("orders:read",))
    )
    merchant = ids.encode("mer", by.merchant_id)
    who = {
        "app": here,
        "secret": SECRET,
        "issuer": live_server.url,
        "redirect": f"{here}/callback",
        "email": by.email,
        "password": PASSWORD,
        "merchant": merchant,
    }
    known = {"KAMI_URL": live_server.url, "CLIENT_ID": app.client_id, "WEBHOOK_SECRET": SECRET}

    with running(port, **known) as process:
        seen = run("example.mjs", json.dumps(who))
    assert process.stdout is not None
    printed = process.stdout.read().decode().splitlines()
    process.stdout.close()

    assert seen == {
        "stolen": 400,
        "orders": [200, [merchant, f"{placed.number} AWAITING_PAYMENT 100.00 USD"]],
        "hook": 204,
        "forged": 401,
    }
    assert printed == [f"open {here}/login", '{"type":"order.paid","data":{"number":"1"}}']


def test_the_example_stays_a_few_dozen_lines() -> None:
    assert len(EXAMPLE.read_text("utf-8").splitlines()) <= LINES_MAX
