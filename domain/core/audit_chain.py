"""The hash chain beside the audit log (CASES H30); how chains work is said in `domain/core/hash_chain.py`."""

from __future__ import annotations

from domain.core.hash_chain import Chain

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
SELECT a.no AS subject, {_CANONICAL} AS canonical FROM audit_log a
WHERE (a.txid, a.no) > ($1::text::xid8, $2) AND a.txid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY a.txid, a.no LIMIT $3
"""
_WRITE = """
INSERT INTO audit_seal (audit_no, seq, prev_hash, hash)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[])
"""
_SEALED = f"""
SELECT s.seq, s.audit_no AS subject, a.no AS found, s.prev_hash, s.hash, {_CANONICAL} AS canonical
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
_WAITING = """
SELECT count(*) FROM audit_log a WHERE NOT EXISTS (SELECT FROM audit_seal s WHERE s.audit_no = a.no)
"""

# The class of the lock is "audt".
CHAIN: Chain[int] = Chain(
    noun="row",
    lock=(0x61756474, 0),
    last=_LAST,
    next=_NEXT,
    write=_WRITE,
    sealed=_SEALED,
    skipped=_SKIPPED,
    waiting=_WAITING,
)
seal, head, unsealed, verify = CHAIN.seal, CHAIN.head, CHAIN.unsealed, CHAIN.verify
