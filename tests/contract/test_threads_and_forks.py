"""Use from several threads, and from a process that forked."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract import calls
from tests.contract.events import SOON, eventually, is_alive


def test_eight_threads_may_submit_at_once(executor):
    results = {}

    def submit_many(thread):
        futures = [executor.submit(calls.add, thread * 1000, number) for number in range(200)]
        results[thread] = [future.result(SOON) for future in futures]

    threads = [threading.Thread(target=submit_many, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert results == {thread: [thread * 1000 + number for number in range(200)] for thread in range(8)}
    assert executor.run.done == 1600


def test_several_threads_may_map_and_cancel_at_once(executor):
    def work(thread):
        results = executor.map(calls.add, [thread] * 100, range(100))
        taken = [next(results) for _ in range(50)]
        results.close()
        return taken

    with ThreadPoolExecutor(4) as threads:
        for thread, taken in enumerate(threads.map(work, range(4))):
            assert taken == [thread + number for number in range(50)]


@pytest.mark.parametrize("again", range(5))
def test_a_submit_that_meets_a_shutdown_is_refused_or_has_an_end(single, again):
    single.submit(calls.double, 1).result(SOON)
    started, futures, refusals = threading.Event(), [], []

    def submit_until_refused():
        try:
            while True:
                futures.append(single.submit(calls.double, 1))
                started.set()
        except RuntimeError as error:
            refusals.append(str(error))

    thread = threading.Thread(target=submit_until_refused)
    thread.start()
    started.wait(SOON)
    single.shutdown(wait=True)
    thread.join(SOON)
    assert refusals == ["cannot schedule new futures after shutdown"]
    for future in futures:
        error = future.exception(SOON)
        assert error is None or str(error) == "cannot schedule new futures after shutdown"


def test_a_call_may_use_threads_of_its_own(executor):
    def with_threads(n):
        with ThreadPoolExecutor(2) as threads:
            return sum(threads.map(calls.double, range(n)))

    assert executor.submit(with_threads, 10).result(SOON) == 90


FORKING = """
import os, sys, time, traceback, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks in a process with threads

def try_it(name, use):
    try:
        use()
        print(name, "works", flush=True)
    except BaseException as error:
        print(name, type(error).__name__, flush=True)

ex = NewExecutor(2)
done = ex.submit(abs, -1)
done.result()
still_open = ex.submit(time.sleep, 1)
child = os.fork()
if not child:
    try_it("submit", lambda: ex.submit(abs, -1))
    try_it("map", lambda: ex.map(abs, [-1]))
    try_it("view", lambda: ex.with_options(name="n").submit(abs, -1))
    try_it("open result", still_open.result)
    try_it("open exception", still_open.exception)
    try_it("done result", done.result)
    try_it("cancel", still_open.cancel)
    try_it("stop", still_open.stop)
    try_it("running", still_open.running)
    try_it("run", lambda: ex.run)
    try_it("repr", lambda: repr(ex))
    try_it("shutdown", ex.shutdown)
    try_it("kill_workers", ex.kill_workers)
    try_it("another", lambda: NewExecutor(1).submit(abs, -1).result())
    LEAVE
_, status = os.waitpid(child, 0)
print("child ended with", os.waitstatus_to_exitcode(status))
print("parent", still_open.result(), ex.submit(abs, -5).result(), list(ex.map(abs, [-1, -2])))
"""


def test_in_a_forked_child_every_use_is_a_clear_error_and_the_parent_is_not_harmed(run_script):
    printed = run_script(FORKING.replace("LEAVE", "sys.stdout.flush(); os._exit(0)"))
    assert printed.splitlines() == [
        "submit ExecutorForked",
        "map ExecutorForked",
        "view ExecutorForked",
        "open result ExecutorForked",
        "open exception ExecutorForked",
        "done result works",
        "cancel ExecutorForked",
        "stop ExecutorForked",
        "running ExecutorForked",
        "run works",
        "repr works",
        "shutdown works",
        "kill_workers works",
        "another works",
        "child ended with 0",
        "parent None 5 [1, 2]",
    ]


def test_a_forked_child_may_end_like_any_process(run_script):
    printed = run_script(FORKING.replace("LEAVE", "sys.exit(0)"))
    assert printed.splitlines()[-2:] == ["child ended with 0", "parent None 5 [1, 2]"]


def test_a_forked_child_may_drop_the_executor_and_collect_garbage(run_script):
    printed = run_script(FORKING.replace("LEAVE", "del ex, still_open, done; import gc; gc.collect(); sys.exit(0)"))
    assert printed.splitlines()[-2:] == ["child ended with 0", "parent None 5 [1, 2]"]


def test_a_forked_child_that_lives_on_does_not_keep_the_parent_s_workers_alive(start_script, kind):
    script = start_script("""
        import os, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        ex = NewExecutor(1)
        pid, parent = ex.submit(os.getpid).result(), ex.submit(os.getppid).result()
        if not (child := os.fork()):
            time.sleep(30)
            os._exit(0)
        print(pid, parent, child, flush=True)
        os._exit(0)
    """)
    *workers, child = (int(pid) for pid in script.read_line().split())
    eventually(lambda: not any(kind.works(pid) for pid in workers))
    assert is_alive(child)
    os.kill(child, signal.SIGKILL)


def test_a_process_of_multiprocessing_may_be_forked_beside_it(run_script):
    printed = run_script("""
        import multiprocessing, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        context = multiprocessing.get_context("fork")
        ex = NewExecutor(1)
        ex.submit(abs, -1).result()
        process = context.Process(target=print, args=("from the child",))
        process.start()
        process.join()
        print(process.exitcode, ex.submit(abs, -2).result())
    """)
    assert printed.splitlines() == ["from the child", "0 2"]
