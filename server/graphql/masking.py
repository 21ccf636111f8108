"""Errors as clients see them: a code, words in their language, the request id, and never a bug's own text.

A refusal (DomainError) speaks through its code. What graphql-core says about a document or a variable is shown,
for it only talks about what the client sent. Everything else is a bug: masked as INTERNAL_SERVER_ERROR and logged
in one line per operation, at most `BUGS_PER_MINUTE` of one kind.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

import structlog
from graphql import FloatValueNode, GraphQLError, IntValueNode
from prometheus_client import Counter

from domain.core import clock
from domain.core.errors import DomainError
from resolvers.context import Context

INTERNAL = "INTERNAL_SERVER_ERROR"
BUGS_PER_MINUTE = 10
KINDS_MAX = 500
TRACEBACK_MAX = 8_000

# Which facts of a refusal are for programs; everything else only fills the message.
_PUBLIC = {
    "THROTTLED": {"retry_after": "retryAfter", "retry_after_s": "retryAfter"},
    "IDEMPOTENCY_IN_PROGRESS": {"retry_after": "retryAfter", "retryAfter": "retryAfter"},
    "MFA_REQUIRED": {"acr_values": "acrValues", "max_age": "maxAge", "must_enrol": "mustEnrol"},
    "INSUFFICIENT_SCOPE": {"scope": "scope"},
    "CONFLICT": {"current": "current"},
    "BAD_USER_INPUT": {"reason": "reason"},
}
# An id of the wrong form is an id of nothing: the same words as for one that does not exist. An argument of a query
# has no union to be answered in.
_SHOWN_AS = {"ID_INVALID": "NOT_FOUND", "FIELD_INVALID": "BAD_USER_INPUT"}
# Raised by graphql-core while it reads the arguments of a field.
_ARGUMENT = ("Argument '", "Variable '")

_bugs = Counter("kami_graphql_bugs", "Operations that ended in an unexpected exception.")
_log = structlog.get_logger("server.graphql")
_seen: dict[str, tuple[int, float]] = {}


def cause(error: GraphQLError) -> Exception | None:
    """The exception behind an error, None when graphql-core itself complains."""
    found: Exception | None = error
    while isinstance(found, GraphQLError):
        found = found.original_error
    return found


def is_bug(error: GraphQLError) -> bool:
    """Whether an execution error is nobody's refusal."""
    behind = cause(error)
    if behind is not None:
        return not isinstance(behind, DomainError)
    return "code" not in (error.extensions or {}) and not error.message.startswith(_ARGUMENT)


def refusal(
    error: DomainError, context: Context, path: Sequence[str | int] | None = None
) -> dict[str, Any]:
    """One DomainError as a top-level error."""
    code = _SHOWN_AS.get(error.code, error.code)
    extensions: dict[str, Any] = {"code": code, "requestId": context.request_id}
    if error.retryable:
        extensions["retryable"] = True
    for fact, name in _PUBLIC.get(code, {}).items():
        if fact in error.facts:
            extensions[name] = error.facts[fact]
    if error.path:
        extensions["path"] = [str(part) for part in error.path]
    shown: dict[str, Any] = {
        "message": context.text(code, **error.facts),
        "extensions": extensions,
    }
    if path is not None:
        shown["path"] = list(path)
    return shown


def before(errors: Sequence[GraphQLError], code: str, context: Context) -> list[dict[str, Any]]:
    """Errors of a request that was not executed; `code` is for those without one of their own."""
    found = []
    for error in errors:
        behind = cause(error)
        if isinstance(behind, DomainError):
            found.append(refusal(behind, context))
            continue
        own = (error.extensions or {}).get("code")
        shown = error.formatted
        found.append(
            {
                **shown,
                "extensions": {
                    "code": own or ("BAD_USER_INPUT" if _is_number(error) else code),
                    "requestId": context.request_id,
                },
            }
        )
    return found


def _is_number(error: GraphQLError) -> bool:
    """A number literal that does not fit Int: the value is wrong, not the document."""
    nodes = error.nodes or []
    return (
        bool(nodes)
        and isinstance(nodes[0], IntValueNode | FloatValueNode)
        and error.message.startswith("Int cannot represent")
    )


def during(errors: Sequence[GraphQLError], context: Context) -> list[dict[str, Any]]:
    """Errors of an execution: refusals in the client's words, bugs masked and logged once."""
    found, bugs = [], []
    for error in errors:
        behind = cause(error)
        if isinstance(behind, DomainError):
            found.append(refusal(behind, context, error.path))
        elif is_bug(error):
            bugs.append(error)
            found.append(_masked(context, error.path))
        else:
            code = (error.extensions or {}).get("code", "BAD_USER_INPUT")
            extensions = {"code": code, "requestId": context.request_id}
            found.append({**error.formatted, "extensions": extensions})
    if bugs:
        report(cause(bugs[0]) or bugs[0], context, path=bugs[0].path, count=len(bugs))
    return found


def internal(error: BaseException, context: Context) -> dict[str, Any]:
    """An exception outside any field: masked and logged."""
    report(error, context)
    return _masked(context, None)


def _masked(context: Context, path: Sequence[str | int] | None) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "message": context.text(INTERNAL),
        "extensions": {"code": INTERNAL, "requestId": context.request_id},
    }
    if path is not None:
        shown["path"] = list(path)
    return shown


def report(
    error: BaseException,
    context: Context,
    *,
    path: Sequence[str | int] | None = None,
    count: int = 1,
) -> None:
    """One structured line for a bug; of one kind at most ten a minute, the rest is counted in the next line."""
    _bugs.inc()
    names = [part for part in path or () if isinstance(part, str)]
    kind = f"{type(error).__name__}:{'.'.join(names)}"
    lines, since = _seen.get(kind, (0, clock.monotonic()))
    if clock.monotonic() - since > 60:
        lines, since = 0, clock.monotonic()
    if len(_seen) > KINDS_MAX:
        _seen.clear()
    _seen[kind] = (lines + 1, since)
    if lines >= BUGS_PER_MINUTE:
        return
    trail = "".join(traceback.format_exception(error))
    _log.error(
        "graphql.bug",
        request_id=context.request_id,
        operation=context.operation,
        path=".".join(map(str, path or ())),
        errors=count,
        error=type(error).__name__,
        traceback=trail[-TRACEBACK_MAX:],
    )
