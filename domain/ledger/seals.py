"""The hash chain beside the journals: one sealer per chain, and the check that names the first bad
journal.

hash = SHA-256(prev_hash ‖ canonical(journal, transfers by line)). The chain follows the journals in
the order (txid, no) and only below the oldest running transaction, so nothing can commit behind it.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

from domain.core import db
from domain.ledger.models import Broken, Head

SEAL_MAX = 5_000
_LOCK = 0x6C656467  # "ledg", the class of this advisory lock; the second number is the chain
_GENESIS = bytes(32)

# One line for the journal, one for each transfer in the order of the lines. The key is free text,
# so its length stands before it; no other field can hold a space or a line break. Times are
# microseconds since 1970.
_CANONICAL = """
concat_ws(' ', j.id, j.no, j.txid, j.chain, octet_length(j.key), j.key,
    encode(j.input_hash, 'hex'),
    octet_length(j.kind), j.kind, (extract(epoch FROM j.effective_at) * 1000000)::bigint,
    (extract(epoch FROM j.recorded_at) * 1000000)::bigint, coalesce(j.batch_id::text, '-'),
    coalesce(j.correlation_id::text, '-'), coalesce(j.reverses_id::text, '-')) || coalesce(t.lines, '')
"""
_LINES = """
LEFT JOIN LATERAL (
    SELECT string_agg(concat_ws(' ', E'\\n' || t.line_no, t.no, t.source_no, t.source_shard,
        t.target_no, t.target_shard, t.amount_minor, t.ccy, t.phase, coalesce(t.hold_id::text, '-'),
        t.recorded_on - DATE '1970-01-01'), '' ORDER BY t.line_no, t.no) AS lines
    FROM ledger_transfer t WHERE t.journal_id = j.id) AS t ON true
"""
_LAST = """
SELECT s.seq, s.hash, j.txid::text AS txid, j.no,
    j.txid < pg_snapshot_xmax(pg_current_snapshot()) AS is_past
FROM ledger_seal s LEFT JOIN ledger_journal j ON j.id = s.journal_id
WHERE s.chain = $1 ORDER BY s.seq DESC LIMIT 1
"""
_NEXT = f"""
SELECT j.id, {_CANONICAL} AS canonical FROM (
    SELECT * FROM ledger_journal WHERE chain = $1 AND (txid, no) > ($2::text::xid8, $3)
        AND txid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY txid, no LIMIT $4) AS j {_LINES} ORDER BY j.txid, j.no
"""
_WRITE = """
INSERT INTO ledger_seal (journal_id, chain, seq, prev_hash, hash)
SELECT id, $2, seq, prev_hash, hash
FROM unnest($1::uuid[], $3::bigint[], $4::bytea[], $5::bytea[]) AS t(id, seq, prev_hash, hash)
"""


class SealImpossible(Exception):
    """The chain cannot be continued: its last journal is gone, or the database counts transactions
    anew.

    After a logical restore raise the server's transaction counter (pg_resetwal) above the highest
    `txid`.
    """


async def seal(chain: int = 0, *, limit: int = SEAL_MAX) -> int:
    """Seal up to `limit` committed journals of `chain`; how many, 0 when another sealer is at it.

    Call again while it returns `limit`. Errors: SealImpossible.
    """
    assert 0 < limit <= SEAL_MAX, limit
    async with db.transaction():
        if not await db.value("SELECT pg_try_advisory_xact_lock($1, $2)", _LOCK, chain):
            return 0
        last = await db.row(_LAST, chain)
        if last is not None and not last["is_past"]:
            raise SealImpossible(f"chain {chain} at {last['seq']}")
        seq, prev = (last["seq"], last["hash"]) if last else (0, _GENESIS)
        after = (last["txid"], last["no"]) if last else ("0", 0)
        rows = await db.fetch(_NEXT, chain, *after, limit)
        if not rows:
            return 0
        hashes = [prev]
        for row in rows:
            hashes.append(_hash(hashes[-1], row["canonical"]))
        await db.execute(
            _WRITE,
            [row["id"] for row in rows],
            chain,
            list(range(seq + 1, seq + 1 + len(rows))),
            hashes[:-1],
            hashes[1:],
        )
        return len(rows)


def _hash(prev: bytes, canonical: str) -> bytes:
    return hashlib.sha256(prev + canonical.encode()).digest()


async def head(chain: int = 0) -> Head | None:
    """The end of the chain now; keep it outside the database to notice a cut tail."""
    row = await db.row(
        "SELECT seq, hash FROM ledger_seal WHERE chain = $1 ORDER BY seq DESC LIMIT 1", chain
    )
    return Head(row["seq"], row["hash"]) if row else None


_SEALED = f"""
SELECT s.seq, s.journal_id, s.prev_hash, s.hash, j.id, j.chain, {_CANONICAL} AS canonical
FROM (SELECT * FROM ledger_seal WHERE chain = $1 AND seq > $2 ORDER BY seq LIMIT $3) AS s
    LEFT JOIN ledger_journal j ON j.id = s.journal_id {_LINES}
ORDER BY s.seq
"""
_SKIPPED = """
SELECT j.id FROM ledger_journal j WHERE j.chain = $1
    AND (j.txid, j.no) <= (
        SELECT j.txid, j.no FROM ledger_seal s JOIN ledger_journal j ON j.id = s.journal_id
        WHERE s.chain = $1 ORDER BY s.seq DESC LIMIT 1)
    AND NOT EXISTS (SELECT FROM ledger_seal s WHERE s.journal_id = j.id)
ORDER BY j.txid, j.no LIMIT 1
"""


async def verify(chain: int = 0, *, known: Head | None = None) -> Broken | None:
    """Recompute the chain from its start; the first place that does not fit, None when all of it
    does.

    Finds edited, dropped, added and swapped journals, transfers and seals; with a `known` head also
    a cut tail and a chain that was rewritten as a whole.
    """
    at, prev = 0, _GENESIS
    while rows := await db.fetch(_SEALED, chain, at, SEAL_MAX):
        for row in rows:
            at += 1
            reason = _fault(row, at, prev)
            if reason:
                return Broken(at, row["journal_id"], reason)
            prev = row["hash"]
            if known is not None and known.seq == at and known.hash != prev:
                return Broken(at, row["journal_id"], "another chain than the known head's")
    if known is not None and known.seq > at:
        return Broken(at + 1, None, "tail cut")
    skipped: UUID | None = await db.value(_SKIPPED, chain)
    return Broken(at, skipped, "journal without a seal behind the head") if skipped else None


def _fault(row: db.Record, seq: int, prev: bytes) -> str:
    if row["seq"] != seq:
        return "seal missing"
    if row["id"] is None:
        return "journal missing"
    if row["prev_hash"] != prev:
        return "chain forked"
    if row["hash"] != _hash(prev, row["canonical"]):
        return "content changed"
    return ""
