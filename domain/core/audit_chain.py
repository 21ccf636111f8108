"""The hash chain beside the audit log: one sealer, and the check that names the first bad row.

hash = SHA-256(prev_hash ‖ canonical(row)). The chain follows the rows in the order (txid, no) and only below the
oldest running transaction, so nothing can commit behind it; what is not sealed yet is a few seconds old. Whoever can
write to every table can also write a whole new chain: only a head kept elsewhere tells that, and a cut tail
(CASES H30). The ledger's seals work alike (`domain/ledger/seals.py`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from domain.core import db

SEAL_MAX = 5_000
_LOCK = 0x61756474  # "audt", the class of this advisory lock
_GENESIS = bytes(32)
_HEAD = re.compile(r"([1-9][0-9]{0,18}):([0-9a-f]{64})")

# Free text stands behind its length in bytes, so no text can look like the next field. Times are microseconds since
# 1970; facts are PostgreSQL's own text of a jsonb, which has one spelling per value.
_CANONICAL = """
concat_ws(' ', a.no, a.txid, coalesce(a.merchant_id::text, '-'), octet_length(a.actor_kind), a.actor_kind,
    octet_length(a.actor_id), a.actor_id, octet_length(a.action), a.action, a.subject_id,
    coalesce(octet_length(a.request_id) || ' ' || a.request_id, '-'),
    coalesce(octet_length(a.address) || ' ' || a.address, '-'),
    (extract(epoch FROM a.recorded_at) * 1000000)::bigint,
    octet_length(a.facts_json::text), a.facts_json::text)
"""
_LAST = """
SELECT s.seq, s.hash, a.txid::text AS txid, a.no, a.txid < pg_snapshot_xmax(pg_current_snapshot()) AS is_past
FROM audit_seal s LEFT JOIN audit_log a ON a.no = s.audit_no ORDER BY s.seq DESC LIMIT 1
"""
_NEXT = f"""
SELECT a.no, {_CANONICAL} AS canonical FROM audit_log a
WHERE (a.txid, a.no) > ($1::text::xid8, $2) AND a.txid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY a.txid, a.no LIMIT $3
"""
_WRITE = """
INSERT INTO audit_seal (seq, audit_no, prev_hash, hash)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[])
"""


class SealImpossible(Exception):
    """The chain cannot be continued: its last row is gone, or the database counts transactions anew.

    After a logical restore raise the server's transaction counter (pg_resetwal) above the highest `txid`.
    """


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain: `str` gives "seq:hash", to be kept outside the database."""

    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"

    @classmethod
    def read(cls, text: str) -> Head | None:
        """The head behind "seq:hash", None for anything else."""
        found = _HEAD.fullmatch(text.strip())
        return None if found is None else cls(int(found[1]), bytes.fromhex(found[2]))


@dataclass(frozen=True, slots=True)
class Broken:
    """The first place where log and chain differ: its place in the chain, the row (`audit_log.no`) and why."""

    seq: int
    no: int | None
    reason: str


async def seal(*, limit: int = SEAL_MAX) -> int:
    """Chain up to `limit` committed rows; how many, 0 when another sealer is at it.

    Call again while it returns `limit`. Errors: SealImpossible.
    """
    assert 0 < limit <= SEAL_MAX, limit
    async with db.transaction():
        if not await db.value("SELECT pg_try_advisory_xact_lock($1, 0)", _LOCK):
            return 0
        last = await db.row(_LAST)
        if last is not None and not last["is_past"]:
            raise SealImpossible(f"audit chain at {last['seq']}")
        seq, prev = (last["seq"], last["hash"]) if last else (0, _GENESIS)
        after = (last["txid"], last["no"]) if last else ("0", 0)
        rows = await db.fetch(_NEXT, *after, limit)
        if not rows:
            return 0
        hashes = [prev]
        for row in rows:
            hashes.append(_hash(hashes[-1], row["canonical"]))
        await db.execute(
            _WRITE,
            list(range(seq + 1, seq + 1 + len(rows))),
            [row["no"] for row in rows],
            hashes[:-1],
            hashes[1:],
        )
        return len(rows)


def _hash(prev: bytes, canonical: str) -> bytes:
    return hashlib.sha256(prev + canonical.encode()).digest()


async def head() -> Head | None:
    """The end of the chain now."""
    row = await db.row("SELECT seq, hash FROM audit_seal ORDER BY seq DESC LIMIT 1")
    return Head(row["seq"], row["hash"]) if row else None


async def unsealed() -> int:
    """Rows that wait for the sealer."""
    count: int = await db.value(
        "SELECT count(*) FROM audit_log a WHERE NOT EXISTS (SELECT FROM audit_seal s WHERE s.audit_no = a.no)"
    )
    return count


_SEALED = f"""
SELECT s.seq, s.audit_no, s.prev_hash, s.hash, a.no, {_CANONICAL} AS canonical
FROM (SELECT * FROM audit_seal WHERE seq > $1 ORDER BY seq LIMIT $2) AS s
    LEFT JOIN audit_log a ON a.no = s.audit_no
ORDER BY s.seq
"""
_SKIPPED = """
SELECT a.no FROM audit_log a WHERE (a.txid, a.no) <= (
    SELECT l.txid, l.no FROM audit_seal s JOIN audit_log l ON l.no = s.audit_no ORDER BY s.seq DESC LIMIT 1)
    AND NOT EXISTS (SELECT FROM audit_seal s WHERE s.audit_no = a.no)
ORDER BY a.txid, a.no LIMIT 1
"""


async def verify(*, known: Head | None = None) -> Broken | None:
    """Recompute the chain from its start; the first place that does not fit, None when all of it does.

    Finds edited, removed, added and swapped rows and seals; with a `known` head also a cut tail, an emptied log and a
    chain that was written anew as a whole.
    """
    at, prev = 0, _GENESIS
    while rows := await db.fetch(_SEALED, at, SEAL_MAX):
        for row in rows:
            at += 1
            reason = _fault(row, at, prev)
            if reason:
                return Broken(at, row["audit_no"] if row["seq"] == at else None, reason)
            prev = row["hash"]
            if known is not None and known.seq == at and known.hash != prev:
                return Broken(at, row["audit_no"], "another chain than the known head's")
    if known is not None and known.seq > at:
        return Broken(at + 1, None, "tail cut")
    skipped: int | None = await db.value(_SKIPPED)
    if skipped is not None:
        return Broken(at, skipped, "row without a seal behind the head")
    return None


def _fault(row: db.Record, seq: int, prev: bytes) -> str:
    if row["seq"] != seq:
        return "seal missing"
    if row["no"] is None:
        return "row missing"
    if row["prev_hash"] != prev:
        return "chain forked"
    if row["hash"] != _hash(prev, row["canonical"]):
        return "content changed"
    return ""
