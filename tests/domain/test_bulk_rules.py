"""Bulk work without a database: lines of a file, pieces, what a job says of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import bulk
from domain.bulk import Asker, BulkFileInvalid, BulkKind, BulkState, rules
from domain.core import clock, ids

LINE = st.binary(max_size=40).filter(lambda line: b"\n" not in line and not line.endswith(b"\r"))


@given(
    lines=st.lists(LINE, min_size=1, max_size=30),
    end=st.sampled_from([b"\n", b"\r\n"]),
    mark=st.booleans(),
)
def test_a_file_comes_back_line_by_line_whatever_its_ends(
    lines: list[bytes], end: bytes, mark: bool
) -> None:
    lines = [lines[0].removeprefix(b"\xef\xbb\xbf"), *lines[1:]]
    content = (b"\xef\xbb\xbf" if mark else b"") + end.join(lines) + end

    assert rules.lines_of(content) == lines


@given(lines=st.lists(LINE, min_size=1, max_size=30), size=st.integers(1, 100))
def test_pieces_hold_every_line_once_in_order(lines: list[bytes], size: int) -> None:
    before, rules.INPUT_PIECE = rules.INPUT_PIECE, size
    try:
        pieces = list(rules._cut(lines))
    finally:
        rules.INPUT_PIECE = before

    assert [line for one in pieces for line in rules.unpack(one.body).split(b"\n")] == lines
    assert [one.first for one in pieces] == [
        1 + sum(before.rows for before in pieces[:place]) for place in range(len(pieces))
    ]
    assert sum(one.rows for one in pieces) == len(lines)


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b"  \n\t\n", b"\xef\xbb\xbf"])
def test_a_file_without_lines_is_refused(content: bytes) -> None:
    with pytest.raises(BulkFileInvalid):
        bulk.cut(content)


def test_100_000_lines_are_taken_and_one_more_is_refused() -> None:
    most = b"{}\n" * bulk.ROWS_MAX

    assert sum(one.rows for one in bulk.cut(most)) == 100_000
    with pytest.raises(BulkFileInvalid) as refused:
        bulk.cut(most + b"{}")
    assert refused.value.facts == {"max": 100_000}
    assert refused.value.path == ("input", "uploadId")


def test_progress_is_a_hundred_when_it_is_done_and_never_before() -> None:
    job = bulk.draft(
        ids.uuid7(),
        Asker(ids.uuid7()),
        BulkKind.EXPORT,
        document="{ orders }",
        root="orders",
        country="HK",
        language="en",
    )

    shown = [
        replace(job, total=total, done=done, state=state).progress
        for total, done, state in [
            (None, 0, BulkState.WAITING),
            (None, 500, BulkState.RUNNING),
            (200, 50, BulkState.RUNNING),
            (200, 260, BulkState.RUNNING),  # more came than were counted
            (0, 0, BulkState.DONE),
            (200, 190, BulkState.DONE),
        ]
    ]

    assert shown == [0, 0, 25, 99, 100, 100]


@pytest.mark.parametrize(
    ("kind", "state", "problem", "has"),
    [
        (BulkKind.EXPORT, BulkState.RUNNING, None, False),
        (BulkKind.EXPORT, BulkState.DONE, None, True),
        (BulkKind.EXPORT, BulkState.CANCELLED, None, False),
        (BulkKind.EXPORT, BulkState.FAILED, "BULK_TOO_LARGE", False),
        (BulkKind.IMPORT, BulkState.RUNNING, None, False),
        (BulkKind.IMPORT, BulkState.DONE, None, True),
        (BulkKind.IMPORT, BulkState.CANCELLED, None, True),
        (BulkKind.IMPORT, BulkState.FAILED, "UNAVAILABLE", True),
        (BulkKind.IMPORT, BulkState.FAILED, "FORBIDDEN", False),
    ],
)
def test_what_can_be_fetched(
    kind: BulkKind, state: BulkState, problem: str | None, has: bool
) -> None:
    job = bulk.draft(
        ids.uuid7(),
        Asker(ids.uuid7()),
        kind,
        document="",
        root="",
        country="HK",
        language="en",
    )
    over = None if state is BulkState.RUNNING else clock.now()

    assert replace(job, state=state, problem=problem, finished_at=over).has_result is has
