"""docs/guides/bulk.md, run as it stands against the running platform: out, on without a gap, and in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import orjson
import pytest

from domain.core import ids
from tests import make
from tests.api.bulk_desk import newest
from tests.live import LiveServer
from tests.server.oauth_client import PASSWORD, person

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "bulk.md"
PIECE = re.compile(r"```bash\n(.*?)```", re.DOTALL)

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "jq"))), reason="the guide uses curl and jq"
)


async def test_the_guide_works_as_it_is_written(
    live_server: LiveServer, live_db: None, tmp_path: Path
) -> None:
    shop = await make.shop(keys=1)
    placed = [ids.encode("ord", order.id) for order in await newest(shop, 3)]
    by = await person(shop)
    script = "\n".join(["set -euo pipefail", *PIECE.findall(GUIDE.read_text("utf-8"))])
    # Something happens between the export and the stream.
    before, after = script.split("export CURSOR=", 1)
    environment = {
        **os.environ,
        "KAMI": live_server.url,
        "EMAIL": by.email,
        "PASSWORD": PASSWORD,
    }

    def run(text: str) -> None:
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, (done.stdout, done.stderr)

    run(f"{before}\ndeclare -p JOB MERCHANT TOKEN > state; declare -f >> state")
    late = ids.encode("ord", (await make.order(shop)).id)
    run(f"set -euo pipefail\nsource state\nexport CURSOR={after}")

    exported = [orjson.loads(line) for line in (tmp_path / "orders.jsonl").read_text().splitlines()]
    assert [one["id"] for one in exported] == placed
    events = (tmp_path / "events.txt").read_text()
    assert [late in part for part in events.split("\n\n") if part.startswith("id: ")] == [True]
    results = [orjson.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [one["line"] for one in results] == [1, 2, 3]
    assert results[0]["data"]["createProduct"]["id"].startswith("prd_")
    assert results[1]["data"]["createProduct"]["code"] == "INVALID_INPUT"
    assert results[2]["data"]["createProduct"]["id"].startswith("prd_")
