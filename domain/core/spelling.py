"""How the text of a setting must be spelt, and what to say when it is not: pure, one sentence each."""

from __future__ import annotations

import ipaddress
import json
import re
from decimal import Decimal, InvalidOperation
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit

MAKE_ONE = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
SUPPLIER_SECRET_MIN = 24
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?", re.ASCII)
_PLAINLY = {
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
}


def rates(text: str) -> dict[str, Decimal]:
    """`{"USD": "1.08"}`: units for one euro. Errors: ValueError."""
    try:
        found = {name: Decimal(rate) for name, rate in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError, InvalidOperation):
        found = {}
    if not found or not all(rate.is_finite() and rate > 0 for rate in found.values()):
        raise ValueError('must look like {"USD": "1.08"}: units for one euro')
    return found


def suppliers(text: str) -> dict[str, Any]:
    """Suppliers by name, each with `url` and `secret`. Errors: ValueError."""
    try:
        found: dict[str, Any] = json.loads(text)
        is_whole = all(
            is_web(place["url"]) and len(place["secret"].encode()) >= SUPPLIER_SECRET_MIN
            for place in found.values()
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        is_whole = False
    if not is_whole:
        raise ValueError(
            'must look like {"acme": {"url": "https://cards.acme.example", "secret": "…"}}'
            f" with secrets of at least {SUPPLIER_SECRET_MIN} bytes; make one with: {MAKE_ONE}"
        )
    return found


def proxies(text: str | list[str]) -> list[str]:
    """Addresses and networks, comma separated. Errors: ValueError."""
    found = _listed(text)
    for one in found:
        if one == "*":
            raise ValueError(
                "'*' trusts an address that anyone can forge; list the proxies' addresses"
            )
        ipaddress.ip_network(one, strict=False)
    return found


def hosts(text: str | list[str]) -> list[str]:
    """Host names, comma separated, without scheme and port. Errors: ValueError."""
    found = _listed(text)
    for name in found:
        if _HOST.fullmatch(name) is None:
            raise ValueError("must be names like shop.example,api.internal: no scheme, port or *")
    return [name.lower() for name in found]


def origins(text: str | list[str]) -> list[str]:
    """Origins of pages, comma separated, as browsers spell them. Errors: ValueError."""
    found = _listed(text)
    for origin in found:
        parts = urlsplit(origin)
        if not is_web(origin) or origin != f"{parts.scheme}://{parts.netloc}".lower():
            raise ValueError("must be origins like https://shop.example: no path, no *")
    return found


def _listed(given: str | list[str]) -> list[str]:
    parts = given.split(",") if isinstance(given, str) else given
    return [part.strip() for part in parts if part.strip()]


def is_web(url: str) -> bool:
    """Whether `url` is an address of the web."""
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def web(url: str | None) -> str | None:
    """An http(s) address, or nothing. Errors: ValueError."""
    if url and not is_web(url):
        raise ValueError("must be an address that starts with https:// or http://")
    return url


def smtp(url: str | None) -> str | None:
    """A mail server, or nothing. Errors: ValueError."""
    parts = urlsplit(url or "")
    if url and (parts.scheme not in ("smtp", "smtps") or not parts.hostname):
        raise ValueError("must look like smtp://user:password@host:587 or smtps://…:465")
    return url


def sender(text: str) -> str:
    """Whom mails come from. Errors: ValueError."""
    name, _, domain = parseaddr(text)[1].rpartition("@")
    if not name or not domain:
        raise ValueError("must look like: Kami <no-reply@shop.example>")
    return text


def sentence(problem: Any) -> str:
    """One of pydantic's errors, with the setting's name and in plain words."""
    name = (
        "KAMI_" + "_".join(str(part) for part in problem["loc"][:1]).upper()
        if problem["loc"]
        else "KAMI"
    )
    if problem["type"] == "missing":
        return f"{name} is missing. Make one with: {MAKE_ONE}"
    text = str(problem["msg"]).removeprefix("Value error, ")
    return f"{name}: {_PLAINLY.get(problem['type'], text).replace('Input should be', 'must be')}"
