"""The provider's side of the wire: keys, signatures, JSON shapes and exact amounts.

The format is docs/guides/sandbox.md. Like a gateway of somebody else, this side shares no code with
Kami's adapter: a mistake made in one half cannot hide in the other.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

AGE_MAX_S = 300
MINOR_MAX = 10**15
KEYS_MAX = 10_000

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_SECONDS = re.compile(r"[1-9][0-9]{0,11}", re.ASCII)
_AMOUNT = re.compile(r"(0|[1-9][0-9]{0,15})(?:\.([0-9]{1,4}))?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_URL = re.compile(r"https?://[A-Za-z0-9.\[\]:_-]{1,255}(?:[/?#][!-~]*)?", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z", re.ASCII)

# ISO 4217: the exponents that are not 2.
_DIGITS = {
    **dict.fromkeys(
        [
            "BIF",
            "CLP",
            "DJF",
            "GNF",
            "ISK",
            "JPY",
            "KMF",
            "KRW",
            "PYG",
            "RWF",
            "UGX",
            "VND",
            "VUV",
            "XAF",
            "XOF",
            "XPF",
        ],
        0,
    ),
    **dict.fromkeys(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"], 3),
}


class Refusal(Exception):
    """An answer of 4xx: `code` is the contract, `message` is for people."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message

    def body(self) -> bytes:
        """{"error": {"code", "message"}}."""
        return orjson.dumps({"error": {"code": self.code, "message": self.message}})


class Keys:
    """One key per direction and account: from the account's own secret, else derived from the shared one.

    An account that was opened has a secret of its own, and for a while the next one beside it: whichever it signs a
    request with is the one it is answered and called back with from then on.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 24:
            raise ValueError("KAMI_SANDBOX_SECRET is missing or too short")
        self._secret = secret
        self._own: dict[str, bytes] = {}
        self._known: dict[tuple[str, str], bytes] = {}

    def use(self, account: str, secret: bytes) -> None:
        """From now on the account has this secret of its own."""
        self._own[account] = secret
        for direction in ("request", "response", "callback"):
            self._known.pop((direction, account), None)

    def sign(
        self,
        direction: str,
        account: str,
        parts: tuple[str, ...],
        body: bytes,
        secret: bytes | None = None,
    ) -> str:
        """`v1=` and the hex HMAC-SHA256 over base string and raw body; `secret` in the place of the account's."""
        base = "\n".join(("v1", direction, account, *parts, "")).encode()
        key = None if secret else self._known.get((direction, account))
        if key is None:
            label = f"kami-sandbox/v1/{direction}/{account}".encode()
            key = hmac.digest(secret or self._own.get(account, self._secret), label, "sha256")
            if secret is None and len(self._known) < KEYS_MAX:
                self._known[direction, account] = key
        return "v1=" + hmac.digest(key, base + body, "sha256").hex()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, proved: `signature` is what our answer is bound to, `secret` what it was made with if not the account's
    own."""

    account: str
    signature: str
    secret: bytes | None = field(default=None, repr=False)


def prove(
    keys: Keys,
    headers: Mapping[str, str],
    method: str,
    path: str,
    body: bytes,
    now: float,
    secret: bytes | None = None,
) -> Caller:
    """The account that signed this request, with `secret` instead of its own. Errors: Refusal 401, never signed."""
    account = headers.get("sandbox-account", "")
    timestamp = headers.get("sandbox-timestamp", "")
    nonce = headers.get("sandbox-nonce", "")
    claimed = headers.get("sandbox-signature", "")
    if not (NAME.fullmatch(account) and NAME.fullmatch(nonce) and _SECONDS.fullmatch(timestamp)):
        raise Refusal(401, "unauthenticated", "account, nonce or timestamp is missing")
    right = keys.sign("request", account, (timestamp, nonce, method, path), body, secret)
    if not hmac.compare_digest(right.encode(), claimed.encode("latin-1", "replace")):
        raise Refusal(401, "unauthenticated", "the signature does not match")
    if abs(now - int(timestamp)) > AGE_MAX_S:
        raise Refusal(401, "unauthenticated", "the timestamp is more than 300 s off")
    return Caller(account, claimed, secret)


def answer_headers(keys: Keys, caller: Caller, status: int, body: bytes) -> dict[str, str]:
    """Headers that bind an answer to the request it belongs to."""
    parts = (caller.signature, str(status))
    return {"sandbox-signature": keys.sign("response", caller.account, parts, body, caller.secret)}


def callback_headers(
    keys: Keys, account: str, event_id: str, body: bytes, now: float
) -> dict[str, str]:
    """Headers of one delivery; the timestamp is of this try, the event id stays."""
    timestamp = str(int(now))
    return {
        "Content-Type": "application/json",
        "Sandbox-Account": account,
        "Sandbox-Timestamp": timestamp,
        "Sandbox-Event-Id": event_id,
        "Sandbox-Signature": keys.sign("callback", account, (timestamp, event_id), body),
    }


def fields(body: bytes) -> dict[str, Any]:
    """The JSON object of a request. Errors: Refusal 400."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal(400, "invalid_request", "the body is not JSON") from None
    if not isinstance(value, dict):
        raise Refusal(400, "invalid_request", "the body is not a JSON object")
    return value


def text(asked: Mapping[str, Any], key: str, is_right: Callable[[str], object]) -> str:
    """The text field `key`. Errors: Refusal 400."""
    value = asked.get(key)
    if not isinstance(value, str) or not is_right(value):
        raise Refusal(400, "invalid_request", f"{key} is missing or wrong")
    return value


def is_url(value: str) -> bool:
    """http or https, no user, no blanks, at most 2000 characters."""
    return len(value) <= 2000 and _URL.fullmatch(value) is not None


def is_words(value: str) -> bool:
    """1 to 100 printable characters."""
    return 0 < len(value) <= 100 and value.isprintable()


def digits(currency: str) -> int:
    """How many minor digits `currency` has."""
    return _DIGITS.get(currency, 2)


def minor_units(amount: object) -> tuple[int, str]:
    """({"value": "19.90", "currency": "USD"}) to (1990, "USD"). Errors: Refusal 400."""
    if not isinstance(amount, dict):
        raise Refusal(400, "invalid_request", "amount is missing")
    currency = text(amount, "currency", _CURRENCY.fullmatch)
    found = _AMOUNT.fullmatch(text(amount, "value", bool))
    if found is None or len(found.group(2) or "") != digits(currency):
        raise Refusal(400, "invalid_request", "amount.value is not an exact decimal")
    minor = int(found.group(1) + (found.group(2) or ""))
    if not 0 < minor <= MINOR_MAX:
        raise Refusal(400, "amount_out_of_range", "amount.value is zero or too large")
    return minor, currency


def amount_text(minor: int, currency: str) -> str:
    """1990 USD to "19.90", 1200 JPY to "1200"."""
    places = digits(currency)
    if not places:
        return str(minor)
    whole, part = divmod(minor, 10**places)
    return f"{whole}.{part:0{places}d}"


def amount(minor: int, currency: str) -> dict[str, str]:
    """The amount as it travels."""
    return {"value": amount_text(minor, currency), "currency": currency}


def seconds(asked: Mapping[str, Any], key: str) -> float:
    """An instant in UTC to Unix seconds. Errors: Refusal 400."""
    value = text(asked, key, _INSTANT.fullmatch)
    try:
        return datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError):
        raise Refusal(400, "invalid_request", f"{key} is not a date") from None


def instant(at: float) -> str:
    """Unix seconds to "2026-11-22T21:30:00.125Z"."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
