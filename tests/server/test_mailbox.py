"""The development mailbox: what it shows, and what it never does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.types import Message

from domain.core.settings import load
from domain.notifications.ports import Mail
from plugins.notifier.mailbox import Mailbox
from server import mailbox

LINK = "http://127.0.0.1:8000/orders/ord_x#accessKey=abc"
MAIL = Mail(
    name="20261122T100000.000001-abc-1",
    message_id="abc.1@kami.test",
    sender="Kami <no-reply@kami.test>",
    recipient="buyer@example.com",
    subject='Ready <script>alert(1)</script> "quoted"',
    text=f"Hello <b>you</b>\n\n{LINK}\njavascript:alert(1)\n",
    html=f'<!doctype html><html><head></head><body><p><a href="{LINK}">Open</a></p></body></html>',
    language="en",
)


@pytest.fixture
async def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starlette:
    monkeypatch.setenv("KAMI_DATA_DIR", str(tmp_path))
    settings = load()
    await Mailbox(tmp_path / "mail").send([MAIL])
    return Starlette(routes=mailbox.routes(settings))


async def get(app: Any, path: str, host: str = "127.0.0.1:8000") -> tuple[int, dict[str, str], str]:
    """One GET straight into the application."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", host.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    await app(scope, receive, send)
    head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], head, body.decode()


async def test_the_list_leads_to_the_mail(app: Starlette) -> None:
    status, _, page = await get(app, "/mailbox")

    assert status == 200
    assert f'href="/mailbox/{MAIL.name}"' in page
    assert "buyer@example.com" in page
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


async def test_h36_a_mail_is_shown_escaped_with_working_links(app: Starlette) -> None:
    status, _, page = await get(app, f"/mailbox/{MAIL.name}")

    assert status == 200
    assert "Hello &lt;b&gt;you&lt;/b&gt;" in page
    assert f'<a href="{LINK}">{LINK}</a>' in page
    assert 'href="javascript' not in page
    assert "<script>" not in page
    assert f'<iframe src="/mailbox/{MAIL.name}/html"' in page


async def test_the_html_part_is_closed_in(app: Starlette) -> None:
    status, head, page = await get(app, f"/mailbox/{MAIL.name}/html")

    assert status == 200
    assert '<base target="_blank">' in page
    rules = head["content-security-policy"]
    assert "default-src 'none'" in rules
    assert "sandbox allow-popups" in rules
    assert "allow-scripts" not in rules
    assert "frame-ancestors 'self'" in rules


async def test_w11_pages_are_not_stored_and_load_nothing(app: Starlette) -> None:
    for path in ("/mailbox", f"/mailbox/{MAIL.name}"):
        _, head, page = await get(app, path)

        assert head["cache-control"] == "no-store"
        assert head["referrer-policy"] == "no-referrer"
        rules = head["content-security-policy"]
        assert rules.startswith("default-src 'none'; style-src 'nonce-")
        assert "unsafe" not in rules
        assert rules.split("'nonce-")[1].split("'")[0] in page


@pytest.mark.parametrize(
    "name",
    ["..", "../secrets.env", "%2e%2e", ".hidden", "nobody", "a" * 500, "x\x00", "20261122T100000"],
)
async def test_other_names_are_nothing(app: Starlette, tmp_path: Path, name: str) -> None:
    (tmp_path / "mail" / ".hidden.eml").write_text("From: x\n\nsecret")

    assert (await get(app, f"/mailbox/{name}"))[0] == 404


async def test_h37_a_foreign_host_sees_nothing(app: Starlette) -> None:
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""):
        for path in ("/mailbox", f"/mailbox/{MAIL.name}", f"/mailbox/{MAIL.name}/html"):
            status, _, page = await get(app, path, host)

            if host:
                assert status == 404
                assert "accessKey" not in page
    assert (await get(app, "/mailbox", "localhost:8000"))[0] == 200


async def test_an_empty_mailbox_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAMI_DATA_DIR", str(tmp_path / "other"))
    app = Starlette(routes=mailbox.routes(load()))

    assert "No mail yet." in (await get(app, "/mailbox"))[2]


def test_there_is_no_mailbox_with_a_mail_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAMI_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KAMI_SMTP_URL", "smtp://mail.test")

    assert mailbox.routes(load()) == []


def test_there_is_no_mailbox_in_production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load()
    monkeypatch.setattr(type(settings), "in_development", property(lambda _: False))

    assert mailbox.routes(settings) == []
