"""A person's browser at the pages of accounts: cookies, forms, no script."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from html import unescape
from typing import Any
from urllib.parse import urlencode, urlsplit

from starlette.applications import Starlette
from starlette.types import Message

from schema.root import schema
from server import account, account_home, account_order, account_security, account_sign_in, pages
from server.graphql.door import Door
from server.graphql.trusted import Trusted, documents_only

ROUTES = (
    *account.routes(),
    *account_sign_in.routes(),
    *account_home.routes(),
    *account_order.routes(),
    *account_security.routes(),
)
ADDRESS = "203.0.113.9"
OURS = {"sec-fetch-site": "same-origin"}


def _door() -> Door:
    """The contract as production has it: who comes by cookie sends registered documents."""
    only = partial(documents_only, is_production=True)
    return Door(schema, registered=Trusted(pages.site().texts()), documents_only=only)


@dataclass(frozen=True)
class Page:
    """An answer; redirects are followed."""

    path: str
    status: int
    head: list[tuple[str, str]]
    html: str

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.head)

    @property
    def forms(self) -> list[tuple[str, dict[str, str]]]:
        """(action, the fields as they stand) of every form that works without a script."""
        found = []
        for attributes, body in re.findall(r"<form([^>]*)>(.*?)</form>", self.html, re.S):
            if "passkey" in attributes:
                continue
            action = re.search(r'action="([^"]*)"', attributes)
            assert action is not None and 'method="post"' in attributes, attributes
            fields = {}
            for one in re.findall(r"<input([^>]*)>", body):
                name = re.search(r'name="([^"]*)"', one)
                value = re.search(r'value="([^"]*)"', one)
                assert name is not None, one
                fields[name[1]] = unescape(value[1]) if value else ""
            found.append((unescape(action[1]), fields))
        return found

    def form(self, do: str | None = None) -> tuple[str, dict[str, str]]:
        """The one form, or the first that does `do`."""
        for action, fields in self.forms:
            is_out = action.endswith("/sign-out")
            if (fields.get("do") == do) if do else not is_out:
                return action, fields
        raise AssertionError(f"no form {do} in {self.path}")


@dataclass
class Browser:
    """Keeps cookies. `door` replaces the contract's own."""

    door: Door = field(default_factory=_door)
    cookies: dict[str, str] = field(default_factory=dict)
    language: str = "en"

    def __post_init__(self) -> None:
        self.app = Starlette(routes=[*ROUTES])
        self.app.state.door = self.door

    async def open(self, path: str) -> Page:
        """A page by its address."""
        return await self._follow("GET", path)

    async def submit(self, page: Page, do: str | None = None, **entered: str) -> Page:
        """Send a form of a page with what is typed in."""
        action, fields = page.form(do)
        return await self.post(action, {**fields, **entered})

    async def post(self, path: str, fields: dict[str, str], **headers: str) -> Page:
        """Send fields; without `headers` as from a page of ours."""
        given = {name.replace("_", "-"): text for name, text in headers.items()} or OURS
        return await self._follow("POST", path, urlencode(fields).encode(), given)

    async def _follow(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Page:
        page = await self._send(method, path, body, headers or {})
        for _ in range(5):
            if page.status != 303:
                return page
            page = await self._send("GET", page.headers["location"], b"", {})
        raise AssertionError("redirected for ever")

    async def _send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Page:
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def take(message: Message) -> None:
            sent.append(message)

        parts = urlsplit(path)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        given = {"host": "127.0.0.1:8000", "accept-language": self.language, **headers}
        if cookie:
            given["cookie"] = cookie
        if method == "POST":
            given.setdefault("content-type", "application/x-www-form-urlencoded")
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "root_path": "",
            "query_string": parts.query.encode(),
            "headers": [(name.encode(), text.encode()) for name, text in given.items()],
            "client": (ADDRESS, 1),
            "server": ("127.0.0.1", 8000),
        }
        await self.app(scope, receive, take)
        head = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
        for name, value in head:
            if name == "set-cookie":
                key, _, rest = value.partition("=")
                kept = rest.partition(";")[0]
                self.cookies.pop(key, None)
                if kept:
                    self.cookies[key] = kept
        text = b"".join(part.get("body", b"") for part in sent[1:]).decode()
        return Page(path, sent[0]["status"], head, text)
