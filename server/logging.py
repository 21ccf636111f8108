"""Logs: one JSON object per line (or readable lines in development), with secrets masked and nothing forged.

`structlog` and the standard library's loggers take the same way out. What is bound in the context (`request_id`,
`order` = the order's serial number) is on every line.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any

import orjson
import structlog
from pydantic import SecretBytes, SecretStr
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars
from structlog.typing import EventDict, Processor, WrappedLogger

from domain.core.settings import Settings

MASK = "[masked]"
TEXT_MAX = 4_000
DEPTH_MAX = 6

# Whole words of a key, so that `access_key` and `apiToken` are caught and `keyboard` is not.
SECRET_WORDS = frozenset(
    [
        "password",
        "passwd",
        "passphrase",
        "token",
        "tokens",
        "secret",
        "secrets",
        "key",
        "keys",
        "authorization",
        "cookie",
        "content",
        "contents",
        "plaintext",
        "credential",
        "credentials",
        "otp",
        "totp",
        "cvv",
        "pan",
        "signature",
        "dsn",
    ]
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_IN_TEXT = (
    (re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"), MASK),  # user:password in a URL
    (re.compile(r"(?i)\b(bearer|basic|dpop)\s+[\w.~+/=-]{8,}"), rf"\1 {MASK}"),
    (re.compile(r"(?i)\b((?:access|api|secret)_?key|token|password)=[^&\s]+"), rf"\1={MASK}"),
)
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LINES = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")

_LOUD = ("uvicorn", "asyncio", "arq", "tortoise", "aiohttp.access", "opentelemetry")


def configure(settings: Settings) -> None:
    """Set up `structlog` and the root logger of this process; call once at start."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        clean,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(settings),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _LOUD:
        logging.getLogger(name).setLevel("WARNING")


def _renderers(settings: Settings) -> list[Processor]:
    if settings.log_format == "json":
        frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=30)
        return [
            structlog.processors.ExceptionRenderer(frames),
            _clean_exception,
            structlog.processors.JSONRenderer(serializer=_dump),
        ]
    return [
        structlog.processors.ExceptionRenderer(),
        _clean_exception,
        structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    ]


def _dump(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def clean(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Mask values under secret keys and credentials inside texts; remove what forges lines or colours."""
    text = event.get("event")
    if isinstance(text, str) and text.startswith("Traceback ") and "exception" not in event:
        event.update(event="unhandled error", exception=text)  # uvicorn logs it as a message
    for name, value in event.items():
        if name in ("exc_info", "stack_info", "exception", "_record", "_from_structlog"):
            continue
        event[name] = _clean(value, DEPTH_MAX, is_secret=is_secret(name))
    return event


def is_secret(name: str) -> bool:
    """Whether a value under this key is kept out of logs."""
    return not SECRET_WORDS.isdisjoint(word.lower() for word in _WORDS.findall(name))


def clean_text(text: str) -> str:
    """One line without control characters, escapes, direction marks or credentials; at most TEXT_MAX long."""
    if len(text) > TEXT_MAX:
        text = text[:TEXT_MAX] + "…"
    text = _CONTROL.sub(" ", _ANSI.sub("", text))
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def _clean(value: Any, depth: int, *, is_secret: bool) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if is_secret or isinstance(value, SecretStr | SecretBytes | bytes | bytearray | memoryview):
        return MASK
    if isinstance(value, str):
        return clean_text(value)
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        return {
            clean_text(str(name)): _clean(one, depth - 1, is_secret=_is_secret_name(name))
            for name, one in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(one, depth - 1, is_secret=False) for one in value]
    return clean_text(str(value))


def _is_secret_name(name: object) -> bool:
    return is_secret(str(name))


def _clean_exception(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A traceback keeps its lines, but no colours, carriage returns or credentials."""
    found = event.get("exception")
    if isinstance(found, str):
        text = _LINES.sub(" ", _ANSI.sub("", found))
        for pattern, replacement in _IN_TEXT:
            text = pattern.sub(replacement, text)
        event["exception"] = text
    elif found is not None:
        event["exception"] = _clean(found, DEPTH_MAX + 4, is_secret=False)
    return event


__all__ = [
    "MASK",
    "bind_contextvars",
    "bound_contextvars",
    "clean",
    "clean_text",
    "clear_contextvars",
    "configure",
    "is_secret",
]
