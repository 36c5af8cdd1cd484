"""Limits of time, and how often a call is tried again, by cause."""

import pytest

from cloudexec import Retry, errors
from tests.contract.events import SOON
from tests.faults import deeds
from tests.faults.scene import assert_explains


@pytest.mark.parametrize(
    ("deed", "args"),
    [
        pytest.param(deeds.sleep, (120,), id="sleeps"),
        pytest.param(deeds.spin, (), id="computes"),
        pytest.param(deeds.hold_the_interpreter_lock, (), id="sits in C code that holds the interpreter lock"),
        pytest.param(deeds.ignore_signals_and_sleep, (), id="ignores signals"),
    ],
)
def test_a_call_over_its_time_is_killed_alone(scene, deed, args):
    victim = scene.play(deed, *args, timeout_s=2)  # a new process must be able to import the deed in this time
    error = victim.exception(0)
    assert type(error) is errors.CallTimeout
    assert isinstance(error, TimeoutError)
    assert "timeout_s=2" in str(error)
    assert_explains(victim)
    assert scene.runs_of_victim() == 1
    scene.assert_unharmed()


def test_time_in_the_queue_does_not_count(single):
    single.submit(deeds.sleep, 0.001).result(SOON)
    view = single.with_options(timeout_s=2)
    futures = [view.submit(deeds.sleep, 0.3) for _ in range(8)]
    assert [future.result(SOON) for future in futures] == [0.3] * 8


def test_calls_behind_each_of_several_timeouts_run_once(single, tmp_path):
    diary = tmp_path / "diary"
    for line in ("first", "second", "third"):
        single.submit(deeds.note, str(diary), line).result(SOON)
    view = single.with_options(timeout_s=2)  # as above
    late, quick = [], []
    for number in range(3):
        late.append(view.submit(deeds.note, str(diary), f"late {number}", deeds.sleep, 120))
        quick += [view.submit(deeds.note, str(diary), f"quick {number} {i}") for i in range(10)]
    assert {type(future.exception(SOON)) for future in late} == {errors.CallTimeout}
    assert {type(future.exception(SOON)) for future in quick} == {type(None)}
    lines = diary.read_text().splitlines()
    assert [line for line in lines if lines.count(line) > 1] == []
    assert len(lines) == 3 + 3 + 30


def test_a_call_that_ends_about_when_its_time_is_over_ends_one_way_or_the_other(executor):
    view = executor.with_options(timeout_s=0.05)
    futures = [view.submit(deeds.sleep, 0.049 + 0.0001 * number) for number in range(40)]
    kinds = {type(future.exception(SOON)) for future in futures}
    assert kinds <= {type(None), errors.CallTimeout}
    assert executor.submit(deeds.identity, "usable").result(SOON) == "usable"


def test_stop_kills_a_call_that_runs_and_no_other(executor, gate):
    futures = [executor.submit(gate, number) for number in range(6)]
    gate.wait_for(2)
    victim = next(future for future in futures if future.running())
    victim.stop()
    assert type(victim.exception(SOON)) is errors.CallStopped
    gate.open()
    assert [future.result(SOON) for future in futures if future is not victim] == [
        n for n in range(6) if futures[n] is not victim
    ]


# --- retries -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "retry", "error", "attempts"),
    [
        pytest.param("error", Retry(error=2), ValueError, 3, id="error"),
        pytest.param("crash", Retry(crash=2), errors.CallCrashed, 3, id="crash"),
        pytest.param("timeout", Retry(timeout=2), errors.CallTimeout, 3, id="timeout"),
        pytest.param("lost", Retry(lost=2), errors.WorkerLost, 3, id="lost"),
        pytest.param("error", Retry(crash=2, timeout=2, oom=2, lost=2), ValueError, 1, id="not error"),
        pytest.param("crash", Retry(error=2, timeout=2, oom=2, lost=2), errors.CallCrashed, 1, id="not crash"),
        pytest.param("timeout", Retry(error=2, crash=2, oom=2, lost=2), errors.CallTimeout, 1, id="not timeout"),
        pytest.param("lost", Retry(error=2, crash=2, timeout=2, oom=2, lost=0), errors.WorkerLost, 1, id="not lost"),
    ],
)
def test_each_cause_has_a_budget_of_its_own(executor, tmp_path, how, retry, error, attempts):
    marks = tmp_path / "marks"
    timeout_s = 2.0 if how == "timeout" else 60  # each attempt has a process of its own, which imports first
    view = executor.with_options(retries=retry, timeout_s=timeout_s)
    future = view.submit(deeds.misbehave, str(marks), how)
    assert type(future.exception(SOON)) is error
    assert future.attempts == attempts
    assert marks.stat().st_size == attempts
    if isinstance(future.exception(0), errors.CloudexecError):
        assert_explains(future)
        assert f"(attempt {attempts})" in str(future.exception(0)) or attempts == 1


def test_a_call_that_crashes_at_first_and_then_does_not_brings_its_result(executor, tmp_path):
    future = executor.with_options(retries=3).submit(deeds.crash_until, str(tmp_path / "marks"), 2)
    assert future.result(SOON) == 3
    assert future.attempts == 3


def test_a_poison_call_uses_up_its_budget_while_the_others_survive(scene):
    victim = scene.play(deeds.exit_at_once, 1, retries=5)
    assert type(victim.exception(0)) is errors.CallCrashed
    assert scene.runs_of_victim() == victim.attempts == 6
    scene.assert_unharmed()


def test_many_poison_calls_at_once_end_and_the_others_survive(executor, tmp_path):
    diary = str(tmp_path / "diary")
    poison = [executor.with_options(retries=1).submit(deeds.note, diary, "p", deeds.exit_at_once, 1) for _ in range(10)]
    good = [executor.submit(deeds.note, diary, f"{number}") for number in range(50)]
    assert {type(future.exception(SOON)) for future in poison} == {errors.CallCrashed}
    assert [future.result(SOON) for future in good] == [str(number) for number in range(50)]
    lines = (tmp_path / "diary").read_text().splitlines()
    assert lines.count("p") == 20
    assert sorted(lines) == sorted(["p"] * 20 + [str(number) for number in range(50)])
