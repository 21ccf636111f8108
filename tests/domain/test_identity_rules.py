"""Addresses, passwords, tokens and rights, without a database."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from domain.core.errors import FieldInvalid
from domain.identity import OperatorRole, Role, Viewer, normalise_email
from domain.identity.rules import (
    TOKEN_LENGTH,
    TOKEN_PREFIX,
    address_bucket,
    check_password,
    is_token,
    sign_in_budgets,
)

MERCHANT, OTHER = uuid4(), uuid4()


def viewer(**facts: object) -> Viewer:
    given = {
        "account_id": uuid4(),
        "email": "a@b.test",
        "locale": None,
        "session_id": uuid4(),
        "expires_at": datetime(2030, 1, 1, tzinfo=UTC),
    }
    return Viewer(**{**given, **facts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("Buyer@Example.COM", "buyer@example.com"),
        ("merchant@demo.test", "merchant@demo.test"),
        ("kase@BÜCHER.example", "kase@xn--bcher-kva.example"),
        ("user@例え.テスト", "user@xn--r8jz45g.xn--zckzah"),
        ("first.last+tag@sub.example.co", "first.last+tag@sub.example.co"),
    ],
)
def test_j15_domain_is_stored_as_punycode(given: str, stored: str) -> None:
    assert normalise_email(given) == stored
    assert normalise_email(stored) == stored


@pytest.mark.parametrize(
    "given",
    [
        "",
        "a",
        "a@b@c.test",
        "a@example.com\r\nBcc: all@example.com",
        "a\r\n@example.com",
        "a@exam\x00ple.com",
        "a" * 312 + "@b.example",
        "x@" + "y" * 400 + ".com",
        "dotless@localhost.",
        '"quoted space"@example.com',
        "ünicode@example.com",
        "a@[127.0.0.1]",
        "<a@example.com>",
        " a@example.com",
        "a@example.com\ud800",
    ],
)
def test_j15_other_addresses_are_refused(given: str) -> None:
    with pytest.raises(FieldInvalid) as refused:
        normalise_email(given, path=("input", "contact", "email"))

    assert refused.value.path == ("input", "contact", "email")


@pytest.mark.parametrize("text", ["", "short", "a" * 257, "aaaaaaaaaaaaaaaa", "abababababab"])
def test_weak_or_endless_passwords_are_refused(text: str) -> None:
    with pytest.raises(FieldInvalid):
        check_password(text)


def test_a_passphrase_is_taken() -> None:
    check_password("correct horse battery staple")
    check_password("パスワードは十文字以上です")


def test_token_form_is_checked_before_any_look_up() -> None:
    assert is_token(TOKEN_PREFIX + "A" * (TOKEN_LENGTH - len(TOKEN_PREFIX)))
    assert not is_token("")
    assert not is_token("A" * TOKEN_LENGTH)
    assert not is_token(TOKEN_PREFIX + "é" * (TOKEN_LENGTH - len(TOKEN_PREFIX)))
    assert not is_token(TOKEN_PREFIX + "A" * 1_000_000)


@pytest.mark.parametrize(
    ("address", "bucket"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not an address", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_one_subscriber_is_one_bucket(address: str | None, bucket: str) -> None:
    assert address_bucket(address) == bucket


def test_h10_tries_are_counted_per_pair_per_account_and_per_address() -> None:
    here = sign_in_budgets("a@b.test", "203.0.113.9", None)
    other = sign_in_budgets("c@d.test", "203.0.113.9", None)
    elsewhere = sign_in_budgets("a@b.test", "198.51.100.7", None)

    assert [one.most for one in here] == [10, 20, 100]
    keys = [{one.key for one in budgets} for budgets in (here, other, elsewhere)]
    assert keys[0] & keys[1] == {here[2].key}  # the address alone
    assert keys[0] & keys[2] == {here[1].key}  # the account alone


def test_h10_a_known_device_shares_no_budget_with_anybody() -> None:
    mine = sign_in_budgets("a@b.test", "203.0.113.9", b"d" * 32)
    stranger = sign_in_budgets("a@b.test", "203.0.113.9", None)
    other = sign_in_budgets("c@d.test", "203.0.113.9", b"d" * 32)

    assert [one.most for one in mine] == [10]
    assert not {mine[0].key} & {one.key for one in stranger}
    assert mine[0].key != other[0].key


def test_an_owner_may_all_and_others_their_part() -> None:
    owner = viewer(roles={MERCHANT: Role.OWNER})
    support = viewer(roles={MERCHANT: Role.SUPPORT})

    assert owner.may(MERCHANT, Role.FINANCE)
    assert support.may(MERCHANT)
    assert support.may(MERCHANT, Role.SUPPORT, Role.FINANCE)
    assert not support.may(MERCHANT, Role.FINANCE)
    assert not owner.may(OTHER)


def test_operator_roles_need_an_operator() -> None:
    admin = viewer(operator=True, operator_roles=frozenset({OperatorRole.ADMIN}))
    risk = viewer(operator=True, operator_roles=frozenset({OperatorRole.RISK}))
    person = viewer(operator_roles=frozenset({OperatorRole.ADMIN}))

    assert admin.may_operate(OperatorRole.FINANCE)
    assert risk.may_operate()
    assert not risk.may_operate(OperatorRole.FINANCE)
    assert not person.may_operate()
    assert not admin.may(MERCHANT)
