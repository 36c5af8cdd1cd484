"""The client's own end: a script that runs out, Ctrl-C, a signal that kills it. No worker and no file is left."""

import signal
from textwrap import dedent

import pytest

from tests.contract.events import eventually

SAY_PIDS = """
import os, sys, time

def busy(seconds=600):
    time.sleep(seconds)

def pids():
    return os.getpid(), os.getppid()

def say(*words):
    print(*words, flush=True)
"""


# --- running out -----------------------------------------------------------------------------------


def test_a_script_that_runs_out_completes_its_calls_first(run_script, tmp_path):
    run_script(f"""
        import pathlib, time

        def work(number):
            time.sleep(0.1)
            pathlib.Path({str(tmp_path)!r}, "result-" + str(number)).touch()

        ex = NewExecutor(2)
        for number in range(6):
            ex.submit(work, number)
    """)
    assert len(list(tmp_path.glob("result-*"))) == 6


def test_callbacks_still_run_at_the_end_of_a_script(run_script):
    printed = run_script("""
        import time
        ex = NewExecutor(1)
        future = ex.submit(time.sleep, 0.2)
        future.add_done_callback(lambda future: print("called back", future.exception()))
    """)
    assert printed == "called back None"


def test_a_script_may_end_in_an_exception_with_calls_open(start_script):
    exitcode, _, errors = start_script("""
        import time
        ex = NewExecutor(1)
        ex.submit(time.sleep, 0.2)
        raise LookupError("the script's own")
    """).end()
    assert exitcode == 1
    assert errors.strip().endswith("LookupError: the script's own")
    assert errors.count("Traceback") == 1


@pytest.mark.parametrize("ending", ["sys.exit(3)", "exit(3)", "raise SystemExit(3)"])
def test_a_script_s_exit_code_is_kept(start_script, ending):
    exitcode, _, errors = start_script(f"""
        import sys, time
        ex = NewExecutor(1)
        ex.submit(time.sleep, 0.1)
        {ending}
    """).end()
    assert (exitcode, errors) == (3, "")


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param("", id="left open"),
        pytest.param("ex.shutdown(wait=False)", id="shut down without waiting"),
        pytest.param("ex.terminate_workers()", id="terminated"),
        pytest.param("del ex", id="forgotten"),
        pytest.param("results = ex.map(abs, range(100))", id="map never read"),
        pytest.param("results = ex.map(abs, range(100), buffersize=2); next(results)", id="map half read"),
        pytest.param("sys.modules['kept'] = (ex, future)", id="held to the last"),
        pytest.param("cycle = [ex, future]; cycle.append(cycle); del ex, future, cycle", id="in a cycle"),
    ],
)
def test_a_script_ends_quietly_however_it_treats_its_executor(run_script, ending):
    run_script(f"""
        import sys
        ex = NewExecutor(2)
        future = ex.submit(abs, -1)
        {ending}
    """)


def test_an_atexit_function_of_the_user_may_still_read_results(run_script):
    printed = run_script("""
        import atexit, time
        ex = NewExecutor(1)
        future = ex.submit(time.sleep, 0.1)
        atexit.register(lambda: print(future.done(), future.result()))
    """)
    assert printed == "True None"


def test_a_call_submitted_by_a_callback_at_the_end_still_runs_or_is_refused_clearly(run_script):
    printed = run_script("""
        import time
        ex = NewExecutor(1)
        def again(future):
            try:
                print(ex.submit(abs, -5).result())
            except RuntimeError as error:
                print(error)
        ex.submit(time.sleep, 0.2).add_done_callback(again)
    """)
    assert printed in ("5", "cannot schedule new futures after shutdown")


# --- Ctrl-C ------------------------------------------------------------------------------------------

INTERRUPTED = {
    "waiting for a result in a with body": """
        with NewExecutor(2) as ex:
            future = ex.submit(busy)
            say(*ex.submit(pids).result())
            future.result()
    """,
    "waiting at the end of a with body": """
        with NewExecutor(2) as ex:
            future = ex.submit(busy)
            say(*ex.submit(pids).result())
    """,
    "reading a map in a with body": """
        with NewExecutor(2) as ex:
            say(*ex.submit(pids).result())
            for _ in ex.map(busy, [600] * 100):
                pass
    """,
    "waiting in shutdown": """
        ex = NewExecutor(2)
        future = ex.submit(busy)
        say(*ex.submit(pids).result())
        ex.shutdown()
    """,
    "waiting for a result outside with": """
        ex = NewExecutor(2)
        future = ex.submit(busy)
        say(*ex.submit(pids).result())
        future.result()
    """,
    "doing something else": """
        ex = NewExecutor(2)
        future = ex.submit(busy)
        say(*ex.submit(pids).result())
        while True:
            time.sleep(0.5)  # Python misses a signal that comes just before it sleeps
    """,
    "waiting for open calls after the script's last line": """
        ex = NewExecutor(2)
        future = ex.submit(busy)
        say(*ex.submit(pids).result())
    """,
}


@pytest.mark.parametrize("code", INTERRUPTED.values(), ids=INTERRUPTED)
def test_ctrl_c_ends_everything_within_seconds_while_it_is(start_script, kind, code):
    script = start_script(SAY_PIDS + dedent(code))
    pids = [int(pid) for pid in script.read_line().split()]
    script.press_ctrl_c()
    _, _, errors = script.end()
    assert "KeyboardInterrupt" in errors
    eventually(lambda: not any(kind.works(pid) for pid in pids))


@pytest.mark.parametrize(
    "wait", ["ex.submit(busy).result()", "ex.submit(busy).exception(600)", "next(ex.map(busy, [600]))"]
)
def test_a_ctrl_c_that_the_waiting_thread_does_not_notice_is_not_lost(start_script, wait):
    """The same happens to one that comes between Python's last look and the system's wait."""
    script = start_script(
        SAY_PIDS
        + f"""
import signal, threading
with NewExecutor(1) as ex:
    threading.Timer(0.3, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT)).start()
    {wait}
"""
    )
    _, _, errors = script.end()
    assert "KeyboardInterrupt" in errors


def test_ctrl_c_ends_everything_when_it_strikes_just_after_the_script_s_last_line(start_script, kind):
    script = start_script(
        SAY_PIDS
        + """
import signal, threading
ex = NewExecutor(2)
future = ex.submit(busy)
say(*ex.submit(pids).result())
threading._register_atexit(os.kill, os.getpid(), signal.SIGINT)  # runs before the executor's own, which is skipped
"""
    )
    pids = [int(pid) for pid in script.read_line().split()]
    _, _, errors = script.end()
    assert errors.count("KeyboardInterrupt") == 1
    eventually(lambda: not any(kind.works(pid) for pid in pids))
    eventually(lambda: not kind.left_behind(script.pid))


def test_after_a_ctrl_c_that_was_caught_outside_with_everything_goes_on(start_script):
    script = start_script(
        SAY_PIDS
        + """
ex = NewExecutor(2)
future = ex.submit(busy, 1)
try:
    say("ready")
    while True:
        time.sleep(0.5)
except KeyboardInterrupt:
    say(future.result(), ex.submit(abs, -3).result())
"""
    )
    script.read_line()
    script.press_ctrl_c()
    exitcode, printed, errors = script.end()
    assert (exitcode, printed, errors) == (0, "None 3\n", "")


# --- killed ------------------------------------------------------------------------------------------


@pytest.fixture
def orphan_s(kind):
    """How long a call lasts that has lost its client: in containers it is finished, elsewhere it is killed."""
    return 3 if kind.in_containers else 600


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGABRT], ids=lambda n: n.name
)
def test_a_client_killed_by_a_signal_leaves_no_worker_and_no_file(start_script, kind, number, orphan_s):
    script = start_script(
        SAY_PIDS
        + f"""
ex = NewExecutor(2)
big = bytes(5_000_000)
futures = [ex.submit(busy, {orphan_s}), ex.submit(len, big), ex.submit(bytes, 5_000_000)]
futures[1].result()
say(*ex.submit(pids).result())
time.sleep(600)
"""
    )
    pids = [int(pid) for pid in script.read_line().split()]
    script.send(number)
    script.end()
    eventually(lambda: not any(kind.works(pid) for pid in pids))
    eventually(lambda: not kind.left_behind(script.pid))


def test_a_client_that_leaves_by_os_exit_leaves_no_worker_and_no_file(start_script, kind, orphan_s):
    script = start_script(
        SAY_PIDS
        + f"""
ex = NewExecutor(1)
say(*ex.submit(pids).result())
ex.submit(busy, {orphan_s})
os._exit(7)
"""
    )
    pids = [int(pid) for pid in script.read_line().split()]
    assert script.end()[0] == 7
    eventually(lambda: not any(kind.works(pid) for pid in pids))
    eventually(lambda: not kind.left_behind(script.pid))
