"""Uploads: streamed, sealed on disk, bounded, and readable by their own account only."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from starlette.applications import Starlette

from domain import catalogue, identity
from domain.catalogue import uploads as sealed_files
from domain.core import clock, ids
from domain.core import db as core
from domain.core.errors import NotFound
from domain.core.settings import settings
from domain.identity import Role
from server import uploads
from tests import make

APP = Starlette(routes=uploads.routes())


async def post(
    chunks: Sequence[bytes], token: str | None = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    """POST /uploads: the status and the JSON answer."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        given["authorization"] = f"Bearer {token}"
    messages = [
        {"type": "http.request", "body": chunk, "more_body": place + 1 < len(chunks)}
        for place, chunk in enumerate(chunks)
    ] or [{"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/uploads",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    await APP(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(body)


async def signed_in(shop: make.Shop, role: Role = Role.CATALOGUE) -> tuple[str, UUID]:
    email = f"{ids.uuid7().hex}@shop.test"
    account = await identity.register(email, "correct horse battery")
    await identity.grant(shop.merchant_id, account, role)
    opened = await identity.sign_in(email, "correct horse battery", "203.0.113.9")
    return opened.token, account


def files() -> list[Path]:
    folder = settings().data_dir / "uploads"
    return sorted(folder.iterdir()) if folder.exists() else []


@pytest.fixture(autouse=True)
async def _clean(db: None) -> AsyncIterator[None]:
    for path in files():
        path.unlink()
    yield
    for path in files():
        path.unlink()


async def test_a_file_is_kept_sealed_and_comes_back_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_files, "PART", 100)
    token, account = await signed_in(await make.shop(keys=0))
    text = b"".join(b"CANARY-%05d\n" % place for place in range(50))

    status, made = await post([text[:7], text[7:400], b"", text[400:]], token)

    assert (status, made["size"]) == (201, len(text))
    upload_id = ids.decode(made["id"], "upl")
    [path] = files()
    assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0
    assert b"CANARY" not in path.read_bytes()
    assert await catalogue.upload_content(upload_id, account) == text
    with pytest.raises(NotFound):
        await catalogue.upload_content(upload_id, ids.uuid7())
    await catalogue.forget_upload(upload_id)
    assert files() == []
    with pytest.raises(NotFound):
        await catalogue.upload_content(upload_id, account)


async def test_a_file_that_was_cut_or_mixed_up_does_not_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sealed_files, "PART", 10)
    token, account = await signed_in(await make.shop(keys=0))
    _, made = await post([b"0123456789abcdefghij"], token)
    upload_id = ids.decode(made["id"], "upl")
    [path] = files()
    whole = path.read_bytes()
    size = 4 + int.from_bytes(whole[:4], "big")

    for damaged in (
        whole[:-1],
        whole[: 2 * size],
        whole[size:],
        whole[size : 2 * size] + whole,
        b"",
    ):
        path.write_bytes(damaged)
        with pytest.raises(NotFound):
            await catalogue.upload_content(upload_id, account)
    path.write_bytes(whole)
    assert await catalogue.upload_content(upload_id, account) == b"0123456789abcdefghij"


async def test_who_may_not_send_sends_nothing() -> None:
    shop = await make.shop(keys=0)
    reader, _ = await signed_in(shop, Role.READ_ONLY)

    assert await post([b"A"]) == (401, {"code": "UNAUTHENTICATED"})
    assert await post([b"A"], "kami_s_" + "A" * 43) == (401, {"code": "UNAUTHENTICATED"})
    assert await post([b"A"], reader) == (403, {"code": "FORBIDDEN"})

    assert files() == []
    assert await core.value("SELECT count(*) FROM upload") == 0


async def test_h38_uploads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_files, "SIZE_MAX", 1_000)
    monkeypatch.setattr(sealed_files, "WAITING_MAX", 2)
    token, _ = await signed_in(await make.shop(keys=0))

    assert (await post([b"x" * 600, b"x" * 600], token))[0] == 413
    assert (await post([b"x"], token, content_length=str(33 * 1024 * 1024)))[0] == 413
    assert (await post([b""], token))[0] == 400
    assert (await post([b"x"], token, content_encoding="gzip"))[0] == 415
    assert (await post([b"x"], token, content_length="many"))[0] == 400
    assert files() == []
    assert [(await post([b"x"], token))[0] for _ in range(3)] == [201, 201, 429]
    assert len(files()) == 2


async def test_a_connection_that_breaks_leaves_nothing() -> None:
    token, _ = await signed_in(await make.shop(keys=0))

    status, _ = await post([], token)

    assert status == 400
    assert files() == []
    assert await core.value("SELECT count(*) FROM upload") == 0


async def test_uploads_are_forgotten_after_a_day() -> None:
    token, account = await signed_in(await make.shop(keys=0))
    _, made = await post([b"A"], token)

    assert await catalogue.prune() == 0
    clock.shift(timedelta(days=1, minutes=1))
    try:
        assert await catalogue.prune() == 1
    finally:
        clock.shift(timedelta())

    assert files() == []
    with pytest.raises(NotFound):
        await catalogue.upload_content(ids.decode(made["id"], "upl"), account)
