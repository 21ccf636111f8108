"""Receivers other people write believe what we send: the guide's own two, with the libraries from PyPI and npm."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from domain import webhooks
from tests import make
from tests.live import free_port
from tests.receiver import (
    ACTOR,
    Receiver,
    collected,
    due_now,
    endpoint,
    find,
    receiving,
    states,
)
from tests.server.test_graphql_clients import NODE, packages
from workers.webhooks import Dispatcher

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "webhooks.md").read_text("utf-8")
START_S = 20
needs_node = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None,
    reason="node and npm are not installed: npm's library cannot run",
)
__all__ = ["packages"]


def example(language: str) -> str:
    """The receiver that the guide shows in a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return str(found)


@contextlib.asynccontextmanager
async def running(
    language: str, port: int, secret: str, public_key: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The guide's receiver as a process, once it listens."""
    command = {
        "python": [sys.executable, "-c", example("python")],
        "js": ["node", "--input-type=module", "--eval", example("js")],
    }[language]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=NODE,
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "PORT": str(port),
            "WEBHOOK_SECRET": secret,
            "WEBHOOK_PUBLIC_KEY": public_key,
        },
    )
    try:
        async with asyncio.timeout(START_S):
            while True:
                assert process.returncode is None, "the receiver does not start"
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.02)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()


@pytest.fixture
async def at(db: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    async with receiving(monkeypatch, timeout_s=10) as found:
        yield found


async def tried() -> None:
    """Everything that is owed has been tried once."""
    await collected()
    dispatcher = Dispatcher()
    await dispatcher.idle()
    await dispatcher.close()


async def believed(language: str) -> None:
    """Orders of a shop reach the guide's receiver; a rotation is believed with either secret, a stranger's is not."""
    shop, port = await make.shop(), free_port()
    to = await endpoint(shop.merchant_id, f"http://127.0.0.1:{port}/kami")
    await make.order(shop)
    async with running(language, port, to.keys.shown_secret, to.keys.public_key) as process:
        await tried()
        assert await states(to.id) == [(1, "delivered")]
        await webhooks.rotate(shop.merchant_id, to.id, expected_version=1, actor=ACTOR)
        await make.order(shop)
        await tried()
        assert process.stdout is not None
        lines = [(await process.stdout.readline()).decode().split() for _ in range(2)]
    new = await find(to.id)
    async with running(language, port, new.keys.shown_secret, new.keys.public_key):
        await make.order(shop)
        await tried()
    stranger = webhooks.signing.Keys.new()
    async with running(language, port, stranger.shown_secret, stranger.public_key):
        await make.order(shop)
        await tried()

    assert [line[1:] for line in lines] == [["order.placed", "1"]] * 2
    assert len({line[0] for line in lines}) == 2
    assert sorted(state for _, state in await states(to.id)) == ["delivered"] * 3 + ["ready"]
    (refused,) = [one for one in await webhooks.deliveries(to.id, limit=9) if one.code != 204]
    assert refused.code == 400


async def test_h25_the_guides_python_receiver_believes_us(at: Receiver) -> None:
    await believed("python")


@needs_node
async def test_h25_the_guides_node_receiver_believes_v1_and_v1a(
    at: Receiver, packages: None
) -> None:
    await believed("js")


async def test_pypis_library_verifies_every_try_and_nothing_that_was_touched(at: Receiver) -> None:
    shop = await make.shop()
    to = await endpoint(shop.merchant_id, f"{at.url}/a", selection="{ order { number } kind }")
    at.says("/a", 500)
    await make.order(shop)
    await tried()
    await due_now()
    await tried()

    library = standardwebhooks.Webhook(to.keys.shown_secret)
    first, second = at.got
    seen = [verified(library, one) for one in (first, second)]
    assert seen[0] == seen[1]
    assert seen[0]["data"]["kind"] == "PLACED"
    only_v1a = first["headers"]["webhook-signature"].partition(" ")[2]
    for name, value in (
        ("webhook-id", first["headers"]["webhook-id"] + "0"),
        ("webhook-timestamp", str(int(first["headers"]["webhook-timestamp"]) + 1)),
        ("webhook-signature", only_v1a),
    ):
        touched = {**first["headers"], name: value}
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            library.verify(first["body"], touched)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        library.verify(first["body"] + b" ", first["headers"])


def verified(library: standardwebhooks.Webhook, got: dict[str, Any]) -> dict[str, Any]:
    """What the library makes of a request. Errors: its own."""
    found: dict[str, Any] = library.verify(got["body"], got["headers"])
    return found
