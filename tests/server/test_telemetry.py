"""Spans are counted whatever happens inside, cost next to nothing, and add up over processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from domain.core import trace
from domain.core.settings import ROOT


def count(name: str, what: str = "kami_span_seconds_count") -> float:
    return REGISTRY.get_sample_value(what, {"kind": "job", "name": name}) or 0.0


def test_a_span_is_counted_and_its_error_passes_on() -> None:
    with trace.span("job", "fine"):
        pass
    with pytest.raises(KeyError), trace.span("job", "broken"):
        raise KeyError("x")

    assert count("fine") == 1
    assert count("fine", "kami_span_errors_total") == 0
    assert count("broken") == 1
    assert count("broken", "kami_span_errors_total") == 1


def test_with_a_tracer_there_is_a_span_with_its_parent() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.use(provider.get_tracer("test"))
    try:
        with trace.span("request", "graphql"), trace.span("transaction", "place"):
            pass
        with pytest.raises(ValueError, match="boom"), trace.span("job", "bad"):
            raise ValueError("boom with a secret")
    finally:
        trace.use(None)
        provider.shutdown()

    inner, outer, bad = exporter.get_finished_spans()
    assert (inner.name, outer.name) == ("transaction place", "request graphql")
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    assert not bad.status.is_ok
    assert not bad.events  # no exception text with somebody's data in it


def test_names_made_of_data_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "NAMES_MAX", len(trace._children) + 2)
    for number in range(50):
        with trace.span("event", f"made-of-data-{number}"):
            pass

    labels = {"kind": "event", "name": "other"}
    assert (REGISTRY.get_sample_value("kami_span_seconds_count", labels) or 0) >= 48


def test_a_span_without_tracing_is_cheap() -> None:
    """No benchmark: only that nobody puts something heavy into it (measured: 1-2 µs)."""
    best_us = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(2_000):
            with trace.span("job", "cheap"):
                pass
        best_us = min(best_us, (time.perf_counter() - began) / 2_000 * 1e6)

    assert best_us < 25


_PROCESS = """
from domain.core import trace
from domain.core.settings import load
from server import telemetry
telemetry.configure(load(), process="worker")
for _ in range(3):
    with trace.span("job", "shared"):
        pass
print(telemetry.render().decode())
"""


def test_processes_add_up(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    environment["KAMI_DATA_DIR"] = str(tmp_path)
    texts = [
        subprocess.run(
            [sys.executable, "-c", _PROCESS],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]

    assert 'kami_span_seconds_count{kind="job",name="shared"} 3.0' in texts[0]
    assert 'kami_span_seconds_count{kind="job",name="shared"} 6.0' in texts[1]
    # The first process has ended without the supervisor, which would have removed its gauges.
    assert 'kami_up{process="worker"}' in texts[1]
