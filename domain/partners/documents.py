"""Trusted documents of apps: registered once by their hash, run by their id, found by their own app alone.

What is found is kept in memory, bounded in bytes; the bell of apps drops it, time does where a ring is lost.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.core import audit, clock, db
from domain.core.audit import Actor
from domain.core.errors import FieldInvalid, InputInvalid, NotFound, Unavailable
from domain.partners import presence
from domain.partners.ports import CONTRACT, Fault, contracts
from domain.partners.rules import DocumentsInvalid

DOCUMENTS_MAX = 500  # of one app
AT_ONCE_MAX = 50
TEXT_MAX = 16_384  # characters; the parser's own bound is in tokens
KEPT_BYTES_MAX = 8_000_000
KEPT_S = 60.0
MISSED_S = 4.0  # an id that was unknown is asked for again soon: it may be registered right now
_ENTRY_BYTES = 300  # what an entry weighs besides its text

_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Document:
    """A registered document; `id` is the SHA-256 of its UTF-8 text in lower-case hexadecimal."""

    id: str
    text: str
    created_at: datetime


def document_id(text: str) -> str:
    """The id of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


async def register(
    merchant_id: UUID, app_id: UUID, texts: Sequence[str], *, actor: Actor
) -> list[Document]:
    """Register documents of an app, all or none; what was registered before stays as it was.

    Errors: InputInvalid (none, too many, too long), DocumentsInvalid with every fault, NotFound, FieldInvalid when the
    app would have more than `DOCUMENTS_MAX`, Unavailable without a contract.
    """
    _check(texts)
    hashes = {document_id(text): text for text in texts}
    keys = sorted(hashes)
    async with db.transaction():
        # The app's row is the lock that makes the count true.
        if not await db.value(
            "SELECT 1 FROM partner_app WHERE merchant_id = $1 AND id = $2 AND state = 'active' FOR NO KEY UPDATE",
            merchant_id,
            app_id,
        ):
            raise NotFound()
        await db.execute(
            "INSERT INTO app_document (app_id, document_hash, text)"
            " SELECT $1, * FROM unnest($2::bytea[], $3::text[]) ON CONFLICT DO NOTHING",
            app_id,
            [bytes.fromhex(one) for one in keys],
            [hashes[one] for one in keys],
        )
        count = "SELECT count(*) FROM app_document WHERE app_id = $1"
        if await db.value(count, app_id) > DOCUMENTS_MAX:
            raise FieldInvalid(path=("input", "documents"), reason="count", max=DOCUMENTS_MAX)
        await audit.record(merchant_id, actor, "app.documents_registered", app_id, ids=keys)
        await presence.tell(app_id)
        found = {one.id: one for one in await _read(app_id, keys)}
    return [found[document_id(text)] for text in texts]


def _check(texts: Sequence[str]) -> None:
    if not 0 < len(texts) <= AT_ONCE_MAX:
        raise FieldInvalid(path=("input", "documents"), reason="count", min=1, max=AT_ONCE_MAX)
    too_long = [
        FieldInvalid(path=("input", "documents", str(place)), reason="too_long", max=TEXT_MAX)
        for place, text in enumerate(texts)
        if len(text) > TEXT_MAX
    ]
    if too_long:
        raise InputInvalid(*too_long)
    contract = contracts.get(CONTRACT)
    if contract is None:
        raise Unavailable(what="contract")
    judged = [(place, contract.fault(text)) for place, text in enumerate(texts)]
    faults = tuple(Fault(place, *fault) for place, fault in judged if fault is not None)
    if faults:
        raise DocumentsInvalid(problems=faults, count=len(faults))


async def _read(app_id: UUID, keys: Sequence[str]) -> list[Document]:
    rows = await db.fetch(
        "SELECT encode(document_hash, 'hex') AS id, text, created_at FROM app_document"
        " WHERE app_id = $1 AND document_hash = ANY($2)",
        app_id,
        [bytes.fromhex(one) for one in keys],
    )
    return [Document(**row) for row in rows]


async def unregister(
    merchant_id: UUID, app_id: UUID, document_ids: Sequence[str], *, actor: Actor
) -> int:
    """Take documents away; how many there were. The app can run them for five seconds more at most.

    Errors: FieldInvalid (none or too many), NotFound.
    """
    if not 0 < len(document_ids) <= AT_ONCE_MAX:
        raise FieldInvalid(path=("input", "ids"), reason="count", min=1, max=AT_ONCE_MAX)
    hashes = [bytes.fromhex(one) for one in document_ids if _ID.fullmatch(one)]
    async with db.transaction():
        gone = await db.execute(
            "DELETE FROM app_document d USING partner_app a WHERE a.id = d.app_id AND a.merchant_id = $1"
            " AND a.id = $2 AND a.state = 'active' AND d.document_hash = ANY($3)",
            merchant_id,
            app_id,
            hashes,
        )
        if gone:
            await audit.record(merchant_id, actor, "app.documents_removed", app_id, count=gone)
            await presence.tell(app_id)
    return gone


async def registered(
    app_id: UUID, beyond: str | None, limit: int, *, backward: bool = False
) -> list[Document]:
    """An app's documents by id, behind `beyond`."""
    sign, order = ("<", "DESC") if backward else (">", "ASC")
    rows = await db.fetch(
        "SELECT encode(document_hash, 'hex') AS id, text, created_at FROM app_document"
        f" WHERE app_id = $1 AND ($2::bytea IS NULL OR document_hash {sign} $2)"
        f" ORDER BY document_hash {order} LIMIT $3",
        app_id,
        None if beyond is None else bytes.fromhex(beyond),
        limit,
    )
    found = [Document(**row) for row in rows]
    return found[::-1] if backward else found


class Kept:
    """Texts by app and id, the least recently used out first. None is kept for an id that the app does not have."""

    def __init__(self, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._kept: OrderedDict[tuple[UUID, str], tuple[float, str | None]] = OrderedDict()
        self._bytes = 0
        self._bytes_max = bytes_max

    def get(self, app_id: UUID, id: str) -> tuple[str | None] | None:
        """What is known about an id, in a tuple; None when nothing is."""
        found = self._kept.get((app_id, id))
        if found is None or found[0] < clock.monotonic():
            return None
        self._kept.move_to_end((app_id, id))
        return (found[1],)

    def put(self, app_id: UUID, id: str, text: str | None) -> None:
        """Keep an answer for its time."""
        self._drop((app_id, id))
        until = clock.monotonic() + (MISSED_S if text is None else KEPT_S)
        self._kept[app_id, id] = (until, text)
        self._bytes += _weight(text)
        while self._bytes > self._bytes_max:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: tuple[UUID, str]) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self._bytes -= _weight(found[1])

    def forget(self, app_id: UUID | None) -> None:
        """Drop what is kept of an app, or of all."""
        for key in [one for one in self._kept if app_id is None or one[0] == app_id]:
            self._drop(key)


def _weight(text: str | None) -> int:
    return _ENTRY_BYTES + (0 if text is None else len(text))


_kept = Kept()
presence.on_forget(_kept.forget)


async def document(app_id: UUID, id: str) -> str | None:
    """The text an app has registered under this id; None when it has none. One statement, then kept in memory."""
    if not _ID.fullmatch(id):
        return None
    known = _kept.get(app_id, id)
    if known is not None:
        return known[0]
    text: str | None = await db.value(
        "SELECT text FROM app_document WHERE app_id = $1 AND document_hash = $2",
        app_id,
        bytes.fromhex(id),
    )
    _kept.put(app_id, id, text)
    return text
