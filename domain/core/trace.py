"""The measuring seam: a span around request, resolver root, transaction, provider call, promise, job, event.

Every span feeds the histogram `kami_span_seconds{kind,name}`; once `server/telemetry.py` has set a tracer it is an
OpenTelemetry span as well. With tracing off one span costs about two microseconds.
"""

from __future__ import annotations

from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter, Histogram

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

KINDS = ("request", "resolver", "transaction", "provider", "promise", "job", "event")
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
NAMES_MAX = 2_000

_seconds = Histogram(
    "kami_span_seconds",
    "Duration by kind and name.",
    labelnames=("kind", "name"),
    buckets=BUCKETS_S,
)
_errors = Counter("kami_span_errors", "Spans left by an exception.", labelnames=("kind", "name"))
_children: dict[tuple[str, str], Histogram] = {}
_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """Record spans with `tracer` from now on; None turns tracing off."""
    global _tracer
    _tracer = tracer


class span:
    """Time what happens inside under `kind` (one of KINDS) and `name`.

    `name` is written in the code, never made of data: each one is a time series. The exception that leaves the
    span is counted and passes on unchanged.
    """

    __slots__ = ("_key", "_scope", "_started")

    def __init__(self, kind: str, name: str) -> None:
        self._key = (kind, name)
        self._scope: Any = None

    def __enter__(self) -> None:
        if _tracer is not None:
            kind, name = self._key
            self._scope = _tracer.start_as_current_span(f"{kind} {name}", record_exception=False)
            self._scope.__enter__()
        self._started = perf_counter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        took_s = perf_counter() - self._started
        child = _children.get(self._key)
        if child is None:
            child = _child(self._key)
        child.observe(took_s)
        if kind is not None:
            _errors.labels(*self._key).inc()
        if self._scope is not None:
            self._scope.__exit__(kind, error, traceback)


def _child(key: tuple[str, str]) -> Histogram:
    """The series of `key`; names beyond the bound share one, so that a bug cannot fill the memory."""
    if len(_children) >= NAMES_MAX:
        key = (key[0], "other")
    found: Histogram = _seconds.labels(*key)
    _children[key] = found
    return found
