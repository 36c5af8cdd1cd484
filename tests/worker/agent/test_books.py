"""Who runs what: no call is lost, none is given to two slots, free slots share the work."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.wire.messages import Batch, FunctionTraits, Outcome, PackedCall, PackedFunction, Verdict
from cloudexec.worker.agent.books import NEVER, Books, Work

FUNCTION = PackedFunction(bytes(32), FunctionTraits(), b"f")


def work_of(numbers, name="m"):
    calls = [PackedCall(number, 1, FUNCTION, b"") for number in numbers]
    return Work(name, f"receipt of {name}", Batch(calls, (3, 10), ""), memoryview(b""), NEVER)


def outcome_of(number):
    return Outcome(number, 1, Verdict.RETURNED, 0.0, 0.0, 0.0, 0, b"")


def books_with(n_slots, *, up=None, max_tasks=0):
    books = Books(n_slots, max_tasks)
    for slot in range(n_slots if up is None else up):
        books.begin_lane(f"l{slot}", slot)
    return books


def placed(books, now_s=0.0):
    return {lane: [call.number for call in calls] for lane, _, calls in books.place(now_s)}


@pytest.mark.parametrize(
    ("n_slots", "up", "messages", "then"),
    [
        pytest.param(2, 2, [[1]], {"l0": [1]}, id="one call"),
        pytest.param(2, 2, [[1, 2, 3, 4]], {"l0": [1, 2], "l1": [3, 4]}, id="a batch over all free slots"),
        pytest.param(3, 3, [[1, 2, 3, 4]], {"l0": [1, 2], "l1": [3], "l2": [4]}, id="as evenly as it goes"),
        pytest.param(4, 4, [[1, 2], [3, 4]], {"l0": [1], "l1": [2], "l2": [3], "l3": [4]}, id="two batches"),
        pytest.param(2, 2, [[1, 2], [3, 4]], {"l0": [1, 2], "l1": [3, 4]}, id="a batch for each slot"),
        pytest.param(1, 1, [[1, 2], [3]], {"l0": [1, 2]}, id="the second message waits"),
        pytest.param(2, 1, [[1, 2]], {"l0": [1]}, id="half is kept for the slot that is on its way"),
    ],
)
def test_free_slots_share_what_has_come(n_slots, up, messages, then):
    books = books_with(n_slots, up=up)
    for index, numbers in enumerate(messages):
        books.take(work_of(numbers, f"m{index}"))
    assert placed(books) == then


def test_no_more_is_given_than_there_is_room_for():
    books = books_with(3)
    books.take(work_of([1, 2, 3, 4, 5, 6]))
    assert [len(calls) for _, _, calls in books.place(0.0, 0)] == []
    assert [len(calls) for _, _, calls in books.place(0.0, 2)] == [1, 1]
    assert books.n_waiting == 4
    assert sum(len(calls) for _, _, calls in books.place(0.0)) + books.n_waiting == 4


@pytest.mark.parametrize(
    ("n_slots", "up", "messages", "room"),
    [
        pytest.param(4, 0, [], 4, id="slots on their way count"),
        pytest.param(4, 4, [[1]], 3, id="one is busy"),
        pytest.param(4, 4, [[1, 2, 3, 4]], 0, id="all are busy with one batch"),
        pytest.param(1, 0, [[1], [2]], 0, id="more waits than there are slots"),
    ],
)
def test_there_is_room_for_as_many_messages_as_slots_have_nothing(n_slots, up, messages, room):
    books = books_with(n_slots, up=up)
    for index, numbers in enumerate(messages):
        books.take(work_of(numbers, f"m{index}"))
    books.place(0.0)
    assert books.room == room


def test_a_slot_gets_no_more_calls_than_its_share():
    books = books_with(2, max_tasks=2)
    books.take(work_of(range(1, 8)))
    assert placed(books) == {"l0": [1, 2], "l1": [3, 4]}
    books.ended("l0", [outcome_of(1), outcome_of(2)], 0.0)
    assert placed(books) == {}  # it has done its share, and is about to end
    books.end_lane("l0", 0)
    books.begin_lane("l2", 0)
    assert placed(books) == {"l2": [5, 6]}


def test_what_a_dead_slot_had_not_started_goes_to_the_next_one_and_what_it_had_is_returned():
    books = books_with(1)
    books.take(work_of([1, 2, 3]))
    books.place(0.0)
    _, victims = books.end_lane("l0", unstarted=2)
    assert [held.number for held in victims] == [1]
    books.begin_lane("l1", 0)
    assert placed(books) == {"l1": [2, 3]}


def test_what_a_dead_slot_had_done_without_bringing_its_outcome_runs_once_more_and_first():
    books = books_with(1)
    books.take(work_of([1, 2, 3, 4]))
    books.place(0.0)
    _, victims = books.end_lane("l0", unstarted=1)
    assert [held.number for held in victims] == [1, 2, 3]
    books.again(victims[1:])
    books.begin_lane("l1", 0)
    assert placed(books) == {"l1": [2, 3]}


def test_calls_that_wait_behind_a_long_one_are_found_when_another_slot_has_nothing():
    books = books_with(2)
    books.take(work_of([1, 2, 3, 4]))
    books.place(0.0)
    assert books.stuck(9.0, after_s=1.0) is None  # both are busy
    books.ended("l1", [outcome_of(3), outcome_of(4)], 0.5)
    assert books.next_stuck_s(after_s=1.0) == 1.0
    assert books.stuck(0.9, after_s=1.0) is None
    assert books.stuck(1.0, after_s=1.0) == "l0"
    assert books.stuck(1.5, after_s=1.0) is None  # asked a moment ago
    books.take_back("l0", 1)
    assert placed(books) == {"l1": [2]}


def test_what_waits_for_long_while_all_slots_are_busy_is_for_other_workers():
    books = books_with(2)
    work, other = work_of([1, 2, 3, 4]), work_of([5], "n")
    books.take(work)
    books.place(0.0)
    assert books.next_late_s(after_s=1.0) == 1.0
    assert books.late(0.9, after_s=1.0) == []
    books.ended("l1", [outcome_of(3)], 0.5)  # it goes on there
    assert books.late(1.0, after_s=1.0) == ["l0"]
    assert books.late(1.5, after_s=1.0) == []  # asked a moment ago
    books.take_back("l0", 1)
    assert [held.number for held in books.take_waiting()] == [2]
    books.ended("l1", [outcome_of(4)], 1.6)
    books.take(other)
    assert placed(books) == {"l1": [5]}
    assert books.next_late_s(after_s=1.0) == NEVER


def test_what_waits_while_a_slot_here_is_idle_or_on_its_way_is_not_for_others():
    books = books_with(2, up=1)
    books.take(work_of([1, 2, 3, 4]))
    books.place(0.0)
    assert books.late(9.0, after_s=1.0) == []  # the other slot comes
    books.begin_lane("l1", 1)
    books.place(9.0)
    books.ended("l1", [outcome_of(3), outcome_of(4)], 9.5)
    assert books.late(99.0, after_s=1.0) == []


def test_calls_that_are_not_wanted_are_struck_off_wherever_they_wait():
    books = books_with(1)
    unwanted = books.take(work_of([1, 2, 3]), without={2})
    assert [held.number for held in unwanted] == [2]
    assert [held.number for held in books.drop_waiting({1, 9})] == [1]
    assert placed(books) == {"l0": [3]}


def test_a_message_is_over_when_the_end_of_all_its_calls_was_accepted():
    books = books_with(1)
    work = work_of([1, 2])
    books.take(work)
    assert books.settle([work]) == []
    assert books.receipts() == {"receipt of m": [1, 2]}
    assert books.settle([work]) == [work]
    assert books.receipts() == {}
    assert books.is_over("m")
    assert not books.has("m")


def test_the_newest_receipt_of_a_message_counts():
    books = books_with(1)
    books.take(work_of([1]))
    books.renew_receipt("m", "newer")
    assert books.receipts() == {"newer": [1]}


def test_visibility_is_due_at_half_of_it():
    books = books_with(1)
    work = work_of([1])
    work.renew_s = 30.0
    books.take(work)
    assert books.next_due_s() == 30.0
    assert books.due(29.0, 60.0) == []
    assert books.due(30.0, 60.0) == [work]
    assert books.next_due_s() == 60.0


def test_a_call_is_told_once_and_again_when_it_has_moved():
    books = books_with(2)
    books.take(work_of([1]))
    books.place(5.0)
    assert books.next_untold_s(0.5) == 5.5
    for held in books.all_held():
        held.told = True
    assert books.next_untold_s(0.5) == NEVER
    books.take_back("l0", 1)
    books.place(7.0)
    assert books.next_untold_s(0.5) == 7.5


def test_waiting_calls_are_told_with_the_first_lane():
    books = books_with(2)
    books.take(work_of([1, 2]))
    books.place(0.0)
    books.take(work_of([3], "m2"))
    assert books.held() == {"l0": [1, 3], "l1": [2]}
    books.end_lane("l0", 0)
    books.end_lane("l1", 0)
    assert books.held() == {}
    assert books.is_homeless


steps = st.lists(
    st.tuples(st.sampled_from(["take", "end", "die", "recall", "drop", "begin", "place"]), st.integers(0, 9)),
    max_size=60,
)


@given(st.integers(1, 4), st.integers(0, 3), steps)
def test_whatever_happens_each_call_is_in_one_place_until_its_end(n_slots, max_tasks, happenings):
    books = Books(n_slots, max_tasks)
    expected: list[int] = []  # what must be here
    n_calls = n_lanes = 0
    for what, n in happenings:
        lanes = list(books.lanes.values())
        lane = lanes[n % len(lanes)] if lanes else None
        if what == "take":
            numbers = range(n_calls + 1, n_calls + 1 + n)
            n_calls += n
            books.take(work_of(numbers, f"m{n_calls}-{n}"))
            expected += numbers
        elif what == "begin" and len(lanes) < n_slots:
            n_lanes += 1
            books.begin_lane(f"l{n_lanes}", n)
        elif what == "place":
            for placement in books.place(0.0):
                assert placement.calls
                assert len({held.work.id for held in books.lanes[placement.lane].held}) == 1
        elif what == "end" and lane is not None and lane.held:
            number = lane.held[0].number
            assert [held.number for held, _ in books.ended(lane.id, [outcome_of(number)], 0.0)] == [number]
            expected.remove(number)
        elif what == "recall" and lane is not None:
            books.take_back(lane.id, min(n, max(0, len(lane.held) - 1)))
        elif what == "die" and lane is not None:
            _, victims = books.end_lane(lane.id, min(n, max(0, len(lane.held) - 1)))
            books.again(victims[1:])
            for held in victims[:1]:
                expected.remove(held.number)
        elif what == "drop":
            for held in books.drop_waiting({n}):
                expected.remove(held.number)
        assert sorted(held.number for held in books.all_held()) == sorted(expected)
        assert books.room >= 0
        assert books.is_empty == (not expected)
        assert all(lane.quota >= 0 for lane in books.lanes.values())
    started, waiting = books.take_all()
    assert sorted(held.number for held in started + waiting) == sorted(expected)


def test_dividing_a_large_batch_takes_no_time():
    books = books_with(64)
    books.take(work_of(range(20_000)))
    began_s = time.perf_counter()
    books.place(0.0)
    assert time.perf_counter() - began_s < 0.5
