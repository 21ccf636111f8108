"""A mutation for every line of a file: each line once, each with its result.

CASES C02, J14, K02.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from domain import bulk, catalogue
from domain.bulk import actions, rules
from domain.core import db as core
from domain.core import ids
from domain.core.errors import Unavailable
from domain.identity import Role
from server.graphql.bulk import Contract
from tests import make
from tests.api import bulk_desk
from tests.api.bulk_desk import CANCEL, PRODUCT, Caller, person, work

UPDATE = """mutation ($input: UpdateProductInput!) { updateProduct(input: $input) {
  __typename ... on MerchantProduct { version position } ... on Conflict { current { version } }
  ... on Problem { code } } }"""


def product(of: make.Shop, title: str) -> dict[str, Any]:
    """The variables of one line."""
    texts = [{"language": "en", "title": title}]
    return {"input": {"shopId": ids.encode("shp", of.shop_id), "texts": texts}}


def move(of: make.Shop, expected: int) -> dict[str, Any]:
    """A change of the shop's product, from the version `expected`."""
    product_id = ids.encode("prd", of.product_id)
    return {"input": {"productId": product_id, "expectedVersion": expected, "position": expected}}


def jsonl(*lines: Any) -> bytes:
    """A file."""
    return b"\n".join(one if isinstance(one, bytes) else orjson.dumps(one) for one in lines) + b"\n"


async def titles(of: make.Shop) -> list[str]:
    """What the shop has, oldest first, without what it began with."""
    rows = await core.fetch(
        "SELECT t.title FROM product p JOIN product_text t ON t.product_id = p.id"
        " WHERE p.shop_id = $1 AND p.id <> $2 ORDER BY p.id",
        of.shop_id,
        of.product_id,
    )
    return [row["title"] for row in rows]


async def dies(monkeypatch: pytest.MonkeyPatch, *, after_rows: int) -> None:
    """The worker dies when so many lines are run and none of their results is stored; its lease is over."""
    ran = 0
    run = Contract.run

    async def deadly(*args: Any) -> Any:
        nonlocal ran
        if ran == after_rows:
            raise KeyboardInterrupt
        ran += 1
        return await run(*args)

    with monkeypatch.context() as patched:
        patched.setattr(Contract, "run", deadly)
        with pytest.raises(KeyboardInterrupt):
            await bulk.turn()
    await core.execute("UPDATE bulk_job SET lease_until = clock_timestamp() - interval '1 s'")


async def test_every_line_has_its_result_and_what_is_wrong_with_one_hurts_no_other(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "LINE_MAX", 500)
    monkeypatch.setattr(bulk, "LINE_MAX", 500)
    of = await make.shop()
    clerk = await person(of, Role.CATALOGUE)
    content = jsonl(
        product(of, "One"),
        b"not JSON",
        b"[1]",
        b"",
        {**product(of, "Two"), "more": 1},
        {"input": {"shopId": 7}},
        {"input": None},
        product(of, "x" * 600),
        product(of, ""),
        product(of, "Two"),
    )

    begun = await clerk.import_(PRODUCT, content)
    assert (begun["kind"], begun["state"], begun["total"]) == ("IMPORT", "WAITING", 10)
    assert begun["eventCursor"] is None
    await work()
    job, lines = await clerk.job(begun["id"]), await clerk.lines(begun["id"])

    assert [line["line"] for line in lines] == list(range(1, 11))
    assert [line["data"]["createProduct"]["texts"] for line in (lines[0], lines[9])] == [
        [{"language": "en", "title": "One"}],
        [{"language": "en", "title": "Two"}],
    ]
    assert lines[8] == {
        "line": 9,
        "data": {
            "createProduct": {
                "__typename": "InvalidInput",
                "code": "INVALID_INPUT",
                "problems": lines[8]["data"]["createProduct"]["problems"],
            }
        },
    }
    errors = [line["errors"][0]["extensions"] for line in lines[1:8]]
    assert [one["code"] for one in errors] == ["BAD_USER_INPUT"] * 7
    assert errors[0]["reason"].startswith("the body is not JSON")
    assert errors[3]["reason"] == "the only variable is input"
    assert errors[6]["reason"] == "the line is longer than 500 bytes"
    assert all("data" not in line and "requestId" not in str(line) for line in lines[1:8])
    assert (job["state"], job["done"], job["failed"], job["progress"]) == ("DONE", 10, 8, 100)
    assert await titles(of) == ["One", "Two"]
    assert await bulk_desk.rows_of(begun["id"]) == {"bulk_piece": 1, "bulk_input": 0}
    audits = await core.fetch("SELECT actor_id FROM audit_log WHERE action = 'product.create'")
    assert {row["actor_id"] for row in audits} == {ids.encode("acc", clerk.viewer.account_id)}


async def test_lines_that_build_on_each_other_run_one_after_the_other(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "BATCH_ROWS", 3)
    monkeypatch.setattr(rules, "INPUT_PIECE", 400)
    of = await make.shop()
    owner = await person(of)

    begun = await owner.import_(UPDATE, jsonl(*(move(of, no) for no in range(1, 11))))
    await work()

    assert await owner.lines(begun["id"]) == [
        {
            "line": no,
            "data": {
                "updateProduct": {
                    "__typename": "MerchantProduct",
                    "version": no + 1,
                    "position": no,
                }
            },
        }
        for no in range(1, 11)
    ]


async def test_k02_a_worker_that_dies_among_the_lines_changes_neither_effect_nor_result(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines that were run are answered again as they were, though later ones have changed the same product."""
    of, same = await make.shop(), await make.shop()
    owner, other = await person(of), await person(same)
    undisturbed = await other.import_(UPDATE, jsonl(*(move(same, no) for no in range(1, 9))))
    await work()
    begun = await owner.import_(UPDATE, jsonl(*(move(of, no) for no in range(1, 9))))

    await dies(monkeypatch, after_rows=5)
    half = await core.value("SELECT version FROM product WHERE id = $1", of.product_id)
    none = await owner.job(begun["id"])
    await work()

    assert (half, none["done"]) == (6, 0)
    assert await owner.result(begun["id"]) == await other.result(undisturbed["id"])
    assert await core.value("SELECT version FROM product WHERE id = $1", of.product_id) == 9
    assert (await owner.job(begun["id"]))["failed"] == 0
    changes = "SELECT count(*) FROM audit_log WHERE subject_id = $1"
    assert await core.value(changes, of.product_id) == 8


async def test_the_same_key_imports_once_though_its_upload_is_gone(db: None) -> None:
    of = await make.shop()
    owner = await person(of)
    upload = await owner.upload(jsonl(product(of, "Once")))
    given = {"merchantId": owner.merchant, "mutation": PRODUCT, "uploadId": upload}

    first = await owner.data(bulk_desk.IMPORT, {"input": given, "key": "same"})
    await work()
    again = await owner.data(bulk_desk.IMPORT, {"input": given, "key": "same"})
    fresh = await owner.data(bulk_desk.IMPORT, {"input": given, "key": "other"})

    assert again["id"] == first["id"]
    assert (fresh["__typename"], fresh["code"], fresh["path"]) == (
        "NotFound",
        "NOT_FOUND",
        ["input", "uploadId"],
    )
    assert await titles(of) == ["Once"]


async def cancelled(owner: Caller, begun: dict[str, Any]) -> Any:
    return await owner.data(CANCEL, {"input": {"jobId": begun["id"]}})


async def test_a_cancelled_import_stops_and_tells_what_it_did(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "BATCH_ROWS", 2)
    monkeypatch.setattr(rules, "TURN_S", 0.0)
    of = await make.shop()
    owner = await person(of)
    begun = await owner.import_(PRODUCT, jsonl(*(product(of, f"P{no}") for no in range(6))))
    waiting = await owner.import_(PRODUCT, jsonl(product(of, "Never")))
    await bulk.turn()

    told = [await cancelled(owner, begun), await cancelled(owner, waiting)]
    await work()
    job = await owner.job(begun["id"])

    assert [one["state"] for one in told] == ["RUNNING", "CANCELLED"]
    assert (job["state"], job["done"], job["progress"]) == ("CANCELLED", 2, 33)
    assert job["url"] is not None
    assert [line["line"] for line in await owner.lines(begun["id"])] == [1, 2]
    assert await titles(of) == ["P0", "P1"]


async def test_k02_a_line_whose_worker_died_has_its_result_though_the_job_is_cancelled(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = await make.shop()
    owner = await person(of)
    begun = await owner.import_(PRODUCT, jsonl(*(product(of, f"P{no}") for no in range(6))))
    await dies(monkeypatch, after_rows=3)

    await cancelled(owner, begun)
    await work()
    job = await owner.job(begun["id"])

    assert (job["state"], job["done"], job["failed"]) == ("CANCELLED", 3, 0)
    assert await titles(of) == ["P0", "P1", "P2"]
    lines = await owner.lines(begun["id"])
    shown = [line["data"]["createProduct"]["texts"][0]["title"] for line in lines]
    assert shown == ["P0", "P1", "P2"]


async def test_a_zombies_results_come_too_late(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    of = await make.shop()
    owner = await person(of)
    begun = await owner.import_(PRODUCT, jsonl(product(of, "One"), product(of, "Two")))
    keep = actions.keep
    zombies: list[bool] = []

    async def slow(job: Any, *args: Any, **named: Any) -> Any:
        if not zombies:
            zombies.append(True)
            # Its lease ended meanwhile, and another worker did the job.
            await core.execute("UPDATE bulk_job SET lease_until = '2000-01-01'")
            assert await bulk.turn()
        return await keep(job, *args, **named)

    monkeypatch.setattr(actions, "keep", slow)
    await work()

    assert len(await owner.lines(begun["id"])) == 2
    assert (await owner.job(begun["id"]))["done"] == 2
    assert await titles(of) == ["One", "Two"]


async def test_a_line_of_which_nothing_is_known_is_asked_again_and_not_told_as_failed(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = await make.shop()
    owner = await person(of)
    begun = await owner.import_(PRODUCT, jsonl(product(of, "One"), product(of, "Two")))
    create, calls = catalogue.add_product, 0

    async def flaky(*args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Unavailable(what="database")
        return await create(*args, **named)

    monkeypatch.setattr(catalogue, "add_product", flaky)
    await work()
    half = await owner.job(begun["id"])
    await core.execute("UPDATE bulk_job SET due_at = clock_timestamp()")
    await work()
    job = await owner.job(begun["id"])

    assert (half["state"], half["done"]) == ("RUNNING", 0)
    assert (job["state"], job["failed"]) == ("DONE", 0)
    assert await titles(of) == ["One", "Two"]


async def test_a_job_is_cancelled_or_taken_up_and_never_both(db: None) -> None:
    """Whoever is first: a line that was run has its result, a job that was cancelled runs none."""
    of = await make.shop()
    owner = await person(of)
    for no in range(6):
        begun = await owner.import_(PRODUCT, jsonl(product(of, f"P{no}")))
        await asyncio.gather(cancelled(owner, begun), work(), work())
        await work()
        job = await owner.job(begun["id"])

        assert job["state"] in ("CANCELLED", "DONE")
        made = [title for title in await titles(of) if title == f"P{no}"]
        assert len(await owner.lines(begun["id"])) == job["done"] == len(made)
