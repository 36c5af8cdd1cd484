"""How large strings are cut, and how several jobs are done at once."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.store.transfers import MOST_PARTS, PART_BYTES, cut, part_bytes_of, ranges, together


@given(st.lists(st.binary(max_size=40)), st.integers(1, 30))
def test_cut_loses_nothing_and_fills_every_part_but_the_last(pieces, step):
    parts = [b"".join(part) for part in cut(pieces, step)]
    assert b"".join(parts) == b"".join(pieces)
    assert all(len(part) == step for part in parts[:-1])
    assert all(0 < len(part) <= step for part in parts)


def test_cut_copies_nothing():
    content = bytearray(b"abcdef")
    (first, second) = cut([content], 3)
    content[:] = b"ABCDEF"
    assert (bytes(first[0]), bytes(second[0])) == (b"ABC", b"DEF")


@given(st.integers(0, 200), st.integers(1, 30), st.integers(0, 50))
def test_ranges_cover_everything_once(size, step, start):
    covered = [at for first, end in ranges(size, step, start) for at in range(first, end)]
    assert covered == list(range(start, size))
    assert all(0 < end - first <= step for first, end in ranges(size, step, start))


@pytest.mark.parametrize(
    "size", [1, PART_BYTES, PART_BYTES * MOST_PARTS, PART_BYTES * MOST_PARTS + 1, 5 << 40], ids=lambda size: f"{size:,}"
)
def test_no_string_has_more_parts_than_s3_takes(size):
    assert part_bytes_of(size) >= PART_BYTES
    assert -(-size // part_bytes_of(size)) <= MOST_PARTS


def test_together_does_every_job_once_and_some_of_them_at_the_same_time():
    done, meeting = [], threading.Barrier(4)

    def job(number):
        if number < 4:
            meeting.wait(20)  # never passed by one thread alone
        done.append(number)

    together([lambda number=number: job(number) for number in range(20)])
    assert sorted(done) == list(range(20))


def test_together_without_jobs_does_nothing():
    together([])


def test_together_raises_the_first_failure_after_the_jobs_under_way_and_begins_no_other():
    begun, ended, failed = [], [], threading.Event()

    def job(number):
        begun.append(number)
        if number == 0:
            failed.set()
            raise ValueError("the first")
        failed.wait(20)
        time.sleep(0.05)
        ended.append(number)

    with pytest.raises(ValueError, match="the first"):
        together([lambda number=number: job(number) for number in range(100)])
    assert sorted([0, *ended]) == sorted(begun), "a straggler is still at it"
    assert len(begun) < 100
