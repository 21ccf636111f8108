"""Bulk work whose worker is killed, wherever it is: the same bytes as undisturbed, no line missing, none twice.

CASES K02.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from domain.core import db as core
from domain.core import failpoint
from tests import make
from tests.api.bulk_desk import person, work
from tests.api.test_bulk_import import UPDATE, jsonl, move
from tests.database import ROOT
from tests.workers.running import until_true
from workers import bulk as lane
from workers import main
from workers.loops import keep_running
from workers.registry import loops

DEADLY = "bulk.read:kill9@2x2 bulk.in_tx:kill9@1x2 bulk.after_commit:kill9@2x2 bulk.ran:kill9@3x2"


async def workers(folder: Path) -> tuple[int, int]:
    """Run workers until nothing is due: how many were killed, and how the last one ended."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.workers.bulk_child",
        cwd=ROOT,
        env={**os.environ, failpoint.ARMED: DEADLY, failpoint.FOLDER: str(folder)},
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        said, _ = await running.communicate()
    died, status = said.split()[-2:]
    return int(died), int(status)


@pytest.mark.usefixtures("db")
async def test_k02_a_job_whose_workers_are_killed_ends_with_the_same_bytes(tmp_path: Path) -> None:
    of, same = await make.shop(), await make.shop()
    owner, other = await person(of), await person(same)
    for _ in range(33):
        await make.order(of)
    # The same lines in a shop of its own, undisturbed.
    calm_import = await other.import_(UPDATE, jsonl(*(move(same, no) for no in range(1, 22))))
    calm_export = await owner.export()
    await work()
    exported = await owner.export()
    imported = await owner.import_(UPDATE, jsonl(*(move(of, no) for no in range(1, 22))))

    assert await workers(tmp_path) == (8, 0)

    assert await owner.result(exported["id"]) == await owner.result(calm_export["id"])
    assert await owner.result(imported["id"]) == await other.result(calm_import["id"])
    jobs = [await owner.job(one["id"]) for one in (exported, imported)]
    assert [(one["state"], one["done"], one["failed"]) for one in jobs] == [
        ("DONE", 33, 0),
        ("DONE", 21, 0),
    ]
    changes = await core.value(
        "SELECT count(*) FROM audit_log WHERE subject_id = $1", of.product_id
    )
    assert changes == 21


@pytest.mark.usefixtures("db")
async def test_the_lane_of_the_general_queue_works_when_it_is_rung() -> None:
    of = await make.shop()
    owner = await person(of)
    await make.order(of)
    main.load()
    (loop,) = [one for one in loops["general"] if one.name == "bulk"]
    until = asyncio.Event()
    running = asyncio.create_task(keep_running([loop], until))
    begun = await owner.export()

    async def done() -> bool:
        return bool((await owner.job(begun["id"]))["state"] == "DONE")

    try:
        await until_true(done, "the export")
    finally:
        until.set()
        await running

    assert loop.every_s == lane.LOOK_EVERY_S
    assert len(await owner.lines(begun["id"])) == 1
