"""The vault: what is sealed opens only in its place, with its key, and never without."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterator
from uuid import UUID

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from domain.core import db as core
from domain.core import ids, vault
from domain.core.settings import SettingsWrong, load, settings
from domain.core.vault import KeyMissing


def key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    vault.forget()
    yield
    vault.forget()


def use(monkeypatch: pytest.MonkeyPatch, **environment: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"KAMI_{name.upper()}", value)
    settings.cache_clear()
    vault.forget()


@given(st.binary(max_size=200), st.text(max_size=50))
def test_a_sealed_value_opens_in_its_context_only(plaintext: bytes, context: str) -> None:
    sealed = vault.seal(f"a:{context}", plaintext)

    assert vault.unseal(f"a:{context}", sealed) == plaintext
    with pytest.raises(InvalidTag):
        vault.unseal(f"b:{context}", sealed)


@given(st.data())
def test_one_flipped_bit_does_not_open(data: st.DataObject) -> None:
    sealed = bytearray(vault.seal("x", b"secret"))
    place = data.draw(st.integers(1, len(sealed) - 1))
    sealed[place] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(InvalidTag):
        vault.unseal("x", bytes(sealed))


def test_nothing_and_unknown_versions_are_refused() -> None:
    for sealed in (b"", b"\0" * 40, b"\xff" + b"\0" * 40):
        with pytest.raises(KeyMissing):
            vault.unseal("x", sealed)


def test_equal_values_are_sealed_differently_and_hash_alike() -> None:
    assert vault.seal("x", b"same") != vault.seal("x", b"same")
    assert vault.fingerprint("email", "a@b.c") == vault.fingerprint("email", "a@b.c")
    assert vault.fingerprint("email", "a@b.c") != vault.fingerprint("device", "a@b.c")
    assert len(vault.fingerprint("email", "\ud800")) == 16


def test_h39_an_access_key_opens_its_own_order_only() -> None:
    order, other = ids.uuid7(), ids.uuid7()

    mine = vault.access_key(order)

    assert len(mine) == 26
    assert vault.access_key(order) == mine
    assert vault.is_access_key(order, mine)
    assert vault.is_access_key(order, mine.upper())
    assert not vault.is_access_key(other, mine)
    for wrong in (None, "", mine[:-1], mine + "0", "é" * 26, "\ud800", "0" * 26):
        assert not vault.is_access_key(order, wrong)


async def test_h26_a_card_opens_in_its_row_only(db: None) -> None:
    merchant, row, other = ids.uuid7(), ids.uuid7(), ids.uuid7()
    keys = await vault.of_merchant(merchant)
    strangers = await vault.of_merchant(ids.uuid7())

    sealed = keys.seal("card_key", row, b"CODE")

    assert keys.unseal("card_key", row, keys.version, sealed) == b"CODE"
    elsewhere = [
        (keys, "card_key", other),
        (keys, "reusable_key", row),
        (strangers, "card_key", row),
    ]
    for holder, table, place in elsewhere:
        with pytest.raises(InvalidTag):
            holder.unseal(table, place, 1, sealed)
    with pytest.raises(KeyMissing):
        keys.unseal("card_key", row, 7, sealed)
    assert keys.fingerprint(b"CODE") != strangers.fingerprint(b"CODE")


async def test_h26_without_the_master_key_a_backup_is_unreadable(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    merchant = ids.uuid7()
    use(monkeypatch, master_key=key())
    await vault.of_merchant(merchant)
    sealed = vault.seal("x", b"secret")

    use(monkeypatch, master_key=key())

    with pytest.raises(InvalidTag):
        await vault.of_merchant(merchant)
    with pytest.raises(InvalidTag):
        vault.unseal("x", sealed)
    stored = await core.fetch("SELECT wrapped FROM merchant_data_key")
    assert len(stored) == 2
    assert all(len(row["wrapped"]) == 12 + 32 + 16 for row in stored)


async def test_h27_the_master_key_is_changed_without_losing_anything(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    merchant, row, order = ids.uuid7(), ids.uuid7(), ids.uuid7()
    old = key()
    use(monkeypatch, master_key=old)
    keys = await vault.of_merchant(merchant)
    card, mark = keys.seal("card_key", row, b"CODE"), keys.fingerprint(b"CODE")
    sealed, access = vault.seal("x", b"secret"), vault.access_key(order)

    new = key()
    use(monkeypatch, master_key=new, master_key_version="2", master_keys_retired=f"1:{old}")

    assert vault.unseal("x", sealed) == b"secret"
    assert vault.is_access_key(order, access)
    assert (await vault.of_merchant(merchant)).unseal("card_key", row, 1, card) == b"CODE"
    assert await vault.rewrap() == 2
    assert await vault.rewrap() == 0
    use(monkeypatch, master_keys_retired="")
    after = await vault.of_merchant(merchant)
    assert after.unseal("card_key", row, 1, card) == b"CODE"
    assert after.fingerprint(b"CODE") == mark
    with pytest.raises(KeyMissing):
        vault.unseal("x", sealed)


async def test_a_new_data_key_seals_and_the_old_one_still_opens(db: None) -> None:
    merchant, row = ids.uuid7(), ids.uuid7()
    first = await vault.of_merchant(merchant)
    sealed = first.seal("card_key", row, b"CODE")

    assert await vault.new_data_key(merchant) == 2

    second = await vault.of_merchant(merchant, version=2)
    assert second.version == 2
    assert second.unseal("card_key", row, 1, sealed) == b"CODE"
    assert second.fingerprint(b"CODE") == first.fingerprint(b"CODE")


async def rolled_back(merchant: UUID) -> vault.MerchantVault:
    """Keys made in a transaction that failed."""
    with contextlib.suppress(RuntimeError):
        async with core.transaction():
            lost = await vault.of_merchant(merchant)
            assert await vault.of_merchant(merchant) is not lost
            raise RuntimeError
    return lost


async def test_a_key_made_in_a_transaction_that_rolls_back_is_never_used_again(db: None) -> None:
    merchant = ids.uuid7()
    lost = await rolled_back(merchant)

    kept = await vault.of_merchant(merchant)

    assert kept.hash_key != lost.hash_key
    async with core.transaction():
        assert await vault.of_merchant(merchant) is kept


async def test_a_known_merchant_costs_no_statement(db: None) -> None:
    merchant = ids.uuid7()
    await vault.of_merchant(merchant)

    async with core.statements() as seen:
        await vault.of_merchant(merchant)

    assert seen == []


@pytest.mark.parametrize("retired", ["1:short", "2:" + "A" * 43, "x:" + "A" * 43, "A" * 43])
def test_a_wrong_retired_key_refuses_to_start(
    monkeypatch: pytest.MonkeyPatch, retired: str
) -> None:
    use(monkeypatch, master_keys_retired=retired)

    with pytest.raises(SettingsWrong):
        load().master_keys()


def test_ids_are_bound_by_value_not_by_spelling() -> None:
    upper, lower = (
        UUID("018F0000-0000-7000-8000-00000000000A"),
        UUID("018f0000-0000-7000-8000-00000000000a"),
    )

    assert vault.access_key(upper) == vault.access_key(lower)
