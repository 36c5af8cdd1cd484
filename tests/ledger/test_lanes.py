"""Taking calls back, silence, growth, starts that fail, and queues."""

import pytest

from cloudexec.ledger.actions import Break, DropWorker, Fail, KillCall, LaneEnd, Ping, Recall, WantLanes
from cloudexec.ledger.calls import Call, CallOptions, Cause
from cloudexec.ledger.pace import Pace
from tests.ledger.driving import DIED, LOST, Driver, retries

# --- taking back ---


def busy_and_idle(*, mean_s=0.005, **kwargs):
    """Two lanes: lane0 has shown that it works and holds calls 2 to 6, lane1 is idle."""
    ledger = Driver(lanes=1, max_lanes=2, mean_s=mean_s, **kwargs)
    ledger.submit(1)
    ledger.outcome(1, seconds=mean_s)
    ledger.submit(5, batch=5)
    ledger.act()
    ledger.ledger.lane_up("lane1", "worker1", 0.0)
    return ledger


def test_queued_calls_are_taken_back_for_an_idle_lane():
    ledger = busy_and_idle()
    ledger.wait(0.0021)
    assert ledger.act(Recall) == [Recall("lane0")]
    ledger.ledger.returned("lane0", 4, ledger.now_s)
    assert ledger.places()[0] == ("lane1", [3, 4, 5, 6])


def test_a_lane_that_was_asked_is_not_asked_again_before_it_shows_something():
    ledger = busy_and_idle()
    ledger.wait(0.0021)
    ledger.act()
    ledger.ledger.returned("lane0", 0, ledger.now_s)
    ledger.wait(1.0)
    assert ledger.act(Recall) == []
    ledger.outcome(2)
    ledger.wait(1.0)
    assert ledger.act(Recall) == [Recall("lane0")]


def test_work_that_is_not_worth_a_message_is_taken_back_only_when_nothing_moves():
    ledger = busy_and_idle(mean_s=1e-5)
    ledger.wait(0.009)
    assert ledger.act(Recall) == []
    ledger.wait(0.002)
    assert ledger.act(Recall) == [Recall("lane0")]


def test_a_single_call_is_taken_back_from_a_lane_that_has_done_nothing_yet():
    ledger = Driver(lanes=2)
    ledger.submit(2)
    ledger.act()
    ledger.outcome(1)  # lane0 is idle; lane1 may still be running its initializer
    ledger.wait(0.02)
    assert ledger.act(Recall) == [Recall("lane1")]
    ledger.ledger.returned("lane1", 1, ledger.now_s)
    assert ledger.places() == [("lane0", [2])]


def test_a_single_call_of_a_lane_that_has_shown_that_it_works_is_left_there():
    ledger = Driver(lanes=2)
    ledger.submit(2)
    ledger.outcome(1, lane="lane0")
    ledger.outcome(2, lane="lane1")
    ledger.submit(1)
    ledger.wait(60)
    assert ledger.act(Recall) == []


def test_lanes_that_are_all_slow_to_start_do_not_pass_calls_on_in_a_circle_for_ever():
    ledger = Driver(lanes=3)
    ledger.submit(1)
    for _ in range(1000):
        ledger.wait(0.01)
        for recall in ledger.act(Recall):
            ledger.ledger.returned(recall.lane, 1, ledger.now_s)
    assert ledger.ledger.placed_batches < 50


def test_nothing_is_taken_back_where_a_backend_cannot():
    ledger = busy_and_idle(pace=Pace(can_recall=False))
    ledger.wait(10)
    assert ledger.act(Recall) == []


# --- silence and lost messages ---


def test_a_worker_with_calls_is_asked_for_a_sign_of_life_and_dropped_without_one():
    ledger = Driver(lanes=1, ping_every_s=2.0, silent_after_s=8.0)
    ledger.submit()
    ledger.wait(2.0)
    assert ledger.act(Ping) == [Ping("worker0")]
    ledger.wait(7.9)
    assert ledger.act(DropWorker) == []
    ledger.wait(2.0)
    assert ledger.act(DropWorker) == [DropWorker("worker0")]


def test_a_worker_that_answers_lives_on():
    ledger = Driver(lanes=1)
    ledger.submit()
    for _ in range(100):
        ledger.wait(2.0)
        ledger.ledger.heard("worker0", ledger.now_s)
    assert ledger.act(DropWorker) == []


def test_an_idle_worker_is_left_alone():
    ledger = Driver(lanes=1)
    ledger.wait(1000)
    assert ledger.act() == []


def test_a_dropped_worker_gets_no_more_calls():
    ledger = Driver(lanes=1, mean_s=0.001)
    ledger.submit()
    ledger.wait(12)
    ledger.act()
    ledger.submit()
    assert ledger.places() == []


def test_a_dropped_worker_whose_end_nobody_reports_is_taken_for_dead():
    ledger = Driver(lanes=1, options=retries())
    ledger.submit()
    ledger.act()
    ledger.wait(30)
    assert ledger.ends() == {1: Cause.LOST}


def test_a_call_that_two_answers_in_a_row_do_not_name_was_lost_with_its_message():
    ledger = Driver(lanes=1, options=retries())
    ledger.submit()
    ledger.wait(2)
    ledger.ledger.heard("worker0", ledger.now_s, frozenset())
    assert ledger.ends() == {}
    ledger.wait(2)
    ledger.ledger.heard("worker0", ledger.now_s, frozenset())
    assert ledger.ends() == {1: Cause.LOST}


def test_an_answer_that_crossed_a_call_on_the_way_says_nothing_of_it():
    ledger = Driver(lanes=1, mean_s=0.001)
    ledger.submit()
    for _ in range(5):
        ledger.wait(2)
        ledger.ledger.heard("worker0", ledger.now_s, frozenset())
        ledger.wait(2)
        ledger.ledger.heard("worker0", ledger.now_s, frozenset({1}))
    assert ledger.ends() == {}


def test_a_lane_whose_message_was_lost_still_gets_its_max_tasks():
    ledger = Driver(lanes=1, max_tasks_per_lane=1)
    ledger.submit()
    for _ in range(2):
        ledger.wait(2)
        ledger.ledger.heard("worker0", ledger.now_s, frozenset())
    assert ledger.places() == [("lane0", [1]), ("lane0", [1])]


def test_a_worker_that_does_not_keep_a_time_limit_is_asked_to():
    ledger = Driver(lanes=1, options=CallOptions(timeout_s=1.0), timeout_grace_s=5.0)
    ledger.submit()
    for _ in range(4):
        ledger.wait(2.0)
        ledger.ledger.heard("worker0", ledger.now_s)
    assert ledger.act(KillCall) == [KillCall("lane0", 1)]


# --- growth and starts ---


def test_lanes_are_wanted_as_calls_are_open_up_to_the_limit():
    ledger = Driver(lanes=0, max_lanes=5)
    ledger.submit(2)
    ledger.submit(10)
    assert ledger.act(WantLanes) == [WantLanes(2), WantLanes(5)]


def test_a_lane_that_ends_is_replaced_while_there_are_calls_for_it():
    ledger = Driver(lanes=2, mean_s=10.0)
    ledger.submit(4)
    ledger.act()
    ledger.ledger.lane_down("lane0", DIED, 0, 0.0)
    assert ledger.act(WantLanes) == [WantLanes(2)]


def test_a_lane_that_ends_idle_is_not_replaced():
    ledger = Driver(lanes=2, mean_s=10.0)
    ledger.submit(1)
    ledger.outcome(1)
    ledger.act()
    ledger.ledger.lane_down("lane0", DIED, 0, 0.0)
    assert ledger.act(WantLanes) == []


def test_lanes_that_were_to_come_with_a_dead_worker_are_asked_for_again():
    ledger = Driver(lanes=0, max_lanes=10)
    ledger.submit(10)
    ledger.ledger.lane_up("a", "w", 0.0)
    ledger.outcome(1, lane="a")
    for number in range(2, 7):
        ledger.outcome(number, lane="a")
    ledger.act()
    ledger.ledger.worker_down("w", LOST, {}, 0.0)
    assert ledger.act(WantLanes) == [WantLanes(4)]


def test_failed_starts_in_a_row_break_the_executor_and_fail_every_call():
    ledger = Driver(lanes=0, max_lanes=2, failed_starts=3)
    ledger.submit(2)
    for _ in range(3):
        assert ledger.act(Break) == []
        ledger.ledger.start_failed(LOST, ledger.now_s)
        ledger.wait(1)
    kinds = [type(action) for action in ledger.act()]
    assert kinds[-3:] == [Fail, Fail, Break]
    ledger.submit()
    assert [type(action) for action in ledger.act()] == [Fail]


def test_starts_that_fail_together_count_once():
    ledger = Driver(lanes=0, max_lanes=100)
    ledger.submit(100)
    for _ in range(100):
        ledger.ledger.start_failed(LOST, 0.0)
    assert ledger.act(Break) == []
    ledger.wait(1)
    assert ledger.act(WantLanes) == [WantLanes(100)]


def test_failed_starts_break_nothing_while_a_lane_is_up():
    ledger = Driver(lanes=1, max_lanes=2, mean_s=10.0)
    ledger.submit(2)
    for _ in range(10):
        ledger.ledger.start_failed(LOST, ledger.now_s)
        for _ in range(40):  # longer than the longest pause
            ledger.wait(2)
            ledger.ledger.heard("worker0", ledger.now_s)
        assert ledger.act(WantLanes)
    assert ledger.ledger.broken is None


def test_the_end_of_a_large_worker_is_one_failed_start_at_most():
    ledger = Driver(lanes=0, max_lanes=100)
    ledger.submit(1)
    for number in range(100):
        ledger.ledger.lane_up(f"lane{number}", "w", 0.0)
    ledger.ledger.worker_down("w", LOST, {}, 0.0)
    assert ledger.act(Break) == []


def test_a_lane_that_has_worked_ends_the_row_of_failed_starts():
    ledger = Driver(lanes=0, max_lanes=1, mean_s=10.0)
    ledger.submit(10)
    for number in range(1, 6):
        ledger.ledger.start_failed(LOST, ledger.now_s)
        ledger.wait(1)
        ledger.ledger.lane_up(f"lane{number}", "w", ledger.now_s)
        ledger.outcome(number, lane=f"lane{number}")
        ledger.ledger.lane_down(f"lane{number}", DIED, 1, ledger.now_s)
    assert ledger.act(Break) == []


def test_lanes_that_die_before_their_first_call_break_the_executor():
    ledger = Driver(lanes=0, max_lanes=1)
    ledger.submit(1)
    for number in range(3):
        ledger.ledger.lane_up(f"lane{number}", "w", ledger.now_s)
        ledger.act()
        ledger.ledger.lane_down(f"lane{number}", DIED, 1, ledger.now_s)
        ledger.wait(1)
    assert ledger.ends() == {1: Cause.CRASH}
    assert ledger.ledger.broken == DIED


def test_no_lane_in_time_is_a_failed_start():
    ledger = Driver(lanes=0, max_lanes=1, start_within_s=60.0)
    ledger.submit(1)
    ledger.wait(3 * 60 + 1)
    assert ledger.ends() == {1: Cause.LOST}


def test_nobody_waits_for_lanes_when_all_calls_were_cancelled():
    ledger = Driver(lanes=0, max_lanes=1)
    (call,) = ledger.submit(1)
    ledger.ledger.cancel(call)
    ledger.wait(1000)
    assert ledger.ledger.broken is None
    ledger.submit(1)
    assert ledger.act(WantLanes)[-1] == WantLanes(1)


def test_break_down_fails_what_is_pending_paused_and_placed():
    ledger = Driver(lanes=2, options=CallOptions(retry=CallOptions().retry.of(1)))
    ledger.submit(3)
    ledger.outcome(1, ok=False)
    end = LaneEnd(Cause.LOST, "enough")
    ledger.ledger.break_down(end)
    assert set(ledger.ends()) == {1, 2, 3}
    assert (ledger.ledger.n_open, ledger.ledger.n_placed) == (0, 0)


# --- queues that slots take from ---


def pulling(n_calls=3, **kwargs):
    """Calls in a queue, and one slot beside it."""
    ledger = Driver(lanes=0, max_lanes=2, **kwargs)
    ledger.ledger.queue_up("queue", 0.0)
    ledger.submit(n_calls)
    ledger.ledger.lane_up("a", "w", 0.0)
    ledger.places()
    return ledger


@pytest.mark.parametrize(
    ("mean_s", "taken", "placed"),
    [
        pytest.param(None, [], 2, id="one call for each slot that is there or on its way"),
        pytest.param(None, [1], 2, id="nothing ahead of a busy slot while nothing is known"),
        pytest.param(10.0, [1], 2, id="nothing ahead of calls so long that one would rather cancel them"),
        pytest.param(1.0, [1], 3, id="one ahead for each slot if calls are short"),
        pytest.param(0.1, [1], 7, id="work for 0.3 s for each slot if they are shorter"),
    ],
)
def test_a_queue_holds(mean_s, taken, placed):
    ledger = pulling(10, mean_s=mean_s, pace=Pace(target_s=0.01, overhead_s=0.0, byte_s=0.0))
    ledger.ledger.taken("a", taken, 0.0)
    ledger.ledger.settle(0.0)
    ledger.act()
    assert ledger.ledger.n_placed == placed


def test_a_call_that_was_put_back_is_in_the_queue_again_and_pays_nothing():
    ledger = pulling(2, options=retries())
    ledger.ledger.taken("a", [1, 2], 0.0)
    ledger.ledger.requeued("queue", [(1, 2), (2, 1)], 0.0)
    ledger.ledger.worker_down("w", DIED, {}, 0.0)
    assert ledger.ends() == {}
    assert [ledger.calls[number].attempts for number in (1, 2)] == [2, 1]
    ledger.outcome(1, lane="b", attempt=2)
    assert ledger.ends() == {1: "value"}


@pytest.mark.parametrize(
    ("ok", "end", "attempts"),
    [
        pytest.param(True, {1: "value"}, 2, id="a value counts"),
        pytest.param(False, {}, 3, id="an error is paid, and the call goes on at once"),
    ],
)
def test_an_outcome_may_overtake_the_word_that_its_call_was_put_back(ok, end, attempts):
    """A worker that leaves puts attempt 2 into the queue; another runs it before the first one's report is read."""
    ledger = pulling(1, options=retries(error=1))
    ledger.ledger.taken("a", [1], 0.0)
    ledger.ledger.lane_up("b", "v", 0.0)
    ledger.outcome(1, lane="b", attempt=2, ok=ok)
    assert ledger.calls[1].attempts == attempts
    ledger.ledger.requeued("queue", [(1, 2)], 0.0)
    ledger.ledger.worker_down("w", DIED, {}, 0.0)
    assert ledger.calls[1].attempts == attempts
    assert ledger.ledger.late_outcomes == 0
    assert ledger.ends() == end
    ledger.outcome(1, lane="b", attempt=2, ok=False)  # it comes twice: it was paid for
    assert ledger.calls[1].attempts == attempts
    assert ledger.ends() == {}


def test_word_of_an_attempt_that_was_replaced_does_not_move_a_call():
    ledger = pulling(1, options=retries(lost=1))
    ledger.ledger.taken("a", [1], 0.0)
    ledger.ledger.worker_down("w", LOST, {}, 0.0)
    ledger.act()
    assert ledger.calls[1].attempts == 2
    ledger.ledger.requeued("queue", [(1, 1)], 0.0)
    assert ledger.calls[1].attempts == 2


def test_a_call_that_came_back_from_the_queue_can_be_cancelled():
    ledger = pulling(1)
    assert not ledger.ledger.cancel(ledger.calls[1])
    ledger.ledger.given_back([1], 0.0)
    ledger.ledger.take_actions()
    ledger.ledger.given_back([1], 0.0)  # it is placed again at once, as a slot is free; the next time is cancelled
    assert ledger.calls[1].attempts == 1


def test_adopted_calls_are_in_the_queue():
    ledger = Driver(lanes=0, max_lanes=2)
    ledger.ledger.queue_up("queue", 0.0)
    call = Call(7, ledger.estimate, ledger.options, 100)
    call.attempts = 1
    ledger.ledger.adopt("queue", [call], 0.0)
    ledger.outcome(7, lane="a", attempt=1)
    assert ledger.ends() == {7: "value"}


def test_the_slot_that_took_a_call_pays_for_it():
    ledger = pulling(2, options=retries())
    ledger.ledger.taken("a", [1], 0.0)
    ledger.ledger.lane_down("a", DIED, 0, 0.0)
    assert ledger.ends() == {1: Cause.CRASH}
    assert ledger.ledger.n_open == 1


def test_an_outcome_that_is_quicker_than_the_word_taken_counts():
    ledger = pulling(1)
    ledger.outcome(1, lane="a")
    ledger.ledger.taken("a", [1], 0.0)
    assert ledger.ends() == {1: "value"}
    assert ledger.ledger.lane_counts() == {}


def test_a_call_that_the_queue_hands_out_twice_belongs_to_who_took_it_last():
    ledger = pulling(1, options=retries())
    ledger.ledger.lane_up("b", "v", 0.0)
    ledger.ledger.taken("a", [1], 0.0)
    ledger.ledger.taken("b", [1], 0.0)
    ledger.ledger.lane_down("a", DIED, 0, 0.0)
    assert ledger.ends() == {}
    ledger.outcome(1, lane="b")
    assert ledger.ends() == {1: "value"}


def test_a_call_that_an_idle_slot_does_not_find_for_long_is_lost():
    ledger = pulling(1, options=retries(), queue_patience_s=30.0)
    ledger.wait(29)
    assert ledger.ends() == {}
    ledger.wait(5)
    assert ledger.ends() == {1: Cause.LOST}


def test_a_call_may_wait_in_the_queue_for_long_while_slots_are_busy():
    ledger = pulling(2, mean_s=60.0, options=retries(), queue_patience_s=30.0)
    ledger.ledger.taken("a", [1], 0.0)
    for _ in range(50):
        ledger.wait(2)
        ledger.ledger.heard("w", ledger.now_s)
    ledger.outcome(1, lane="a")
    ledger.wait(2)
    assert ledger.ends() == {1: "value"}


@pytest.mark.parametrize("max_tasks", [1, 3])
def test_a_message_of_the_queue_holds_no_more_than_max_tasks(max_tasks):
    ledger = Driver(lanes=0, max_lanes=1, mean_s=0.001, max_tasks_per_lane=max_tasks)
    ledger.ledger.queue_up("queue", 0.0)
    ledger.submit(10)
    assert {len(numbers) for _, numbers in ledger.places()} <= {max_tasks, 1}


LEFT = LaneEnd(Cause.LOST, "it had no work", retired=True)


def come_and_go(ledger, seconds, life_s):
    """Slots that find nothing leave after `life_s`, and others come in their place."""
    end_s = ledger.now_s + seconds
    number = 0
    while ledger.now_s < end_s and ledger.ledger.n_open:
        ledger.wait(life_s)
        ledger.ledger.worker_down(f"w{number}" if number else "w", LEFT, {}, ledger.now_s)
        number += 1
        ledger.ledger.lane_up(f"a{number}", f"w{number}", ledger.now_s)


def test_a_lost_message_is_missed_also_where_idle_slots_leave_sooner():
    ledger = pulling(1, options=retries(), ping_every_s=1, queue_patience_s=30)
    come_and_go(ledger, 60, life_s=5)
    assert ledger.ends() == {1: Cause.LOST}
    assert 30 < ledger.now_s <= 40


def test_slots_that_left_long_before_a_call_came_do_not_count_against_it():
    ledger = pulling(1, options=retries(), ping_every_s=1, queue_patience_s=30)
    ledger.outcome(1, lane="a")
    ledger.wait(100)
    ledger.ledger.worker_down("w", LEFT, {}, ledger.now_s)
    ledger.ledger.lane_up("b", "v", ledger.now_s)
    ledger.submit(1)
    ledger.places()
    ledger.wait(29)
    assert 2 not in ledger.ends()
    ledger.wait(5)
    assert ledger.ends() == {2: Cause.LOST}


def test_workers_that_leave_without_having_found_anything_are_no_failed_starts():
    ledger = pulling(1, ping_every_s=1, queue_patience_s=1000, failed_starts=3)
    come_and_go(ledger, 60, life_s=5)
    ledger.ledger.worker_down("never heard of", LEFT, {}, ledger.now_s)
    assert ledger.ledger.broken is None
    assert ledger.ends() == {}
