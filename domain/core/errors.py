"""Every expected failure is a DomainError: a fact with a code that is contract and i18n key at once."""

from __future__ import annotations

from typing import Any, ClassVar


class DomainError(Exception):
    """An expected refusal.

    `code` (SCREAMING_SNAKE) is the contract, `facts` fill the translated message, `path` names the input at
    fault, `retryable` says that the same call may succeed later. Nothing was changed when one is raised.
    """

    code: ClassVar[str] = "DOMAIN_ERROR"
    retryable: ClassVar[bool] = False

    def __init__(self, *, path: tuple[str, ...] = (), **facts: Any) -> None:
        super().__init__(self.code)
        self.path = path
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.code} {self.facts}" if self.facts else self.code


class NotFound(DomainError):
    """No such object, or it belongs to somebody else: both in the same words."""

    code = "NOT_FOUND"


class Conflict(DomainError):
    """`expectedVersion` is stale; `current` is the version stored now."""

    code = "CONFLICT"


class Unavailable(DomainError):
    """The database or a dependency did not answer in time; nothing is known to have changed."""

    code = "UNAVAILABLE"
    retryable = True


class FieldInvalid(DomainError):
    """One input field breaks a rule; `reason` is a short English fact for logs, the code is the contract."""

    code = "FIELD_INVALID"


class InputInvalid(DomainError):
    """Several fields at once: `problems` lists one DomainError per field."""

    code = "INVALID_INPUT"

    def __init__(self, *problems: DomainError) -> None:
        super().__init__(path=problems[0].path if problems else ())
        self.problems = problems
