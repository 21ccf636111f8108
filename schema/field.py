"""How a field of the contract is declared: described, and every root field with who may call it.

`query_field` and `mutation_field` are strawberry fields behind one gate: right first, then the step-up, the
idempotency key, the resolver. `derived` is a leaf that a plain function reads off its row; `object_type` is a
strawberry type whose rows may be returned as they are, inside unions and interfaces too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar, cast, dataclass_transform

import strawberry
from graphql import GraphQLSchema
from strawberry.extensions import FieldExtension
from strawberry.types.field import StrawberryField

from domain.core import trace
from domain.core.errors import DomainError
from domain.identity import Forbidden, Unauthenticated, Viewer
from resolvers.context import Asked, open_once
from resolvers.stepup import StepUp, require
from schema import scopes
from schema.directives import RequiresAcr

T = TypeVar("T")

# What every list that begins with the newest takes.
NEWEST_FIRST = {
    "first": "How many of the newest, 1 to 100.",
    "last": "How many of the oldest, 1 to 100.",
    "after": "Cursor to continue behind.",
    "before": "Cursor to continue before.",
}


class Who(StrEnum):
    """Who may call a root field; what they may see is decided by the resolver, object by object."""

    ANYONE = "anyone"  # guests too; an access key or the resolver decides
    SIGNED_IN = "signed_in"
    MERCHANT = "merchant"  # a member of at least one merchant
    OPERATOR = "operator"
    APP = "app"  # a partner app within its granted scopes


class Gate(FieldExtension):
    """The door of one root field."""

    def __init__(
        self, who: frozenset[Who], *, idempotent: bool, step_up: StepUp | None = None
    ) -> None:
        self.who = who
        self.idempotent = idempotent
        self.step_up = step_up
        self.name = ""

    def apply(self, field: StrawberryField) -> None:
        self.name = field.python_name or field.name

    def resolve(self, next_: Callable[..., Any], source: Any, info: Asked, **kwargs: Any) -> Any:
        with trace.span("resolver", self.name):
            assert self.step_up is None, "what takes a proof is awaited"
            self._check(info, kwargs)
            return next_(source, info, **kwargs)

    async def resolve_async(
        self, next_: Callable[..., Any], source: Any, info: Asked, **kwargs: Any
    ) -> Any:
        with trace.span("resolver", self.name):
            self._check(info, kwargs)
            if self.step_up is not None:
                await require(info.context, self.step_up)
            if not self.idempotent:
                return await next_(source, info, **kwargs)
            try:
                found = await next_(source, info, **kwargs)
            except DomainError:
                if (stored := _stored(info)) is not None:
                    return stored
                raise
            return found if (stored := _stored(info)) is None else stored

    def _check(self, info: Asked, arguments: Mapping[str, Any]) -> None:
        viewer = info.context.viewer
        if viewer is not None and viewer.app is not None:
            raw = info._raw_info
            scopes.check_root(viewer.app, f"{raw.parent_type.name}.{raw.field_name}")
        elif Who.ANYONE not in self.who:
            check(self.who, viewer)
        if self.idempotent:
            open_once(info, arguments)


def _stored(info: Asked) -> Any:
    """The stored bytes of an earlier call under the same key, marked as replayed; None to answer from the rows."""
    once = info.context.once(info)
    if not once.is_replay:
        return None
    if once.response is not None:
        return info.context.replay(info)
    info.context.replayed()
    return None


def check(who: frozenset[Who], viewer: Viewer | None) -> None:
    """Refuse a caller who is none of `who`; for an app its scopes speak. Errors: Unauthenticated, Forbidden."""
    if Who.ANYONE in who:
        return
    if viewer is None:
        raise Unauthenticated()
    if viewer.app is not None:
        if Who.APP not in who:
            raise Forbidden()
        return
    held = {Who.SIGNED_IN}
    if viewer.roles:
        held.add(Who.MERCHANT)
    if viewer.operator:
        held.add(Who.OPERATOR)
    if not held & who:
        raise Forbidden()


def query_field(
    resolver: Callable[..., Any],
    *,
    description: str,
    who: Who | tuple[Who, ...],
    name: str | None = None,
    args: Mapping[str, str] | None = None,
    cost: int = 0,
    deprecation_reason: str | None = None,
) -> Any:
    """A field of Query.

    `who` may call it; `args` describes arguments by their GraphQL names; `cost` is charged on top of rule 8.
    """
    return _root(resolver, description, who, name, args, cost, deprecation_reason, idempotent=False)


def mutation_field(
    resolver: Callable[..., Any],
    *,
    description: str,
    who: Who | tuple[Who, ...],
    idempotent: bool = False,
    step_up: StepUp | None = None,
    name: str | None = None,
    args: Mapping[str, str] | None = None,
    cost: int = 0,
    deprecation_reason: str | None = None,
) -> Any:
    """A field of Mutation; `idempotent` demands `@idempotent(key:)` and gives the resolver `context.once(info)`.

    `step_up` is what the session must have proved, and how lately; it is printed as `@requiresAcr`.
    """
    return _root(
        resolver,
        description,
        who,
        name,
        args,
        cost,
        deprecation_reason,
        idempotent=idempotent,
        step_up=step_up,
    )


def subscription_field(
    resolver: Callable[..., Any],
    *,
    description: str,
    who: Who | tuple[Who, ...],
    name: str | None = None,
    args: Mapping[str, str] | None = None,
) -> Any:
    """A field of Subscription: an async generator; object by object it checks the right itself."""
    assert description
    return strawberry.subscription(
        resolver=resolver,
        name=name,
        description=description,
        metadata={"who": _who(who), "args": dict(args or {})},
    )


def _root(
    resolver: Callable[..., Any],
    description: str,
    who: Who | tuple[Who, ...],
    name: str | None,
    args: Mapping[str, str] | None,
    cost: int,
    deprecation_reason: str | None,
    *,
    idempotent: bool,
    step_up: StepUp | None = None,
) -> Any:
    assert description, "every field says what it is"
    callers = _who(who)
    return strawberry.field(
        resolver=resolver,
        name=name,
        description=description,
        deprecation_reason=deprecation_reason,
        extensions=[Gate(callers, idempotent=idempotent, step_up=step_up)],
        directives=[RequiresAcr(acr=str(step_up.acr), max_age=step_up.max_age_s)]
        if step_up
        else (),
        metadata={
            "who": callers,
            "args": dict(args or {}),
            "cost": cost,
            "idempotent": idempotent,
        },
    )


def _who(who: Who | tuple[Who, ...]) -> frozenset[Who]:
    callers = frozenset((who,) if isinstance(who, Who) else who)
    assert callers, "closed by default: say who may call"
    return callers


def field(
    *,
    description: str,
    resolver: Callable[..., Any] | None = None,
    known: Callable[[Any], Any] | None = None,
    name: str | None = None,
    args: Mapping[str, str] | None = None,
    cost: int = 0,
    deprecation_reason: str | None = None,
) -> Any:
    """A field below the root: without a resolver the attribute of the same name of the row.

    `known` reads what `resolver` would give off the row when it is there already, and gives None when it is not.
    """
    assert description, "every field says what it is"
    metadata = {"args": dict(args or {}), "cost": cost, "known": known}
    if resolver is None:
        return strawberry.field(
            name=name,
            description=description,
            deprecation_reason=deprecation_reason,
            metadata=metadata,
        )
    return strawberry.field(
        resolver=resolver,
        name=name,
        description=description,
        deprecation_reason=deprecation_reason,
        metadata=metadata,
    )


def derived(read: Callable[[Any], Any], *, description: str, name: str | None = None) -> Any:
    """A leaf that `read` takes off its row: no info, no await, no arguments; as fast as an attribute."""
    assert description, "every field says what it is"

    def resolve(root: Any) -> Any:
        return read(root)

    return strawberry.field(
        resolver=resolve, name=name, description=description, metadata={"read": read, "args": {}}
    )


@dataclass_transform(field_specifiers=(field, derived))
def object_type(
    *, description: str, rows: tuple[type, ...] = (), name: str | None = None
) -> Callable[[type[T]], type[T]]:
    """A type of the contract. `rows` are the classes resolvers return for it, besides the type itself."""
    assert description, "every type says what it is"

    def declare(cls: type[T]) -> type[T]:
        if rows:
            cast(Any, cls).is_type_of = classmethod(
                lambda own, obj, _info: isinstance(obj, (own, *rows))
            )
        made = strawberry.type(cls, name=name, description=description)
        cast(Any, made).__kami_rows__ = rows
        return made

    return declare


def callers(schema: GraphQLSchema) -> dict[str, frozenset[Who]]:
    """Who may call each root field: `{"Mutation.pay": {ANYONE}}`; the generated rights matrix reads it."""
    found: dict[str, frozenset[Who]] = {}
    for root in (schema.query_type, schema.mutation_type, schema.subscription_type):
        for name, one in root.fields.items() if root else ():
            definition = one.extensions.get("strawberry-definition")
            metadata = definition.metadata if isinstance(definition, StrawberryField) else {}
            who = cast("frozenset[Who]", metadata.get("who", frozenset()))
            is_open = f"{root}.{name}" in scopes.ROOTS
            found[f"{root}.{name}"] = who | {Who.APP} if is_open else who
    return found
