"""The process under a call dies, by its own hand or another's."""

import os
import signal
from functools import partial

import pytest

from cloudexec import Retry, errors
from tests.contract.events import SOON, eventually, is_alive
from tests.faults import deeds
from tests.faults.scene import assert_explains, in_one_go, parent_of


@pytest.mark.parametrize(
    ("deed", "args", "exitcode"),
    [
        pytest.param(deeds.exit_at_once, (7,), 7, id="os._exit"),
        pytest.param(deeds.exit_at_once, (0,), 0, id="os._exit, as if all were well"),
        pytest.param(deeds.exit_at_once, (90,), 90, id="os._exit, with the code of a slot that has done its share"),
        pytest.param(deeds.exit_at_once, (91,), 91, id="os._exit, with the code of a failed initializer"),
        pytest.param(deeds.read_address_zero, (), -signal.SIGSEGV, id="segmentation fault"),
        pytest.param(deeds.fault, (), -signal.SIGSEGV, id="segmentation fault, raised by faulthandler"),
        pytest.param(deeds.abort, (), -signal.SIGABRT, id="abort"),
        pytest.param(deeds.kill_self, (signal.SIGKILL,), -signal.SIGKILL, id="SIGKILL"),
        pytest.param(deeds.kill_self, (signal.SIGTERM,), -signal.SIGTERM, id="SIGTERM"),
        pytest.param(deeds.overflow_a_small_stack, (), -signal.SIGSEGV, id="overflow of the C stack"),
    ],
)
def test_a_call_that_ends_its_process_crashes_alone(scene, deed, args, exitcode):
    victim = scene.play(deed, *args)
    error = victim.exception(0)
    assert type(error) is errors.CallCrashed
    assert error.exitcode == exitcode
    assert_explains(victim)
    assert scene.runs_of_victim() == 1
    scene.assert_unharmed()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_slot_killed_from_outside_takes_its_call_along_and_no_other(scene, number):
    scene.executor.submit(deeds.identity, 0).result(SOON)

    def kill_slot_at_gate():
        (pid,) = scene.gate.wait_for(1)
        os.kill(pid, number)

    future = scene.executor.submit(scene.gate)
    kill_slot_at_gate()
    error = future.exception(SOON)
    assert type(error) is errors.CallCrashed
    assert error.exitcode == -number
    assert number.name in str(error)
    assert_explains(future)
    assert scene.executor.submit(deeds.identity, "usable").result(SOON) == "usable"


def test_an_idle_slot_that_is_killed_harms_no_call(single):
    slot, _ = single.submit(deeds.pids).result(SOON)
    os.kill(slot, signal.SIGKILL)
    eventually(lambda: not is_alive(slot))
    new_slot, _ = single.with_options(retries=1).submit(deeds.pids).result(SOON)
    assert new_slot != slot


@pytest.mark.parametrize(
    ("deed", "args", "code"),
    [
        pytest.param(deeds.leave, (5,), 5, id="sys.exit"),
        pytest.param(deeds.leave, ("a message",), "a message", id="sys.exit with a message"),
        pytest.param(deeds.leave, (None,), None, id="sys.exit without a code"),
        pytest.param(deeds.interrupt, (), None, id="KeyboardInterrupt"),
    ],
)
def test_a_call_that_leaves_python_ends_in_an_error_of_its_own(scene, deed, args, code):
    victim = scene.play(deed, *args)
    error = victim.exception(0)
    assert type(error) is errors.CallExited
    assert error.code == code
    assert "Remedy:" in str(error)
    scene.assert_unharmed()


def test_what_a_call_wrote_to_stderr_before_it_crashed_is_in_its_error(single):
    future = single.submit(deeds.complain_and_crash, "out of luck\n")
    assert type(future.exception(SOON)) is errors.CallCrashed
    assert "out of luck" in str(future.exception(0))


def test_a_crash_in_native_code_shows_the_python_line_that_led_to_it(single):
    future = single.submit(deeds.read_address_zero)
    assert type(future.exception(SOON)) is errors.CallCrashed
    assert "in read_address_zero" in str(future.exception(0))
    assert single.submit(os._exit, 3).exception(SOON).what.count("read_address_zero") == 0


# --- the supervisor ----------------------------------------------------------------------------


def test_a_killed_supervisor_is_replaced_and_its_calls_run_again(executor, gate):
    futures = [executor.submit(gate, number) for number in range(6)]
    old = parent_of(gate.wait_for(2)[0])
    os.kill(old, signal.SIGKILL)
    gate.open()
    assert [future.result(SOON) for future in futures] == list(range(6))
    assert sorted(future.attempts for future in futures)[-2:] in ([2, 2], [1, 2], [1, 1])
    assert executor.submit(deeds.pids).result(SOON)[1] != old


def test_no_slot_outlives_a_killed_supervisor(executor, gate):
    in_one_go(executor, *[partial(executor.submit, gate)] * 2)
    slots = gate.wait_for(2)
    assert parent_of(slots[0]) == parent_of(slots[1])
    os.kill(parent_of(slots[0]), signal.SIGKILL)
    eventually(lambda: not any(is_alive(pid) for pid in slots))


def test_of_a_killed_supervisors_calls_only_those_that_ran_run_again(scene):
    victim = scene.play(deeds.kill_supervisor, neighbour=False)
    error = victim.exception(0)
    assert type(error) is errors.WorkerLost
    assert victim.attempts == 4, "the default budget for lost workers is three retries"
    assert "SIGKILL" in str(error)
    assert_explains(victim)
    assert scene.runs_of_victim() == 4
    scene.assert_unharmed(repeats=4)  # at each kill, one call may have been running in the other slot


def test_a_call_that_kills_its_supervisor_leaves_a_neighbour_its_other_attempts(executor, gate):
    view = executor.with_options(retries=Retry(lost=0))
    neighbour, victim = in_one_go(
        executor,
        lambda: executor.submit(gate, "neighbour"),
        lambda: view.submit(deeds.kill_supervisor_after, gate),
    )
    assert type(victim.exception(SOON)) is errors.WorkerLost
    gate.open()
    assert neighbour.result(SOON) == "neighbour"


def test_a_call_that_kills_each_supervisor_does_not_use_up_its_neighbours_attempts(executor, kind, gate, request):
    if not kind.answers_once:
        reason = "each loss of the worker is charged to all calls that ran in it, culprit or not"
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))
    kill = deeds.kill_supervisor_after if kind.answers_once else deeds.kill_supervisor_beside
    neighbour, victim = in_one_go(
        executor, lambda: executor.submit(gate, "neighbour"), lambda: executor.submit(kill, gate)
    )
    assert type(victim.exception(SOON)) is errors.WorkerLost
    gate.open()
    assert neighbour.result(SOON) == "neighbour"


# --- suspended ---------------------------------------------------------------------------------


def test_a_suspended_slot_is_killed_and_its_call_runs_again(executor, gate):
    future = executor.submit(gate, "result")
    (pid,) = gate.wait_for(1)
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: not is_alive(pid))
    gate.open()
    assert future.result(SOON) == "result"
    assert future.attempts == 2


def test_a_call_that_suspends_itself_each_time_is_given_up(scene):
    victim = scene.play(deeds.kill_self, signal.SIGSTOP, retries=Retry(lost=1))
    error = victim.exception(0)
    assert type(error) is errors.WorkerLost
    assert "SIGSTOP" in str(error)
    assert_explains(victim)
    assert scene.runs_of_victim() == 2
    scene.assert_unharmed()


def test_a_slot_that_is_suspended_for_a_moment_is_left_alone(single, gate):
    future = single.submit(gate, "result")
    (pid,) = gate.wait_for(1)
    os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)
    gate.open()
    assert future.result(SOON) == "result"
    assert future.attempts == 1


@pytest.mark.slow  # nobody but the ping tells: about ten seconds
def test_a_suspended_supervisor_is_replaced(executor, gate):
    futures = in_one_go(executor, *[partial(executor.submit, gate, number) for number in range(4)])
    slots = gate.wait_for(2)
    old = parent_of(slots[0])
    os.kill(old, signal.SIGSTOP)
    eventually(lambda: not is_alive(old))
    gate.open()
    assert [future.result(SOON) for future in futures] == list(range(4))
    eventually(lambda: not any(is_alive(pid) for pid in slots))
    assert executor.submit(deeds.pids).result(SOON)[1] != old


# --- stack -------------------------------------------------------------------------------------


def test_deep_recursion_is_an_error_of_the_call(scene):
    victim = scene.play(deeds.recurse)
    assert type(victim.exception(0)) is RecursionError
    scene.assert_unharmed()


def test_recursion_through_c_with_a_raised_limit_harms_nobody(scene):
    victim = scene.play(deeds.overflow_with_a_raised_limit)
    assert isinstance(victim.exception(0), (RecursionError, errors.CallCrashed)), "it depends on the Python"
    scene.assert_unharmed()
