"""Tasks that do not start, end before their time, or are taken away, and what the calls in them learn of it."""

from __future__ import annotations

import logging
import signal
import time

import pytest

from cloudexec import Retry, errors
from tests.ecs.scene import (
    SOON,
    assert_nothing_left,
    double,
    eventually,
    grow_beyond,
    kill_container,
    running_tasks_of,
    runs_in,
    tasks_of,
    trace,
    wait_at,
    wait_for_calls,
)
from tests.specs.executors import QUICK

PATIENT = {**QUICK, "visibility_s": 120.0}  # longer than any test: what comes back earlier came by the fleet's news

# --- starts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_refused", [1, 2])
def test_a_launch_that_fails_in_part_is_made_up_for(new_executor, aws, tmp_path, n_refused):
    aws.faults.run_task_failures(times=n_refused)
    executor = new_executor(3)
    gate = tmp_path / "gate"
    futures = [executor.submit(wait_at, str(gate), x) for x in range(3)]
    wait_for_calls(gate, 3)  # all three workers are there
    gate.touch()
    assert [future.result(SOON) for future in futures] == [0, 1, 2]
    assert [future.attempts for future in futures] == [1, 1, 1]


def test_where_there_is_no_spot_capacity_workers_start_on_demand_and_the_log_says_so(new_executor, aws, caplog):
    aws.faults.run_task_failures(provider="FARGATE_SPOT")
    with caplog.at_level(logging.WARNING):
        executor = new_executor(2, spot=True)
        assert [executor.submit(double, x).result(SOON) for x in range(4)] == [0, 2, 4, 6]
    providers = {task.facts.get("capacityProviderName") for task in tasks_of(aws, executor)}
    assert "FARGATE_SPOT" not in providers
    assert "on demand, at the full price" in caplog.text


def test_whoever_would_rather_wait_for_spot_gets_spot(new_executor, aws):
    aws.faults.run_task_failures(provider="FARGATE_SPOT", times=1)
    executor = new_executor(1, spot=True, fallback="wait")
    assert executor.submit(double, 3).result(SOON) == 6
    assert {task.facts["capacityProviderName"] for task in tasks_of(aws, executor)} == {"FARGATE_SPOT"}


@pytest.mark.parametrize(
    ("fault", "details", "kind", "words"),
    [
        ("pull_error", {}, errors.ImagePullFailed, "CannotPullContainerError"),
        ("empty_start", {}, errors.WorkerStartFailed, "task"),
        ("never_start", {}, errors.WorkerStartFailed, "did not report within 2 s"),
        ("run_task_failures", {}, errors.CapacityUnavailable, "Capacity is unavailable"),
    ],
)
def test_workers_that_never_start_end_in_an_error_that_says_why(new_executor, aws, fault, details, kind, words):
    getattr(aws.faults, fault)(**details)
    executor = new_executor(1, start_timeout_s=2.0)
    begun = time.monotonic()
    futures = [executor.submit(double, x) for x in range(5)]
    found = [future.exception(SOON) for future in futures]
    assert time.monotonic() - begun < 25
    assert {type(error) for error in found} == {kind}
    assert len({id(error) for error in found}) == 5
    assert words in str(found[0])
    assert "Remedy:" in str(found[0])
    executor.shutdown()
    assert_nothing_left(aws, executor.run.id)


def test_workers_that_start_at_the_second_try_do_the_work(new_executor, aws):
    aws.faults.empty_start(times=1)
    aws.faults.never_start(times=1)
    executor = new_executor(1, start_timeout_s=2.0)
    assert executor.submit(double, 5).result(SOON) == 10


# --- ends ---------------------------------------------------------------------------------------


def test_a_spot_worker_that_is_warned_puts_its_calls_back_at_once(new_executor, aws, tmp_path):
    executor = new_executor(2, spot=True, tuning=PATIENT, retries=Retry(lost=0))
    gate, diary = tmp_path / "gate", tmp_path / "diary"
    futures = [executor.submit(wait_at, str(gate), x, str(diary)) for x in range(2)]
    futures += [executor.submit(trace, str(diary), x) for x in range(2, 30)]
    wait_for_calls(gate, 2)
    assert len(aws.faults.interrupt(1)) == 1
    wait_for_calls(gate, 3)  # one of the two has begun again
    gate.touch()
    assert [future.result(SOON) for future in futures] == list(range(30))
    assert sorted(future.attempts for future in futures[:2]) == [1, 2], "an interruption counts as an attempt"
    assert sorted(runs_in(diary).values())[-2:] == [1, 2], "and nothing else ran twice"


def test_a_spot_worker_that_is_killed_loses_no_call(new_executor, aws, tmp_path):
    executor = new_executor(2, spot=True, tuning=PATIENT)
    gate = tmp_path / "gate"
    futures = [executor.submit(wait_at, str(gate), x) for x in range(2)]
    wait_for_calls(gate, 2)
    eventually(lambda: executor.run.running == 2)  # the client has been told who holds what
    assert len(aws.faults.interrupt(1, warning_s=0)) == 1
    wait_for_calls(gate, 3)
    gate.touch()
    assert [future.result(SOON) for future in futures] == [0, 1]
    assert sorted(future.attempts for future in futures) == [1, 2]


def test_what_a_killed_worker_had_never_told_of_comes_back_after_its_visibility(new_executor, aws, tmp_path):
    executor = new_executor(1, tuning={**QUICK, "visibility_s": 3.0, "tell_after_s": 60.0, "beat_every_s": 60.0})
    gate = tmp_path / "gate"
    future = executor.submit(wait_at, str(gate), 0)
    wait_for_calls(gate, 1)
    (task,) = running_tasks_of(aws, executor)
    assert aws.faults.kill(task.arn)
    wait_for_calls(gate, 2)
    gate.touch()
    assert future.result(SOON) == 0


def test_the_error_of_a_lost_call_shows_why_its_container_ended_and_what_it_said(new_executor, aws, tmp_path):
    executor = new_executor(1, tuning=PATIENT, retries=Retry(lost=0))
    assert executor.submit(double, 1).result(SOON) == 2
    future = executor.submit(wait_at, str(tmp_path / "gate"), 0)
    eventually(future.running)
    (task,) = running_tasks_of(aws, executor)
    assert aws.faults.kill(task.arn)
    error = future.exception(SOON)
    assert isinstance(error, errors.WorkerLost)
    text = str(error)
    assert task.arn in text
    assert "exit code 137" in text
    assert "EssentialContainerExited" in text
    assert "first slot is up" in text, "the container's last lines"
    assert "Remedy:" in text
    assert future.call_id in text
    assert executor.submit(double, 2).result(SOON) == 4


def test_a_task_that_somebody_stops_puts_its_calls_back(new_executor, aws, settings, tmp_path):
    executor = new_executor(1, tuning=PATIENT, retries=Retry(lost=0))
    gate = tmp_path / "gate"
    future = executor.submit(wait_at, str(gate), 0)
    wait_for_calls(gate, 1)
    (task,) = running_tasks_of(aws, executor)
    aws.session().client("ecs").stop_task(cluster=settings["cluster"], task=task.arn, reason="by somebody")
    wait_for_calls(gate, 2)
    gate.touch()
    assert future.result(SOON) == 0
    assert future.attempts == 2


@pytest.mark.slow
@pytest.mark.timeout(120)  # only its silence tells
def test_a_task_that_ecs_forgets_is_missed(new_executor, aws, tmp_path):
    executor = new_executor(1, tuning=PATIENT)
    gate = tmp_path / "gate"
    future = executor.submit(wait_at, str(gate), 0)
    wait_for_calls(gate, 1)
    (task,) = running_tasks_of(aws, executor)
    assert aws.faults.vanish(task.arn)
    wait_for_calls(gate, 2, within_s=90)
    gate.touch()
    assert future.result(SOON) == 0


# --- poison -------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False], ids=["told as held", "never told"])
def test_a_call_that_kills_its_container_is_stopped_by_its_budget_and_others_survive(new_executor, aws, tmp_path, told):
    diary = tmp_path / "diary"
    tuning = {**QUICK, "visibility_s": 2.0, "most_receives": 2, "tell_after_s": 0.05 if told else 60.0}
    executor = new_executor(2, tuning=tuning)
    assert executor.submit(double, 1).result(SOON) == 2
    poison = executor.with_options(retries=Retry(lost=1)).submit(kill_container, str(diary))
    others = [executor.submit(trace, str(diary), x) for x in range(20)]
    error = poison.exception(55)
    assert isinstance(error, errors.WorkerLost)
    assert [future.result(SOON) for future in others] == list(range(20))
    assert 1 <= runs_in(diary)["killer"] <= 4
    assert executor.submit(double, 4).result(SOON) == 8


def test_a_call_that_needs_too_much_memory_is_killed_alone(new_executor, aws, settings, tmp_path):
    executor = new_executor(2, slots=2, vcpu=0.25, memory_mib=512)
    gate = tmp_path / "gate"
    neighbour = executor.submit(wait_at, str(gate), 7)
    wait_for_calls(gate, 1)
    error = executor.submit(grow_beyond, 600 << 20).exception(SOON)
    assert isinstance(error, errors.CallCrashed)
    assert error.exitcode == -signal.SIGKILL
    gate.touch()
    assert neighbour.result(SOON) == 7
    assert neighbour.attempts == 1
    assert len(tasks_of(aws, executor)) == 1, "the container has survived"
