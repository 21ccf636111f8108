"""Proofs that arrive together: each counts once, and one statement takes all of a moment (RFC 9449, 11.1)."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from domain import partners
from domain.core import db as core
from domain.partners import OAuthRefused
from domain.partners.proofs import Proven, key_of

FAR = 4_000_000_000


async def taken(proof: Proven) -> str:
    try:
        await partners.prove_once("dpop", proof)
    except OAuthRefused as refusal:
        return refusal.error
    return "taken"


async def test_h19_the_same_proof_sent_twenty_times_at_once_counts_once(db: None) -> None:
    proofs = [Proven("key", f"proof-{number % 4}", FAR) for number in range(80)]

    said = await asyncio.gather(*map(taken, proofs))

    assert Counter(said) == {"taken": 4, "invalid_dpop_proof": 76}
    assert await core.value("SELECT count(*) FROM app_proof") == 4
    assert [await taken(one) for one in proofs[:4]] == ["invalid_dpop_proof"] * 4


async def test_proofs_of_one_moment_share_their_statement(db: None) -> None:
    await taken(Proven("key", "warm", FAR))

    async with core.statements() as sent:
        said = await asyncio.gather(*(taken(Proven("key", f"{n}", FAR)) for n in range(40)))

    assert said == ["taken"] * 40
    assert len(sent) == 1


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "EC", "crv": "P-256", "x": ["a"], "y": {"b": 1}},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": "AA"},
        {"kty": "OKP", "crv": "Ed25519", "x": None},
        {"kty": "OKP", "crv": "Ed25519", "x": "é"},
        {"kty": ["EC"], "crv": {}},
    ],
)
def test_a_key_that_is_none_is_refused_each_time(jwk: dict[str, object]) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="key"):
            key_of(jwk)
