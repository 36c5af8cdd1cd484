"""Lanes that are one invocation at a time: what the ledger does for a backend that pushes."""

import pytest

from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause
from cloudexec.ledger.pace import Pace
from tests.ledger.driving import LOST, Driver, retries

ONE_AT_A_TIME = Pace(pipelined=False, can_recall=False)


def test_a_lane_gets_no_second_batch_before_the_first_is_over():
    ledger = Driver(lanes=1, mean_s=0.04, pace=ONE_AT_A_TIME)
    ledger.submit(10)
    assert ledger.places() == [("lane0", [1])]
    ledger.outcome(1)
    assert [lane for lane, _ in ledger.places()] == ["lane0"]


@pytest.mark.parametrize(
    ("mean_s", "n_calls", "expected"),
    [
        pytest.param(None, 10, [[1, 2, 3], [4, 5, 6]], id="of an unknown function"),
        pytest.param(60.0, 10, [[1, 2, 3], [4, 5, 6]], id="of long calls"),
        pytest.param(None, 4, [[1, 2, 3], [4]], id="no more than there are"),
    ],
)
def test_a_lane_that_runs_several_calls_at_once_is_given_so_many(mean_s, n_calls, expected):
    ledger = Driver(lanes=2, mean_s=mean_s, pace=Pace(pipelined=False, together=3))
    ledger.submit(n_calls)
    assert [numbers for _, numbers in ledger.places()] == expected


def test_calls_that_come_singly_get_a_lane_each_and_no_more_run_at_once_than_there_may():
    ledger = Driver(lanes=4, pace=Pace(pipelined=False, together=3, most_at_once=4))
    for _ in range(3):
        ledger.submit(1)
    assert ledger.places() == [("lane0", [1]), ("lane1", [2]), ("lane2", [3])]
    ledger.submit(3)
    assert ledger.places() == [("lane3", [4])]
    ledger.outcome(1, "lane0")
    assert ledger.places() == [("lane0", [5])]


def test_calls_that_come_together_share_lanes_and_no_more_run_at_once_than_there_may():
    ledger = Driver(lanes=4, pace=Pace(pipelined=False, together=3, most_at_once=4))
    ledger.submit(10)
    assert ledger.places() == [("lane0", [1, 2, 3]), ("lane1", [4])]
    ledger.ledger.lane_down("lane0", LaneEnd(Cause.LOST, "throttled", retired=True), 3, 0.0)
    assert ledger.places() == [("lane2", [1, 2, 3])]


def test_what_a_lane_tells_before_its_batch_is_over_makes_room_in_other_lanes():
    ledger = Driver(lanes=4, pace=Pace(pipelined=False, together=3, most_at_once=4))
    ledger.submit(10)
    assert ledger.places() == [("lane0", [1, 2, 3]), ("lane1", [4])]
    ledger.outcome(1, "lane0")
    assert ledger.places() == [("lane2", [5])]
    ledger.ledger.call_down("lane0", 2, LOST._replace(stopped=True), 0.0)
    ledger.ledger.settle(0.0)
    assert ledger.places() == [("lane3", [6])]
    ledger.outcome(3, "lane0")
    assert ledger.places() == [("lane0", [7])]


def test_calls_that_are_given_back_from_behind_a_long_one_run_in_another_lane():
    ledger = Driver(lanes=2, mean_s=0.001, pace=Pace(pipelined=False, together=2, most_at_once=2))
    ledger.submit(2)
    assert ledger.places() == [("lane0", [1, 2])]
    ledger.ledger.given_back([2], 0.0)
    assert ledger.places() == [("lane1", [2])]


def test_an_attempt_that_ends_without_an_outcome_leaves_its_lane_and_the_others_in_it():
    ledger = Driver(lanes=1, mean_s=0.001, pace=ONE_AT_A_TIME)
    ledger.submit(3)
    assert ledger.places() == [("lane0", [1, 2, 3])]
    ledger.ledger.call_down("lane0", 2, LaneEnd(Cause.CRASH, "died"), 0.0)
    ledger.outcome(1)
    ledger.outcome(3)
    assert ledger.ends() == {1: "value", 2: Cause.CRASH, 3: "value"}


@pytest.mark.parametrize(
    ("lost", "ended"), [pytest.param(0, True, id="without a budget it fails"), pytest.param(1, False, id="else again")]
)
def test_it_is_tried_again_as_its_budget_for_the_cause_allows(lost, ended):
    ledger = Driver(lanes=1, pace=ONE_AT_A_TIME, options=retries(lost=lost))
    ledger.submit(1)
    ledger.places()
    ledger.ledger.call_down("lane0", 1, LOST, 0.0)
    ledger.ledger.settle(0.0)
    assert (ledger.ends() == {1: Cause.LOST}) == ended


def test_what_may_have_killed_its_company_goes_alone():
    ledger = Driver(lanes=1, mean_s=0.001, pace=ONE_AT_A_TIME)
    ledger.submit(4)
    assert ledger.places() == [("lane0", [1, 2, 3, 4])]
    for number in (1, 2, 3, 4):
        ledger.ledger.call_down("lane0", number, LOST, 0.0, alone=True)
    ledger.ledger.settle(0.0)
    sizes = []
    for _ in range(4):
        ((_, numbers),) = ledger.places()
        sizes.append(len(numbers))
        ledger.outcome(numbers[0])
    assert sizes == [1, 1, 1, 1]


def test_the_end_of_a_call_that_the_lane_does_not_have_is_no_event():
    ledger = Driver(lanes=1, pace=ONE_AT_A_TIME)
    ledger.submit(1)
    ledger.places()
    ledger.ledger.call_down("lane0", 99, LOST, 0.0)
    ledger.ledger.call_down("gone", 1, LOST, 0.0)
    assert ledger.ends() == {}


def test_a_lane_that_was_refused_gives_its_calls_back_at_no_cost():
    ledger = Driver(lanes=2, mean_s=60.0, pace=ONE_AT_A_TIME, options=retries(lost=0))
    ledger.submit(2)
    ledger.places()
    ledger.ledger.lane_down("lane1", LaneEnd(Cause.LOST, "throttled", retired=True), 1, 0.0)
    ledger.outcome(1)
    assert ledger.places() == [("lane0", [2])]
    assert ledger.calls[2].attempts == 1


@pytest.mark.parametrize("end", ["it died", "it is given back"])
def test_a_lane_that_was_asked_for_its_calls_in_vain_takes_others_when_they_are_over(end):
    ledger = Driver(lanes=1, pace=ONE_AT_A_TIME)
    ledger.submit(2)
    ledger.places()
    ledger.ledger.returned("lane0", 0, 0.0)
    if end == "it died":
        ledger.ledger.call_down("lane0", 1, LOST._replace(stopped=True), 0.0)
        ledger.ledger.settle(0.0)
        assert ledger.places() == [("lane0", [2])]
    else:
        ledger.ledger.given_back([1], 0.0)
        assert ledger.places() == [("lane0", [1])]
