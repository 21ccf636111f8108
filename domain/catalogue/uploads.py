"""Files sent ahead of an import: streamed to the data folder, sealed part by part, forgotten after a day."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO
from uuid import UUID

from cryptography.exceptions import InvalidTag

from domain.catalogue import holds
from domain.core import clock, db, ids, vault
from domain.core.errors import DomainError, NotFound
from domain.core.settings import make_data_dir, settings

SIZE_MAX = 32 * 1024 * 1024
PART = 256 * 1024
WAITING_MAX = 20
KEEP = timedelta(days=1)
PREFIX = "upl"


class UploadRefused(DomainError):
    """The file is empty or too large (`max` bytes), or too many of this account's wait already."""

    code = "UPLOAD_REFUSED"


@dataclass(frozen=True, slots=True)
class Upload:
    """A stored file: `size` bytes of plaintext."""

    id: UUID
    size: int


def _folder() -> Path:
    folder = settings().data_dir / "uploads"
    make_data_dir(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _place(upload_id: UUID, part: int | str) -> str:
    return f"upload:{upload_id}:{part}"


async def receive(chunks: AsyncIterator[bytes], account_id: UUID) -> Upload:
    """Store what is streamed for `account_id`; at most SIZE_MAX bytes, never more than a part in memory.

    On disk there is ciphertext only. Nothing is kept of what breaks off. Errors: UploadRefused.
    """
    waiting = await db.value("SELECT count(*) FROM upload WHERE account_id = $1", account_id)
    if waiting >= WAITING_MAX:
        raise UploadRefused(reason="waiting", max=WAITING_MAX)
    upload_id = ids.uuid7()
    path = _folder() / upload_id.hex
    try:
        with await asyncio.to_thread(path.open, "xb") as file:
            size = await _write(file, upload_id, chunks)
        await db.execute(
            "INSERT INTO upload (id, account_id, size_bytes) VALUES ($1, $2, $3)",
            upload_id,
            account_id,
            size,
        )
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Upload(upload_id, size)


async def _write(file: IO[bytes], upload_id: UUID, chunks: AsyncIterator[bytes]) -> int:
    size = parts = 0
    rest = bytearray()
    async for chunk in chunks:
        size += len(chunk)
        if size > SIZE_MAX:
            raise UploadRefused(reason="size", max=SIZE_MAX)
        rest += chunk
        while len(rest) >= PART:
            await asyncio.to_thread(
                _append, file, vault.seal(_place(upload_id, parts), bytes(rest[:PART]))
            )
            del rest[:PART]
            parts += 1
    if not size:
        raise UploadRefused(reason="empty", max=SIZE_MAX)
    if rest:
        await asyncio.to_thread(_append, file, vault.seal(_place(upload_id, parts), bytes(rest)))
        parts += 1
    # The end is sealed as well: a file cut short does not open.
    await asyncio.to_thread(
        _append, file, vault.seal(_place(upload_id, "end"), str(parts).encode())
    )
    return size


def _append(file: IO[bytes], sealed: bytes) -> None:
    file.write(len(sealed).to_bytes(4, "big") + sealed)


async def content(upload_id: UUID, account_id: UUID) -> bytes:
    """The bytes of an account's own upload. Errors: NotFound when it is another's, gone or damaged."""
    owned = await db.value(
        "SELECT true FROM upload WHERE id = $1 AND account_id = $2", upload_id, account_id
    )
    if not owned:
        raise NotFound()
    try:
        return await asyncio.to_thread(_read, _folder() / upload_id.hex, upload_id)
    except (OSError, InvalidTag, vault.KeyMissing):
        raise NotFound() from None


def _read(path: Path, upload_id: UUID) -> bytes:
    found = bytearray()
    with path.open("rb") as file:
        part = 0
        while head := file.read(4):
            sealed = file.read(int.from_bytes(head, "big"))
            with suppress(InvalidTag):
                found += vault.unseal(_place(upload_id, part), sealed)
                part += 1
                continue
            if vault.unseal(_place(upload_id, "end"), sealed) != str(part).encode():
                raise InvalidTag
            return bytes(found)
    raise InvalidTag


async def forget(upload_id: UUID) -> None:
    """Drop an upload that has been used."""
    await db.execute("DELETE FROM upload WHERE id = $1", upload_id)
    (_folder() / upload_id.hex).unlink(missing_ok=True)


async def prune() -> int:
    """What the timetable calls: forget uploads after a day, and holds that lapsed; how many of both."""
    horizon = clock.now() - KEEP
    removed = await db.execute("DELETE FROM upload WHERE created_at < $1", horizon)
    for path in _folder().iterdir():
        # By its own age, so that what a crash left without a row goes too.
        with suppress(OSError):
            if path.stat().st_mtime < horizon.timestamp():
                path.unlink()
    return removed + await holds.prune()
