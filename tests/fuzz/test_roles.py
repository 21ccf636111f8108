"""The whole contract over HTTP as every role, drawn from its grammar: laws of tests/fuzz/laws.py.

`python -m tests.fuzz --role owner --minutes 10` asks for longer as one role; a finding names the seed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from graphql import GraphQLObjectType
from hypothesis import HealthCheck, Phase, given, seed, settings

from schema.root import schema
from tests.fuzz import laws, stage
from tests.fuzz.documents import Fuzzer
from tests.fuzz.grammar import Grammar
from tests.fuzz.laws import RESPONSE, Tally
from tests.fuzz.stage import Reply, Stage

SEED = int(os.environ.get("FUZZ_SEED", "1"))
ROLE = os.environ.get("FUZZ_ROLE", "")
MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
# A world lives this long: what callers do to it cannot be undone altogether.
SLICE_S = 75.0
SLICES = max(1, round(MINUTES * 60 / SLICE_S))
ROUNDS, EACH, EACH_LONG = 1, 4, 15  # documents of one root field in a row
STREAM, STREAM_S = "orderEvents", 0.02
FINDINGS_MAX = 20

GRAPH = schema._schema
REFUSAL = b'{"errors": [{"message": "Nothing here.", "extensions": {"code": "NOT_FOUND"}}]}'
PROBLEMS = frozenset(
    name
    for name, one in GRAPH.type_map.items()
    if isinstance(one, GraphQLObjectType) and any(i.name == "Problem" for i in one.interfaces)
)


@dataclass
class Run:
    """Everything that was asked in one world."""

    stage: Stage
    tallies: dict[str, Tally]
    loop: asyncio.AbstractEventLoop
    findings: dict[str, str] = field(default_factory=dict)
    own: Counter[str] = field(
        default_factory=Counter
    )  # answers that hold marks of the first merchant
    asked: int = 0

    def one(self, caller: str, root: str, document: str) -> None:
        """Ask; called from the thread where hypothesis draws."""
        waiting = asyncio.run_coroutine_threadsafe(self._one(caller, root, document), self.loop)
        waiting.result(timeout=60)

    async def _one(self, caller: str, root: str, document: str) -> None:
        self.asked += 1
        accept = RESPONSE if self.asked % 2 else "application/json"
        reply = await self.stage.ask(caller, document, accept=accept)
        if reason := laws.broken(reply, accept, self.stage.marks(caller)):
            self._found(reason, caller, root, document, reply)
        self.own[caller] += stage.MINE.encode() in reply.body.lower()
        was_done = self.tallies[caller].add(root, reply, PROBLEMS)
        if was_done and document.startswith("mutation"):
            await self.stage.restore()

    async def watch(self, caller: str, fuzzer: Fuzzer) -> None:
        """Open one stream, and close it soon."""
        case = fuzzer.case(caller, "subscription", STREAM, list(self.stage.keys[caller].values()))
        reply = await self.stage.ask(
            caller,
            case.document,
            case.variables,
            accept="text/event-stream",
            path="/graphql/stream",
            lasts_s=STREAM_S,
        )
        if reason := laws.leaking(reply, self.stage.marks(caller)):
            self._found(reason, caller, STREAM, case.document, reply)
        self.tallies[caller].sent += 1
        self.tallies[caller].reached[STREAM] += b"event: next" in reply.body

    def _found(self, reason: str, caller: str, root: str, document: str, reply: Reply) -> None:
        """Keep the shortest document of every kind of finding."""
        kind = f"{reason} as {caller} in {root}"
        told = f"{document}\n  {reply.status} {reply.body[:1_500]!r}"
        if kind not in self.findings or len(told) < len(self.findings[kind]):
            self.findings[kind] = told

    async def draw(self, found: Grammar, root: str, turns: list[list[str]], number: int) -> None:
        """Documents of one root field, one for every turn, asked by the callers of that turn."""
        left = iter(turns)

        @seed(number)
        @settings(
            max_examples=len(turns),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(found.of(root))
        def asked(document: str) -> None:
            for caller in next(left, ()):
                self.one(caller, root, document)

        await asyncio.to_thread(asked)  # hypothesis is no coroutine; it waits for each answer there


async def test_h42_the_grammar_of_the_contract_as_every_role(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.stage(tmp_path, monkeypatch) as found:
        run, made = _run(found), Grammar(GRAPH, found.pool)
        callers = list(found.tokens)
        for number, root in enumerate(made.roots() * ROUNDS):
            shift = number // len(made.roots())
            turns = [callers[(turn + shift) % EACH :: EACH] for turn in range(EACH)]
            await run.draw(made, root, turns, SEED * 1_000 + number)

    assert not run.findings, _told(run)
    # It is worth something only while most of it runs, and as somebody for whom there is something.
    total = sum(one.sent for one in run.tallies.values())
    assert total == len(callers) * len(made.roots()) * ROUNDS
    reached = {name: len(one.reached) for name, one in run.tallies.items()}
    assert reached["owner"] > reached["anonymous"] > 0, reached
    refused = sum(one.codes["GRAPHQL_VALIDATION_FAILED"] for one in run.tallies.values())
    assert refused < total * 0.2
    # The marks are there to be seen: by those whose they are.
    assert sum(run.own.values()) > 3, run.own
    assert run.own["other_owner"] == run.own["anonymous"] == 0


if ROLE:

    @pytest.mark.parametrize("part", range(SLICES))
    async def test_the_grammar_of_the_contract_as_one_role_for_long(
        db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
    ) -> None:
        async with stage.stage(tmp_path, monkeypatch) as found:
            run, made = _run(found), Grammar(GRAPH, found.pool)
            fuzzer = Fuzzer(GRAPH, Random(SEED + part), found.pool.all_ids)
            until = time.monotonic() + SLICE_S
            # Every part begins elsewhere, so that all fields get their share whatever the machine.
            roots = made.roots()
            start = part * len(roots) // SLICES
            for number, root in enumerate(itertools.cycle(roots[start:] + roots[:start])):
                if time.monotonic() > until:
                    break
                seeded = (SEED + part) * 100_000 + number
                await run.draw(made, root, [[ROLE]] * EACH_LONG, seeded)
                await run.watch(ROLE, fuzzer)
        line = {"role": ROLE, "findings": run.findings, **run.tallies[ROLE].as_json()}
        with open(os.environ["FUZZ_REPORT"], "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

        assert not run.findings, _told(run)


@pytest.mark.parametrize(
    ("status", "body", "accept", "what"),
    [
        (200, b'{"data": {}}', "application/json", ""),
        (200, b'{"data": {}}', RESPONSE, ""),
        (400, REFUSAL, RESPONSE, ""),
        (200, REFUSAL, "application/json", ""),
        (200, REFUSAL, RESPONSE, "status 200"),
        (400, REFUSAL, "application/json", "status 400"),
        (500, REFUSAL, RESPONSE, "status 500"),
        (200, b'{"data": {"a": "canary-o-7"}}', RESPONSE, "another tenant's"),
        (200, b'{"data": {"a": "Traceback (most"}}', RESPONSE, "something internal"),
        (
            200,
            REFUSAL.replace(b"NOT_FOUND", b"UNAVAILABLE"),
            "application/json",
            "something internal",
        ),
        (200, REFUSAL.replace(b"Nothing here.", b""), "application/json", "no words"),
        (200, REFUSAL.replace(b"NOT_FOUND", b"?"), "application/json", "an error with the code"),
        (200, b"{}", "application/json", "neither"),
        (200, b'{"data": {}, "errors": []}', "application/json", "errors that are empty"),
        (200, b'{"data": {}, "debug": 1}', "application/json", "not a GraphQL"),
        (200, b"<html>", "application/json", "no JSON"),
    ],
)
def test_each_law_is_looked_at(status: int, body: bytes, accept: str, what: str) -> None:
    head = {"content-type": f"{accept}; charset=utf-8", "content-length": str(len(body))}

    found = laws.broken(Reply(status, head, body), accept, re.compile(stage.OTHER))

    assert found.startswith(what) if what else found == ""


def _run(found: Stage) -> Run:
    tallies = {name: Tally() for name in found.tokens}
    return Run(found, tallies, asyncio.get_running_loop())


def _told(run: Run) -> str:
    some = list(run.findings.items())[:FINDINGS_MAX]
    return f"seed {SEED}: {len(run.findings)} findings\n" + "\n\n".join(
        f"{kind}\n  {told}" for kind, told in some
    )
