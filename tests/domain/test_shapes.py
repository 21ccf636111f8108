"""Honey keys look like the others: same length, same fixed part, same kinds of characters."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.catalogue import shapes


def made(samples: list[str], seed: int = 7, **more: int) -> str:
    return shapes.like(samples, random.Random(seed), **more)


def test_what_all_share_is_kept() -> None:
    samples = ["GIFT-7F3K-22ab", "GIFT-Z0QX-91qr", "GIFT-MM1P-47zz"]

    for seed in range(50):
        assert re.fullmatch("GIFT-[A-Z0-9]{4}-[0-9]{2}[a-z]{2}", made(samples, seed))


def test_hexadecimal_stays_hexadecimal() -> None:
    samples = ["0A1B-FF", "9C3D-E0", "77AB-1D"]

    for seed in range(50):
        assert re.fullmatch("[0-9A-F]{4}-[0-9A-F]{2}", made(samples, seed))


def test_of_one_key_everything_may_differ_but_its_signs() -> None:
    assert re.fullmatch("[A-Z]{3}-[0-9]{4}", made(["KEY-0001"]))
    assert made(["····"]) == "····"  # nothing to draw: the caller adds something


def test_numbers_in_a_row_are_freed_from_their_end() -> None:
    samples = [f"KEY-{number:06d}" for number in range(10)]

    assert re.fullmatch("KEY-00000[0-9]", made(samples))
    assert re.fullmatch("KEY-00[0-9]{4}", made(samples, freed=4))


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=20), st.integers(0, 30))
def test_any_keys_have_a_likeness(samples: list[str], freed: int) -> None:
    found = shapes.like(samples, random.Random(1), freed=freed)

    models = [one for one in samples if len(one) == len(found)]
    assert models
    assert any(
        all(
            (a == b) or (a.isascii() and a.isalnum() and b.isascii() and b.isalnum())
            for a, b in zip(found, model, strict=True)
        )
        for model in models
    )


@pytest.mark.parametrize("lines", [["a@b.com:pass1", "c@d.org:word2"], ["x", "yy", "zzz"]])
def test_other_lengths_are_no_peers(lines: list[str]) -> None:
    assert len(made(lines)) in {len(one) for one in lines}
