"""The clients people really use, from npm, against the live server; `tests/node` holds their scripts."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Toy
from tests.server.graphql_live import MEMBER

NODE = Path(__file__).resolve().parents[1] / "node"
RUN_S = 60

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None,
    reason="node and npm are not installed: the npm clients cannot run",
)


@pytest.fixture(scope="module")
def packages() -> None:
    """Install the locked packages once, however many test processes want them."""
    with open(Path(os.environ["TEST_RUN_FOLDER"]) / "npm-ci.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done, locked = NODE / "node_modules" / ".package-lock.json", NODE / "package-lock.json"
        if not done.exists() or done.stat().st_mtime < locked.stat().st_mtime:
            command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            subprocess.run(command, cwd=NODE, check=True, timeout=100, capture_output=True)


def run(script: str, *arguments: str) -> Any:
    """What a script prints."""
    done = subprocess.run(
        ["node", script, *arguments], cwd=NODE, timeout=RUN_S, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_s18_all_61_audits_of_graphql_http_are_ok(toy: Toy, packages: None) -> None:
    results = run("audits.mjs", toy.url)

    assert [result for result in results if result["status"] != "ok"] == []
    assert len(results) == 61


def test_s18_no_audit_is_an_error_or_a_warning_in_production(
    closed_toy: Toy, packages: None
) -> None:
    """What is optional (queries by GET) and what needs introspection is off there."""
    results = run("audits.mjs", closed_toy.url)
    needs_introspection = {"2EA1", "28B9"}
    others = [one for one in results if one["id"] not in needs_introspection]

    assert [one for one in others if one["status"] in ("error", "warn")] == []


def test_graphql_ws_runs_queries_mutations_and_subscriptions(toy: Toy, packages: None) -> None:
    seen = run("ws.mjs", toy.ws_url, MEMBER)

    (query,) = seen["query"]["seen"]
    assert query["data"] == {"toy": {"title": "Toy 3"}, "secret": "for members"}
    assert seen["mutation"]["seen"][0]["data"] == {"make": {"__typename": "Toy"}}
    ticks = [one["data"]["ticks"] for one in seen["subscription"]["seen"]]
    assert [tick["sequence"] for tick in ticks] == [1, 2, 3]
    assert [tick["toy"]["loud"] for tick in ticks] == ["TOY 1", "TOY 2", "TOY 3"]
    assert seen["invalid"]["error"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
    assert seen["missing"]["error"][0]["extensions"]["code"] == "NOT_FOUND"
    assert seen["refused"]["error"] == {"code": 4403, "reason": "Forbidden"}


def test_graphql_sse_runs_and_resumes(toy: Toy, packages: None) -> None:
    seen = run("sse.mjs", f"{toy.url}/stream")

    assert seen["query"]["seen"][0]["data"] == {"toy": {"title": "Toy 3"}}
    assert [one["data"]["ticks"]["sequence"] for one in seen["subscription"]["seen"]] == [1, 2, 3]
    assert seen["invalid"]["seen"][0]["errors"][0]["extensions"]["code"] == (
        "GRAPHQL_VALIDATION_FAILED"
    )
    assert seen["bug"]["seen"][1]["errors"][0]["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
    assert len(seen["ids"]) == 3
    assert seen["ids"][2] in seen["resumed"]
    assert seen["ids"][1] not in seen["resumed"]
