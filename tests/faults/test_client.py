"""The client is interrupted, and executors inside of calls."""

import os
import signal
import subprocess
import sys
from textwrap import dedent

import pytest

from cloudexec import errors
from tests.contract.events import SOON, eventually
from tests.faults import deeds
from tests.faults.scene import at_work, parent_of, processes_of_session, wait_for_file


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("time.sleep(120)", id="while it does something else"),
        pytest.param("futures[0].result()", id="while it waits for a result"),
        pytest.param("list(executor.map(time.sleep, [120] * 4))", id="while it waits for map"),
        pytest.param("executor.shutdown()", id="while it shuts down"),
        pytest.param("concurrent.futures.wait(futures)", id="while it waits for several"),
        pytest.param("pass", id="while it leaves the with block"),
    ],
)
def test_ctrl_c_ends_the_client_and_every_process_at_once(kind, tmp_path, body):
    ready = tmp_path / "ready"
    code = f"""
        import concurrent.futures, sys, time
        from tests.faults import deeds
        with NewExecutor(2) as executor:
            _, supervisor = executor.submit(deeds.pids).result()
            futures = [executor.submit(time.sleep, 120) for _ in range(4)]
            while not futures[0].running():
                time.sleep(0.01)
            open({str(ready)!r} + ".part", "w").write(str(supervisor))
            import os; os.rename({str(ready)!r} + ".part", {str(ready)!r})
            {body}
        """
    client = subprocess.Popen(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", kind.preamble + dedent(code)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    supervisor = int(wait_for_file(ready))
    os.killpg(client.pid, signal.SIGINT)
    _, complaint = client.communicate(timeout=SOON)
    assert "KeyboardInterrupt" in complaint
    assert client.returncode == -signal.SIGINT, complaint
    eventually(lambda: not at_work(kind, supervisor))
    eventually(lambda: not kind.left_behind(client.pid))  # a task is gone a moment after its processes


def test_after_a_ctrl_c_that_is_caught_outside_the_with_block_nothing_runs_any_more(kind, tmp_path):
    ready = tmp_path / "ready"
    code = f"""
        import os, time
        from tests.faults import deeds
        from tests.faults.scene import processes_of_session
        try:
            with NewExecutor(2) as executor:
                _, supervisor = executor.submit(deeds.pids).result()
                future = executor.submit(time.sleep, 120)
                while not future.running():
                    time.sleep(0.01)
                os.mkdir({str(ready)!r})
        except KeyboardInterrupt:
            print(type(future.exception(0)).__name__, supervisor, processes_of_session(supervisor))
        """
    client = subprocess.Popen([sys.executable, "-c", kind.preamble + dedent(code)], stdout=subprocess.PIPE, text=True)
    eventually(ready.exists)
    client.send_signal(signal.SIGINT)
    printed, _ = client.communicate(timeout=SOON)
    name, supervisor, left = printed.strip().split(" ", 2)
    assert name == "CallStopped"
    if kind.keeps_warm:
        eventually(lambda: not at_work(kind, int(supervisor)))
    else:
        assert left == "[]"


def test_ctrl_c_at_the_terminal_does_not_reach_the_calls(executor, gate):
    future = executor.submit(gate, "result")
    (pid,) = gate.wait_for(1)
    os.kill(pid, signal.SIGINT)
    gate.open()
    assert future.result(SOON) == "result"


@pytest.mark.usefixtures("local")  # containers finish what runs in them: tests/ecs/test_the_bill_ends.py
def test_a_killed_client_leaves_no_process_behind(kind, tmp_path):
    ready = tmp_path / "ready"
    code = f"""
        import os, time
        from tests.faults import deeds
        executor = NewExecutor(2)
        _, supervisor = executor.submit(deeds.pids).result()
        child = executor.submit(deeds.leave_child, "leftover").result()
        futures = [executor.submit(time.sleep, 120) for _ in range(4)]
        open({str(ready)!r} + ".part", "w").write(str(supervisor))
        os.rename({str(ready)!r} + ".part", {str(ready)!r})
        time.sleep(120)
        """
    client = subprocess.Popen([sys.executable, "-c", kind.preamble + dedent(code)])
    supervisor = int(wait_for_file(ready))
    client.kill()
    client.wait()
    eventually(lambda: not processes_of_session(supervisor))
    eventually(lambda: kind.left_behind(client.pid) == [])


# --- nested ------------------------------------------------------------------------------------


def test_a_call_may_use_an_executor_of_its_own(scene):
    victim = scene.play(deeds.run_nested, 20)
    assert victim.result(0) == list(range(20))
    scene.assert_unharmed()


def test_executors_nest_three_deep(single):
    assert single.submit(deeds.nest_deep, 3).result(SOON) == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_slot_leaves_no_nested_worker_behind(single, kind, tmp_path, number):
    path = tmp_path / "pids"
    future = single.submit(deeds.hold_nested, str(path))
    nested = [int(pid) for pid in wait_for_file(path).split()]
    os.kill(parent_of(nested[1]), number)
    assert type(future.exception(SOON)) is errors.CallCrashed
    eventually(lambda: not any(kind.works(pid) for pid in nested))


@pytest.mark.parametrize("how", ["timeout", "stop", "terminate_workers"])
def test_a_call_that_is_ended_leaves_no_nested_worker_behind(single, kind, tmp_path, how):
    path = tmp_path / "pids"
    view = single.with_options(timeout_s=3) if how == "timeout" else single
    future = view.submit(deeds.hold_nested, str(path))
    nested = [int(pid) for pid in wait_for_file(path).split()]
    if how == "stop":
        future.stop()
    elif how == "terminate_workers":
        single.terminate_workers()
    assert type(future.exception(SOON)) in (errors.CallTimeout, errors.CallStopped)
    eventually(lambda: not any(kind.works(pid) for pid in nested))


def test_an_executor_that_travels_into_a_call_is_refused(executor):
    error = executor.submit(lambda: executor).exception(SOON)
    assert type(error) is errors.UnpicklableArgument or type(error) is errors.ExecutorNotPicklable
    assert executor.submit(deeds.identity, "usable").result(SOON) == "usable"
