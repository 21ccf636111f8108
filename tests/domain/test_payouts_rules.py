"""Payout destinations: check digits, one spelling, what is shown, every faulty field named."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.core.errors import InputInvalid
from domain.payouts import Destination, MethodKind, checksums, rules

IBAN = "DE89370400440532013000"
TRON = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"
ETHEREUM = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
CARD = "6222021234567890128"
GOOD = [
    Destination(MethodKind.IBAN, "EUR", IBAN, "Ann Lee"),
    Destination(MethodKind.US_BANK, "USD", "000123456789", "Ann Lee", "021000021"),
    Destination(MethodKind.CN_CARD, "CNY", CARD, "李安"),
    Destination(MethodKind.TRC20, "USDT", TRON),
    Destination(MethodKind.ERC20, "USDC", ETHEREUM),
]
MASKED = ["DE ····3000", "····6789", "····0128", "····Lj6t", "····eAed"]


def faults(of: Destination) -> dict[tuple[str, ...], str]:
    with pytest.raises(InputInvalid) as refused:
        rules.checked(of)
    return {one.path: one.facts["reason"] for one in refused.value.problems}


@pytest.mark.parametrize(("given_", "masked"), list(zip(GOOD, MASKED, strict=True)))
def test_every_kind_is_taken_and_shown_by_its_end(given_: Destination, masked: str) -> None:
    assert rules.checked(given_) == given_
    assert given_.masked == masked
    assert given_.account not in repr(given_)


# Published examples of the standards: ISO 13616 registry, ABA, EIP-55, Keccak team.
@pytest.mark.parametrize(
    "iban",
    [
        "GB29NWBK60161331926819",
        "FR1420041010050500013M02606",
        "NO9386011117947",
        "MT84MALT011000012345MTLCAST001S",
        "BR1800360305000010009795493C1",
    ],
)
def test_ibans_of_the_registry_are_taken(iban: str) -> None:
    assert checksums.is_iban(iban)


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
    ],
)
def test_keccak_is_the_one_of_the_competition(data: bytes, digest: str) -> None:
    assert checksums.keccak_256(data).hex() == digest
    assert hashlib.sha3_256(data).hexdigest() != digest


@pytest.mark.parametrize("length", [135, 136, 137, 272, 1_000])
def test_keccak_reads_every_byte(length: int) -> None:
    data = bytes(length)

    digests = {
        checksums.keccak_256(data[:place] + b"x" + data[place + 1 :]) for place in (0, length - 1)
    }

    assert len(digests | {checksums.keccak_256(data)}) == 3


@pytest.mark.parametrize(
    "address",
    [
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ],
)
def test_ethereum_addresses_carry_their_check_in_capitals(address: str) -> None:
    assert checksums.is_ethereum(address)
    assert not checksums.is_ethereum(address.lower())
    assert not checksums.is_ethereum("0x" + address[2:].upper())
    assert not checksums.is_ethereum(address.swapcase())


@pytest.mark.parametrize("routing", ["021000021", "011401533", "091000019", "322271627"])
def test_routing_numbers_are_taken(routing: str) -> None:
    assert checksums.is_routing(routing)


@given(st.data())
def test_one_wrong_character_is_found(data: st.DataObject) -> None:
    """Of the kinds with a check of every character one that is wrong is never taken."""
    text, is_right, alphabet = data.draw(
        st.sampled_from(
            [
                (IBAN, checksums.is_iban, "0123456789"),
                ("021000021", checksums.is_routing, "0123456789"),
                (CARD, checksums.is_luhn, "0123456789"),
                (
                    TRON,
                    checksums.is_tron,
                    "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz",
                ),
            ]
        )
    )
    place = data.draw(st.integers(2 if text == IBAN else 0, len(text) - 1))
    other = data.draw(st.sampled_from([one for one in alphabet if one != text[place]]))

    assert is_right(text)
    assert not is_right(text[:place] + other + text[place + 1 :])


@given(st.text(max_size=60))
def test_no_text_breaks_a_check(text: str) -> None:
    for check in (
        checksums.is_iban,
        checksums.is_routing,
        checksums.is_luhn,
        checksums.is_tron,
        checksums.is_ethereum,
    ):
        assert check(text) in (True, False)


@pytest.mark.parametrize("kind", [MethodKind.IBAN, MethodKind.US_BANK, MethodKind.CN_CARD])
def test_j01_foreign_digits_are_no_digits(kind: MethodKind) -> None:
    wide = "".join(chr(ord(char) + 0xFEE0) if char.isdigit() else char for char in IBAN)

    assert faults(Destination(kind, "USD", wide, "A", "０２１０００02１"))[("input", "account")]


def test_spaces_and_capitals_are_one_spelling() -> None:
    spelled = Destination(MethodKind.IBAN, "EUR", " de89 3704-0044 0532 0130 00 ", " Ann Lee ")

    assert rules.checked(spelled) == GOOD[0]
    other = Destination(MethodKind.IBAN, "USD", IBAN, "Somebody Else")
    assert other.identity == GOOD[0].identity


def test_every_faulty_field_is_named() -> None:
    assert faults(Destination(MethodKind.IBAN, "USDT", IBAN[:-1] + "1", "", "021000021")) == {
        ("input", "account"): "checksum",
        ("input", "currency"): "currency",
        ("input", "holder"): "length",
        ("input", "routing"): "not_used",
    }
    assert faults(Destination(MethodKind.US_BANK, "EUR", "123", "A\nB", "021000022")) == {
        ("input", "account"): "checksum",
        ("input", "currency"): "currency",
        ("input", "holder"): "length",
        ("input", "routing"): "checksum",
    }
    assert faults(Destination(MethodKind.TRC20, "USDT", ETHEREUM, "Ann")) == {
        ("input", "account"): "checksum",
        ("input", "holder"): "not_used",
    }
    assert faults(Destination(MethodKind.CN_CARD, "CNY", "4242424242424241", "x" * 141)) == {
        ("input", "account"): "checksum",
        ("input", "holder"): "length",
    }


def test_a_short_number_is_shown_by_less() -> None:
    assert Destination(MethodKind.US_BANK, "USD", "12345", "A", "021000021").masked == "····45"
