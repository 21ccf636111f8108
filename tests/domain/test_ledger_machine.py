"""Every operation in random order against a plain Python model of the books (L01-L06, I1-I7).

More: `--hypothesis-profile` or HYPOTHESIS settings; each step looks at every account, every run ends in `check`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from domain import ledger
from domain.core import clock, ids
from domain.core import db as core_db
from domain.ledger import Balance, HoldState, JournalDraft, TransferLines
from tests import horizon
from tests.domain.ledger_books import Shop

T = TypeVar("T")
NAMES = (
    "provider_clearing",
    "merchant_available",
    "merchant_pending",
    "merchant_debt",
    "platform_commission",
    "suspense",
)
FLOORED = {"merchant_available", "merchant_pending"}
Moves = list[tuple[str, str, int]]

MINOR = st.integers(1, 60)
PAIRS = st.permutations(NAMES).map(lambda names: (names[0], names[1]))
MOVE = st.tuples(PAIRS, MINOR).map(lambda one: (*one[0], one[1]))
MOVES = st.lists(MOVE, min_size=1, max_size=4)
LANES = st.integers(0, 20)
TURN = st.integers(0, 1_000)


@dataclass
class Account:
    """The four counters of one account."""

    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0


@dataclass
class Held:
    """One hold and what became of it."""

    id: UUID
    source: str
    target: str
    minor: int
    is_over: bool
    state: HoldState = HoldState.OPEN


@dataclass
class Model:
    """The books as they should be."""

    accounts: dict[str, Account] = field(default_factory=lambda: {n: Account() for n in NAMES})

    def fits(self, moves: Moves, *, pending: bool = False) -> bool:
        """Whether floors and ceilings allow all of `moves` together."""
        after = {name: Account(**vars(account)) for name, account in self.accounts.items()}
        _count(after, moves, pending=pending)
        for name, one in after.items():
            available = one.credits_posted - one.debits_posted - one.debits_pending
            room = one.debits_posted - one.credits_posted - one.credits_pending
            if (name in FLOORED and available < 0) or (name == "merchant_debt" and room < 0):
                return False
        return True

    def take(self, moves: Moves, *, pending: bool = False, sign: int = 1) -> None:
        """Count `moves` in."""
        _count(self.accounts, moves, pending=pending, sign=sign)


def _count(
    accounts: dict[str, Account], moves: Moves, *, pending: bool = False, sign: int = 1
) -> None:
    for source, target, minor in moves:
        if pending:
            accounts[source].debits_pending += sign * minor
            accounts[target].credits_pending += sign * minor
        else:
            accounts[source].debits_posted += minor
            accounts[target].credits_posted += minor


class Books(RuleBasedStateMachine):
    """Operations on one merchant's accounts; shared accounts are told apart by a currency of their own."""

    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` in the loop that owns the pool."""
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        self.shop = Shop(f"T{uuid4().hex[:8]}")
        self.model = Model()
        self.posted: dict[str, tuple[Moves, UUID]] = {}
        self.reversed: set[str] = set()
        self.holds: list[Held] = []
        self.number = 0
        self.run(ledger.accounts(self.shop[name] for name in NAMES))

    def key(self, kind: str) -> str:
        """A key never used before."""
        self.number += 1
        return f"{kind}:{self.shop.ccy}:{self.number}"

    def legs(self, moves: Moves) -> list[ledger.Transfer]:
        """`moves` as transfers."""
        return [self.shop.transfer(*move) for move in moves]

    @rule(moves=MOVES, lane=LANES)
    def post(self, moves: Moves, lane: int) -> None:
        key = self.key("post")
        work = ledger.post(key, self.legs(moves), kind="test", lane=lane)
        if not self.model.fits(moves):
            with pytest.raises((ledger.InsufficientFunds, ledger.CeilingExceeded)):
                self.run(work)
            return
        journal = self.run(work)
        assert journal.is_new
        self.posted[key] = (moves, journal.id)
        self.model.take(moves)

    @precondition(lambda self: self.posted)
    @rule(turn=TURN, lane=LANES)
    def post_again(self, turn: int, lane: int) -> None:
        key = list(self.posted)[turn % len(self.posted)]
        moves, journal_id = self.posted[key]
        again = self.run(ledger.post(key, self.legs(moves), kind="test", lane=lane))
        assert (again.id, again.is_new) == (journal_id, False)
        with pytest.raises(ledger.KeyReused):
            self.run(ledger.post(key, self.legs([*moves, moves[0]]), kind="test"))

    @rule(sets=st.lists(MOVES, min_size=1, max_size=4), lane=LANES)
    def post_set(self, sets: list[Moves], lane: int) -> None:
        flat = [move for moves in sets for move in moves]
        drafts = [JournalDraft(ids.uuid7(), self.key("set"), bytes(32), "test") for _ in sets]
        work = self._write_set(drafts, sets, lane)
        if not self.model.fits(flat):
            with pytest.raises((ledger.InsufficientFunds, ledger.CeilingExceeded)):
                self.run(work)
            return
        self.run(work)
        self.model.take(flat)

    async def _write_set(self, drafts: list[JournalDraft], sets: list[Moves], lane: int) -> None:
        numbers = await ledger.accounts(self.shop[name] for name in NAMES)
        lines = TransferLines()
        async with core_db.transaction():
            opened = await ledger.open_many(drafts)
            assert opened.new == {draft.id for draft in drafts}
            await ledger.lock(list(numbers.values()), lane)
            for draft, moves in zip(drafts, sets, strict=True):
                for source, target, minor in moves:
                    pair = numbers[self.shop[source]], numbers[self.shop[target]]
                    lines.add(draft.id, *pair, minor, self.shop.ccy)
            await ledger.write(lines, lane=lane)

    @precondition(lambda self: self.posted)
    @rule(turn=TURN)
    def reverse(self, turn: int) -> None:
        key = list(self.posted)[turn % len(self.posted)]
        moves, journal_id = self.posted[key]
        swapped = [(target, source, minor) for source, target, minor in moves]
        undo = f"undo:{key}"
        work = ledger.reverse(undo, journal_id)
        if key in self.reversed:
            again = self.run(work)
            assert not again.is_new
            for other, target in (("second", journal_id), ("never", again.id)):
                with pytest.raises(ledger.NotReversible):
                    self.run(ledger.reverse(f"{other}:{undo}", target))
        elif self.model.fits(swapped):
            assert self.run(work).is_new
            self.reversed.add(key)
            self.model.take(swapped)
        else:
            with pytest.raises((ledger.InsufficientFunds, ledger.CeilingExceeded)):
                self.run(work)

    @rule(move=MOVE, is_over=st.booleans(), lane=LANES)
    def hold(self, move: tuple[str, str, int], is_over: bool, lane: int) -> None:
        ends = clock.now() + timedelta(hours=-1 if is_over else 1)
        (leg,) = self.legs([move])
        key = self.key("hold")
        work = ledger.hold(key, leg, kind="test", expires_at=ends, lane=lane)
        if not self.model.fits([move], pending=True):
            with pytest.raises((ledger.InsufficientFunds, ledger.CeilingExceeded)):
                self.run(work)
            return
        held = self.run(work)
        assert held.state is HoldState.OPEN
        self.model.take([move], pending=True)
        self.holds.append(Held(held.id, *move, is_over))

    @precondition(lambda self: self.holds)
    @rule(turn=TURN, part=MINOR, void=st.booleans())
    def resolve(self, turn: int, part: int, void: bool) -> None:
        held = self.holds[turn % len(self.holds)]
        minor = None if void else min(part, held.minor)
        work = ledger.resolve(
            self.key("resolve"), held.id, "void" if void else "post", kind="test", minor=minor
        )
        if held.state is not HoldState.OPEN or (held.is_over and not void):
            with pytest.raises(ledger.HoldNotOpen):
                self.run(work)
            return
        self.run(work)
        self.end(held, HoldState.VOIDED if void else HoldState.POSTED)
        if minor is not None:
            self.model.take([(held.source, held.target, minor)])

    def end(self, held: Held, state: HoldState) -> None:
        """Take the hold off pending."""
        held.state = state
        self.model.take([(held.source, held.target, held.minor)], pending=True, sign=-1)

    @rule()
    def expire(self) -> None:
        over = [one for one in self.holds if one.is_over and one.state is HoldState.OPEN]
        assert self.run(ledger.expire()) == len(over)
        for held in over:
            self.end(held, HoldState.EXPIRED)

    @rule()
    def seal(self) -> None:
        self.run(ledger.seal())

    @invariant()
    def balances_are_those_of_the_model(self) -> None:
        for name, account in getattr(self, "model", Model()).accounts.items():
            if hasattr(self, "shop"):
                found = self.run(ledger.balance(self.shop[name]))
                assert _counters(found) == vars(account), name

    def teardown(self) -> None:
        if not hasattr(self, "shop"):
            return
        assert self.run(ledger.check()) == []
        self.run(horizon.passed())
        while self.run(ledger.seal()):
            pass
        assert self.run(ledger.verify()) is None
        for held in self.holds:
            hold = self.run(ledger.read_hold(held.id))
            assert hold is not None
            assert hold.state is held.state
        # The next run must not meet our lapsed holds.
        self.run(ledger.expire())


def _counters(balance: Balance) -> dict[str, int]:
    return {name: getattr(balance, name) for name in vars(Account())}


@pytest.fixture
async def loop(db: None) -> asyncio.AbstractEventLoop:
    """The loop of the open pool; it stands still while a synchronous test runs, which may turn it."""
    return asyncio.get_running_loop()


@pytest.mark.timeout(300)
def test_l01_l02_l03_l05_l06_l22_g03_any_order_of_operations_keeps_the_books(
    loop: asyncio.AbstractEventLoop,
) -> None:
    machine = type("Machine", (Books,), {"loop": loop})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
