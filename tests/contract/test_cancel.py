"""`cancel` tells the truth, `running` is seen, `stop` ends a call that runs."""

import os
from concurrent.futures import CancelledError

import pytest

from cloudexec import errors
from tests.contract import calls
from tests.contract.events import SOON, Gate, eventually, is_alive


class SlowToArrive:
    """Waits at a gate when it is unpickled in a certain process."""

    def __init__(self, gate, pid):
        self.gate, self.pid = gate, pid

    def __setstate__(self, state):
        self.__dict__ |= state
        if self.pid == os.getpid():
            self.gate()


def pass_gate(gate, value):
    return gate(value) if gate is not None else value


@pytest.fixture
def blocked(single, gate):
    """An executor whose only worker runs a call at the gate."""
    single.submit(gate)
    gate.wait_for(1)
    return single


def test_a_queued_call_is_cancelled_and_never_runs(blocked, gate, tmp_path):
    side_effect = tmp_path / "side-effect"
    future = blocked.submit(calls.touch, str(side_effect))
    assert future.cancel()
    assert future.cancelled()
    assert future.done()
    assert not future.running()
    with pytest.raises(CancelledError):
        future.result(SOON)
    with pytest.raises(CancelledError):
        future.exception(SOON)
    gate.open()
    blocked.shutdown(wait=True)
    assert not side_effect.exists()


def test_cancelling_twice_is_true_twice(blocked):
    future = blocked.submit(calls.double, 1)
    assert [future.cancel(), future.cancel()] == [True, True]


def test_a_running_call_is_not_cancelled_and_completes(single, gate):
    future = single.submit(gate, "ran")
    gate.wait_for(1)
    assert not future.cancel()
    assert not future.cancelled()
    gate.open()
    assert future.result(SOON) == "ran"


def test_a_call_that_is_done_is_not_cancelled(executor):
    future = executor.submit(calls.double, 1)
    future.result(SOON)
    assert not future.cancel()
    assert future.result() == 2


def test_every_cancel_that_says_true_prevents_the_call_and_every_other_does_not(executor, tmp_path):
    executor.submit(calls.touch, str(tmp_path / "warm")).result(SOON)
    paths = [tmp_path / str(number) for number in range(300)]
    futures = [executor.submit(calls.touch, str(path)) for path in paths]
    cancelled = [future.cancel() for future in futures]
    executor.shutdown(wait=True)
    assert [future.cancelled() for future in futures] == cancelled
    assert [not path.exists() for path in paths] == cancelled


def test_calls_behind_a_cancelled_one_still_run(blocked, gate):
    futures = [blocked.submit(calls.identity, number) for number in range(20)]
    assert all(future.cancel() for future in futures[::2])
    gate.open()
    assert [future.result(SOON) for future in futures[1::2]] == list(range(1, 20, 2))


def test_of_calls_sent_together_those_that_cannot_be_cancelled_say_that_they_run(single, gate):
    list(single.map(calls.double, range(100)))  # so that the executor knows it to be short, and sends many at once
    blocker = single.submit(gate)
    futures = [single.submit(calls.double, number) for number in range(50)]
    gate.wait_for(1)
    cancelled = [future.cancel() for future in futures]
    assert [future.running() for future in futures] == [not success for success in cancelled]
    gate.open()
    blocker.result(SOON)
    assert [future.cancelled() or future.result(SOON) is not None for future in futures] == [True] * 50


def test_a_call_submitted_at_this_moment_behind_a_running_one_can_be_cancelled(blocked):
    for _ in range(100):
        assert blocked.submit(calls.double, 1).cancel()


def test_a_cancel_that_was_not_answered_in_time_does_not_happen_later(kind, single, gate, tmp_path, monkeypatch):
    if not kind.places_ahead:
        pytest.skip("a call that waits is in no worker's hands here")
    monkeypatch.setattr("cloudexec.engine.engine._ANSWER_WITHIN_S", 0.05)
    arriving, standing = Gate(tmp_path / "arriving"), Gate(tmp_path / "standing")
    assert list(single.map(pass_gate, [None] * 100, [None] * 100)) == [None] * 100  # to be known as short
    slow = single.submit(pass_gate, gate, SlowToArrive(arriving, os.getpid()))
    gate.wait_for(1)
    blocker, future = single.submit(pass_gate, standing, 1), single.submit(pass_gate, None, 2)
    eventually(lambda: future.attempts)  # it lies in the same process's queue
    gate.open()
    standing.wait_for(1)
    arriving.wait_for(1)  # the result stands in the middle of its unpickling, and every answer behind it
    cancelled = future.cancel()
    arriving.open()
    assert isinstance(slow.result(SOON), SlowToArrive)
    standing.open()
    assert blocker.result(SOON) == 1
    assert future.cancelled() if cancelled else future.result(SOON) == 2


def test_running_becomes_true_for_a_call_that_runs_and_stays_false_for_one_that_waits(single, gate):
    first, second = single.submit(gate), single.submit(calls.double, 1)
    eventually(first.running)
    gate.wait_for(1)
    assert first.running()
    assert not second.running()
    assert not second.done()
    gate.open()
    assert second.result(SOON) == 2
    assert not first.running()
    assert first.done()


def test_the_executor_counts_what_was_cancelled(blocked):
    eventually(lambda: blocked.run.running)  # workers elsewhere tell it a moment later
    futures = [blocked.submit(calls.double, number) for number in range(3)]
    futures[0].cancel()
    facts = blocked.run
    assert (facts.cancelled, facts.pending, facts.running) == (1, 2, 1)


# --- stop --------------------------------------------------------------------------------------------


def test_stop_kills_a_running_call_and_harms_no_other(executor, gate, tmp_path):
    other_gate = Gate(tmp_path / "other")
    doomed, other = executor.submit(gate), executor.submit(other_gate, "unharmed")
    queued = [executor.submit(calls.double, number) for number in range(10)]
    (pid,) = gate.wait_for(1)
    other_gate.wait_for(1)
    doomed.stop()
    assert isinstance(doomed.exception(SOON), errors.CallStopped)
    assert doomed.call_id in str(doomed.exception())
    eventually(lambda: not is_alive(pid))
    other_gate.open()
    assert other.result(SOON) == "unharmed"
    assert [future.result(SOON) for future in queued] == list(range(0, 20, 2))


def test_stop_cancels_a_queued_call(blocked, gate):
    future = blocked.submit(calls.double, 1)
    future.stop()
    assert future.cancelled()


def test_stop_of_a_call_that_is_done_changes_nothing(executor):
    future = executor.submit(calls.double, 1)
    future.result(SOON)
    future.stop()
    assert future.result() == 2


def test_a_stopped_call_is_not_tried_again(single, gate):
    future = single.with_options(retries=3).submit(gate)
    gate.wait_for(1)
    future.stop()
    assert isinstance(future.exception(SOON), errors.CallStopped)
    assert gate.arrivals == 1


def test_stop_reaches_a_call_however_short_a_time_ago_it_began(single, gate):
    for _ in range(20):
        future = single.submit(gate)
        while not future.running():
            pass
        future.stop()
        assert isinstance(future.exception(SOON), errors.CallStopped)


def test_the_executor_is_usable_after_stop(single, gate):
    future = single.submit(gate)
    eventually(future.running)
    future.stop()
    future.exception(SOON)
    assert single.submit(calls.double, 1).result(SOON) == 2


def test_stop_reaches_a_call_that_ignores_every_signal_it_can(single, gate):
    def stubborn():
        import signal

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        while True:
            try:
                gate()
            except BaseException:
                pass

    future = single.submit(stubborn)
    gate.wait_for(1)
    future.stop()
    assert isinstance(future.exception(SOON), errors.CallStopped)
