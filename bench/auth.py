"""What it costs to know who asks: the order of thirty fields as a guest, a signed-in owner and an app.

The same order, the same answer; the callers take turns, round by round, so that whatever else the machine does is
in all of them. CPU of the API process, its SQL client included. `python -m bench.auth [--requests 400] [--rounds 15]`
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import aiohttp
import orjson
import uvloop
from joserfc import jwt
from joserfc.jwk import ECKey

from bench.buyers import first_variant
from bench.floors import PARALLEL
from bench.ground import cpu_s
from bench.house import House, house, stock
from bench.purchase import crowd
from bench.reads import ORDER
from bench.report import Report, hardware
from domain import identity, partners
from domain.core import clock, db, ids
from domain.core.audit import Actor
from domain.identity import Role
from domain.partners import Asked, AuthMethod, GrantType, Manifest

PASSWORD, ADDRESS = "correct horse battery", "127.0.0.1"
LAW = 1.10
SCOPES = ("orders:read",)
# The order of `reads`, in which only who may read the merchant's money sees the split.
QUERY = ORDER.replace(
    "fundsFlow { leg amount { amount currency } returned { amount } }",
    "shop { id name handle }",
)
assert QUERY != ORDER
MANIFEST = Manifest(
    name="Bench",
    redirect_uris=("https://app.example/cb",),
    scopes=SCOPES,
    grant_types=tuple(str(one) for one in GrantType),
    auth_method=AuthMethod.SECRET,
)


@dataclass(frozen=True)
class Caller:
    """Somebody who asks; `headers()` are those of the next request."""

    name: str
    key: str | None
    headers: Callable[[], dict[str, str]]


def proofs(key: ECKey, token: str, url: str) -> Iterator[dict[str, str]]:
    """The headers of one DPoP request after the other."""
    jwk = key.as_dict(private=False)
    head = {"alg": "ES256", "typ": "dpop+jwt", "jwk": jwk}
    ath = urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
    while True:
        told = {
            "htm": "POST",
            "htu": url,
            "iat": int(clock.now().timestamp()),
            "jti": secrets.token_hex(8),
            "nonce": partners.nonces(clock.now())[0],
            "ath": ath,
        }
        proof = jwt.encode(head, told, key, algorithms=["ES256"])
        yield {"authorization": f"DPoP {token}", "dpop": proof}


async def _app(owner: UUID, merchant_id: UUID, jkt: str | None) -> str:
    """An app of the merchant; its access token, bound to a key when one is given."""
    manifest = replace(MANIFEST, dpop_bound=jkt is not None)
    app_id, _ = await partners.register(
        merchant_id, manifest, account_id=owner, actor=Actor("merchant", ids.encode("acc", owner))
    )
    app = (await partners.apps([app_id]))[app_id]
    await partners.allow_client(
        app,
        Asked(SCOPES),
        merchant_id=merchant_id,
        account_id=owner,
        auth_at=clock.now(),
    )
    return (await partners.as_itself(app, scope=None, jkt=jkt)).access_token


async def callers(at: House, order_id: str, access_key: str) -> list[Caller]:
    """Everybody who asks; needs an open pool on the house's database."""
    merchant_id = await db.value(
        "SELECT merchant_id FROM orders WHERE id = $1", ids.decode(order_id, "ord")
    )
    owner = await identity.register("bench-owner@example.com", PASSWORD)
    await identity.grant(merchant_id, owner, Role.OWNER)
    session = (await identity.sign_in("bench-owner@example.com", PASSWORD, ADDRESS)).token
    bearer = await _app(owner, merchant_id, None)
    key = ECKey.generate_key("P-256")
    bound = await _app(owner, merchant_id, key.thumbprint())
    proven = proofs(key, bound, at.url + "/graphql")
    return [
        Caller("guest with the order's key", access_key, dict),
        Caller("owner with a session", None, lambda: {"authorization": f"Bearer {session}"}),
        Caller("app with a bearer token", None, lambda: {"authorization": f"Bearer {bearer}"}),
        Caller("app with a DPoP proof", None, lambda: next(proven)),
    ]


async def ask(
    http: aiohttp.ClientSession, at: House, order_id: str, who: Caller, count: int
) -> Any:
    """`count` requests as one caller, `PARALLEL` at a time; the last answer. Headers are made before."""
    body = orjson.dumps({"query": QUERY, "variables": {"id": order_id, "key": who.key}})
    waiting = [{"content-type": "application/json", **who.headers()} for _ in range(count)]
    answer: Any = None

    async def one_by_one() -> None:
        nonlocal answer
        while waiting:
            sent = http.post(at.url + "/graphql", data=body, headers=waiting.pop())
            async with sent as response:
                answer = await response.json()
                assert response.status == 200 and "errors" not in answer, answer

    await asyncio.gather(*(one_by_one() for _ in range(PARALLEL)))
    return answer["data"]


def spent_s(pid: int) -> float:
    """CPU seconds of a process by the scheduler's own count: nanoseconds, where `cpu_s` counts ticks."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        return sum(int((one / "schedstat").read_text().split()[0]) for one in tasks.iterdir()) / 1e9
    except OSError:
        return cpu_s(pid)


async def measure(at: House, requests: int, rounds: int, report: Report) -> None:
    """All figures of the report."""
    await db.open(at.database_url, minsize=1, maxsize=2)
    try:
        async with crowd(at.url, 1) as (buyer,):
            variant_id = await first_variant(buyer)
            await stock(ids.decode(variant_id, "var"), 5)
            trip = await buyer.buy(variant_id)
        everybody = await callers(at, trip.order_id, trip.access_key)
    finally:
        await db.close()
    api, spent = at.pids()["api-1"], {who.name: list[float]() for who in everybody}
    async with aiohttp.ClientSession() as http:
        answers = [await ask(http, at, trip.order_id, who, requests) for who in everybody]
        for number in range(rounds):
            for who in everybody[number % 4 :] + everybody[: number % 4]:
                before = spent_s(api)
                await ask(http, at, trip.order_id, who, requests)
                spent[who.name].append((spent_s(api) - before) * 1_000 / requests)
    _told(report, answers, spent)


def _told(report: Report, answers: list[Any], spent: dict[str, list[float]]) -> None:
    guest, *others = spent
    report.add(guest, median(spent[guest]), "ms CPU")
    for name, answer in zip(others, answers[1:], strict=True):
        assert answer["order"].keys() == answers[0]["order"].keys()
        report.add(name, median(spent[name]), "ms CPU")
    for name in others:
        ratio = median(a / b for a, b in zip(spent[name], spent[guest], strict=True))
        report.add(f"{name} / guest", ratio, "×", goal=LAW)


async def _main(options: argparse.Namespace) -> None:
    with house(KAMI_SANDBOX_AUTOCONFIRM_MS="1", KAMI_API_PROCESSES="1") as at:
        report = Report(
            "auth",
            "Who asks: CPU of the one API process for the order of 30 fields, by caller, in turns",
            await hardware(at.database_url),
        )
        await measure(at, options.requests, options.rounds, report)
    report.write()


def main() -> None:
    """Measure and write `bench/results/auth.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=15)
    uvloop.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
