"""How many calls travel together, and where they go."""

import pytest

from cloudexec.ledger.calls import CallOptions
from cloudexec.ledger.pace import Estimate, Pace
from tests.ledger.driving import Driver


def test_calls_of_an_unknown_function_go_singly_one_to_each_lane():
    ledger = Driver(lanes=2)
    ledger.submit(10)
    assert ledger.places() == [("lane0", [1]), ("lane1", [2])]


@pytest.mark.parametrize(
    ("mean_s", "n_calls", "sizes"),
    [
        pytest.param(0.001, 1000, [49], id="work of target_s, less what each call costs besides"),
        pytest.param(10.0, 1000, [1], id="a call longer than target_s travels alone"),
        pytest.param(0.001, 10, [10], id="no more than there are"),
        pytest.param(0.0, 5000, [1024], id="never more than most_calls"),
    ],
)
def test_a_batch_for_the_only_lane_has_the_size(mean_s, n_calls, sizes):
    ledger = Driver(lanes=1, mean_s=mean_s)
    ledger.submit(n_calls)
    assert [len(numbers) for _, numbers in ledger.places()][:1] == sizes


def test_near_the_end_a_lane_gets_its_fair_share():
    ledger = Driver(lanes=4, mean_s=0.001)
    ledger.submit(8)
    assert ledger.places()[0] == ("lane0", [1, 2])


def test_lanes_that_are_still_starting_have_their_share():
    ledger = Driver(lanes=0, max_lanes=4, mean_s=0.001)
    ledger.submit(8)
    ledger.ledger.lane_up("first", "worker", 0.0)
    assert ledger.places()[0] == ("first", [1, 2])


def test_bytes_bound_a_batch_but_one_call_may_be_larger():
    pace = Pace(most_bytes=1000)
    ledger = Driver(lanes=1, mean_s=0.001, pace=pace, size=400)
    ledger.submit(5)
    assert ledger.places()[0] == ("lane0", [1, 2])
    ledger = Driver(lanes=1, mean_s=0.001, pace=pace, size=4000)
    ledger.submit(2)
    assert ledger.places()[0] == ("lane0", [1])


def test_batches_grow_with_the_number_of_measurements():
    pace = Pace(growth=4)
    estimate = Estimate()
    sizes = []
    for count in (0, 1, 2, 10):
        while estimate.count < count:
            estimate.learn(1e-6)
        sizes.append(pace.most_in_batch(estimate, 10_000, 1))
    assert sizes == [0, 4, 8, 40]


def test_a_chunksize_is_kept_and_stays_among_its_like():
    ledger = Driver(lanes=1, options=CallOptions(batch=3))
    ledger.submit(5)
    ledger.submit(2, batch=1)
    for sent, done in (([1, 2, 3], [1, 2, 3]), ([4, 5], [4, 5]), ([6], [6])):
        assert ledger.places()[0] == ("lane0", sent)
        for number in done:
            ledger.outcome(number, seconds=1.0)
    assert ledger.places() == [("lane0", [7])]


def test_hungry_lanes_take_turns():
    ledger = Driver(lanes=2, mean_s=0.001)
    ledger.submit(8)
    lanes = [lane for lane, _ in ledger.places()]
    assert lanes[:4] == ["lane0", "lane1", "lane0", "lane1"]


def test_a_lane_gets_no_more_than_max_tasks_in_its_life():
    ledger = Driver(lanes=1, mean_s=0.001, max_tasks_per_lane=3)
    ledger.submit(10)
    assert ledger.places() == [("lane0", [1, 2, 3])]
    for number in (1, 2, 3):
        ledger.outcome(number)
    assert ledger.places() == []


def test_what_was_taken_back_does_not_count_for_max_tasks():
    ledger = Driver(lanes=1, mean_s=0.001, max_tasks_per_lane=3)
    ledger.submit(10)
    ledger.act()
    ledger.ledger.returned("lane0", 2, 0.0)
    ledger.outcome(1)
    assert ledger.places() == [("lane0", [2, 3])]


def test_a_cancelled_call_takes_no_place_in_a_batch():
    ledger = Driver(lanes=1, mean_s=10.0)
    calls = ledger.submit(3)
    ledger.act()
    assert ledger.ledger.cancel(calls[1])
    ledger.outcome(1)
    assert ledger.places() == [("lane0", [3])]


def test_cancelled_calls_leave_nothing_behind():
    ledger = Driver(lanes=1, mean_s=10.0)
    calls = ledger.submit(10_000)
    ledger.act()
    assert [ledger.ledger.cancel(call) for call in calls] == [False] + [True] * 9999
    assert ledger.ledger.n_open == 1
    assert len(ledger.ledger._placing._pending) <= 64


def test_a_clock_that_was_set_back_does_not_spoil_the_estimate():
    estimate = Estimate()
    estimate.learn(-3600.0)
    assert estimate.mean_s == 0.0
