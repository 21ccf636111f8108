"""Rules of webhooks: signatures by published vectors, the schedule, verdicts, payloads, what is watched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import orjson
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from domain import orders
from domain.core import ids
from domain.orders.rules import EventKind, OrderStatus
from domain.webhooks import rules, signing
from domain.webhooks.rules import JITTER, STATE_AFTER, TRIES_MAX, WAITS_S, Terms, Verdict
from domain.webhooks.signing import Keys

# RFC 8032 section 7.1, TEST 1 and TEST 2: seed, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
]
AT = datetime(2026, 11, 22, 8, 30, 0, 1500, tzinfo=UTC)


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_ed25519_by_the_vectors_of_rfc_8032(
    seed: str, public: str, message: str, signature: str
) -> None:
    private = signing._private(bytes.fromhex(seed))
    keys = Keys(bytes(32), bytes.fromhex(seed))

    assert private.sign(bytes.fromhex(message)).hex() == signature
    assert base64.b64decode(keys.public_key.removeprefix("whpk_")).hex() == public


def test_a_signature_is_over_id_timestamp_and_body_with_every_key() -> None:
    new, old = Keys(b"n" * 32, bytes.fromhex(RFC_8032[0][0])), Keys(b"o" * 32, b"s" * 32)

    header = signing.signatures([new, old], "evt_1", 1_614_265_330, b'{"a":1}')

    parts = header.split(" ")
    assert [part.split(",")[0] for part in parts] == ["v1", "v1a", "v1", "v1a"]
    # Worked out with openssl: printf 'evt_1.1614265330.{"a":1}' | openssl dgst -sha256 -hmac nnn… -binary | base64
    assert parts[0] == "v1,EH5PoQwbpVT7IxaznFnRkQWLX5ji5w6njTm2+91lPDA="
    for keys, part in ((new, parts[1]), (old, parts[3])):
        key = Ed25519PublicKey.from_public_bytes(
            base64.b64decode(keys.public_key.removeprefix("whpk_"))
        )
        signature = base64.b64decode(part.removeprefix("v1a,"))
        key.verify(signature, b'evt_1.1614265330.{"a":1}')
        with pytest.raises(InvalidSignature):
            key.verify(signature, b'evt_1.1614265331.{"a":1}')


def test_keys_are_never_empty_and_survive_packing() -> None:
    keys = Keys.new()

    assert Keys.of(keys.packed) == keys
    assert len(base64.b64decode(keys.shown_secret.removeprefix("whsec_"))) == 32
    assert Keys.new() != keys
    for secret, seed in ((b"", b"s" * 32), (b"s" * 32, b"")):
        with pytest.raises(AssertionError):
            Keys(secret, seed)


def test_the_schedule_is_that_of_the_field_and_takes_three_days() -> None:
    assert WAITS_S == (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
    assert timedelta(days=3) < timedelta(seconds=sum(WAITS_S)) < timedelta(days=3.2)


@given(
    tries=st.integers(1, TRIES_MAX - 1),
    random=st.floats(0, 1, exclude_max=True),
    wish=st.one_of(st.none(), st.floats(0, 10**9)),
)
def test_a_wait_is_within_its_jitter_and_never_before_what_was_asked(
    tries: int, random: float, wish: float | None
) -> None:
    wait_s = rules.wait_s(tries, random, wish)

    assert wait_s >= WAITS_S[tries] * (1 - JITTER)
    assert wait_s <= max(WAITS_S[tries] * (1 + JITTER), rules.RETRY_AFTER_MAX_S)
    if wish is not None:
        assert wait_s >= min(wish, rules.RETRY_AFTER_MAX_S)


@given(code=st.one_of(st.none(), st.integers(100, 599)), tries=st.integers(1, TRIES_MAX))
def test_h24_2xx_alone_is_delivered_and_410_alone_ends_at_once(
    code: int | None, tries: int
) -> None:
    verdict = rules.verdict(code, tries)

    assert (verdict is Verdict.DELIVERED) == (code is not None and code // 100 == 2)
    assert (verdict is Verdict.GONE) == (code == 410)
    if verdict in (Verdict.LATER, Verdict.DEAD):
        assert (verdict is Verdict.DEAD) == (tries == TRIES_MAX)


def test_an_id_is_that_of_the_event_at_the_endpoint() -> None:
    one, two, order = ids.uuid7(), ids.uuid7(), ids.uuid7()
    seen = {rules.message_id(at, order, number) for at in (one, two) for number in range(1, 50)}

    assert len(seen) == 98
    assert rules.message_id(one, order, 1) in seen
    assert ids.decode(rules.message_id(one, order, 1), "evt")
    assert rules.message_id(UUID(int=1), UUID(int=2), 3) == "evt_" + ids.base32(
        int.from_bytes(_sha(UUID(int=1).bytes + UUID(int=2).bytes + bytes([0, 0, 0, 3])), "big")
    )


def _sha(seed: bytes) -> bytes:
    return hashlib.sha256(b"kami.webhook\0" + seed).digest()[:16]


def test_c19_a_payload_always_ends_with_what_orders_it() -> None:
    body = rules.payload(
        "order.paid", AT, {"kind": "PAID", "sequence": "mine"}, sequence=4, cursor="c", state="paid"
    )

    assert orjson.loads(body) == {
        "type": "order.paid",
        "timestamp": "2026-11-22T08:30:00.001500Z",
        "data": {"kind": "PAID", "sequence": 4, "state": "paid", "cursor": "c"},
    }


@pytest.mark.parametrize(
    ("triggers", "before", "after", "changed"),
    [
        (["a"], {"a": 1}, {"a": 1, "b": 2}, False),
        (["a"], {"a": 1}, {"a": 2}, True),
        (["a"], {"a": 1}, {"a": "1"}, True),
        (["a.b"], {"a": {"b": 1, "c": 1}}, {"a": {"b": 1, "c": 2}}, False),
        (["a.b"], {"a": [{"b": 1}]}, {"a": [{"b": 1}, {"b": 1}]}, True),
        (["a.b"], {"a": None}, {"a": {"b": 1}}, True),
        (["a.b"], {"a": None}, {"a": {"b": None}}, False),
        (["a", "b"], {"a": 1, "b": 1}, {"a": 1, "b": 2}, True),
        (["a"], {"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, False),
    ],
)
def test_what_is_watched_changes_with_its_values_alone(
    triggers: Sequence[str], before: dict[str, Any], after: dict[str, Any], changed: bool
) -> None:
    assert (rules.watched(before, triggers) != rules.watched(after, triggers)) is changed


def test_the_states_are_those_of_orders() -> None:
    """The two nouns do not know each other: their words are compared here."""
    assert set(STATE_AFTER) <= {str(kind) for kind in EventKind}
    assert set(STATE_AFTER.values()) == {str(status) for status in OrderStatus} - {"disputed"}
    assert {kind for kind in EventKind if kind.startswith("order.")} == set(STATE_AFTER)
    assert orders.EventKind is EventKind


def test_all_faults_of_terms_are_told_at_once() -> None:
    terms = Terms(
        "http://x",
        kinds=("a", "a"),
        selection="{" * 5_000,
        triggers=("a b", *(f"t{number}" for number in range(20))),
        note="\u202e",
    )

    assert [(fault.code, fault.path[1:]) for fault in terms.faults(is_open=False)] == [
        ("URL_NOT_ALLOWED", ("url",)),
        ("FIELD_INVALID", ("kinds",)),
        ("FIELD_INVALID", ("selection",)),
        ("FIELD_INVALID", ("triggers",)),
        ("FIELD_INVALID", ("triggers", "0")),
        ("FIELD_INVALID", ("note",)),
    ]
    assert Terms("https://example.com/").faults(is_open=False) == []


def test_waits_grow() -> None:
    assert all(before < after for before, after in pairwise(WAITS_S))
