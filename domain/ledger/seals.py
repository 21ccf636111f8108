"""The hash chains beside the journals; how chains work is said in `domain/core/hash_chain.py`.

canonical(journal) = the journal and its transfers by line.
"""

from __future__ import annotations

from uuid import UUID

from domain.core.hash_chain import SEAL_MAX, Broken, Chain, Head

_LOCK = 0x6C656467  # "ledg", the class of these advisory locks; the second number is the chain

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
SELECT j.id AS subject, {_CANONICAL} AS canonical FROM (
    SELECT * FROM ledger_journal WHERE chain = $1 AND (txid, no) > ($2::text::xid8, $3)
        AND txid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY txid, no LIMIT $4) AS j {_LINES} ORDER BY j.txid, j.no
"""
_WRITE = """
INSERT INTO ledger_seal (chain, journal_id, seq, prev_hash, hash)
SELECT $1, id, seq, prev_hash, hash
FROM unnest($2::uuid[], $3::bigint[], $4::bytea[], $5::bytea[]) AS t(id, seq, prev_hash, hash)
"""
_SEALED = f"""
SELECT s.seq, s.journal_id AS subject, j.id AS found, s.prev_hash, s.hash, {_CANONICAL} AS canonical
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
_WAITING = """
SELECT count(*) FROM ledger_journal j WHERE j.chain = $1
    AND NOT EXISTS (SELECT FROM ledger_seal s WHERE s.journal_id = j.id)
"""


def chain(number: int = 0) -> Chain[UUID]:
    """The chain with this number."""
    return Chain(
        noun="journal",
        lock=(_LOCK, number),
        last=_LAST,
        next=_NEXT,
        write=_WRITE,
        sealed=_SEALED,
        skipped=_SKIPPED,
        waiting=_WAITING,
        args=(number,),
    )


async def seal(number: int = 0, *, limit: int = SEAL_MAX) -> int:
    """Seal up to `limit` committed journals of a chain; how many. Errors: SealImpossible."""
    return await chain(number).seal(limit=limit)


async def head(number: int = 0) -> Head | None:
    """The end of a chain now; keep it outside the database to notice a cut tail."""
    return await chain(number).head()


async def verify(number: int = 0, *, known: Head | None = None) -> Broken[UUID] | None:
    """The first journal that does not fit its seals, None when all do; see `Chain.verify`."""
    return await chain(number).verify(known=known)
