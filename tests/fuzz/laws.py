"""What every answer has to be, whoever asked and whatever was asked; and the count of what came back."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.fuzz.stage import Reply

# What a server must not tell of itself; nothing that is sent holds any of it.
INTERNAL = re.compile(
    r"Traceback|File \\?\"|\.py\b|site-packages|asyncpg|strawberry|SELECT |INSERT INTO|UPDATE \w+ SET"
    r"|/home/|/root/|/tmp/|NoneType|KeyError|AttributeError|object has no attribute"
)
_BUG = re.compile('"(?:INTERNAL_SERVER_ERROR|UNAVAILABLE)"')
RESPONSE = "application/graphql-response+json"
KINDS = {"application/json; charset=utf-8", f"{RESPONSE}; charset=utf-8"}
_CODE = re.compile(r"[A-Z][A-Z0-9_]+")
# Of a request that was understood but not run, for clients that ask for the exact type.
_REFUSED = {400, 401, 403, 429}


def broken(reply: Reply, accept: str, marks: re.Pattern[str] | None) -> str:
    """Which law an answer breaks, "" for none. `marks` are texts that are not the caller's to see."""
    return leaking(reply, marks) or _misshapen(reply, accept)


def leaking(reply: Reply, marks: re.Pattern[str] | None) -> str:
    """What an answer should not have told, "" for nothing: of a stream as well."""
    if reply.status >= 500:
        return f"status {reply.status}"
    head = [f"{name}: {value}" for name, value in reply.headers.items()]
    text = "\n".join([*head, reply.body.decode("utf-8", "replace")])
    if (told := INTERNAL.search(text) or _BUG.search(text)) is not None:
        return f"something internal ({told[0]!r})"
    if marks is not None and (seen := marks.search(text)) is not None:
        return f"another tenant's {seen[0]!r}"
    return ""


def _misshapen(reply: Reply, accept: str) -> str:
    """What is wrong with the form of an answer (GraphQL over HTTP), "" for nothing."""
    if reply.headers.get("content-type") not in KINDS:
        return f"content-type {reply.headers.get('content-type')}"
    if reply.headers.get("content-length") != str(len(reply.body)):
        return "content-length"
    try:
        body = json.loads(reply.body)
    except ValueError:
        return "no JSON"
    if not isinstance(body, dict) or not set(body) <= {"data", "errors", "extensions"}:
        return "not a GraphQL response"
    if "data" not in body and not body.get("errors"):
        return "neither data nor errors"
    if "errors" in body and not body["errors"]:
        return "errors that are empty"
    for error in body.get("errors", ()):
        if reason := _wrong_error(error):
            return reason
    wanted = {200} if "data" in body or accept != RESPONSE else _REFUSED
    if reply.status not in wanted:
        return f"status {reply.status} for {'data' if 'data' in body else 'a refusal'}"
    return ""


def _wrong_error(error: Any) -> str:
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return "an error without a message"
    if not set(error) <= {"message", "locations", "path", "extensions"}:
        return f"an error with {sorted(error)}"
    code = error.get("extensions", {}).get("code")
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        return f"an error with the code {code!r}"
    return "" if error["message"] and error["message"] != code else f"no words for {code}"


@dataclass
class Tally:
    """What came back: codes, and the root fields that gave data."""

    sent: int = 0
    answered: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)

    def add(self, root: str, reply: Reply, problems: frozenset[str]) -> bool:
        """Count one answer; whether the root field gave data. `problems` are the types that say no."""
        self.sent += 1
        body = json.loads(reply.body or b"{}")
        codes = {error["extensions"]["code"] for error in body.get("errors", ())}
        self.codes.update(codes)
        data = body.get("data")
        if not data or root not in data or data[root] is None:
            return False
        kind = data[root].get("__typename") if isinstance(data[root], dict) else None
        if kind in problems:
            self.codes[str(kind)] += 1
            return False
        self.answered += 1
        self.reached[root] += 1
        return True

    def as_json(self) -> dict[str, Any]:
        """For a report."""
        return {
            "sent": self.sent,
            "answered": self.answered,
            "codes": dict(self.codes),
            "reached": dict(self.reached),
        }
