"""The books checked as a whole: I1, I2, I3, I5 and I7 of MONEY.md section 15 in set-based SQL."""

from __future__ import annotations

from domain.core import db
from domain.ledger.rules import PURPOSES

FAULTS_MAX = 20

# Each statement yields one text per fault.
_TRANSFERS = {
    "I1 transfer without a journal": """
        SELECT t.no::text FROM ledger_transfer t
        WHERE NOT EXISTS (SELECT FROM ledger_journal j WHERE j.id = t.journal_id)""",
    "I1 journal without transfers": """
        SELECT j.key FROM ledger_journal j
        WHERE NOT EXISTS (SELECT FROM ledger_transfer t WHERE t.journal_id = j.id)""",
    "I1 lines are not 1..n": """
        SELECT journal_id::text FROM ledger_transfer GROUP BY journal_id
        HAVING max(line_no) <> count(*) OR count(DISTINCT line_no) <> count(*)""",
    "I1 transfer in another currency than its account": """
        SELECT t.no::text FROM ledger_transfer t LEFT JOIN ledger_account s ON s.no = t.source_no
            LEFT JOIN ledger_account g ON g.no = t.target_no
        WHERE s.ccy IS DISTINCT FROM t.ccy OR g.ccy IS DISTINCT FROM t.ccy""",
    "I1 balances do not add up to zero": """
        SELECT a.ccy FROM ledger_balance b JOIN ledger_account a ON a.no = b.account_no GROUP BY a.ccy
        HAVING sum(b.debits_posted) <> sum(b.credits_posted)
            OR sum(b.debits_pending) <> sum(b.credits_pending)""",
    "I7 reversal is not its journal with sides swapped": """
        SELECT r.key FROM ledger_journal r WHERE r.reverses_id IS NOT NULL AND EXISTS (
            (SELECT source_no, source_shard, target_no, target_shard, amount_minor, line_no
             FROM ledger_transfer WHERE journal_id = r.id
             EXCEPT SELECT target_no, target_shard, source_no, source_shard, amount_minor, line_no
             FROM ledger_transfer WHERE journal_id = r.reverses_id)
            UNION ALL
            (SELECT target_no, target_shard, source_no, source_shard, amount_minor, line_no
             FROM ledger_transfer WHERE journal_id = r.reverses_id
             EXCEPT SELECT source_no, source_shard, target_no, target_shard, amount_minor, line_no
             FROM ledger_transfer WHERE journal_id = r.id))""",
}

# A pending transfer counts until its hold has a post or a void.
_FOLD = """
WITH side AS (
    SELECT source_no AS account_no, source_shard AS shard, true AS is_debit, phase, hold_id,
        amount_minor FROM ledger_transfer
    UNION ALL SELECT target_no, target_shard, false, phase, hold_id, amount_minor
        FROM ledger_transfer),
ended AS (SELECT DISTINCT hold_id FROM ledger_transfer WHERE phase IN ('post', 'void')),
counted AS (
    SELECT s.*, phase IN ('posted', 'post') AS is_posted,
        phase = 'pending' AND e.hold_id IS NULL AS is_pending
    FROM side s LEFT JOIN ended e ON e.hold_id = s.hold_id),
fold AS (
    SELECT account_no, shard, count(*) AS entries,
        sum(amount_minor) FILTER (WHERE is_debit AND is_posted) AS debits_posted,
        sum(amount_minor) FILTER (WHERE NOT is_debit AND is_posted) AS credits_posted,
        sum(amount_minor) FILTER (WHERE is_debit AND is_pending) AS debits_pending,
        sum(amount_minor) FILTER (WHERE NOT is_debit AND is_pending) AS credits_pending
    FROM counted GROUP BY account_no, shard)
"""
_POSTED = "t.phase IN ('posted', 'post') AND t.recorded_on <= d.day_on"
_BALANCES = {
    "I2 balance is not the fold of its transfers": _FOLD
    + """
        SELECT format('%s/%s', account_no, shard)
        FROM fold f FULL JOIN ledger_balance b USING (account_no, shard)
        WHERE (coalesce(f.debits_posted, 0), coalesce(f.credits_posted, 0),
               coalesce(f.debits_pending, 0), coalesce(f.credits_pending, 0)) IS DISTINCT FROM
              (b.debits_posted, b.credits_posted, b.debits_pending, b.credits_pending)""",
    "I2 version is not a number of moves": _FOLD
    + """
        SELECT format('%s/%s', account_no, shard)
        FROM ledger_balance b LEFT JOIN fold f USING (account_no, shard)
        WHERE b.version > coalesce(f.entries, 0) OR (b.version = 0) <> (f.entries IS NULL)""",
    "I2 day total is not the fold of its transfers": f"""
        WITH day AS (
            SELECT DISTINCT ON (account_no) * FROM ledger_day ORDER BY account_no, day_on DESC)
        SELECT format('%s/%s', account_no, day_on) FROM day d
        WHERE d.debits_posted <> (SELECT coalesce(sum(amount_minor), 0)
                FROM ledger_transfer t WHERE t.source_no = d.account_no AND {_POSTED})
            OR d.credits_posted <> (SELECT coalesce(sum(amount_minor), 0)
                FROM ledger_transfer t WHERE t.target_no = d.account_no AND {_POSTED})""",
    "I3 counter below zero, floor or ceiling broken": """
        SELECT format('%s/%s', account_no, shard) FROM ledger_balance
        WHERE least(debits_pending, debits_posted, credits_pending, credits_posted) < 0
            OR credits_posted - debits_posted - debits_pending < floor_minor
            OR credits_posted + credits_pending - debits_posted > ceiling_minor""",
}
_LIMITS = """
SELECT format('%s/%s %s', b.account_no, b.shard, a.purpose)
FROM ledger_balance b JOIN ledger_account a ON a.no = b.account_no
    LEFT JOIN unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
        AS p(purpose, normal, floor_minor, ceiling_minor) USING (purpose)
WHERE p.normal IS DISTINCT FROM a.normal OR p.floor_minor IS DISTINCT FROM b.floor_minor
    OR p.ceiling_minor IS DISTINCT FROM b.ceiling_minor OR b.shard >= a.shards
"""
_HOLDS = {
    "I5 hold and its pending transfer differ": """
        SELECT coalesce(h.id, t.hold_id)::text
        FROM ledger_hold h
            FULL JOIN (SELECT * FROM ledger_transfer WHERE phase = 'pending') AS t
            ON t.no = h.transfer_no
        WHERE (h.id, h.id, h.amount_minor) IS DISTINCT FROM (t.hold_id, t.journal_id, t.amount_minor)""",
    "I5 hold is not resolved exactly once": """
        SELECT h.id::text FROM ledger_hold h
            LEFT JOIN (SELECT hold_id, count(*) AS times, min(journal_id::text) AS journal_id,
                           sum(amount_minor) AS minor, min(phase) AS phase
                       FROM ledger_transfer WHERE phase IN ('post', 'void') GROUP BY hold_id) AS t
                ON t.hold_id = h.id
        WHERE coalesce(t.times, 0) <> CASE h.state WHEN 'open' THEN 0 ELSE 1 END
            OR t.journal_id IS DISTINCT FROM h.resolved_by::text OR t.minor > h.amount_minor
            OR t.phase IS DISTINCT FROM
                CASE h.state WHEN 'open' THEN NULL WHEN 'posted' THEN 'post' ELSE 'void' END
            OR (t.phase = 'void' AND t.minor <> h.amount_minor)""",
    "I5 open holds do not add up to pending": """
        SELECT ccy FROM (
            SELECT a.ccy, sum(b.debits_pending) AS pending FROM ledger_balance b
                JOIN ledger_account a ON a.no = b.account_no GROUP BY a.ccy) AS p
            FULL JOIN (
            SELECT t.ccy, sum(h.amount_minor) AS held FROM ledger_hold h
                JOIN ledger_transfer t ON t.no = h.transfer_no WHERE h.state = 'open' GROUP BY t.ccy) AS h
            USING (ccy)
        WHERE coalesce(p.pending, 0) <> coalesce(h.held, 0)""",
}


async def check() -> list[str]:
    """Every fault found in the books as they are now, at most twenty of a kind; [] when they are
    whole.

    One snapshot of the database; no lock stops the posters.
    """
    assert not db.in_transaction(), "the check takes a snapshot of its own"
    faults: list[str] = []
    async with db.transaction():
        await db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for name, sql in {**_TRANSFERS, **_BALANCES, **_HOLDS}.items():
            faults += [f"{name}: {row[0]}" for row in await db.fetch(f"{sql} LIMIT {FAULTS_MAX}")]
        rows = await db.fetch(
            f"{_LIMITS} LIMIT {FAULTS_MAX}",
            list(PURPOSES),
            [purpose.normal for purpose in PURPOSES.values()],
            [purpose.floor_minor for purpose in PURPOSES.values()],
            [purpose.ceiling_minor for purpose in PURPOSES.values()],
        )
        faults += [f"I3 account is not as its purpose says: {row[0]}" for row in rows]
    return faults
