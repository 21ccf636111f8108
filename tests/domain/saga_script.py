"""A world outside with effects by key, and a script of the faults that happen to a saga's steps."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from domain.core import saga
from domain.core.errors import Conflict, Unavailable


class Killed(BaseException):
    """The process dies at this line."""


@dataclass
class World:
    """What lies outside: effects by key, the first answer of a key stays its answer."""

    effects: dict[str, int] = field(default_factory=dict)
    undone: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    def do(self, key: str) -> None:
        """One effect per key, none once it was undone."""
        if key not in self.effects and key not in self.undone:
            self.effects[key] = 1

    def undo(self, key: str) -> None:
        """Once per key; also when nothing had been done."""
        if key not in self.undone:
            self.undone.append(key)
            self.effects.pop(key, None)


@dataclass
class Script:
    """Which faults happen, in order, at each call of each step: an entry is used up by one call."""

    world: World = field(default_factory=World)
    faults: dict[str, list[str]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    is_held: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, name: str, facts: saga.Facts, effect: Any) -> dict[str, Any]:
        self.calls.append(name)
        queue = self.faults.get(name, [])
        fault = queue.pop(0) if queue else ""
        match fault:
            case "retry":
                raise saga.Retry(0.01)
            case "away":
                raise Unavailable(what="provider")
            case "lost":
                raise ConnectionError("reset")
            case "bug":
                raise ValueError("bug")
            case "kill before":
                raise Killed
            case "pause before":
                self.is_held.set()
                await self.hold.wait()
            case "refuse" if facts["key"] not in self.world.effects:
                self.world.refused.add(facts["key"])
        if facts["key"] in self.world.refused:
            raise Conflict(current="refused")
        effect(facts["key"])
        if fault == "kill after":
            raise Killed
        if fault == "pause after":
            self.is_held.set()
            await self.hold.wait()
        return {f"{name}_ref": facts["key"]}

    def step(self, name: str, *, pivot: bool = False, undoable: bool = True) -> saga.Step:
        async def run(subject_id: UUID, facts: saga.Facts) -> saga.Facts:
            return await self.call(name, facts, self.world.do)

        async def compensate(subject_id: UUID, facts: saga.Facts) -> None:
            await self.call(f"undo {name}", facts, self.world.undo)

        return saga.Step(name, run, compensate if undoable else None, pivot)
