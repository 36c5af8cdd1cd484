"""What an attempt's end means for its call: resolved, failed, or tried again."""

import pytest

from cloudexec.ledger.actions import LaneEnd, Resolve
from cloudexec.ledger.calls import CallOptions, Cause, Retry, State
from tests.ledger.driving import DIED, LOST, Driver, retries

CAUSES = [cause for cause in Cause if cause is not Cause.ERROR]


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.value)
@pytest.mark.parametrize("budget", [0, 1, 3])
def test_each_cause_has_a_budget_of_its_own(cause, budget):
    ledger = Driver(lanes=1, options=retries(**{cause.value: budget}))
    (call,) = ledger.submit()
    ends = {}
    lanes = 0
    while not ends:
        ends = ledger.ends()
        ledger.ledger.lane_down(f"lane{lanes}", LaneEnd(cause, "it ended"), 0, 0.0)
        ends = ledger.ends()
        lanes += 1
        ledger.ledger.lane_up(f"lane{lanes}", "worker", 0.0)
    assert ends == {1: cause}
    assert (lanes, call.attempts, call.spent.get(cause, 0)) == (budget + 1, budget + 1, budget)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.value)
def test_where_there_is_more_memory_elsewhere_only_its_lack_is_not_tried_again_here(cause):
    ledger = Driver(lanes=1, options=CallOptions(retry=Retry(crash=1, timeout=1, oom=1, lost=1)), oom_goes_on=True)
    (call,) = ledger.submit()
    ledger.act()
    ledger.ledger.worker_down("worker0", LaneEnd(cause, "it ended"), {}, 0.0)
    assert ledger.ends() == ({1: cause} if cause is Cause.OOM else {})
    assert call.spent == ({} if cause is Cause.OOM else {cause: 1})


@pytest.mark.parametrize(
    ("retry", "budget", "end"),
    [
        pytest.param(True, 1, None, id="an error with budget left is tried again"),
        pytest.param(True, 0, "error", id="an error without budget is the outcome"),
        pytest.param(False, 1, "error", id="what would come again is the outcome whatever the budget"),
    ],
)
def test_an_error_of_the_function(retry, budget, end):
    ledger = Driver(lanes=1, options=retries(error=budget))
    ledger.submit()
    ledger.act()
    ledger.outcome(1, value="error", ok=False, retry=retry)
    assert ledger.ends().get(1) == end


def test_an_attempt_that_may_be_repeated_waits_for_the_pause_and_the_pause_doubles():
    ledger = Driver(lanes=1, options=CallOptions(retry=Retry(error=2, backoff_s=1.0)))
    ledger.submit()
    ledger.places()
    for pause_s in (1.0, 2.0):
        ledger.outcome(1, ok=False)
        ledger.wait(pause_s - 0.01)
        assert ledger.places() == []
        ledger.wait(0.02)
        assert ledger.places() == [("lane0", [1])]


def test_a_paused_call_can_be_cancelled():
    ledger = Driver(lanes=1, options=CallOptions(retry=Retry(error=1, backoff_s=1.0)))
    (call,) = ledger.submit()
    ledger.act()
    ledger.outcome(1, ok=False)
    assert ledger.ledger.pending_calls() == [call]
    assert ledger.ledger.cancel(call)
    ledger.wait(5)
    assert ledger.places() == []
    assert ledger.ledger.n_open == 0


# --- who pays for the end of a lane ---


@pytest.mark.parametrize(
    ("end", "unstarted", "failed", "back"),
    [
        pytest.param(DIED, 2, [1], [2, 3], id="the running call pays, what never started does not"),
        pytest.param(DIED, 0, [1], [2, 3], id="the first of several started calls pays"),
        pytest.param(DIED, 3, [], [1, 2, 3], id="nothing had started: nobody pays"),
        pytest.param(DIED._replace(killed_call=1), 2, [1], [2, 3], id="killed for the call that ran"),
        pytest.param(
            DIED._replace(killed_call=2), 1, [2], [1, 3], id="killed for the second: the first is a bystander"
        ),
        pytest.param(DIED._replace(killed_call=9), 2, [], [1, 2, 3], id="killed for a call that was over: bystanders"),
    ],
)
def test_at_the_end_of_a_lane(end, unstarted, failed, back):
    ledger = Driver(lanes=1, mean_s=0.001, options=retries())
    calls = ledger.submit(3)
    ledger.act()
    ledger.ledger.lane_down("lane0", end, unstarted, 0.0)
    assert list(ledger.ends()) == failed
    assert [call.number for call in ledger.ledger.pending_calls()] == back
    assert [call.attempts for call in calls if call.number in back] == [0] * len(back)


def test_a_batch_that_was_not_sent_yet_never_started():
    ledger = Driver(lanes=1, options=retries())
    ledger.submit(2)
    ledger.places()
    ledger.outcome(1)  # the ledger places call 2; the backend has already seen the slot's end
    ledger.ledger.lane_down("lane0", DIED, 0, 0.0)
    assert ledger.ends() == {1: "value"}
    ledger.ledger.lane_up("lane1", "worker", 0.0)
    assert ledger.places() == [("lane1", [2])]


def test_what_a_backend_gives_back_is_what_it_was_sent():
    ledger = Driver(lanes=1, mean_s=0.001)
    ledger.submit(2)
    assert ledger.places() == [("lane0", [1, 2])]
    ledger.submit(1)  # its batch is not sent yet when the backend is asked
    ledger.ledger.returned("lane0", 1, 0.0, place=False)
    assert [call.number for call in ledger.ledger.pending_calls()] == [2, 3]
    assert ledger.places() == []


def test_a_stopped_call_is_not_tried_again_whatever_its_budget():
    ledger = Driver(lanes=1, options=retries(crash=3))
    ledger.submit()
    ledger.act()
    ledger.ledger.lane_down("lane0", DIED._replace(stopped=True, killed_call=1), 0, 0.0)
    assert ledger.ends() == {1: Cause.CRASH}


def test_a_retired_lane_that_owes_an_outcome_has_lost_it():
    ledger = Driver(lanes=1, options=retries(), max_tasks_per_lane=1)
    ledger.submit()
    ledger.act()
    ledger.ledger.lane_down("lane0", DIED._replace(retired=True), 0, 0.0)
    assert ledger.ends() == {1: Cause.LOST}


def test_the_end_of_a_worker_is_paid_by_the_running_call_of_each_lane():
    ledger = Driver(lanes=0, max_lanes=2, mean_s=10.0, options=retries())
    ledger.ledger.lane_up("a", "w", 0.0)
    ledger.ledger.lane_up("b", "w", 0.0)
    ledger.submit(3)
    ledger.act()
    ledger.ledger.worker_down("w", LOST, {"b": 1}, 0.0)
    assert ledger.ends() == {1: Cause.LOST}
    assert [call.number for call in ledger.ledger.pending_calls()] == [2, 3]


# --- twins and late outcomes ---


def test_the_second_outcome_of_a_call_is_counted_and_dropped():
    ledger = Driver(lanes=1)
    ledger.submit()
    ledger.act()
    ledger.outcome(1, value="first")
    ledger.outcome(1, value="second")
    assert ledger.ends() == {1: "first"}
    assert ledger.ledger.late_outcomes == 1


def test_a_late_outcome_from_a_dead_lane_resolves_a_call_that_waits_for_its_retry():
    ledger = Driver(lanes=1)
    ledger.submit()
    ledger.act()
    ledger.ledger.lane_down("lane0", LOST, 0, 0.0)
    ledger.outcome(1, value="late")
    assert ledger.ends() == {1: "late"}
    ledger.ledger.lane_up("lane1", "w", 0.0)
    assert ledger.places() == []


def test_a_late_outcome_leaves_the_lane_of_the_retry_busy_until_that_has_ended():
    ledger = Driver(lanes=2, options=retries(lost=1))
    ledger.submit()
    ledger.act()
    ledger.ledger.lane_down("lane0", LOST, 0, 0.0)
    assert ledger.places() == [("lane1", [1])]
    ledger.outcome(1, lane="lane0", value="late")
    assert ledger.ends() == {1: "late"}
    assert ledger.ledger.lane_counts() == {"lane1": 1}
    ledger.outcome(1, lane="lane1", value="twin")
    assert ledger.ends() == {}
    assert ledger.ledger.lane_counts() == {}


def test_an_error_that_comes_twice_is_paid_once():
    ledger = Driver(lanes=1, options=retries(error=1))
    (call,) = ledger.submit()
    ledger.act()
    ledger.outcome(1, ok=False, attempt=1)
    ledger.outcome(1, ok=False, attempt=1)
    assert ledger.ends() == {}
    assert call.spent == {Cause.ERROR: 1}
    ledger.outcome(1, attempt=2)
    assert ledger.ends() == {1: "value"}


@pytest.mark.parametrize(
    ("budget", "ends"),
    [
        pytest.param(0, {1: "late"}, id="no budget: the first outcome is the call's"),
        pytest.param(1, {}, id="the attempt was paid for as lost, the next one decides"),
    ],
)
def test_a_late_error_of_an_attempt_that_counts_as_lost(budget, ends):
    ledger = Driver(lanes=2, options=retries(lost=1, error=budget))
    ledger.submit()
    ledger.act()
    ledger.ledger.lane_down("lane0", LOST, 0, 0.0)
    ledger.act()
    ledger.outcome(1, value="late", ok=False)
    assert ledger.ends() == ends


def test_nobody_hears_of_outcomes_of_unknown_calls():
    ledger = Driver(lanes=1)
    ledger.outcome(77)
    ledger.outcome(77, lane="nowhere")
    assert ledger.act(Resolve) == []


# --- cancelling ---


@pytest.mark.parametrize("state", ["pending", "placed", "over"])
def test_only_a_call_that_is_in_no_lane_can_be_cancelled(state):
    ledger = Driver(lanes=0 if state == "pending" else 1, max_lanes=1)
    (call,) = ledger.submit()
    ledger.act()
    if state == "over":
        ledger.outcome(1)
    assert ledger.ledger.cancel(call) is (state == "pending")
    assert not ledger.ledger.cancel(call)


def test_a_placed_call_can_be_cancelled_after_it_was_taken_back():
    ledger = Driver(lanes=1, mean_s=0.001)
    calls = ledger.submit(3)
    ledger.act()
    ledger.ledger.returned("lane0", 2, 0.0, place=False)
    assert ledger.ledger.cancel(calls[1])
    ledger.outcome(1)
    assert ledger.places() == [("lane0", [3])]
    assert calls[1].state is State.DONE
