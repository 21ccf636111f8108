"""What holds for apps without asking anybody, as tables: addresses, PKCE, scopes, details, reuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.core import ids
from domain.partners import OAuthRefused, details, rules
from domain.partners.rules import Turn

NOW = datetime(2026, 11, 27, tzinfo=UTC)
MERCHANT = ids.encode("mer", ids.uuid7())


@pytest.mark.parametrize(
    ("uri", "is_good"),
    [
        ("https://app.example/cb", True),
        ("https://app.example:8443/cb?x=1", True),
        ("http://127.0.0.1:53682/cb", True),
        ("http://[::1]/cb", True),
        ("com.example.app:/cb", True),
        ("http://localhost/cb", False),
        ("http://app.example/cb", False),
        ("https://app.example/cb#x", False),
        ("https://app.example/cb#", False),
        ("https://me@app.example/cb", False),
        ("https://app.example/a/../b", False),
        ("https://app.example/*", False),
        ("https:///cb", False),
        ("https://app.example:x/cb", False),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("app:/cb", False),
        ("com.example.app://evil.example/cb", False),
        ("https://app.example/\r\nSet-Cookie:x", False),
        ("https://app.exämple/cb", False),
        ("https://app.example/" + "x" * 500, False),
        ("", False),
    ],
)
def test_h15_which_addresses_may_be_registered(uri: str, is_good: bool) -> None:
    assert rules.is_redirect(uri) is is_good


@given(st.text(alphabet=rules._USER_ALPHABET + "-", min_size=1, max_size=20))
def test_h15_only_the_registered_address_itself_matches(tail: str) -> None:
    registered = ["https://app.example/cb"]

    assert rules.redirect_of("https://app.example/cb", registered) == registered[0]
    for changed in (registered[0] + tail, tail + registered[0]):
        with pytest.raises(OAuthRefused):
            rules.redirect_of(changed, registered)


def test_one_registered_address_may_be_left_out_two_may_not() -> None:
    assert rules.redirect_of(None, ["https://a.example/"]) == "https://a.example/"
    with pytest.raises(OAuthRefused):
        rules.redirect_of(None, ["https://a.example/", "https://b.example/"])


def test_h16_pkce_is_the_rfcs_own_example() -> None:
    """RFC 7636, appendix B."""
    challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

    assert rules.pkce_matches(challenge, verifier)
    assert not rules.pkce_matches(challenge, challenge)
    assert not rules.pkce_matches(challenge, verifier[:-1])
    assert not rules.pkce_matches(challenge, verifier[:-1] + "é")
    assert not rules.pkce_matches(verifier, verifier)  # plain


@pytest.mark.parametrize(
    ("age_s", "has_next", "is_next_used", "meant"),
    [
        (None, False, False, Turn.GOOD),
        (0, True, False, Turn.AGAIN),
        (10, True, False, Turn.AGAIN),
        (11, True, False, Turn.REUSED),
        (1, True, True, Turn.REUSED),
        (1, False, False, Turn.REUSED),  # put out of use by another try
    ],
)
def test_h18_m28_what_a_refresh_token_means(
    age_s: int | None, has_next: bool, is_next_used: bool, meant: Turn
) -> None:
    used_at = None if age_s is None else NOW - timedelta(seconds=age_s)

    found = rules.turn(used_at=used_at, has_next=has_next, is_next_used=is_next_used, now=NOW)

    assert found is meant


@pytest.mark.parametrize(
    ("text", "allowed", "found"),
    [
        (None, {"b", "a"}, ("a", "b")),
        ("b", {"b", "a"}, ("b",)),
        ("b a b", {"b", "a"}, ("a", "b")),
        ("c", {"b", "a"}, None),
        ("a  b", {"b", "a"}, None),
        (" ", {"b", "a"}, None),
        (None, set(), None),
    ],
)
def test_h20_scopes_are_within_what_is_allowed(
    text: str | None, allowed: set[str], found: tuple[str, ...] | None
) -> None:
    if found is None:
        with pytest.raises(OAuthRefused):
            rules.scopes_of(text, allowed)
    else:
        assert rules.scopes_of(text, allowed) == found


def test_user_codes_are_read_as_people_type_them() -> None:
    code = rules.user_code()

    assert rules.user_key(f" {code.lower().replace('-', ' ')} ") == code.replace("-", "")
    assert rules.user_key("aeiou-0189") == ""


def limit(**changed: Any) -> dict[str, Any]:
    return {"scope": "refunds:write", "amount": "5.00", "currency": "USD", **changed}


def one(**changed: Any) -> list[dict[str, Any]]:
    return [{"type": "kami_merchant", "merchant": MERCHANT, **changed}]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        [],
        "text",
        [1],
        [*one(), *one()],
        one(type="payment_initiation"),
        one(more=1),
        one(merchant="mer_x"),
        one(merchant=7),
        one(actions=[]),
        one(actions="orders:read"),
        one(actions=[1]),
        one(limits=[]),
        one(limits=[limit(scope="orders:read")]),
        one(limits=[limit(amount="5.001")]),
        one(limits=[limit(amount="-5.00")]),
        one(limits=[limit(amount=5)]),
        one(limits=[limit(currency="XXX")]),
        one(limits=[limit(per="day")]),
        one(limits=[limit(), limit()]),
        one(expires_at="2026-11-26T00:00:00Z"),
        one(expires_at="2027-01-01T00:00:00"),
        one(expires_at=7),
    ],
)
def test_what_is_not_understood_is_refused_and_never_left_out(wrong: Any) -> None:
    with pytest.raises(OAuthRefused) as refused:
        details.read(orjson.dumps(wrong).decode(), now=NOW)

    assert refused.value.error == "invalid_authorization_details"


def test_details_are_written_as_they_were_read() -> None:
    given_ = one(
        actions=["orders:read", "refunds:write"],
        limits=[limit()],
        expires_at="2027-01-01T00:00:00Z",
    )

    read = details.read(orjson.dumps(given_).decode(), now=NOW)

    assert read.merchant_id is not None
    assert read.actions is not None
    assert details.write(read.merchant_id, read.actions, read.limits, read.expires_at) == given_
