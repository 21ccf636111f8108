"""`kami audit` and `kami ledger`: the exit code says whether the chain fits, words name the first bad row (H30)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

from domain import ledger
from domain.core import audit, audit_chain
from domain.core import db as core
from domain.core.hash_chain import Head
from tests import horizon
from tests.database import owner
from tests.domain import ledger_books
from tests.server.test_cli import kami


async def written(count: int) -> None:
    for number in range(1, count + 1):
        async with core.transaction():
            await audit.record(None, audit.Actor("system", "test"), "thing", UUID(int=number))
    await horizon.passed()
    await audit_chain.seal()


async def run(*arguments: str, of: str = "audit") -> tuple[int, str, str]:
    """(exit code, output, complaints)."""
    done = await asyncio.to_thread(kami, of, *arguments)
    return done.returncode, done.stdout.strip(), done.stderr.strip()


async def test_h30_a_whole_chain_then_a_bad_row_then_a_cut_tail(db: None, tmp_path: Path) -> None:
    await written(4)
    kept = tmp_path / "head.txt"

    code, head, _ = await run("head")
    kept.write_text(f"{head}\n", "utf-8")
    fits = await run("verify", "--head", str(kept))
    await core.execute(
        "INSERT INTO audit_log (actor_kind, actor_id, action, subject_id, facts_json)"
        " VALUES ('system', 'test', 'later', $1, '{}')",
        UUID(int=9),
    )
    waits = await run("verify")
    async with owner():
        await core.execute("SET LOCAL session_replication_role = replica")
        await core.execute("DELETE FROM audit_seal WHERE seq > 2")
    cut = await run("verify", "--head", head)
    async with owner():
        await core.execute("SET LOCAL session_replication_role = replica")
        await core.execute("UPDATE audit_log SET action = 'other' WHERE no = 2")
    bad = await run("verify")

    assert (code, Head.read(head) is not None) == (0, True)
    assert fits == (0, f"4 rows fit, 0 wait to be sealed\nhead {head}", "")
    assert waits == (0, f"4 rows fit, 1 wait to be sealed\nhead {head}", "")
    assert cut == (1, "", "broken at 3: tail cut")
    assert bad == (1, "", "broken at 2, row 2: content changed")


async def test_nothing_yet_and_nonsense(db: None) -> None:
    assert await run("head") == (1, "", "nothing is sealed yet")
    assert await run("verify") == (0, "0 rows fit, 0 wait to be sealed", "")
    assert (await run("verify", "--head", "12"))[0] == 2


async def test_h30_the_books_whole_then_an_edited_amount_then_an_edited_balance(db: None) -> None:
    shop = ledger_books.Shop()
    legs = [shop.transfer("provider_clearing", "merchant_available", 9)]
    first = await ledger.post("sale:1", legs, kind="sale")
    await ledger.post("sale:2", legs, kind="sale")
    await horizon.passed()
    await ledger.seal()

    _, head, _ = await run("head", of="ledger")
    fits = await run("verify", "--head", head, of="ledger")
    async with owner():
        await core.execute("SET LOCAL session_replication_role = replica")
        await core.execute("UPDATE ledger_journal SET kind = 'gift' WHERE id = $1", first.id)
    edited = await run("verify", of="ledger")
    async with owner():
        await core.execute("SET LOCAL session_replication_role = replica")
        await core.execute(
            "UPDATE ledger_transfer SET amount_minor = 8 WHERE journal_id = $1", first.id
        )
    code, told, complaints = await run("verify", of="ledger")

    assert fits == (0, f"2 journals fit, 0 wait to be sealed\nhead {head}", "")
    assert edited == (1, "", f"broken at 1, journal {first.id}: content changed")
    assert (code, told) == (1, "")
    assert complaints.startswith("I2 "), complaints
