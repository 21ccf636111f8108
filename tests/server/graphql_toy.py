"""A small contract that uses everything the front door offers; its tests are tests of the door, not of a noun."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from dataclasses import field as row_field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import orjson
import strawberry

from domain.core import ids
from domain.core.errors import DomainError, FieldInvalid, InputInvalid
from domain.core.errors import NotFound as NoSuch
from domain.core.money import Money as CoreMoney
from resolvers import page as pages
from resolvers.context import Asked
from resolvers.inputs import MoneyInput
from resolvers.page import Listing
from schema.build import build
from schema.field import (
    Who,
    derived,
    field,
    mutation_field,
    object_type,
    query_field,
    subscription_field,
)
from schema.money import Money
from schema.node import Node, NodeQuery, register
from schema.page import Connection
from schema.problems import InvalidInput, NotFound, Problem, problem
from schema.scalars import JSON, BigInt, CountryCode, LanguageCode

TOYS = Listing("toy.toys", int)


class Colour(StrEnum):
    """Values differ from their names, as in the database."""

    RED = "red"
    BLUE = "blue"


@dataclass(slots=True)
class ToyRow:
    """A row as a domain returns it."""

    uuid: UUID
    no: int
    title: str
    price: CoreMoney
    colour: str = "red"
    parts: list["ToyRow"] = row_field(default_factory=list)


def make(no: int) -> ToyRow:
    """The toy with this number."""
    return ToyRow(
        UUID(int=(7 << 76) | (2 << 62) | no), no, f"Toy {no}", CoreMoney(1990 + no, "USD")
    )


STORE = {no: make(no) for no in range(1, 251)}
for _no in range(1, 11):
    STORE[_no].parts = [STORE[_no + 100], STORE[_no + 101]]


@dataclass(slots=True)
class State:
    """What the toy world did, for tests that ask what did not happen."""

    made: list[str] = row_field(default_factory=list)
    batches: list[list[int]] = row_field(default_factory=list)
    closed: int = 0
    counted: int = 0
    stored: dict[tuple[str, str], tuple[bytes, bytes]] = row_field(default_factory=dict)


state = State()


async def _titles(numbers: list[int]) -> Sequence[str]:
    state.batches.append(numbers)
    return [STORE[no].title.upper() for no in numbers]


async def _loud(root: strawberry.Parent[Any], info: Asked) -> str:
    return await info.context.load(_titles, root.no)


async def _toys(
    info: Asked,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
    search: str | None = None,
) -> Any:
    window = TOYS.window(search, first=first, last=last, after=after, before=before)
    rows = sorted(STORE.values(), key=lambda row: row.no, reverse=window.is_backward)
    if window.key is not None:
        edge = window.key[0]
        rows = [row for row in rows if (row.no < edge if window.is_backward else row.no > edge)]

    async def count() -> int:
        state.counted += 1
        return len(STORE)

    return window.page(rows[: window.limit + 1], key=lambda row: (row.no,), total=count)


@object_type(description="A thing to play with.", rows=(ToyRow,))
class Toy(Node):
    id: strawberry.ID = derived(
        lambda row: ids.encode("toy", row.uuid), description="Id with prefix `toy_`."
    )
    no: int = field(description="Counts from 1.")
    title: str = field(description="Its name.")
    price: Money = field(description="What it costs.")
    colour: Annotated[
        Colour, strawberry.enum(Colour, name="Colour", description="How it looks.")
    ] = field(description="How it looks.")
    loud: str = field(resolver=_loud, description="The name in capitals, through a loader.")
    parts: list["Toy"] = field(description="What it is made of.")
    toys: Connection["Toy"] = field(
        resolver=_toys,
        description="More toys.",
        args={"first": "How many.", "search": "Words to look for."},
    )


async def _load(info: Asked, uuid: UUID) -> ToyRow | None:
    return STORE.get(uuid.int & 0xFFFF)


register("toy", Toy, _load)


class OutOfToys(DomainError):
    code = "OUT_OF_STOCK"


class Unlisted(DomainError):
    code = "PAYMENT_DECLINED"


@problem(OutOfToys, description="There are not enough toys.")
class OutOfStock(Problem):
    available: int = field(description="How many are left.")


@strawberry.input(description="What to make.")
class MakeInput:
    title: str = strawberry.field(description="A name; some names make trouble.")
    count: int = strawberry.field(default=1, description="How many.")
    price: MoneyInput | None = strawberry.field(default=None, description="What it shall cost.")
    note: JSON | None = strawberry.field(default=None, description="Anything.")


async def _make(info: Asked, input: MakeInput) -> Any:
    if input.title == "none":
        raise OutOfToys(available=3)
    if input.title == "unlisted":
        raise Unlisted()
    if input.title == "faulty":
        raise InputInvalid(
            FieldInvalid(path=("input", "title")), FieldInvalid(path=("input", "count"))
        )
    if input.title == "missing":
        raise NoSuch()
    if input.title == "bug":
        raise RuntimeError("secret-of-the-house")
    if input.title == "slow":
        await asyncio.sleep(0.3)
    if input.price is not None:
        input.price.parse("input", "price")
    state.made.append(input.title)
    return ToyRow(ids.uuid7(), 1000 + len(state.made), input.title, CoreMoney(1, "USD"))


async def _make_once(info: Asked, input: MakeInput) -> Any:
    """What the domain's idempotency record does, without its database."""
    once = info.context.once(info)
    kept = state.stored.get((once.scope, once.key))
    if kept is not None:
        assert kept[0] == once.request_hash
        once.response = kept[1]
        return info.context.replay(info)
    made = await _make(info, input)
    own = str(info.path.key)

    async def store(key: str, value: Any) -> None:
        if key == own:
            state.stored[once.scope, once.key] = (once.request_hash, orjson.dumps(value))

    info.context.finished.append(store)
    return made


MakeResult = Annotated[
    Toy | OutOfStock | InvalidInput | NotFound,
    strawberry.union("MakeResult", description="What came of it."),
]


def _toy(no: int = 1) -> Any:
    return STORE.get(no)


async def _slow(info: Asked, seconds: int) -> str:
    await asyncio.sleep(seconds)
    return "done"


def _bug(info: Asked) -> str:
    raise RuntimeError("secret-of-the-house")


def _broken(info: Asked) -> Any:
    row = make(8)
    row.title, row.colour = None, "green"  # type: ignore[assignment]
    row.price, row.parts = None, [row, None]  # type: ignore[assignment, list-item]
    return row


def _unwritable(info: Asked) -> Any:
    return {1, 2}


def _closed(info: Asked) -> int:
    return state.closed


def _made(info: Asked) -> list[str]:
    return state.made


def _secret(info: Asked) -> str:
    return "for members"


def _here(info: Asked) -> str:
    market = info.context.market
    words = (market.country, market.currency, market.language, market.source.name)
    return " ".join([*words, str(info.context.address)])


def _echo(
    info: Asked,
    text: str | None = None,
    big: BigInt | None = None,
    at: datetime | None = None,
    country: CountryCode | None = None,
    language: LanguageCode | None = None,
    json: JSON | None = None,
) -> Any:
    return [
        text,
        None if big is None else str(big),
        None if at is None else at.isoformat(),
        country,
        language,
        json,
    ]


@strawberry.type
class ToyQuery:
    toy: Toy | None = query_field(_toy, description="One toy.", who=Who.ANYONE)
    toys: Connection[Toy] = query_field(_toys, description="All toys.", who=Who.ANYONE)
    bug: str | None = query_field(_bug, description="Always fails.", who=Who.ANYONE)
    slow: str | None = query_field(_slow, description="Takes its time.", who=Who.ANYONE)
    secret: str | None = query_field(_secret, description="For members.", who=Who.MERCHANT)
    broken: Toy | None = query_field(
        _broken, description="Nulls where none may be.", who=Who.ANYONE
    )
    unwritable: JSON | None = query_field(
        _unwritable, description="Not JSON at all.", who=Who.ANYONE
    )
    closed: int = query_field(_closed, description="Streams that ended.", who=Who.ANYONE)
    made: list[str] = query_field(_made, description="What was made.", who=Who.ANYONE)
    here: str = query_field(_here, description="Where the caller is taken to be.", who=Who.ANYONE)
    echo: JSON = query_field(_echo, description="Gives back what it was given.", who=Who.ANYONE)


@strawberry.type
class ToyMutation:
    make: MakeResult = mutation_field(_make, description="Make a toy.", who=Who.ANYONE)
    make_once: MakeResult = mutation_field(
        _make_once, description="Make a toy once.", who=Who.ANYONE, idempotent=True
    )


@dataclass(frozen=True, slots=True)
class Tick:
    sequence: int
    cursor: str


@dataclass(frozen=True, slots=True)
class Beat:
    at: datetime


@dataclass(frozen=True, slots=True)
class Gap:
    resume_cursor: str


async def _tick_toy(root: strawberry.Parent[Any], info: Asked) -> ToyRow:
    return STORE[root.sequence]


@object_type(description="Something happened.", rows=(Tick,))
class TickEvent:
    cursor: str = field(description="Where to resume.")
    sequence: int = field(description="Counts from 1.")
    toy: Toy = field(resolver=_tick_toy, description="The toy it happened to.")


@object_type(description="Nothing happened.", rows=(Beat,))
class StreamHeartbeat:
    at: datetime = field(description="When.")


@object_type(description="Events are missing.", rows=(Gap,))
class StreamGap:
    resume_cursor: str = field(description="Where to go on.")


Frame = Annotated[
    TickEvent | StreamHeartbeat | StreamGap, strawberry.union("Frame", description="One event.")
]
BEAT = Beat(datetime(2026, 11, 1, tzinfo=UTC))


async def _ticks(
    info: Asked, count: int = 3, after: str | None = None, mode: str = "ticks"
) -> AsyncIterator[Any]:
    start = 0 if after is None else pages.read(after, "ticks", int)[0]
    try:
        if mode == "missing":
            raise NoSuch()
        if mode == "gap":
            yield Gap(pages.sign("ticks", 40))
            return
        for sequence in range(start + 1, start + count + 1):
            if mode == "bug" and sequence == 2:
                raise RuntimeError("secret-of-the-house")
            if mode == "flood":
                yield Tick(1, "x" * 1_000)
                continue
            yield BEAT if mode == "beats" else Tick(sequence, pages.sign("ticks", sequence))
            await asyncio.sleep(0)
        if mode == "idle":
            await asyncio.Event().wait()
    finally:
        state.closed += 1


@strawberry.type
class ToySubscription:
    ticks: Frame = subscription_field(
        _ticks,
        description="Counts.",
        who=Who.ANYONE,
        args={"after": "Cursor of the last event seen."},
    )
    secrets: Frame = subscription_field(_ticks, description="For members.", who=Who.MERCHANT)


schema = build([NodeQuery, ToyQuery], [ToyMutation], [ToySubscription], types=[Toy])
