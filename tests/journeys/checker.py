"""What must hold after every journey, fault or race: the laws of CASES L as set-based SQL, each fault as one text.

`faults()` looks at the database of this process's pool; [] means that no key, no unit of money, no event and no
owed piece of work is lost, doubled or forgotten.
"""

from __future__ import annotations

from domain import ledger
from domain.core import db

FAULTS_MAX = 10
# A promise that nobody kept for this long after it was due is forgotten (L20).
PROMISE_MAX_S = 120

# Each statement yields one text per fault.
_KEYS = {
    "L07 delivered without exactly its keys": """
        SELECT o.number FROM orders o WHERE o.status IN ('delivered', 'delivering') AND o.key_units <> (
            SELECT count(*) FROM card_key k JOIN order_line l ON l.id = k.order_line_id
            WHERE l.order_id = o.id AND l.delivery = 'stock' AND k.state IN ('sold', 'revoked'))""",
    "L07 keys sold to an order that is not delivered": """
        SELECT o.number || ' ' || o.status FROM orders o
        WHERE o.status IN ('awaiting_payment', 'short', 'held', 'expired', 'cancelled', 'refunded')
            AND EXISTS (SELECT FROM card_key k WHERE k.order_id = o.id AND k.state = 'sold')""",
    "L07 goods and all the money back": """
        SELECT o.number FROM orders o WHERE o.captured_minor > 0
            AND EXISTS (SELECT FROM card_key k WHERE k.order_id = o.id AND k.state = 'sold')
            AND NOT EXISTS (SELECT FROM capture c WHERE c.order_id = o.id
                AND c.amount_minor > c.returned_minor AND c.park_reason IS DISTINCT FROM 'conflicted')""",
    "L07 line served in part": """
        SELECT l.id::text FROM order_line l JOIN orders o ON o.id = l.order_id
        WHERE o.status = 'delivered' AND l.delivery = 'stock' AND l.quantity <> (
            SELECT count(*) FROM card_key k WHERE k.order_line_id = l.id AND k.state IN ('sold', 'revoked'))""",
    "D09 key reserved without a hold": """
        SELECT k.id::text FROM card_key k WHERE k.state = 'reserved' AND NOT EXISTS (
            SELECT FROM stock_hold h WHERE h.order_id = k.order_id AND h.state = 'held')""",
    "D09 hold without its keys": """
        SELECT h.order_id::text FROM stock_hold h JOIN orders o ON o.id = h.order_id
        WHERE h.state = 'held' AND o.key_units <> (
            SELECT count(*) FROM card_key k WHERE k.order_id = o.id AND k.state = 'reserved')""",
    "D09 hold of an order that is over": """
        SELECT o.number || ' ' || o.status FROM stock_hold h JOIN orders o ON o.id = h.order_id
        WHERE h.state = 'held' AND (o.status IN ('delivered', 'refunded', 'short', 'delivering')
            OR o.status IN ('expired', 'cancelled') AND NOT EXISTS (
                SELECT FROM payment_attempt a WHERE a.order_id = o.id AND a.state IN
                    ('started', 'requires_action', 'processing', 'authorized', 'unknown')))""",
    "D10 shown stock is not the count of open keys": """
        SELECT variant_id::text FROM
            (SELECT variant_id, sum(available) AS shown FROM variant_stock GROUP BY 1) AS s
            FULL JOIN (SELECT variant_id, count(*) AS open FROM card_key WHERE open GROUP BY 1) AS k
            USING (variant_id)
        WHERE coalesce(shown, 0) <> coalesce(open, 0)""",
}
_MONEY = {
    "L07 paid order with neither goods nor money in view": """
        SELECT o.number || ' ' || o.status FROM orders o
        WHERE o.captured_minor > o.returned_minor AND o.status NOT IN ('delivered', 'disputed')
            AND NOT EXISTS (SELECT FROM capture c WHERE c.order_id = o.id AND
                (c.state = 'parked' OR c.state = 'captured' OR c.returned_minor > 0))""",
    "captures do not add up to the order": """
        SELECT o.number FROM orders o WHERE o.captured_minor <> (
            SELECT coalesce(sum(amount_minor), 0) FROM capture c
            WHERE c.order_id = o.id AND c.park_reason IS DISTINCT FROM 'conflicted')""",
    "refunds do not add up to the order": """
        SELECT o.number FROM orders o WHERE o.returned_minor <> (
            SELECT coalesce(sum(r.amount_minor), 0) FROM refund r JOIN capture c ON c.id = r.capture_id
            WHERE r.order_id = o.id AND r.state = 'succeeded'
                AND c.park_reason IS DISTINCT FROM 'conflicted')""",
    "L09 refunds do not add up to their capture": """
        SELECT c.id::text FROM capture c WHERE c.returned_minor <> (
            SELECT coalesce(sum(r.amount_minor), 0) FROM refund r
            WHERE r.capture_id = c.id AND r.state NOT IN ('failed', 'cancelled'))""",
    "L11 what is kept of a settled capture is not what its legs keep": """
        SELECT c.id::text FROM capture c WHERE c.amount_minor - c.returned_minor <> (
            SELECT coalesce(sum(g.amount_minor - g.returned_minor), 0) FROM capture_leg g
            WHERE g.capture_id = c.id) AND c.state = 'settled'""",
    "L08 more was settled than the order costs": """
        SELECT o.number FROM orders o JOIN capture c ON c.order_id = o.id
            JOIN capture_leg g ON g.capture_id = c.id WHERE g.leg <> 'surplus'
        GROUP BY o.id HAVING sum(g.amount_minor) > o.total_minor""",
    "L19 reserve is not held + drawn + released": """
        SELECT h.capture_id::text FROM reserve_hold h JOIN capture_leg g
            ON g.capture_id = h.capture_id AND g.leg = 'reserve'
        WHERE h.amount_minor <> g.amount_minor OR h.state = 'drawn' AND h.drawn_minor <> h.amount_minor""",
}
_LIES_ON = """
    SELECT a.owner_id, a.ccy, sum(b.credits_posted - b.debits_posted) AS minor FROM ledger_account a
    JOIN ledger_balance b ON b.account_no = a.no WHERE a.purpose = '{purpose}' GROUP BY 1, 2"""
# Money that waits for its day lies where its items say, so it moves once and whole.
_WAITING = {
    "G05 merchant_pending is not what its items wait for": f"""
        SELECT format('%s %s: %s, items say %s', owner_id, ccy, b.minor, i.minor) FROM
            ({_LIES_ON.format(purpose="merchant_pending")}) AS b FULL JOIN (
            SELECT merchant_id AS owner_id, ccy, sum(amount_minor) AS minor FROM settlement_item
            WHERE released_run_id IS NULL GROUP BY 1, 2) AS i USING (owner_id, ccy)
        WHERE coalesce(b.minor, 0) <> coalesce(i.minor, 0)""",
    "L19 merchant_reserved is not what its holds keep": f"""
        SELECT format('%s %s: %s, holds say %s', owner_id, ccy, b.minor, h.minor) FROM
            ({_LIES_ON.format(purpose="merchant_reserved")}) AS b FULL JOIN (
            SELECT merchant_id AS owner_id, ccy, sum(amount_minor - drawn_minor) AS minor FROM reserve_hold
            WHERE state = 'held' GROUP BY 1, 2) AS h USING (owner_id, ccy)
        WHERE coalesce(b.minor, 0) <> coalesce(h.minor, 0)""",
}
# What the rows say must lie on each account, against what the books say lies there.
_BOOKS = """
WITH net AS (
    SELECT a.purpose, a.owner_id, a.sub, a.ccy, sum(b.credits_posted - b.debits_posted) AS minor
    FROM ledger_account a JOIN ledger_balance b ON b.account_no = a.no GROUP BY 1, 2, 3, 4),
kept AS (SELECT *, amount_minor - returned_minor AS left_minor,
    concat_ws(':', provider, nullif(provider_account, '')) AS account FROM capture),
legs AS (SELECT g.leg, c.merchant_id, c.account, c.ccy, g.amount_minor - g.returned_minor AS left_minor
    FROM capture_leg g JOIN kept c ON c.id = g.capture_id),
said AS (
    SELECT 'buyer_held' AS what, merchant_id::text AS who, ccy, sum(left_minor) AS minor FROM kept
        WHERE state = 'parked' AND source_purpose = 'buyer_held' GROUP BY 2, 3
    UNION ALL SELECT 'suspense', account, ccy, sum(minor) FROM (
        SELECT account, ccy, left_minor AS minor FROM kept WHERE state = 'parked' AND source_purpose = 'suspense'
        UNION ALL SELECT account, ccy, left_minor FROM legs WHERE leg = 'surplus') AS s GROUP BY 2, 3
    UNION ALL SELECT 'refund_clearing', c.account, r.ccy, sum(r.amount_minor)
        FROM refund r JOIN kept c ON c.id = r.capture_id
        WHERE r.state NOT IN ('succeeded', 'failed', 'cancelled') GROUP BY 2, 3
    UNION ALL SELECT 'provider', account, ccy, -sum(minor) FROM (
        SELECT account, ccy, amount_minor AS minor FROM kept WHERE state <> 'captured' OR journal_id IS NOT NULL
        UNION ALL SELECT c.account, r.ccy, -r.amount_minor FROM refund r JOIN kept c ON c.id = r.capture_id
        WHERE r.state = 'succeeded') AS p GROUP BY 2, 3
    UNION ALL SELECT 'platform_commission', '', ccy, sum(left_minor) FROM legs
        WHERE leg = 'commission' GROUP BY 3
    UNION ALL SELECT 'merchant', merchant_id::text, ccy, sum(left_minor) FROM legs
        WHERE leg IN ('merchant', 'reserve', 'debt') GROUP BY 2, 3),
booked AS (
    SELECT CASE WHEN purpose IN ('provider_clearing', 'provider_fee') THEN 'provider'
            WHEN purpose IN ('merchant_available', 'merchant_pending', 'merchant_reserved', 'merchant_debt',
                             'merchant_direct')
            THEN 'merchant' ELSE purpose END AS what,
        CASE WHEN owner_id IS NOT NULL THEN owner_id::text ELSE sub END AS who, ccy, sum(minor) AS minor
    FROM net GROUP BY 1, 2, 3)
SELECT format('%s %s %s: rows say %s, books say %s', what, who, ccy, said.minor, booked.minor)
FROM said FULL JOIN booked USING (what, who, ccy)
WHERE coalesce(said.minor, 0) <> coalesce(booked.minor, 0)
"""
_WORK = {
    "L33 an order's events have a gap": """
        SELECT o.number FROM orders o WHERE (o.event_seq, o.event_seq) <> (
            SELECT count(*), coalesce(max(sequence), 0) FROM event_log e WHERE e.order_id = o.id)""",
    "C19 the state that the events tell is not the order's": """
        SELECT o.number || ' ' || o.status FROM orders o WHERE o.status IS DISTINCT FROM (
            SELECT replace(substr(e.kind, 7), 'placed', 'awaiting_payment') FROM event_log e
            WHERE e.order_id = o.id AND e.kind LIKE 'order.%' ORDER BY e.sequence DESC LIMIT 1)""",
    "L20 promise forgotten": f"""
        SELECT format('%s %s %s', task, state, error) FROM promise
        WHERE state IN ('ready', 'leased') AND due_at < clock_timestamp() - interval '{PROMISE_MAX_S} s'""",
    "L20 promise dead": "SELECT format('%s %s', task, error) FROM promise WHERE state = 'dead'",
    "L20 saga not over": f"""
        SELECT format('%s %s', kind, state) FROM saga WHERE state NOT IN ('done', 'compensated')
            AND moved_at < clock_timestamp() - interval '{PROMISE_MAX_S} s'""",
    "C06 word set aside": "SELECT format('%s %s', no, note) FROM inbox_event WHERE verdict = 'parked'",
    "money set aside by an error": "SELECT format('%s %s', id, error) FROM capture WHERE park_reason = 'error'",
}
_REST = {
    "word that nobody judged": "SELECT no::text FROM inbox_event WHERE verdict IS NULL",
    "capture that nobody fulfilled": "SELECT id::text FROM capture WHERE state = 'captured'",
}


async def faults(*, at_rest: bool = True, but: tuple[str, ...] = ()) -> list[str]:
    """Every broken law, at most ten of a kind; [] when all hold.

    `at_rest`: the workers have had their turn, so nothing may wait to be judged or fulfilled. `but` names laws
    (by the start of their name) that a journey breaks on purpose.
    """
    laws = {
        **_KEYS,
        **_MONEY,
        **_WAITING,
        "the books differ from the rows": _BOOKS,
        **_WORK,
        **(_REST if at_rest else {}),
    }
    found = await ledger.check()
    async with db.transaction():
        await db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for name, sql in laws.items():
            if not name.startswith(but or ("\0",)):
                rows = await db.fetch(f"{sql} LIMIT {FAULTS_MAX}")
                found += [f"{name}: {row[0]}" for row in rows]
    return found
