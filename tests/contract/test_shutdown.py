"""The end of an executor: `shutdown`, `with`, garbage collection, and what it may leave behind: nothing."""

import gc
import os
import threading
import weakref
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from cloudexec import errors
from tests.contract import calls
from tests.contract.events import SOON, eventually, is_alive

CLOSED = "^cannot schedule new futures after shutdown$"


def pids_of(executor):
    """Process ids of a slot and its worker."""
    return executor.submit(calls.pid).result(SOON), executor.submit(calls.parent_pid).result(SOON)


# --- shutdown(wait, cancel_futures) ------------------------------------------------------------


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("cancel_futures", [True, False])
def test_shutdown_finishes_what_runs_and_treats_the_queue_as_told(single, gate, tmp_path, wait, cancel_futures):
    running = single.submit(gate, "ran")
    queued = [single.submit(calls.touch, str(tmp_path / f"side-effect-{number}")) for number in range(5)]
    gate.wait_for(1)
    opener = threading.Timer(0.1, gate.open)
    opener.start()
    single.shutdown(wait=wait, cancel_futures=cancel_futures)
    if wait:
        assert running.done()
        assert all(future.done() for future in queued)
    assert running.result(SOON) == "ran"
    if cancel_futures:
        eventually(lambda: all(future.cancelled() for future in queued))
    else:
        assert [future.result(SOON) for future in queued] == [None] * 5
    single.shutdown(wait=True)
    assert len(list(tmp_path.glob("side-effect-*"))) == (0 if cancel_futures else 5)
    opener.join()


def test_shutdown_without_waiting_returns_while_a_call_runs(single, gate):
    future = single.submit(gate, "ran")
    gate.wait_for(1)
    single.shutdown(wait=False)
    assert not future.done()
    gate.open()
    assert future.result(SOON) == "ran"


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda executor: executor.submit(calls.double, 1), id="submit"),
        pytest.param(lambda executor: executor.map(calls.double, [1]), id="map"),
        pytest.param(lambda executor: executor.map(calls.double, []), id="map over nothing"),
        pytest.param(lambda executor: executor.with_options(name="n").submit(calls.double, 1), id="a view's submit"),
    ],
)
@pytest.mark.parametrize("used_before", [False, True], ids=["never used", "used"])
def test_after_shutdown_the_standard_sentence_is_said(executor, use, used_before):
    if used_before:
        executor.submit(calls.double, 1).result(SOON)
    executor.shutdown()
    with pytest.raises(RuntimeError, match=CLOSED):
        use(executor)


def test_shutdown_may_be_repeated_in_any_order(executor):
    executor.submit(calls.double, 1)
    executor.shutdown(wait=False)
    executor.shutdown(wait=True)
    executor.shutdown(wait=True, cancel_futures=True)
    executor.shutdown(wait=False, cancel_futures=True)
    executor.terminate_workers()


def test_shutdown_of_an_executor_that_was_never_used(executor):
    executor.shutdown()
    executor.shutdown(wait=False)


def test_a_second_shutdown_can_cancel_what_the_first_would_have_run(single, gate):
    running = single.submit(gate)
    queued = single.submit(calls.double, 1)
    gate.wait_for(1)
    single.shutdown(wait=False)
    single.shutdown(wait=False, cancel_futures=True)
    eventually(queued.cancelled)
    gate.open()
    running.result(SOON)


def test_several_threads_may_shut_down_at_once(executor, gate):
    future = executor.submit(gate)
    gate.wait_for(1)
    threads = [threading.Thread(target=executor.shutdown) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join(SOON)
    assert not any(thread.is_alive() for thread in threads)
    assert future.done()


def test_shutting_down_a_view_shuts_the_executor_down(executor):
    executor.with_options(name="n").shutdown()
    with pytest.raises(RuntimeError, match=CLOSED):
        executor.submit(calls.double, 1)


def test_shutdown_may_be_called_in_a_callback(executor):
    future = executor.submit(calls.double, 1)
    future.add_done_callback(lambda _: executor.shutdown(wait=True))
    future.result(SOON)
    eventually(lambda: "closed" in repr(executor))
    executor.shutdown()


# --- with --------------------------------------------------------------------------------------


def test_with_gives_the_executor_itself_and_waits_for_its_calls(executor, tmp_path):
    with executor as inside:
        assert inside is executor
        futures = [executor.submit(calls.sleep, 0.05) for _ in range(5)]
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match=CLOSED):
        executor.submit(calls.double, 1)


@pytest.mark.parametrize("on_error", ["wait", "cancel", "kill"])
def test_an_error_in_the_body_passes_through_and_on_error_decides_about_open_calls(new_executor, gate, on_error):
    executor = new_executor(1, on_error=on_error)
    with pytest.raises(ZeroDivisionError), executor:
        running, queued = executor.submit(gate, "ran"), executor.submit(calls.double, 1)
        gate.wait_for(1)
        opener = threading.Timer(0.1 if on_error != "kill" else SOON, gate.open)
        opener.start()
        _ = 1 / 0
    opener.cancel()
    outcomes = {
        "wait": (type(None), type(None)),
        "cancel": (type(None), CancelledError),
        "kill": (errors.CallStopped, CancelledError),
    }
    assert running.done()
    assert queued.done()
    assert (kind_of_error(running), kind_of_error(queued)) == outcomes[on_error]


def kind_of_error(future):
    try:
        return type(future.exception(SOON))
    except CancelledError as error:
        return type(error)


@pytest.mark.parametrize("through_a_view", [False, True], ids=["executor", "view"])
def test_ctrl_c_in_the_body_kills_open_calls(single, gate, through_a_view):
    with pytest.raises(KeyboardInterrupt), single.with_options(name="n") if through_a_view else single:
        running = single.submit(gate)
        gate.wait_for(1)
        raise KeyboardInterrupt
    assert isinstance(running.exception(SOON), errors.CallStopped)


def test_an_unknown_on_error_is_refused(new_executor):
    with pytest.raises(ValueError, match="on_error"):
        new_executor(1, on_error="explode")


# --- terminate_workers, kill_workers -------------------------------------------------------------


@pytest.mark.parametrize("method", ["terminate_workers", "kill_workers"])
def test_killing_the_workers_stops_running_calls_and_cancels_queued_ones(single, gate, method):
    running, queued = single.submit(gate), single.submit(calls.double, 1)
    (pid,) = gate.wait_for(1)
    getattr(single, method)()
    assert isinstance(running.exception(SOON), errors.CallStopped)
    eventually(queued.cancelled)
    eventually(lambda: not is_alive(pid))
    with pytest.raises(RuntimeError):
        single.submit(calls.double, 1)


def test_killing_the_workers_of_an_unused_executor_is_fine(executor):
    executor.kill_workers()
    with pytest.raises(RuntimeError):
        executor.submit(calls.double, 1)


# --- garbage -------------------------------------------------------------------------------------


def test_a_forgotten_executor_completes_its_calls_and_then_its_workers_go(kind, gate):
    executor = kind.new(1)
    pids = pids_of(executor)
    futures = [executor.submit(gate, number) for number in range(3)]
    reference = weakref.ref(executor)
    del executor
    gc.collect()
    assert reference() is None
    gate.open()
    assert [future.result(SOON) for future in futures] == [0, 1, 2]
    eventually(lambda: not any(kind.works(pid) for pid in pids))


def test_a_forgotten_executor_whose_futures_are_forgotten_too_completes_its_calls(kind, tmp_path):
    executor = kind.new(1)
    for number in range(3):
        executor.submit(calls.touch, str(tmp_path / str(number)))
    del executor
    eventually(lambda: len(list(tmp_path.iterdir())) == 3)


def test_a_view_keeps_its_executor(kind):
    view = kind.new(1).with_options(name="n")
    gc.collect()
    assert view.submit(calls.double, 1).result(SOON) == 2
    view.shutdown()


def test_an_executor_that_is_done_is_freed_without_the_garbage_collector(kind):
    executor = kind.new(1)
    executor.submit(calls.double, 1).result(SOON)
    executor.shutdown()
    reference = weakref.ref(executor)
    gc.disable()
    try:
        del executor
        assert reference() is None
    finally:
        gc.enable()


# --- nothing is left -------------------------------------------------------------------------------


def test_after_shutdown_no_process_thread_or_file_is_left(kind):
    executor = kind.new(2)
    before = threading.active_count()
    pids = pids_of(executor)
    list(executor.map(calls.double, range(10)))
    assert threading.active_count() > before
    executor.shutdown()
    assert threading.active_count() <= before  # those of an executor before this one may have ended meanwhile
    if kind.in_containers:  # they have been told to end, and take a moment to
        eventually(lambda: not any(kind.works(pid) for pid in pids))
    assert not any(kind.works(pid) for pid in pids)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def children_of(pid):
    """Living children of a process, where the system tells."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return {child for child in map(int, listed.read_text().split()) if is_alive(child)} if listed.exists() else set()


def what_is_there(kind):
    """All that executors of this process could leave behind."""
    gc.collect()
    left = sorted(kind.left_behind(os.getpid()))  # first: the services that are asked may have to be started
    return descriptors(), threading.active_count(), children_of(os.getpid()), left


@pytest.mark.slow
def test_many_executors_one_after_another_leak_nothing(kind):
    many = 20 if kind.in_containers else 80  # one in four starts a worker; what leaks, leaks each time

    def use_one(number):
        with kind.new(1) as executor:
            if number % 4 == 1:
                assert executor.submit(calls.double, 1).result(SOON) == 2

    def let_containers_end():
        if kind.in_containers:  # they have been told to, and take a moment
            eventually(lambda: not kind.left_behind(os.getpid()))

    use_one(1)
    let_containers_end()
    before = what_is_there(kind)
    for number in range(many):
        use_one(number)
    let_containers_end()
    assert what_is_there(kind) == before


def test_fifty_executors_that_are_only_created_leak_nothing(kind):
    before = what_is_there(kind)
    for _ in range(50):
        kind.new(1)
    assert what_is_there(kind) == before


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"on_error": "explode"}, id="on_error"),
        pytest.param({"initializer": calls.remember, "initargs": (calls.Unpicklable(), 1)}, id="initializer"),
    ],
)
def test_an_executor_that_was_refused_leaves_nothing(kind, wrong):
    before = what_is_there(kind)
    for _ in range(3):
        with pytest.raises((ValueError, TypeError, errors.CloudexecError)):
            kind.new(1, **wrong)
    assert what_is_there(kind) == before


def test_two_executors_at_once_do_not_mix(kind):
    with kind.new(1, env={"WHO": "first"}) as first, kind.new(1, env={"WHO": "second"}) as second:
        futures = [executor.submit(calls.environment, "WHO") for executor in (first, second) * 10]
        assert [future.result(SOON) for future in futures] == ["first", "second"] * 10
        first.shutdown()
        assert second.submit(calls.double, 1).result(SOON) == 2
