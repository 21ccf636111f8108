"""Problems: how an expected refusal becomes a member of a mutation's result union.

Declare one beside the noun and put it into the union:

    @problem(domain.OutOfStock, description="Not enough stock is left.")
    class OutOfStock(Problem):
        available: int = field(description="Units that could be ordered now.")     # read from the fact `available`

A DomainError raised by a resolver becomes the most specific member declared for it, its message in the request's
language. One with a `path` and no member of its own becomes InvalidInput when the union has it. Anything else is
a top-level error with `extensions.code`.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast, dataclass_transform

import strawberry
from strawberry.types.field import StrawberryField

from domain.core import errors
from domain.core.errors import DomainError
from resolvers.context import Asked
from schema import versions
from schema.field import field
from schema.versions import Versioned

P = TypeVar("P", bound="type[Problem]")

_FROM_ERROR = ("code", "message", "path", "retryable")


@strawberry.interface(
    description="Why something was refused. Nothing was changed. One fragment `... on Problem` serves every client."
)
class Problem:
    """Implemented by every refusal of a mutation."""

    code: str = field(description="Stable SCREAMING_SNAKE code; part of the contract.")
    message: str = field(
        description="What happened and what to do, in the language of the request."
    )
    path: list[str] = field(
        description='The input at fault, e.g. ["input","lines","2","quantity"]; empty when it is none in particular.'
    )
    retryable: bool = field(description="Whether the same call may succeed later.")


_declared: list[tuple[type[DomainError], type]] = []


@dataclass_transform(field_specifiers=(field,))
def problem(
    *raised: type[DomainError], description: str, name: str | None = None
) -> Callable[[P], P]:
    """Declare the problem type of one or more DomainErrors; extra fields are filled from facts of the same name."""
    assert raised
    assert description

    def declare(cls: P) -> P:
        made = strawberry.type(cls, name=name, description=description)
        _declared.extend((error, made) for error in raised)
        return made

    return declare


def fill(type_: type, error: DomainError, info: Asked) -> Any:
    """The problem `type_` of one raised error."""
    values: dict[str, Any] = {
        "code": error.code,
        "message": info.context.text(error.code, **error.facts),
        "path": [str(part) for part in error.path],
        "retryable": error.retryable,
    }
    for extra in dataclasses.fields(type_):
        if extra.init and extra.name not in _FROM_ERROR:
            values[extra.name] = error.facts.get(extra.name)
    return type_(**values)


@strawberry.type(description="One input field that breaks a rule.")
class FieldProblem(Problem):
    """A member of `InvalidInput.problems`."""


@strawberry.type(description="One or more input fields break a rule; every one is listed.")
class InvalidInput(Problem):
    """`path` is that of the first problem."""

    problems: list[FieldProblem] = field(description="One entry per faulty field, at least one.")


@problem(
    errors.NotFound,
    description="There is no such object, or it is not yours to see: both in the same words.",
)
class NotFound(Problem):
    """Code NOT_FOUND."""


@problem(
    errors.Conflict,
    description="Somebody changed the object since you read it. Load it again and repeat your change.",
)
class Conflict(Problem):
    """Code CONFLICT."""

    subject: strawberry.Private[versions.Subject | None]
    current: Versioned | None = field(
        resolver=versions.current,
        description="The object as it is stored now, with the version to expect; null when it is of no such kind.",
    )


@problem(
    errors.Unavailable,
    description="The service did not answer in time. With OUTCOME_UNKNOWN look again before you repeat.",
)
class Unavailable(Problem):
    """Code UNAVAILABLE or OUTCOME_UNKNOWN."""


def _invalid(error: DomainError, info: Asked) -> InvalidInput | None:
    if isinstance(error, errors.InputInvalid):
        faults: Iterable[DomainError] = error.problems
    elif error.path:
        faults = (error,)
    else:
        return None
    problems = [cast(FieldProblem, fill(FieldProblem, fault, info)) for fault in faults]
    return InvalidInput(
        code=errors.InputInvalid.code,
        message=info.context.text(errors.InputInvalid.code),
        path=problems[0].path if problems else [],
        retryable=False,
        problems=problems,
    )


class _Handler:
    """What strawberry calls for one (error, problem) pair; None lets the error pass on."""

    def __init__(self, exception_type: type[DomainError], error_type: type) -> None:
        self.exception_type = exception_type
        self.error_type = error_type

    def handle(self, exception: DomainError, *, field: StrawberryField, info: Asked) -> Any:
        if self.error_type is InvalidInput:
            return _invalid(exception, info)
        return fill(self.error_type, exception, info)


def handlers() -> list[Any]:
    """One handler per declared pair, the most specific error first, InvalidInput last."""
    pairs = sorted(_declared, key=lambda pair: -len(pair[0].__mro__))
    made = [_Handler(error, type_) for error, type_ in pairs]
    return [*made, _Handler(DomainError, InvalidInput)]
