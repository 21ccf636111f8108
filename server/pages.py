"""The pages buyers see: storefront `/s/{shop}`, payment `/pay/{orderId}`, tracking `/orders/{orderId}`.

A page is a shell; what it shows it asks GraphQL for, like any other client, with the documents of
`web/documents`. Access keys travel behind `#`, which no server, log or referrer sees. Files of `web/`
are read when the process starts and kept by whoever loaded them: their address has their hash.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

import asyncpg
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

import i18n
from domain import merchants
from domain.core import db, ids
from domain.core.errors import DomainError
from domain.core.settings import Settings
from server.graphql.persisted import digest

FOLDER = Path(__file__).resolve().parents[1] / "web"
DEMO = "/s/demo"
HANDLE_MAX = 40
_TYPES = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
}
MARK = re.compile(r"\{\{(\w+)\}\}")
_FOREVER = "public, max-age=31536000, immutable"
LOST = (*db.LOST, DomainError, asyncpg.PostgresError)


@dataclass(frozen=True, slots=True)
class File:
    """One file as it is sent: plain and packed."""

    kind: str
    plain: bytes
    packed: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Site:
    """Everything of `web/` in memory. `version` is the hash of all files, `documents` name → text."""

    version: str
    files: Mapping[str, File]
    documents: Mapping[str, str]
    words: Mapping[str, Mapping[str, str]]
    page: str
    account: str

    def document_ids(self) -> dict[str, str]:
        """What a page sends as `documentId`, by name: its path below `web/documents`."""
        return {name: digest(text) for name, text in self.documents.items()}

    def texts(self) -> dict[str, str]:
        """The same for the door: id → text."""
        return {digest(text): text for text in self.documents.values()}


@cache
def site(folder: Path = FOLDER) -> Site:
    """Read `web/` once. Only what is found here can ever be asked for, whatever a path says."""
    files: dict[str, File] = {}
    words: dict[str, dict[str, str]] = {}
    for name in ("css", "js", "i18n"):
        for path in sorted((folder / name).iterdir()):
            kind = _TYPES.get(path.suffix[1:])
            if kind is None:
                continue
            plain = path.read_bytes()
            files[f"{name}/{path.name}"] = File(
                kind, plain, gzip.compress(plain, mtime=0), f'"{_hash(plain)}"'
            )
            if name == "i18n":
                words[path.stem] = json.loads(plain)
    shelf = folder / "documents"
    documents = {
        path.relative_to(shelf).with_suffix("").as_posix(): path.read_text("utf-8")
        for path in sorted(shelf.rglob("*.graphql"))
    }
    version = _hash(*(key.encode() + file.plain for key, file in files.items()))
    shells = [(folder / f"{name}.html").read_text("utf-8") for name in ("page", "account")]
    return Site(version, files, documents, words, *shells)


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]


def routes(found: Settings) -> list[BaseRoute]:
    """The pages and their files; `/` leads to the demo shop in development."""
    made: list[BaseRoute] = [
        Route("/s/{shop}", _shop, methods=["GET"]),
        Route("/pay/{order}", _pay, methods=["GET"]),
        Route("/orders/{order}", _order, methods=["GET"]),
        Route("/assets/{version}/{name:path}", _asset, methods=["GET"]),
    ]
    if found.in_development:
        made.append(Route("/", _home, methods=["GET"]))
    return made


async def _home(request: Request) -> Response:
    return RedirectResponse(DEMO, 307, headers={"Cache-Control": "no-store"})


async def _shop(request: Request) -> Response:
    handle, language = request.path_params["shop"], language_of(request)
    if not (0 < len(handle) <= HANDLE_MAX and handle.isascii() and handle.isprintable()):
        return _missing(language, "shop")
    try:
        shop = await merchants.shop_by_handle(handle)
    except LOST:
        # The page says it in the visitor's words and tries again.
        return _page("shop", language, site().words[language]["shop.title"], status=503)
    if shop is None:
        return _missing(language, "shop")
    return _page("shop", language, shop.name(language), robots="index")


async def _pay(request: Request) -> Response:
    return _of_order(request, "pay")


async def _order(request: Request) -> Response:
    return _of_order(request, "order")


def _of_order(request: Request, name: str) -> Response:
    """The shell of an order's page: the same whether the order exists, so that nothing can be probed."""
    language = language_of(request)
    try:
        ids.decode(request.path_params["order"], "ord")
    except ids.IdInvalid:
        return _missing(language, "order")
    title = site().words[language][f"{name}.title"]
    return _page(name, language, title, plain=f"/account/orders/{request.path_params['order']}")


def _missing(language: str, what: str) -> Response:
    title = site().words[language][f"missing.{what}"]
    return _page("missing", language, title, status=404)


def language_of(request: Request) -> str:
    """The visitor's language, of those that there are words in."""
    return i18n.negotiate(request.headers.get("accept-language")) or i18n.LANGUAGES[0]


def _page(
    name: str,
    language: str,
    title: str,
    *,
    status: int = 200,
    robots: str = "noindex, nofollow",
    plain: str = "",
) -> Response:
    """The shell with a fresh nonce. Nothing but our own files runs, and no other site may frame it.

    `plain` is where somebody without scripts sees the same.
    """
    found, nonce = site(), secrets.token_urlsafe(16)
    words = found.words[language]
    facts = {
        "version": found.version,
        "languages": [one for one in i18n.LANGUAGES if one in found.words],
        # Those in folders are of other pages.
        "documents": {name: one for name, one in found.document_ids().items() if "/" not in name},
    }
    values = {
        "language": escape(language),
        "title": escape(title),
        "robots": robots,
        "base": f"/assets/{found.version}",
        "nonce": nonce,
        "page": name,
        "noscript": escape(words["noscript"]),
        "elsewhere": plain and f' <a href="{escape(plain)}">{escape(words["noscript.order"])}</a>',
        "missing": escape(words["missing.hint"]) if name == "missing" else "",
        # `<` could end the script element; JSON may write it as an escape.
        "facts": json.dumps(facts, separators=(",", ":")).replace("<", "\\u003c"),
    }
    # One pass: a mark inside a shop's name stays text.
    html = MARK.sub(lambda mark: values[mark[1]], found.page)
    rules = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}';"
        " connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return HTMLResponse(html, status_code=status, headers=headers(rules, robots))


def headers(rules: str, robots: str = "noindex, nofollow") -> dict[str, str]:
    """What every page is sent with; `rules` are its Content-Security-Policy."""
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": rules,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Robots-Tag": robots,
    }


async def _asset(request: Request) -> Response:
    """A file of `web/`: for ever under its own version, checked each time under any other."""
    found = site()
    file = found.files.get(request.path_params["name"])
    if file is None:
        return Response(status_code=404, headers={"Cache-Control": "no-store"})
    is_current = request.path_params["version"] == found.version
    headers = {
        "Cache-Control": _FOREVER if is_current else "no-cache",
        "ETag": file.etag,
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    body = file.plain
    if "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["Content-Encoding"] = file.packed, "gzip"
    return Response(body, headers=headers, media_type=file.kind)
