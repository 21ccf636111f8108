"""The laws of every payment provider's callbacks: what proves nothing is refused."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from domain.core import clock
from domain.payments.ports import CallbackRefused
from tests.plugins.worlds import PROOFS, Proofs, encode

ALMOST_RIGHT: dict[str, Callable[[str], str]] = {
    "upper case": lambda right: right.upper(),
    "blank after": lambda right: right + " ",
    "blank before": lambda right: " " + right,
    "shorter": lambda right: right[:-1],
    "longer": lambda right: right + "0",
    "other scheme": lambda right: right.replace("v1=", "v2="),
    "md5": lambda right: right.replace("v1=", "md5="),
    "rsa": lambda right: right.replace("v1=", "rsa="),
    "no scheme": lambda right: right.removeprefix("v1="),
    "zero": lambda right: "0",
    "zero with scheme": lambda right: "v1=0",
    "0e": lambda right: "0e462097431906509019562988736854",
    "not ascii": lambda right: "é\udc80" * 20,
    "probe": lambda right: "WECHATPAY/SIGNTEST/" + right,
    "twice": lambda right: f"{right}, {right}",
}
AMBIGUOUS: dict[str, Callable[[bytes], bytes]] = {
    "BOM": lambda body: b"\xef\xbb\xbf" + body,
    "duplicate key": lambda body: body[:-1] + b', "status": "captured"}',
    "duplicate key inside": lambda body: body.replace(b'"value":', b'"value": "1.00", "value":'),
    "NaN": lambda body: body[:-1] + b', "more": NaN}',
    "1e400": lambda body: body[:-1] + b', "more": 1e400}',
    "5000 digits": lambda body: body[:-1] + b', "more": ' + b"9" * 5000 + b"}",
    "deep": lambda body: body[:-1] + b', "more": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "two objects": lambda body: body + b"{}",
    "list": lambda body: b"[" + body + b"]",
    "null": lambda body: b"null",
    "utf-16": lambda body: body.decode().encode("utf-16"),
    "not utf-8": lambda body: body[:-1] + b', "more": "\xe9"}',
    "form": lambda body: b"status=captured&amount[]=19.90",
    "NUL": lambda body: body.replace(b"pay_1", b"pay\\u0000"),
    "lone surrogate": lambda body: body.replace(b"pay_1", b"pay\\ud800"),
    "no reference": lambda body: body.replace(b'"reference"', b'"referense"'),
    "other type": lambda body: body.replace(b'"type": "payment"', b'"type": "payout"'),
    "no date": lambda body: body.replace(b"2026-11-22T", b"0000-00-00T"),
    "local time": lambda body: body.replace(b"21:30:00.125Z", b"21:30:00.125"),
}
AMOUNTS: list[Any] = [
    "1e2", "1,00", "1.000", "19.9", "19", "+5.00", "-5.00", "05.00", "NaN", "Infinity", "1_0.00",
    "", " 5.00", "5.00\n", "٥.00", "５.00", "0x10", "99999999999999999999.00",
    19.90, 1990, None, True, ["19.90"], {"value": "19.90"},
]  # fmt: skip


@pytest.fixture(params=list(PROOFS))
def proofs(request: pytest.FixtureRequest) -> Proofs:
    """Every provider in turn."""
    return PROOFS[request.param]()


@pytest.fixture
def real_clock() -> Iterator[None]:
    """The clock as it was."""
    yield
    clock.shift(timedelta())


def refusal(proofs: Proofs, headers: dict[str, str], body: bytes) -> tuple[int, str]:
    """(status, reason) with which the callback is refused."""
    with pytest.raises(CallbackRefused) as refused:
        proofs.provider.verify(account=proofs.account, headers=headers, body=body)
    return refused.value.facts["status"], refused.value.facts["reason"]


def test_right_callback_gives_its_facts(proofs: Proofs) -> None:
    body = encode(proofs.statement())

    (fact,) = proofs.provider.verify(account=proofs.account, headers=proofs.signed(body), body=body)

    assert (fact.event_id, fact.subject, fact.reference) == ("evt_1", "payment", "pay_1")
    assert (fact.provider_ref, fact.state) == ("sbx_1", "captured")
    assert (fact.amount.minor, fact.amount.currency) == (1990, "USD")
    assert fact.occurred_at.isoformat() == "2026-11-22T21:30:00.125000+00:00"


@pytest.mark.parametrize("signature", [None, ""])
def test_a01_missing_or_empty_signature_is_401(proofs: Proofs, signature: str | None) -> None:
    body = encode(proofs.statement())
    headers = proofs.signed(body)

    del headers[proofs.signature]
    if signature is not None:
        headers[proofs.signature] = signature

    assert refusal(proofs, headers, body)[0] == 401


def test_a02_empty_secret_refuses_to_start_and_names_the_setting(proofs: Proofs) -> None:
    with pytest.raises(ValueError, match=proofs.secret_setting):
        proofs.without_secret()


@pytest.mark.parametrize("kind", ALMOST_RIGHT)
def test_a03_a13_signature_almost_right_is_401(proofs: Proofs, kind: str) -> None:
    body = encode(proofs.statement())
    headers = proofs.signed(body)

    spoilt = headers | {proofs.signature: ALMOST_RIGHT[kind](headers[proofs.signature])}

    assert refusal(proofs, spoilt, body)[0] == 401
    assert proofs.provider.verify(account=proofs.account, headers=headers, body=body)


def test_a04_signature_of_one_order_does_not_carry_another(proofs: Proofs) -> None:
    body = encode(proofs.statement(reference="pay_A"))
    other = encode(proofs.statement(reference="pay_B"))

    headers = proofs.signed(body)

    assert refusal(proofs, headers, other)[0] == 401
    (fact,) = proofs.provider.verify(account=proofs.account, headers=headers, body=body)
    assert fact.reference == "pay_A"


def test_a05_a06_callback_of_another_account_is_refused(proofs: Proofs) -> None:
    body = encode(proofs.statement(account=proofs.other_account))

    foreign = proofs.signed(body, account=proofs.other_account)
    mislabelled = proofs.signed(body)  # our key, yet the body speaks of somebody else

    assert refusal(proofs, foreign, body)[0] == 401
    assert refusal(proofs, mislabelled, body)[0] == 400


def test_a06_account_that_cannot_exist_is_401(proofs: Proofs) -> None:
    body = encode(proofs.statement())

    for account in ("", "../demo", "demo\nx", "demo/callback", "é", "x" * 100):
        with pytest.raises(CallbackRefused) as refused:
            proofs.provider.verify(account=account, headers=proofs.signed(body), body=body)
        assert refused.value.facts["status"] == 401


def test_a07_our_own_request_reflected_is_no_callback(proofs: Proofs) -> None:
    headers, body = proofs.own_request()

    assert refusal(proofs, headers, body)[0] == 401


def test_a09_status_is_read_and_an_unknown_word_is_refused(proofs: Proofs) -> None:
    none = {"value": "0.00", "currency": "USD"}
    for word, state in [("declined", "declined"), ("voided", "voided"), ("expired", "voided")]:
        body = encode(proofs.statement(status=word, amount=none))
        (fact,) = proofs.provider.verify(
            account=proofs.account, headers=proofs.signed(body), body=body
        )
        assert (fact.state, fact.amount.minor) == (state, 0)

    for word in ("WAITING", "TRADE_CLOSED", "success", "Captured", ""):
        body = encode(proofs.statement(status=word))
        assert refusal(proofs, proofs.signed(body), body)[0] == 400


@limits(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a13_one_bit_flipped_anywhere_is_401(proofs: Proofs, data: st.DataObject) -> None:
    body = encode(proofs.statement())
    headers = proofs.signed(body)
    where = data.draw(st.sampled_from(("body", *proofs.signed_headers)))
    target = body if where == "body" else headers[where].encode()
    place = data.draw(st.integers(0, len(target) - 1))
    bit = 1 << data.draw(st.integers(0, 7))

    flipped = target[:place] + bytes([target[place] ^ bit]) + target[place + 1 :]

    if where == "body":
        body = flipped
    else:
        headers = headers | {where: flipped.decode("latin-1")}
    assert refusal(proofs, headers, body)[0] == 401


@pytest.mark.parametrize("age_s", [302, 600, 86_400, 30 * 86_400, -302])
def test_a15_replayed_after_300_s_is_401(proofs: Proofs, real_clock: None, age_s: int) -> None:
    body = encode(proofs.statement())
    headers = proofs.signed(body)

    clock.shift(timedelta(seconds=age_s))

    assert refusal(proofs, headers, body) == (401, "stale")
    clock.shift(timedelta())
    assert proofs.provider.verify(account=proofs.account, headers=headers, body=body)


def test_a16_bytes_other_than_those_signed_are_401(proofs: Proofs) -> None:
    body = encode(proofs.statement())
    headers = proofs.signed(body)

    for other in (
        b"\xef\xbb\xbf" + body,
        b" " + body,
        body + b"\n",
        json.dumps(json.loads(body), indent=1).encode(),
        gzip.compress(body),
    ):
        assert refusal(proofs, headers, other)[0] == 401


@pytest.mark.parametrize("encoding", ["gzip", "br", "", "identity, gzip"])
def test_a16_encoded_body_is_400_however_it_is_signed(proofs: Proofs, encoding: str) -> None:
    for body in (gzip.compress(encode(proofs.statement())), encode(proofs.statement())):
        headers = proofs.signed(body) | {"content-encoding": encoding}

        assert refusal(proofs, headers, body)[0] == 400


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_a16_signed_but_ambiguous_body_is_400(proofs: Proofs, kind: str) -> None:
    body = AMBIGUOUS[kind](encode(proofs.statement()))
    started = time.monotonic()

    status, _ = refusal(proofs, proofs.signed(body), body)

    assert status == 400
    assert time.monotonic() - started < 0.5


def test_b01_captured_zero_and_declined_with_money_are_400(proofs: Proofs) -> None:
    zero = encode(proofs.statement(amount={"value": "0.00", "currency": "USD"}))
    taken = encode(proofs.statement(status="declined"))

    assert refusal(proofs, proofs.signed(zero), zero)[0] == 400
    assert refusal(proofs, proofs.signed(taken), taken)[0] == 400


@pytest.mark.parametrize("value", AMOUNTS, ids=repr)
def test_b02_amount_is_exact_or_400(proofs: Proofs, value: Any) -> None:
    body = encode(proofs.statement(amount={"value": value, "currency": "USD"}))

    assert refusal(proofs, proofs.signed(body), body)[0] == 400


@pytest.mark.parametrize(
    "amount",
    [
        {"value": "19.90", "currency": "JPY"},
        {"value": "19.90", "currency": "KWD"},
        {"value": "19.90", "currency": "XXX"},
        {"value": "19.90", "currency": "usd"},
        {"value": "19.90"},
        {"value": "19.90", "currency": "USD", "minor": 1},
        "19.90",
        None,
    ],
    ids=repr,
)
def test_b02_b12_amount_without_its_own_currency_is_400(proofs: Proofs, amount: Any) -> None:
    body = encode(proofs.statement(amount=amount))

    assert refusal(proofs, proofs.signed(body), body)[0] == 400


def test_c05_failure_word_is_never_the_success_word(proofs: Proofs) -> None:
    success, failure = proofs.provider.success_word, proofs.provider.failure_word

    assert success
    assert success not in failure
    assert failure not in success


def test_j31_unreadable_callback_is_400(proofs: Proofs) -> None:
    body = encode(proofs.statement())
    headers = proofs.signed(body)

    assert refusal(proofs, headers, b"")[0] == 400
    assert refusal(proofs, headers, b" " * 70_000)[0] == 400
    assert refusal(proofs, headers | {"content-type": "text/plain"}, body)[0] == 400
    for name in proofs.needed_headers:
        left = {key: value for key, value in headers.items() if key != name}
        assert refusal(proofs, left, body)[0] == 400


def test_j32_bad_signature_is_401_before_anything_is_read(proofs: Proofs) -> None:
    for body in (b"{", b"null", encode(proofs.statement(amount="x"))):
        headers = proofs.signed(b"something else")

        assert refusal(proofs, headers, body)[0] == 401
