"""The development mailbox: `/mailbox` lists and shows the mails that were written instead of sent.

Closed in production and whenever a real mail server is configured. Mails hold links that open
orders, so pages are never cached, tell no referrer, load nothing, and answer only to the names this
server is known by.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from domain.core.settings import Settings

LISTED_MAX = 100
SIZE_MAX = 1_000_000
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z.\-]{0,119}", re.ASCII)
_LINK = re.compile(r"(https?://[^\s<>\"']+)")
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 56rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; } td, th { padding: .4rem .6rem; text-align: left; }
tr + tr td { border-top: 1px solid #ddd; } pre { white-space: pre-wrap; overflow-wrap: anywhere; }
iframe { border: 1px solid #ddd; width: 100%; height: 24rem; } small { color: #666; }
"""
_COMMON = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The pages over one folder of `.eml` files; `hosts` are the names it answers to."""

    folder: Path
    hosts: frozenset[str]

    async def index(self, request: Request) -> Response:
        """The newest mails."""
        if not self._is_known(request):
            return _missing()
        mails = await asyncio.to_thread(self._newest)
        rows = "".join(
            f"<tr><td>{_header(mail, 'Date')}</td><td>{_header(mail, 'To')}</td>"
            f'<td><a href="/mailbox/{escape(name)}">{_header(mail, "Subject")}</a></td></tr>'
            for name, mail in mails
        )
        table = f"<table><tr><th>Date</th><th>To</th><th>Subject</th></tr>{rows}</table>"
        note = f"<p><small>The newest {LISTED_MAX} at most; nothing leaves the house.</small></p>"
        return _page("Mailbox", (table if mails else "<p>No mail yet.</p>") + note)

    async def show(self, request: Request) -> Response:
        """One mail: its headers, its text with links, and its HTML in a closed frame."""
        name = request.path_params["name"]
        mail = await self._find(request, name)
        if mail is None:
            return _missing()
        head = "".join(
            f"<tr><th>{header}</th><td>{_header(mail, header)}</td></tr>"
            for header in ("From", "To", "Subject", "Date", "Message-ID")
        )
        text = _LINK.sub(_linked, escape(_content(mail, "plain"), quote=False))
        frame = f'<iframe src="/mailbox/{escape(name)}/html" title="HTML part"></iframe>'
        body = (
            f'<p><a href="/mailbox">All mails</a></p><table>{head}</table><pre>{text}</pre>{frame}'
        )
        return _page(str(mail["Subject"] or "Mail"), body)

    async def html(self, request: Request) -> Response:
        """The HTML part alone, without scripts, styles or anything loaded; links open outside."""
        mail = await self._find(request, request.path_params["name"])
        if mail is None:
            return _missing()
        page = _content(mail, "html").replace("<head>", '<head><base target="_blank">', 1)
        rules = (
            "default-src 'none'; sandbox allow-popups allow-popups-to-escape-sandbox;"
            " frame-ancestors 'self'"
        )
        return HTMLResponse(page, headers={**_COMMON, "Content-Security-Policy": rules})

    def _is_known(self, request: Request) -> bool:
        """A foreign name that points here (DNS rebinding) sees nothing."""
        return (request.url.hostname or "") in self.hosts

    async def _find(self, request: Request, name: str) -> EmailMessage | None:
        if not self._is_known(request) or not _NAME.fullmatch(name):
            return None
        return await asyncio.to_thread(_read, self.folder / f"{name}.eml")

    def _newest(self) -> list[tuple[str, EmailMessage]]:
        if not self.folder.is_dir():
            return []
        paths = sorted(self.folder.glob("*.eml"), reverse=True)[:LISTED_MAX]
        found = [(path.stem, _read(path, headers_only=True)) for path in paths]
        return [(name, mail) for name, mail in found if mail is not None and _NAME.fullmatch(name)]


def routes(settings: Settings) -> list[Route]:
    """The routes of the mailbox; none in production or with a real mail server."""
    if not settings.in_development or settings.smtp_url:
        return []
    known = {"localhost", "127.0.0.1", "::1", urlsplit(settings.public_url).hostname or ""}
    mailbox = Mailbox(settings.data_dir / "mail", frozenset(known - {""}))
    return [
        Route("/mailbox", mailbox.index, methods=["GET"]),
        Route("/mailbox/{name}", mailbox.show, methods=["GET"]),
        Route("/mailbox/{name}/html", mailbox.html, methods=["GET"]),
    ]


def _read(path: Path, *, headers_only: bool = False) -> EmailMessage | None:
    try:
        with path.open("rb") as file:
            raw = file.read(SIZE_MAX)
    except OSError:  # never there, or made room for newer ones
        return None
    return BytesParser(policy=policy.default).parsebytes(raw, headersonly=headers_only)


def _header(mail: EmailMessage, name: str) -> str:
    return escape(str(mail[name] or ""))


def _content(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    return str(part.get_content()) if part is not None else ""


def _linked(found: re.Match[str]) -> str:
    url = found[1]
    return f'<a href="{url}">{url}</a>'


def _missing() -> Response:
    return PlainTextResponse("Not found", status_code=404, headers=_COMMON)


def _page(title: str, body: str) -> Response:
    nonce = secrets.token_urlsafe(16)
    rules = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; frame-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><style nonce="{nonce}">{_STYLE}</style></head>'
        f"<body><h1>{escape(title)}</h1>{body}</body></html>"
    )
    return HTMLResponse(page, headers={**_COMMON, "Content-Security-Policy": rules})
