"""Logs: one object per line, with what is bound, without secrets, without forged lines."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator

import pytest
import structlog
from pydantic import SecretStr

from domain.core.settings import load
from server import logging as logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """The process's own set-up comes back after each test."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    logs.clear_contextvars()
    structlog.reset_defaults()


@pytest.fixture
def json_logs(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """To be called in the test itself: only there is stdout the captured one."""
    monkeypatch.setenv("KAMI_LOG_FORMAT", "json")
    return lambda: logs.configure(load())


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_context_is_on_every_line(
    json_logs: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    json_logs()
    with logs.bound_contextvars(request_id="r-1", order="K1042"):
        structlog.get_logger("a").info("order.placed", lines=2)
        logging.getLogger("b").warning("slow %s", "query")
    structlog.get_logger("a").info("later")

    first, second, third = lines(capsys)
    assert (first["event"], first["request_id"], first["order"], first["lines"]) == (
        "order.placed",
        "r-1",
        "K1042",
        2,
    )
    assert (second["event"], second["order"], second["level"]) == ("slow query", "K1042", "warning")
    assert "order" not in third


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "accessKey",
        "access_key",
        "apiToken",
        "client_secret",
        "Authorization",
        "content",
    ],
)
def test_l27_secrets_are_masked_by_name(
    json_logs: Callable[[], None], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    json_logs()
    structlog.get_logger().info("x", **{name: "hunter2"}, nested=[{name: {"deep": "hunter2"}}])

    text = capsys.readouterr().out
    assert "hunter2" not in text
    assert json.loads(text)[name] == logs.MASK


def test_l27_secrets_are_masked_inside_texts(
    json_logs: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    json_logs()
    structlog.get_logger().info(
        "connect postgresql://kami:hunter2@db/kami",
        header="Bearer hunter2hunter2",
        address="/orders/1?access_key=hunter2&x=1",
        value=SecretStr("hunter2"),
        raw=b"hunter2",
    )
    try:
        raise ValueError("redis://:hunter2@queue refused")
    except ValueError:
        structlog.get_logger().exception("failed")

    text = capsys.readouterr().out
    assert "hunter2" not in text
    assert "x=1" in text
    assert "refused" in text


def test_nobody_forges_a_line_or_a_colour(
    json_logs: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    json_logs()
    evil = 'a\r\n{"event": "forged"}\x1b[31mred\x1b]0;title\x07\u202e\u2028b'
    structlog.get_logger().info("x", name=evil, **{"bad\nname": 1})

    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out)["name"] == 'a  {"event": "forged"}red  b'
    assert "\\u001b" not in out


def test_keys_that_only_look_secret_stay_readable() -> None:
    for name in ("keyboard", "tokenized", "monkey", "contented", "order_id"):
        assert not logs.is_secret(name), name
    event = logs.clean(None, "info", {"keys": 12, "tokens": True, "token": None})
    assert event == {"keys": 12, "tokens": True, "token": None}  # counts are no secrets


def test_long_and_deep_values_are_cut() -> None:
    deep: dict[str, object] = {}
    deep["again"] = deep
    event = logs.clean(None, "info", {"text": "x" * 100_000, "deep": deep})

    assert len(event["text"]) <= logs.TEXT_MAX + 1
    assert "…" in str(event["deep"])
