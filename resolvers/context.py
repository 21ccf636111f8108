"""What one operation knows: who asks, from where, in which words, and the loaders and answers of this run.

A context lives for one operation; a subscription makes a fresh one per event (`fork`), so that no loader
serves the values of yesterday's event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

import orjson
from graphql import FieldNode, StringValueNode, VariableNode, print_ast
from strawberry import Info
from strawberry.dataloader import DataLoader

import i18n
from domain import fx, geo, identity
from domain.core.once import Once, request_hash
from domain.identity.rules import address_bucket
from resolvers.errors import BadUserInput, KeyRequired

if TYPE_CHECKING:
    from domain.geo import Market
    from domain.identity import Viewer

KEY_MAX = 255
SELECTIONS_MAX = 512
IDEMPOTENT = "idempotent"
SESSION_COOKIE, DEVICE_COOKIE = "kami_session", "kami_device"

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Finished = Callable[[str, Any], Awaitable[None] | None]


class _Replayed:
    """Returned by a resolver whose answer is stored: the door puts the stored bytes in its place."""

    def __repr__(self) -> str:
        return "REPLAYED"


REPLAYED: Any = _Replayed()


class Context:
    """`info.context` of every resolver.

    `address` is the client's, from listed proxies only. `cookies` are to be set with the response, None where none
    can be; `device` is the token of a known device, in the cookie of this browser. `guard` refuses a frame of a stream
    whose caller has lost the right to it since it was opened. `replays` maps a response key to
    stored JSON that replaces the field's value; every callable in `finished` receives (response key, completed
    value) of each root field of a mutation that ended without an error, before the response is sent.
    """

    __slots__ = (
        "accept_language",
        "address",
        "asked_country",
        "asked_language",
        "came_by_cookie",
        "cookies",
        "credential",
        "device",
        "finished",
        "guard",
        "is_replayed",
        "known_market",
        "loaders",
        "onces",
        "operation",
        "replays",
        "request_id",
        "resume",
        "seems_from",
        "user_agent",
        "viewer",
    )

    def __init__(
        self,
        *,
        request_id: str = "",
        address: str | None = None,
        accept_language: str | None = None,
        user_agent: str | None = None,
        viewer: Viewer | None = None,
        credential: str | None = None,
        seems_from: str | None = None,
    ) -> None:
        self.request_id = request_id
        self.address = address
        self.accept_language = accept_language
        self.user_agent = user_agent
        self.viewer = viewer
        self.credential = credential
        self.seems_from = seems_from
        self.resume: str | None = None
        self.operation: str | None = None
        self.came_by_cookie = False
        self.cookies: list[tuple[str, str, int]] | None = None
        self.device: str | None = None
        self._start()

    def _start(self) -> None:
        self.asked_country: str | None = None
        self.asked_language: str | None = None
        self.known_market: Market | None = None
        self.is_replayed = False
        self.guard: Callable[[], None] | None = None
        self.loaders: dict[Any, DataLoader[Any, Any]] | None = None
        self.replays: dict[str, bytes] = {}
        self.finished: list[Finished] = []
        self.onces: dict[str, Once] = {}

    def fork(self) -> Context:
        """A context for the next operation or event of the same caller: same viewer and market, nothing else kept."""
        other = Context.__new__(Context)
        for name in (
            "request_id",
            "address",
            "accept_language",
            "user_agent",
            "viewer",
            "credential",
        ):
            setattr(other, name, getattr(self, name))
        other.seems_from, other.operation, other.resume = self.seems_from, self.operation, None
        other.came_by_cookie, other.cookies, other.device = self.came_by_cookie, None, self.device
        other._start()
        other.asked_country, other.asked_language = self.asked_country, self.asked_language
        other.known_market = self.known_market
        return other

    def keep_cookie(self, name: str, value: str, lasts_s: int) -> None:
        """Set a cookie of this browser with the response; 0 seconds take it away."""
        assert self.cookies is not None, "asked before: only HTTP sets cookies"
        self.cookies.append((name, value, lasts_s))

    @property
    def market(self) -> Market:
        """Country, currency and language of this operation; looked up once.

        Language: `@inContext`, then the viewer's, then `Accept-Language`, then the country's own.
        """
        found = self.known_market
        if found is None:
            found = self.known_market = geo.market(
                explicit=self.asked_country,
                located=geo.locate(self.address, self.seems_from),
                payable=fx.payable(),
                language=(
                    i18n.negotiate(self.asked_language)
                    or i18n.negotiate(self.viewer.locale if self.viewer is not None else None)
                    or i18n.negotiate(self.accept_language)
                ),
            )
        return found

    @property
    def language(self) -> str:
        """The offered language of this operation, for `i18n.text`."""
        return self.market.language

    def ask(self, country: str | None, language: str | None) -> None:
        """Take what `@inContext` asks for."""
        self.asked_country, self.asked_language, self.known_market = country, language, None

    @property
    def caller(self) -> str:
        """Whose idempotency keys and counters these are: the account, the grant of an app, else the guest's address."""
        if self.viewer is None:
            return f"guest:{address_bucket(self.address)}"
        if self.viewer.app is not None:
            return f"app:{self.viewer.app.grant_id}"
        return f"acc:{self.viewer.account_id}"

    @property
    def bucket(self) -> str:
        """Whose query costs these are: an app's in a merchant, the account's, else the address' (IPv6 by its /64)."""
        if self.viewer is not None and (app := self.viewer.app) is not None:
            return f"app:{app.app_id}:{app.merchant_id}"
        return f"ip:{_network(self.address)}" if self.viewer is None else self.caller

    def text(self, key: str, **facts: Any) -> str:
        """A message in the language of this operation."""
        return i18n.text(key, self.language, **facts)

    def load(self, batch: Callable[[list[K]], Awaitable[Sequence[V]]], key: K) -> Awaitable[V]:
        """One value by key; keys asked for in the same turn are loaded by one call of `batch`.

        `batch` is a module-level function: keys in, values out in the same order.
        """
        if self.loaders is None:
            self.loaders = {}
        loader = self.loaders.get(batch)
        if loader is None:
            loader = self.loaders[batch] = DataLoader(load_fn=cast(Any, batch))
        return loader.load(key)

    def once(self, info: Info[Any, Any]) -> Once:
        """The idempotency record of the running mutation field; fields declared `idempotent` have one.

        `await once.claim(…)` inside the transaction; after a replay with stored bytes return `replay(info)`.
        The completed answer is remembered by itself.
        """
        return self.onces[str(info.path.key)]

    def replay(self, info: Info[Any, Any]) -> Any:
        """What a resolver returns to have the stored bytes of its `once` sent again."""
        key = str(info.path.key)
        stored = self.onces[key].response
        assert stored is not None, "nothing is stored; build the answer from the result"
        self.replays[key] = stored
        self.is_replayed = True
        return REPLAYED

    def replayed(self) -> None:
        """Say `extensions.idempotency.replayed` for an answer that was built again from the stored result."""
        self.is_replayed = True


Asked = Info[Context, None]
_network = lru_cache(maxsize=4096)(address_bucket)


def open_once(info: Asked, arguments: Mapping[str, Any]) -> Once:
    """Start the idempotency record of a mutation field from its `@idempotent(key:)`.

    The request hash covers field and coerced arguments, the answer hash the selection. Errors: KeyRequired,
    BadUserInput for a key that is empty, blank, longer than 255 characters or not printable.
    """
    context = info.context
    nodes = info._raw_info.field_nodes
    key = _key(nodes, info.variable_values)
    if key is None:
        raise KeyRequired()
    if not key.strip() or len(key) > KEY_MAX or not key.isprintable():
        raise BadUserInput(reason="The idempotency key must be 1 to 255 printable characters.")
    name = info.field_name
    once = context.onces[str(info.path.key)] = Once(
        scope=f"{context.caller}:{name}",
        key=key,
        request_hash=request_hash({"field": name, "arguments": dict(arguments)}),
        answer_hash=_answer_hash(nodes, info, context.language),
    )
    response_key = str(info.path.key)

    def remember(done: str, value: Any) -> None:
        if done == response_key and once.is_claimed and not once.is_replay:
            once.remember(orjson.dumps(value))

    context.finished.append(remember)
    return once


def _key(nodes: Sequence[FieldNode], variables: Mapping[str, Any]) -> str | None:
    for node in nodes:
        for directive in node.directives or ():
            if directive.name.value != IDEMPOTENT:
                continue
            for argument in directive.arguments or ():
                value = argument.value
                if isinstance(value, VariableNode):
                    found = variables.get(value.name.value)
                    return None if found is None else str(found)
                if isinstance(value, StringValueNode):
                    return value.value
    return None


_selections: dict[tuple[int, ...], tuple[Sequence[FieldNode], bytes]] = {}


def _answer_hash(nodes: Sequence[FieldNode], info: Asked, language: str) -> bytes:
    """What was asked for of the result: the selection with its fragments, and the language of its words."""
    same = tuple(map(id, nodes))
    kept = _selections.get(same)
    if kept is None:
        texts = [print_ast(node.selection_set) for node in nodes if node.selection_set]
        texts += [print_ast(fragment) for _, fragment in sorted(info._raw_info.fragments.items())]
        if len(_selections) >= SELECTIONS_MAX:
            _selections.clear()
        # The nodes are kept with the text, so that an id is never that of another document.
        kept = _selections[same] = (nodes, "\0".join(texts).encode())
    hashed = hashlib.sha256(kept[1])
    hashed.update(language.encode())
    if b"$" in kept[1]:
        hashed.update(request_hash(info.variable_values))
    return hashed.digest()


async def viewer_of(token: str) -> Viewer | None:
    """Who holds a session's token; the default of the door's `authenticate` hook."""
    return await identity.viewer(token)
