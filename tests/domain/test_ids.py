"""Ids that sort by their time, alone and by the set."""

from __future__ import annotations

import uuid

import pytest

from domain.core import bulk, ids


@pytest.mark.parametrize("count", [0, 1, 200, 4_096])
def test_ids_of_a_set_are_ordered_different_and_as_the_standard_wants(count: int) -> None:
    before = ids.uuid7()
    found = bulk.uuid7s(count)
    after = ids.uuid7()

    assert len(set(found)) == count
    assert found == sorted(found)
    assert all((one.version, one.variant) == (7, uuid.RFC_4122) for one in found)
    assert all(before.int >> 80 <= one.int >> 80 <= after.int >> 80 for one in found)
    # The driver's own kind of UUID is one to everybody else.
    assert all(isinstance(one, uuid.UUID) and uuid.UUID(str(one)) == one for one in found)
    assert {uuid.UUID(str(one)) for one in found} == set(found)


def test_ids_of_two_sets_of_the_same_moment_do_not_meet() -> None:
    sets = [bulk.uuid7s(500) for _ in range(20)]

    assert len({one for found in sets for one in found}) == 10_000


def test_a_set_larger_than_its_counter_is_refused() -> None:
    with pytest.raises(AssertionError):
        bulk.uuid7s(4_097)
