"""What a future knows of its call, and what an executor knows of its run."""

import concurrent.futures
import pickle
import sys
import threading
import time

import pytest

from tests.contract import calls
from tests.contract.events import SOON, eventually


def test_call_ids_name_the_run_and_count_from_one(executor):
    futures = [executor.submit(calls.double, number) for number in range(3)]
    assert [future.call_id for future in futures] == [f"{executor.run.id}/{number}" for number in (1, 2, 3)]


def test_each_executor_has_a_run_id_of_its_own(new_executor):
    assert new_executor(1).run.id != new_executor(1).run.id


def test_a_call_that_went_well_took_one_attempt(executor):
    future = executor.submit(calls.double, 1)
    future.result(SOON)
    assert future.attempts == 1


def test_a_queued_call_has_no_attempt_and_no_story(single, gate):
    single.submit(gate)
    gate.wait_for(1)
    future = single.submit(calls.double, 1)
    stats = future.stats
    assert future.attempts == 0
    assert (stats.started_s, stats.finished_s, stats.run_s, stats.cpu_s, stats.worker) == (None,) * 5
    assert stats.queued_s <= time.time()
    assert (future.stdout, future.stderr) == ("", "")


def test_stats_tell_when_and_where_a_call_ran(executor):
    before = time.time()
    future = executor.submit(calls.sleep, 0.05)
    future.result(SOON)
    after = time.time()
    stats = future.stats
    assert before <= stats.queued_s <= stats.started_s < stats.finished_s <= after
    assert stats.run_s == stats.finished_s - stats.started_s >= 0.05
    assert 0 <= stats.cpu_s < stats.run_s
    assert isinstance(stats.worker, str)
    assert stats.worker


def test_stats_tell_the_cpu_time_and_the_peak_memory(executor):
    def work():
        block = bytearray(80_000_000)
        while time.process_time() - start < 0.05:
            pass
        return len(block)

    start = 0.0
    future = executor.submit(work)
    small = executor.submit(calls.double, 1)
    future.result(SOON)
    small.result(SOON)
    assert future.stats.peak_rss > 80_000_000
    assert 5_000_000 < small.stats.peak_rss < 80_000_000


def test_a_failed_call_has_its_stats_too(executor):
    future = executor.submit(calls.fail)
    future.exception(SOON)
    assert future.stats.finished_s is not None
    assert future.attempts == 1


def test_what_a_call_prints_is_on_its_future_and_nowhere_else(executor, capfd):
    def speak(word):
        print("out", word)
        print("err", word, file=sys.stderr)

    futures = [executor.submit(speak, word) for word in "abc"]
    for future, word in zip(futures, "abc", strict=True):
        future.result(SOON)
        assert (future.stdout, future.stderr) == (f"out {word}\n", f"err {word}\n")
    assert capfd.readouterr() == ("", "")


def test_what_child_processes_and_c_code_print_is_captured_too(executor):
    def speak():
        import ctypes
        import os
        import subprocess

        subprocess.run(["echo", "from a child process"], check=True)
        os.write(1, b"from the descriptor\n")
        ctypes.CDLL(None).puts(b"from C")

    future = executor.submit(speak)
    future.result(SOON)
    assert sorted(future.stdout.splitlines()) == ["from C", "from a child process", "from the descriptor"]


def test_a_call_that_fails_keeps_what_it_had_printed(executor):
    def speak_and_fail():
        print("last words")
        raise ValueError

    future = executor.submit(speak_and_fail)
    future.exception(SOON)
    assert future.stdout == "last words\n"


def test_a_call_reads_nothing_from_standard_input(executor):
    assert executor.submit(lambda: sys.stdin.read()).result(SOON) == ""


def test_a_future_cannot_be_pickled_and_says_what_to_pickle(executor):
    with pytest.raises(TypeError, match=r"result\(\)"):
        pickle.dumps(executor.submit(calls.double, 1))


def test_a_future_as_an_argument_is_the_error_of_that_call(executor):
    future = executor.submit(calls.double, 1)
    with pytest.raises(pickle.PicklingError, match=r"result\(\)"):
        executor.submit(calls.double, future).result(SOON)


def test_a_future_shows_its_state(executor):
    future = executor.submit(calls.double, 1)
    future.result(SOON)
    assert "finished returned int" in repr(future)


# --- executor.run --------------------------------------------------------------------------------------


def test_a_new_executor_has_a_run_without_calls(executor):
    facts = executor.run
    assert facts.id
    assert (facts.pending, facts.running, facts.done, facts.failed, facts.cancelled) == (0,) * 5
    assert "no calls" in repr(facts)


def test_the_counts_of_a_run_are_those_of_its_calls(single, gate):
    done, failed = single.submit(calls.double, 1), single.submit(calls.fail)
    unpicklable = single.submit(calls.identity, calls.Unpicklable())
    for future in (done, failed, unpicklable):
        future.exception(SOON)
    single.submit(gate)
    gate.wait_for(1)
    eventually(lambda: single.run.running)  # workers elsewhere tell it a moment later
    queued = [single.submit(calls.double, number) for number in range(4)]
    queued[0].cancel()
    facts = single.run
    assert facts._asdict() | {"id": "", "batches": 0} == {
        "id": "",
        "pending": 3,
        "running": 1,
        "done": 1,
        "failed": 2,
        "cancelled": 1,
        "batches": 0,
        "slots": 1,
    }
    for count in ("3 pending", "1 running", "1 done", "2 failed", "1 cancelled"):
        assert count in repr(facts)
    gate.open()
    single.shutdown()
    assert (single.run.pending, single.run.running, single.run.done) == (0, 0, 5)


def test_while_calls_come_and_go_every_call_is_counted_once(executor):
    futures = [executor.submit(calls.double, number) for number in range(500)]
    while not all(future.done() for future in futures):
        facts = executor.run
        assert facts.pending + facts.running + facts.done <= 500
        assert min(facts[1:]) >= 0
    eventually(lambda: executor.run.done == 500)


def test_an_executor_shows_its_kind_its_size_and_its_run(executor):
    assert type(executor).__name__ in repr(executor)
    assert "max_workers=2" in repr(executor)
    assert executor.run.id in repr(executor)
    executor.shutdown()
    assert "closed" in repr(executor)


def test_a_future_has_the_attributes_that_the_standard_library_s_own_code_works_on(executor):
    """`wait`, `as_completed` and asyncio reach into these; we set them without calling the base's constructor."""
    ours = executor.submit(int)
    theirs = concurrent.futures.Future()
    assert vars(theirs).keys() - vars(ours).keys() == {"_condition"}  # a property: made for the first who waits
    assert isinstance(ours._condition, threading.Condition)
    assert type(theirs._condition) is type(ours._condition)
    assert {type(vars(theirs)[name]) for name in ("_waiters", "_done_callbacks")} == {list}
