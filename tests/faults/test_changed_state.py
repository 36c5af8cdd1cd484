"""What a call changes in its process is put back before the next one."""

import signal

import pytest

from cloudexec import errors
from tests.contract.events import SOON, eventually, is_alive
from tests.faults import deeds


@pytest.mark.parametrize(
    "what",
    [
        "directory",
        "directory, and remove it",
        "environment",
        "environment, cleared",
        "environment, assigned",
        "path",
        "path, assigned",
        "handlers",
        "recursion limit",
        "streams",
        "streams, and descriptors",
        "alarm",
        "alarm, repeated",
    ],
)
def test_the_next_call_in_the_same_slot_finds_as_it_was(single, tmp_path, what):
    before, pid = single.submit(deeds.state_and_pid).result(SOON)
    assert single.submit(deeds.change, what, str(tmp_path / "folder")).result(SOON) == pid
    after, same_pid = single.submit(deeds.state_and_pid).result(SOON)
    assert same_pid == pid
    assert after == before


def test_an_alarm_that_was_left_behind_rings_for_nobody(single):
    single.submit(deeds.change, "alarm").result(SOON)
    assert single.submit(deeds.sleep, 1.2).result(SOON) == 1.2


def test_state_is_put_back_after_a_call_that_fails_too(single):
    before = single.submit(deeds.state).result(SOON)
    for what in ("directory", "environment", "handlers"):
        assert type(single.submit(deeds.change_and_fail, what).exception(SOON)) is ValueError
        assert single.submit(deeds.state).result(SOON) == before


def test_a_call_with_an_environment_of_its_own_leaves_none_behind(single):
    view = single.with_options(env={"ONLY_HERE": "1"})
    assert view.submit(deeds.variable, "ONLY_HERE").result(SOON) == "1"
    assert single.submit(deeds.variable, "ONLY_HERE").result(SOON) is None


# --- threads, children, forks ------------------------------------------------------------------


def test_a_thread_left_behind_does_not_stop_the_slot(single):
    pid = single.submit(deeds.leave_thread).result(SOON)
    for number in range(20):
        assert single.submit(deeds.identity, number).result(SOON) == number
    assert single.submit(deeds.pids).result(SOON)[0] == pid


def test_a_thread_that_never_ends_does_not_hold_up_shutdown(new_executor, kind):
    executor = new_executor(1)
    pid = executor.submit(deeds.leave_blocked_thread).result(SOON)
    executor.shutdown(wait=True)
    eventually(lambda: not kind.works(pid))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        pytest.param("sleep", (3600,), id="hangs"),
        pytest.param("exit_at_once", (7,), id="leaves with another exit code"),
        pytest.param("kill_self", (signal.SIGKILL,), id="kills the process"),
        pytest.param("refuse", ("not at exit",), id="raises"),
    ],
)
def test_an_exit_function_left_behind_does_not_harm_the_call_after_the_last_one(new_executor, name, args):
    executor = new_executor(1, max_tasks_per_child=1)
    pids = [executor.submit(deeds.leave_exit_function, name, *args) for _ in range(2)]
    assert pids[0].result(SOON) != pids[1].result(SOON)


def test_the_output_of_a_child_left_behind_is_in_no_other_calls_output(single):
    child = single.submit(deeds.leave_child, "leftover").result(SOON)
    assert is_alive(child)
    for _ in range(5):
        future = single.submit(deeds.sleep_and_say, 0.05, "mine")
        future.result(SOON)
        assert (future.stdout, future.stderr) == ("mine\n", "")


def test_a_child_left_behind_ends_with_the_slot(single):
    child = single.submit(deeds.leave_child, "leftover").result(SOON)
    assert type(single.submit(deeds.exit_at_once, 1).exception(SOON)) is errors.CallCrashed
    eventually(lambda: not is_alive(child))


@pytest.mark.parametrize("end", ["shutdown", "terminate_workers"])
def test_a_child_left_behind_does_nothing_after_the_executor(new_executor, kind, end):
    executor = new_executor(1)
    child = executor.submit(deeds.leave_child, "leftover").result(SOON)
    getattr(executor, end)()
    eventually(lambda: not kind.works(child))


@pytest.mark.usefixtures("warm")
def test_what_a_run_has_left_in_a_warm_worker_ends_when_another_run_comes(new_executor, kind):
    one, other = new_executor(1), new_executor(1)
    slot = one.submit(deeds.leave_blocked_thread).result(SOON)
    child = one.submit(deeds.leave_child, "leftover").result(SOON)
    one.shutdown(wait=True)
    eventually(lambda: not kind.works(slot) and not kind.works(child))
    assert is_alive(slot)
    assert is_alive(child)
    other.submit(deeds.identity, "usable").result(SOON)
    assert not is_alive(slot)
    assert not is_alive(child)


@pytest.mark.parametrize("what", ["return", "raise", "sys.exit", "os._exit", "run on"])
def test_a_fork_inside_the_call_brings_one_result(scene, what):
    victim = scene.play(deeds.fork_and, what)
    child = victim.result(0)
    assert child > 0, "the parent's result"
    assert scene.runs_of_victim() == 1
    scene.assert_unharmed()
    if what == "run on":
        assert is_alive(child)
        future = scene.executor.submit(deeds.say, "mine")
        future.result(SOON)
        assert future.stdout == "mine\n"


def test_a_child_that_outlives_its_forking_call_does_nothing_after_the_executor(new_executor, kind):
    executor = new_executor(1)
    child = executor.submit(deeds.fork_and, "run on").result(SOON)
    executor.shutdown(wait=True)
    eventually(lambda: not kind.works(child))


def test_a_call_that_ignores_every_signal_is_killed_nevertheless(single):
    future = single.with_options(timeout_s=0.3).submit(deeds.ignore_signals_and_sleep)
    assert type(future.exception(SOON)) is errors.CallTimeout
    assert single.submit(deeds.has_default_handler, signal.SIGTERM).result(SOON)
