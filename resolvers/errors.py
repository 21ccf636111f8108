"""Refusals of the front door that are nobody's business rule: they end as top-level errors, never in a union."""

from __future__ import annotations

from domain.core.errors import DomainError


class BadUserInput(DomainError):
    """A value that does not fit its type, a forged cursor, a page size out of bounds.

    `reason` is a short English fact for developers, shown as `extensions.reason`.
    """

    code = "BAD_USER_INPUT"


class KeyRequired(DomainError):
    """A mutation that moves money, stock or goods came without `@idempotent(key: …)`."""

    code = "IDEMPOTENCY_KEY_REQUIRED"


class InsufficientScope(DomainError):
    """The app's grant does not cover this field; `scope` names what is missing."""

    code = "INSUFFICIENT_SCOPE"


class MfaRequired(DomainError):
    """The field takes a fresher or stronger sign-in; facts `acr_values` and `max_age` say which (RFC 9470)."""

    code = "MFA_REQUIRED"


class Throttled(DomainError):
    """The caller's bucket is empty; `retry_after` seconds fill it far enough."""

    code = "THROTTLED"
    retryable = True


class TooManyStreams(DomainError):
    """The caller has as many live streams open as one caller may: end one first; `max` is the bound."""

    code = "TOO_MANY_STREAMS"
    retryable = True
