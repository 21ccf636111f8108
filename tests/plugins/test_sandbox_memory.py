"""The sandbox provider's memory and courier: nothing is forgotten, nothing is sent anew."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from domain.core import clock
from domain.payments.ports import ChargeState
from plugins.payment.sandbox import Sandbox
from server.sandbox.book import Book, BookTaken
from tests.sandbox import (
    ACCOUNT,
    SECRET,
    RunningSandbox,
    Shop,
    charge_request,
    free_socket,
    opened,
    running_sandbox,
    running_shop,
)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    """A shop that acknowledges."""
    async with running_shop() as found:
        yield found


@pytest.fixture
async def sandbox(tmp_path: Path, shop: Shop) -> AsyncIterator[RunningSandbox]:
    """A provider that waits for the click."""
    async with running_sandbox(tmp_path) as found:
        yield found


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    """What the provider's file holds."""
    with contextlib.closing(sqlite3.connect(folder / "sandbox.db")) as book:
        return book.execute(query).fetchall()


async def test_owed_callback_is_delivered_after_a_restart(tmp_path: Path) -> None:
    async with running_shop() as shop:
        shop.script.append((500, b"", 0.0))
        async with running_sandbox(tmp_path, retry_s=(0.0, 30.0)) as sandbox:
            reference, url = await opened(sandbox, shop)
            await sandbox.click(url)
            first = (await shop.wait())[0]

        later = clock.now().timestamp() + 31
        async with running_sandbox(tmp_path, retry_s=(0.0, 30.0), now=lambda: later) as sandbox:
            second = (await shop.wait(2))[1]
            found = await sandbox.api("GET", f"/v1/payments/{reference}", None)

    assert second.body == first.body
    assert second.headers["sandbox-event-id"] == first.headers["sandbox-event-id"]
    assert second.headers["sandbox-timestamp"] != first.headers["sandbox-timestamp"]
    assert found["status"] == "captured"


async def test_waiting_payment_confirms_after_a_restart(tmp_path: Path) -> None:
    async with running_shop() as shop:
        async with running_sandbox(tmp_path, autoconfirm_ms=200) as sandbox:
            reference, _ = await opened(sandbox, shop)
        assert await shop.quiet(0.3) == []

        async with running_sandbox(tmp_path, autoconfirm_ms=200):
            (told,) = await shop.wait()

    assert (told.statement["reference"], told.statement["status"]) == (reference, "captured")


async def test_killed_provider_forgets_nothing(tmp_path: Path) -> None:
    with free_socket() as taken:
        port = taken.getsockname()[1]
    environment = {
        **os.environ,
        "KAMI_ENV": "test",
        "KAMI_DATA_DIR": str(tmp_path),
        "KAMI_SANDBOX_URL": f"http://127.0.0.1:{port}",
        "KAMI_SANDBOX_SECRET": base64.urlsafe_b64encode(SECRET).decode(),
        "KAMI_SANDBOX_AUTOCONFIRM_MS": "0",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "server.sandbox.app:create_app"]
    process = await asyncio.create_subprocess_exec(
        *command, "--port", str(port), "--log-level=critical", env=environment
    )
    adapter = Sandbox(base_url=f"http://127.0.0.1:{port}", secret=SECRET)
    request = charge_request("http://127.0.0.1:9")
    try:
        answer = await adapter.charge(request)
        for _ in range(200):
            if answer.state is not ChargeState.UNKNOWN:
                break
            await asyncio.sleep(0.05)
            answer = await adapter.charge(request)
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await adapter.close()

    async with running_sandbox(tmp_path) as sandbox:
        found = await sandbox.adapter().query(account=ACCOUNT, reference=request.reference)
    assert answer.state is ChargeState.REQUIRES_ACTION
    assert (found.state, found.provider_ref) == (answer.state, answer.provider_ref)


async def test_second_provider_on_one_file_is_refused(
    sandbox: RunningSandbox, tmp_path: Path
) -> None:
    with pytest.raises(BookTaken, match="in use by another sandbox"):
        Book(tmp_path / "sandbox.db")


async def test_file_is_for_its_owner_only(sandbox: RunningSandbox, tmp_path: Path) -> None:
    found = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.glob("sandbox.db*")}

    assert found
    assert set(found.values()) == {0o600}


async def test_callback_is_given_up_after_the_last_try_but_stays(tmp_path: Path) -> None:
    async with running_shop() as shop:
        shop.script.extend([(500, b"", 0.0)] * 10)
        async with running_sandbox(tmp_path, retry_s=(0.0, 0.02, 0.04)) as sandbox:
            _, url = await opened(sandbox, shop)
            await sandbox.click(url)
            await shop.wait(3)
            tries = len(await shop.quiet(0.3))

    rows = sqlite3.connect(tmp_path / "sandbox.db").execute("SELECT tries, next_at FROM callback")
    assert tries == 3
    assert rows.fetchall() == [(3, None)]


async def test_acknowledged_callback_leaves_the_book(tmp_path: Path, shop: Shop) -> None:
    async with running_sandbox(tmp_path) as sandbox:
        _, url = await opened(sandbox, shop)
        await sandbox.click(url)
        await shop.wait()

    assert rows(tmp_path, "SELECT event_id FROM callback") == []


async def test_a15_c01_repeat_sends_the_same_bytes_again(
    sandbox: RunningSandbox, shop: Shop
) -> None:
    reference, url = await opened(sandbox, shop)
    await sandbox.click(url)
    await shop.wait()

    for _ in range(3):
        await sandbox.do(reference, "repeat")

    received = await shop.wait(4)
    assert len({one.body for one in received}) == 1
