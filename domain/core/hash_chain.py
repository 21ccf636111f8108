"""A hash chain beside an append-only table: one sealer per chain, and the check that names the first bad row.

hash = SHA-256(prev_hash ‖ canonical(row)). The chain follows the rows in the order (txid, no) and only below the
oldest running transaction, so nothing can commit behind it; what is not sealed yet is a few seconds old. Whoever can
write to every table can also write a whole new chain: only a head kept elsewhere tells that, and a cut tail
(CASES H30). The audit log and the ledger say in a `Chain` what their rows are.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from domain.core import db

SEAL_MAX = 5_000
_GENESIS = bytes(32)
Subject = TypeVar("Subject")
_HEAD = re.compile(r"([1-9][0-9]{0,18}):([0-9a-f]{64})")


class SealImpossible(Exception):
    """The chain cannot be continued: its last row is gone, or the database counts transactions anew.

    After a logical restore raise the server's transaction counter (pg_resetwal) above the highest `txid`.
    """


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: `str` gives "seq:hash", to be kept outside the database."""

    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"

    @classmethod
    def read(cls, text: str) -> Head | None:
        """The head behind "seq:hash", None for anything else."""
        found = _HEAD.fullmatch(text.strip())
        return None if found is None else cls(int(found[1]), bytes.fromhex(found[2]))


@dataclass(frozen=True, slots=True)
class Broken(Generic[Subject]):
    """The first place where rows and chain differ: the place in the chain, the row and why."""

    seq: int
    subject: Subject | None
    reason: str


@dataclass(frozen=True, slots=True)
class Chain(Generic[Subject]):
    """One chain: what its rows are called, its advisory lock, and its statements, each with `args` first.

    `last`: seq, hash, txid, no, is_past of its end. `next` (txid, no, limit): subject, canonical of what may be sealed.
    `write` (subjects, seqs, prev hashes, hashes). `sealed` (seq, limit): seq, subject, found, prev_hash, hash,
    canonical behind a place; `found` is null when the row is gone. `skipped`: the first unsealed row before the end.
    `waiting`: how many rows have no seal.
    """

    noun: str
    lock: tuple[int, int]
    last: str
    next: str
    write: str
    sealed: str
    skipped: str
    waiting: str
    args: tuple[Any, ...] = ()

    async def seal(self, *, limit: int = SEAL_MAX) -> int:
        """Chain up to `limit` committed rows; how many, 0 when another sealer is at it.

        Call again while it returns `limit`. Errors: SealImpossible.
        """
        assert 0 < limit <= SEAL_MAX, limit
        async with db.transaction():
            if not await db.value("SELECT pg_try_advisory_xact_lock($1, $2)", *self.lock):
                return 0
            last = await db.row(self.last, *self.args)
            if last is not None and not last["is_past"]:
                raise SealImpossible(f"{self.noun} chain {self.lock[1]} at {last['seq']}")
            seq, prev = (last["seq"], last["hash"]) if last else (0, _GENESIS)
            after = (last["txid"], last["no"]) if last else ("0", 0)
            rows = await db.fetch(self.next, *self.args, *after, limit)
            if not rows:
                return 0
            hashes = [prev]
            for row in rows:
                hashes.append(_hash(hashes[-1], row["canonical"]))
            await db.execute(
                self.write,
                *self.args,
                [row["subject"] for row in rows],
                list(range(seq + 1, seq + 1 + len(rows))),
                hashes[:-1],
                hashes[1:],
            )
            return len(rows)

    async def head(self) -> Head | None:
        """The end of the chain now; keep it outside the database to notice a cut tail."""
        row = await db.row(self.last, *self.args)
        return Head(row["seq"], row["hash"]) if row else None

    async def unsealed(self) -> int:
        """Rows that wait for the sealer."""
        count: int = await db.value(self.waiting, *self.args)
        return count

    async def verify(self, *, known: Head | None = None) -> Broken[Subject] | None:
        """Recompute the chain from its start; the first place that does not fit, None when all of it does.

        Finds edited, removed, added and swapped rows and seals; with a `known` head also a cut tail, an emptied log
        and a chain that was written anew as a whole.
        """
        at, prev = 0, _GENESIS
        while rows := await db.fetch(self.sealed, *self.args, at, SEAL_MAX):
            for row in rows:
                at += 1
                reason = self._fault(row, at, prev)
                if reason:
                    return Broken(at, row["subject"] if row["seq"] == at else None, reason)
                prev = row["hash"]
                if known is not None and known.seq == at and known.hash != prev:
                    return Broken(at, row["subject"], "another chain than the known head's")
        if known is not None and known.seq > at:
            return Broken(at + 1, None, "tail cut")
        skipped: Subject | None = await db.value(self.skipped, *self.args)
        if skipped is not None:
            return Broken(at, skipped, f"{self.noun} without a seal behind the head")
        return None

    def _fault(self, row: db.Record, seq: int, prev: bytes) -> str:
        if row["seq"] != seq:
            return "seal missing"
        if row["found"] is None:
            return f"{self.noun} missing"
        if row["prev_hash"] != prev:
            return "chain forked"
        if row["hash"] != _hash(prev, row["canonical"]):
            return "content changed"
        return ""


def _hash(prev: bytes, canonical: str) -> bytes:
    return hashlib.sha256(prev + canonical.encode()).digest()
