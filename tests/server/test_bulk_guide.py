"""docs/guides/bulk.md, run as it stands against the running platform; and the stream of it over a WebSocket."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from domain import identity
from domain.core import ids
from resolvers import following
from tests import make
from tests.api.bulk_desk import newest
from tests.live import LiveServer
from tests.server.oauth_client import PASSWORD, person

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "bulk.md"
FOLLOW = """subscription ($id: ID!, $after: String) { merchantEvents(merchantId: $id, after: $after) {
    ... on OrderEvent { cursor sequence order { id } } } }"""
PIECE = re.compile(r"```bash\n(.*?)```", re.DOTALL)


@pytest.mark.skipif(
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


async def test_c21_over_a_websocket_the_stream_is_the_same_and_goes_on_behind_a_cursor(
    live_server: LiveServer, live_db: None
) -> None:
    shop = await make.shop(keys=1)
    by = await person(shop)
    start = await following.cursor_of_now(shop.merchant_id)
    signed = await identity.sign_in(by.email, PASSWORD, "203.0.113.9")

    async def events(cursor: str, count: int) -> list[dict[str, Any]]:
        """The next events behind a cursor, over a connection of their own."""
        found: list[dict[str, Any]] = []
        async with aiohttp.ClientSession() as http:
            url, protocol = live_server.ws_url, "graphql-transport-ws"
            async with http.ws_connect(url, protocols=(protocol,)) as socket:
                bearer = {"authorization": f"Bearer {signed.token}"}
                await socket.send_json({"type": "connection_init", "payload": bearer})
                assert (await socket.receive_json(timeout=10))["type"] == "connection_ack"
                variables = {"id": ids.encode("mer", shop.merchant_id), "after": cursor}
                payload = {"query": FOLLOW, "variables": variables}
                await socket.send_json({"id": "1", "type": "subscribe", "payload": payload})
                while len(found) < count:
                    frame = await socket.receive_json(timeout=20)
                    assert frame["type"] in ("next", "ping"), frame
                    if frame["type"] == "next" and frame["payload"]["data"]["merchantEvents"]:
                        found.append(frame["payload"]["data"]["merchantEvents"])
        return found

    joined = asyncio.create_task(events(start, 2))
    placed = {ids.encode("ord", (await make.order(shop)).id) for _ in range(2)}
    told = await joined
    again = await events(told[0]["cursor"], 1)

    assert {one["order"]["id"] for one in told} == placed
    assert [one["sequence"] for one in told] == [1, 1]
    assert again == told[1:]
