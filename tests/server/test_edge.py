"""The outermost layer: hosts, foreign pages, hardening headers and request ids, whatever lies behind."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from structlog.contextvars import get_contextvars

from domain.core import settings as configuration
from domain.core.settings import settings
from server import app as application
from server.edge import HARDENED, Edge, hosts
from tests.server import graphql_toy

FRIEND = "https://friend.example"


class Behind:
    """The application behind the edge: notes that it was asked, and what was bound for its log lines."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.bound: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        self.bound.append(get_contextvars())
        await PlainTextResponse("behind")(scope, receive, send)


async def ask(
    app: Any, path: str, *, method: str = "GET", kind: str = "http", **headers: str
) -> tuple[int, list[tuple[str, str]]]:
    """Status and headers of a request; a socket that is closed has status 403."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": f"{kind}.connect" if kind == "websocket" else "http.request", "body": b"{}"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
        "client": ("192.0.2.1", 1),
    }
    await app(scope, receive, send)
    if sent[0]["type"] == "websocket.close":
        return 403, []
    return sent[0]["status"], [(k.decode(), v.decode()) for k, v in sent[0]["headers"]]


@pytest.mark.parametrize(
    ("host", "is_open", "is_ours"),
    [
        ("pay.example", False, True),
        ("PAY.example:8443", False, True),
        ("api.internal", False, True),
        ("pay.example.evil.example", False, False),
        ("evil.example", False, False),
        ("pay.example@evil.example", False, False),
        ("localhost:8000", False, False),
        ("10.0.0.7", False, False),
        ("localhost:8000", True, True),
        ("shop.localhost", True, True),
        ("10.0.0.7:8000", True, True),
        ("[::1]:8000", True, True),
        ("rebound.evil.example:8000", True, False),
        ("localhost.evil.example", True, False),
    ],
)
async def test_h37_only_our_own_hosts_are_served(host: str, is_open: bool, is_ours: bool) -> None:
    behind = Behind()
    app = Edge(behind, hosts={"pay.example", "api.internal"}, is_open=is_open)

    status, _ = await ask(app, "/graphql", host=host)
    socket_status, _ = await ask(app, "/graphql", kind="websocket", host=host)

    assert status == (200 if is_ours else 421)
    assert socket_status == (200 if is_ours else 403)
    assert len(behind.asked) == (2 if is_ours else 0)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_health_is_told_under_every_name(path: str) -> None:
    behind = Behind()

    status, _ = await ask(Edge(behind, hosts={"pay.example"}), path, host="10.0.0.7:8000")

    assert (status, behind.asked) == (200, [path])


def test_h37_hosts_come_from_settings_and_links_never_from_the_request() -> None:
    found = settings().model_copy(
        update={"public_url": "https://Pay.example:8443/x", "allowed_hosts": ["api.internal"]}
    )

    assert hosts(found) == {"pay.example", "api.internal"}


@pytest.mark.parametrize("path", ["/graphql", "/graphql/stream", "/uploads"])
async def test_a_listed_page_is_answered_its_preflight_and_may_read(path: str) -> None:
    behind = Behind()
    app = Edge(behind, hosts={"pay.example"}, origins=[FRIEND])

    status, headers = await ask(app, path, method="OPTIONS", host="pay.example", origin=FRIEND)

    assert status == 204
    assert behind.asked == []  # a preflight asks for nothing
    told = dict(headers)
    assert told["access-control-allow-origin"] == FRIEND
    assert told["access-control-allow-credentials"] == "true"
    assert "content-type" in told["access-control-allow-headers"]

    status, headers = await ask(app, path, method="POST", host="pay.example", origin=FRIEND)
    assert status == 200
    assert ("access-control-allow-origin", FRIEND) in headers
    assert ("vary", "origin") in headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://friend.example.evil"])
@pytest.mark.parametrize("method", ["OPTIONS", "POST"])
async def test_h06_other_pages_may_read_nothing(origin: str, method: str) -> None:
    app = Edge(Behind(), hosts={"pay.example"}, origins=[FRIEND])

    _, headers = await ask(app, "/graphql", method=method, host="pay.example", origin=origin)

    assert not [name for name, _ in headers if name.startswith("access-control")]


OPEN = ["/oauth/token", "/oauth/par", "/oauth/revoke", "/.well-known/oauth-authorization-server"]


@pytest.mark.parametrize("path", OPEN)
@pytest.mark.parametrize("origin", ["https://app.example", FRIEND, "null", ""])
async def test_an_app_in_a_browser_reads_what_is_for_apps_and_sends_no_cookie(
    path: str, origin: str
) -> None:
    behind = Behind()
    app = Edge(behind, hosts={"pay.example"}, origins=[FRIEND])
    named = {"origin": origin} if origin else {}

    status, before = await ask(app, path, method="OPTIONS", host="pay.example", **named)
    assert (status, behind.asked) == (204, [])
    _, after = await ask(app, path, method="POST", host="pay.example", **named)

    allowed = dict(before)["access-control-allow-headers"].split(", ")
    assert allowed == ["authorization", "content-type", "dpop"]
    assert dict(after)["access-control-expose-headers"].startswith("dpop-nonce")
    for headers in (before, after):
        assert [value for name, value in headers if name == "access-control-allow-origin"] == ["*"]
        assert "access-control-allow-credentials" not in dict(headers)
    assert ("x-content-type-options", "nosniff") in after


@pytest.mark.parametrize(
    "path",
    [
        "/oauth/authorize",
        "/oauth/consent",
        "/oauth/sign-in",
        "/oauth/device",
        "/oauth/introspect",
        "/oauth/register",
        "/oauth/token/x",
    ],
)
@pytest.mark.parametrize("method", ["OPTIONS", "GET", "POST"])
async def test_no_page_reads_where_people_decide(path: str, method: str) -> None:
    app = Edge(Behind(), hosts={"pay.example"}, origins=[FRIEND])

    _, headers = await ask(app, path, method=method, host="pay.example", origin=FRIEND)

    assert not [name for name, _ in headers if name.startswith("access-control")]


async def test_h06_a_listed_page_may_not_read_the_hosted_pages() -> None:
    app = Edge(Behind(), hosts={"pay.example"}, origins=[FRIEND])

    _, headers = await ask(app, "/orders/ord_1", host="pay.example", origin=FRIEND)

    assert not [name for name, _ in headers if name.startswith("access-control")]


async def test_every_other_answer_is_hardened_once_and_named() -> None:
    behind = Behind()
    app = Edge(behind, hosts={"pay.example"})

    _, headers = await ask(app, "/hooks/a/b", host="pay.example", x_request_id="req-12345678")

    for name, value in HARDENED:
        assert headers.count((name.decode(), value.decode())) == 1
    assert ("x-request-id", "req-12345678") in headers
    assert behind.bound[0]["request_id"] == "req-12345678"


async def test_the_door_and_the_router_answer_with_the_same_hardening() -> None:
    app = application.create_app(graphql_toy.schema)

    for path in ("/graphql", "/graphql/stream", "/nothing", "/healthz", "/s/demo/nothing"):
        _, headers = await ask(app, path, method="DELETE", host="127.0.0.1")
        said = [name for name, _ in headers]
        for name in ("x-content-type-options", "referrer-policy", "x-request-id"):
            assert said.count(name) == 1, (path, name)
        assert ("content-security-policy" in said) is True, path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALLOWED_ORIGINS", "*"),
        ("ALLOWED_ORIGINS", "https://shop.example/path"),
        ("ALLOWED_ORIGINS", "shop.example"),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "https://shop.example"),
        ("ALLOWED_HOSTS", "shop.example:8000"),
    ],
)
def test_a_wildcard_or_a_misspelt_name_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"KAMI_{name}", value)

    with pytest.raises(configuration.SettingsWrong, match=f"KAMI_{name}"):
        configuration.load()


def test_lists_are_read_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAMI_ALLOWED_ORIGINS", f"{FRIEND}, http://localhost:5173")
    monkeypatch.setenv("KAMI_ALLOWED_HOSTS", "API.internal,shop.example")

    found = configuration.load()

    assert found.allowed_origins == [FRIEND, "http://localhost:5173"]
    assert found.allowed_hosts == ["api.internal", "shop.example"]
    assert FRIEND in application.origins(found)
