"""Where measurements go: Prometheus text from every process at once, OpenTelemetry spans when asked for.

The measuring itself is `domain/core/trace.py`. Under the supervisor each process keeps its numbers in files below
`<data_dir>/metrics` (prometheus_client's multi-process mode), so any API process answers `/metrics` for all of
them: counters and histograms are summed, gauges of living processes too. Alone, a process shows its own.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import REGISTRY, CollectorRegistry, Gauge, generate_latest, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from domain.alarms import AlertKind
from domain.core import trace
from domain.core.heartbeat import Backlog
from domain.core.settings import Settings

SAMPLE_SHARE = 0.05  # of requests without a sampled parent
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

up = Gauge(
    "kami_up", "Living processes by kind.", labelnames=("process",), multiprocess_mode="livesum"
)


def configure(settings: Settings, *, process: str) -> None:
    """Start measuring as `process` ("api-1", "worker", …); spans are exported only with KAMI_OTEL_ENDPOINT."""
    up.labels(process.partition("-")[0]).set(1)
    if settings.otel_endpoint:
        _export_spans(settings.otel_endpoint, process)


def render(queues: Sequence[Backlog] = (), alerts: Mapping[str, int] | None = None) -> bytes:
    """The Prometheus text of all processes that share the metrics folder, or of this one, of the queues and of open
    security alerts."""
    own = REGISTRY
    if os.environ.get(_FOLDER):
        own = CollectorRegistry()
        MultiProcessCollector(own)  # type: ignore[no-untyped-call]
    shared = CollectorRegistry()
    shared.register(_Known(queues, alerts))
    return generate_latest(own) + generate_latest(shared)


class _Known(Collector):
    """What the database knows; the same whichever process is asked."""

    def __init__(self, queues: Sequence[Backlog], alerts: Mapping[str, int] | None) -> None:
        self._queues = queues
        self._alerts = alerts

    def collect(self) -> Iterator[Metric]:
        due = GaugeMetricFamily("kami_promises_due", "Promises due now.", labels=["queue"])
        oldest = GaugeMetricFamily(
            "kami_promises_oldest_seconds", "Age of the oldest due promise.", labels=["queue"]
        )
        dead = GaugeMetricFamily("kami_promises_dead", "Dead letters.", labels=["queue"])
        for one in self._queues:
            due.add_metric([one.queue], one.due)
            oldest.add_metric([one.queue], one.oldest_s)
            dead.add_metric([one.queue], one.dead)
        rung = GaugeMetricFamily(
            "kami_security_alerts", "Security alerts nobody has acknowledged.", labels=["kind"]
        )
        for kind in AlertKind if self._alerts is not None else ():
            rung.add_metric([kind], (self._alerts or {}).get(kind, 0))
        yield from (due, oldest, dead, rung)


def serve_metrics(host: str, port: int) -> None:
    """Answer `/metrics` on a port of its own from a thread; for a worker that has no HTTP server."""
    start_http_server(port, addr=host)


def _export_spans(endpoint: str, process: str) -> None:
    # Imported here: some twenty megabytes that nobody needs without an endpoint.
    from opentelemetry import trace as otel
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    resource = Resource.create({"service.name": "kami", "service.instance.id": process})
    provider = TracerProvider(
        resource=resource, sampler=ParentBased(TraceIdRatioBased(SAMPLE_SHARE))
    )
    address = endpoint.rstrip("/")
    if not address.endswith("/v1/traces"):
        address += "/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=address)))
    otel.set_tracer_provider(provider)
    trace.use(provider.get_tracer("kami"))
    atexit.register(provider.shutdown)
