"""Addresses a merchant may have us call: which URLs are accepted, and which IP addresses are the public internet; pure.

Whoever names a URL makes this house connect to it, so that it must never lead inside (server-side request forgery).
The URL is read by the strict grammar below, never by a lenient parser; its name is resolved once and every address
of the answer is checked (plugins/outgoing.py). Source: IANA special-purpose registries (RFC 6890), PITFALLS W07.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from domain.core.errors import DomainError

URL_MAX = 2048
HOST_MAX = 253
HTTPS_PORT = 443

IP = ipaddress.IPv4Address | ipaddress.IPv6Address

# One spelling: scheme, host, port, path, query. No userinfo, no fragment, no backslash, no blank, ASCII only.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]{2,45}\]|[a-z0-9.-]{1,253})(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(?P<query>\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?",
    re.ASCII,
)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
# A last label like these is read as a number by inet_aton and many resolvers: 127.1, 0x7f.1, 2130706433.
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)", re.ASCII)
_DOTTED = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}", re.ASCII)

# Names that never lead out (RFC 6761, 6762, 7686, 8375 and what companies use at home).
_INSIDE = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "private", "onion")

_REFUSED_4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
# Everything outside of the global unicast block is refused: loopback, link-local, ULA, multicast, mapped IPv4,
# NAT64 (64:ff9b::/96), discard. Inside of it: what carries an IPv4 address or is no network anybody lives in.
_UNICAST_6 = ipaddress.IPv6Network("2000::/3")
_REFUSED_6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, ORCHID, benchmarking, protocol assignments
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)


class UrlNotAllowed(DomainError):
    """A URL that must not be called; `reason` is a short English fact."""

    code = "URL_NOT_ALLOWED"


@dataclass(frozen=True, slots=True)
class Target:
    """A URL in its one spelling. `is_literal` says that the host is an IP address."""

    url: str
    scheme: str
    host: str
    port: int
    is_literal: bool


def is_public(address: IP, *, is_open: bool = False) -> bool:
    """Whether an address is the public internet; `is_open` (the development switch) takes loopback too."""
    if is_open and address in (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1")):
        return True
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _REFUSED_4)
    if address.scope_id is not None or address not in _UNICAST_6:
        return False
    return not any(address in network for network in _REFUSED_6)


def target(text: str, *, is_open: bool = False, path: tuple[str, ...] = ("input", "url")) -> Target:
    """The one spelling of a URL that may be called, as far as the text alone can tell.

    https on port 443 only; `is_open` also takes http, other ports and `localhost`, for loopback alone. Names are
    lower-cased and written in punycode. Errors: UrlNotAllowed at `path`.
    """

    def refused(reason: str) -> UrlNotAllowed:
        return UrlNotAllowed(path=path, reason=reason)

    if len(text) > URL_MAX:
        raise refused("long")
    found = _URL.fullmatch(_ascii(text) or "")
    if found is None:
        raise refused("form")
    scheme, host = found["scheme"], found["host"]
    if re.search(r"%(?![0-9A-Fa-f]{2})", (found["path"] or "") + (found["query"] or "")):
        raise refused("form")
    literal = _literal(host)
    is_local = is_open and (host == "localhost" or (literal is not None and literal.is_loopback))
    port = int(found["port"] or (HTTPS_PORT if scheme == "https" else 80))
    if scheme != "https" and not is_local:
        raise refused("scheme")
    if (port != HTTPS_PORT and not is_local) or port > 65_535:
        raise refused("port")
    if literal is not None:
        if not is_public(literal, is_open=is_open):
            raise refused("address")
    elif not is_local and not _is_name(host):
        raise refused("host")
    authority = host if found["port"] is None else f"{host}:{found['port']}"
    url = f"{scheme}://{authority}{found['path'] or '/'}{found['query'] or ''}"
    return Target(url, scheme, host.strip("[]"), port, literal is not None)


def _ascii(text: str) -> str | None:
    """`text` with scheme and host in lower case and punycode; None when there is no such form."""
    scheme, separator, rest = text.partition("://")
    host, slash, tail = re.fullmatch(r"([^/?#]*)([/?#]?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    if not separator or not (scheme.isascii() and tail.isascii()):
        return None
    name, colon, port = host.partition(":") if not host.startswith("[") else (host, "", "")
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            return None
        if _NUMBER.fullmatch(name.rpartition(".")[2].lower()):
            return None  # digits in disguise
    return f"{scheme.lower()}://{name.lower()}{colon}{port}{slash}{tail}"


def _literal(host: str) -> IP | None:
    """The address that a host spells in its one proper form; None for anything else."""
    try:
        if host.startswith("["):
            return ipaddress.IPv6Address(host[1:-1])
        return ipaddress.IPv4Address(host) if _DOTTED.fullmatch(host) else None
    except ipaddress.AddressValueError:
        return None


def _is_name(host: str) -> bool:
    """A domain name with a dot in it, none of whose readings is a number or a place inside."""
    labels = host.split(".")
    if len(host) > HOST_MAX or len(labels) < 2 or _NUMBER.fullmatch(labels[-1]):
        return False
    if labels[-1] in _INSIDE or labels[-2:] == ["home", "arpa"]:
        return False
    return all(_LABEL.fullmatch(label) for label in labels)
