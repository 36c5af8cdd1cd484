"""Nothing that costs money outlives its use, requests stay few, and each names the bucket's owner."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

from tests.ecs.scene import (
    SOON,
    assert_nothing_left,
    big,
    double,
    eventually,
    running_tasks_of,
    tasks_of,
    wait_at,
    wait_for_calls,
)
from tests.specs.executors import QUICK


def start_client(settings, code):
    """A client in a process of its own, with an executor called `ex`."""
    script = "from cloudexec import ECSExecutor\nimport sys, time\nsys.path.insert(0, '.')\n"
    script += f"ex = ECSExecutor(**{settings!r})\n" + dedent(code)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())


def last_words_of(aws, executor):
    return [task.log.splitlines()[-1] for task in tasks_of(aws, executor) if task.state == "STOPPED"]


# --- ends ---------------------------------------------------------------------------------------


def test_idle_workers_leave_and_others_come_when_there_is_work_again(new_executor, aws):
    executor = new_executor(2, idle_timeout_s=1.0)
    assert [executor.submit(double, x).result(SOON) for x in range(4)] == [0, 2, 4, 6]
    eventually(lambda: not running_tasks_of(aws, executor))
    assert {task.exit_code for task in tasks_of(aws, executor)} == {0}
    assert all("no work for 1 s" in words for words in last_words_of(aws, executor))
    assert executor.submit(double, 21).result(SOON) == 42


def test_a_worker_whose_lifetime_is_over_finishes_what_runs_and_another_goes_on(new_executor, aws, tmp_path):
    executor = new_executor(1, max_lifetime_s=1.5, tuning={**QUICK, "visibility_s": 60.0})
    gate = tmp_path / "gate"
    first = executor.submit(wait_at, str(gate), 0)
    wait_for_calls(gate, 1)
    time.sleep(1.5)
    rest = [executor.submit(double, x) for x in range(10)]
    gate.touch()
    assert first.result(SOON) == 0
    assert first.attempts == 1
    assert [future.result(SOON) for future in rest] == [2 * x for x in range(10)]
    assert len(tasks_of(aws, executor)) >= 2


def test_workers_of_a_client_that_was_killed_end_within_its_timeout(aws, settings):
    client = start_client(
        {**settings, "max_workers": 2, "client_timeout_s": 3.0},
        """
        from tests.ecs.scene import double
        futures = [ex.submit(double, x) for x in range(10)]
        print(sum(future.result() for future in futures), ex.run.id, flush=True)
        time.sleep(60)
        """,
    )
    try:
        total, run_id = client.stdout.readline().split()
    finally:
        client.kill()
        client.wait()
        client.stdout.close()
    killed_s = time.monotonic()
    assert total == "90"
    eventually(lambda: not [t for t in aws.tasks() if t.facts.get("startedBy") == run_id and t.state != "STOPPED"])
    assert time.monotonic() - killed_s < 15


def test_a_shutdown_leaves_nothing_although_workers_are_silent(new_executor, aws, tmp_path):
    executor = new_executor(2)
    futures = [executor.submit(double, big(300_000)) for _ in range(3)]
    assert [len(future.result(SOON)) for future in futures] == [600_000] * 3
    held = [executor.submit(wait_at, str(tmp_path / "gate"), x) for x in range(2)]
    wait_for_calls(tmp_path / "gate", 2)
    executor.terminate_workers()
    executor.shutdown()
    assert all(future.exception(0) is not None for future in held)
    assert_nothing_left(aws, executor.run.id)


# --- requests -----------------------------------------------------------------------------------


def test_thirty_workers_cost_two_reads_of_ecs_a_second_at_most(new_executor, aws, tmp_path):
    executor = new_executor(30)
    gate = tmp_path / "gate"
    aws.forget_requests()
    begun_s = time.monotonic()
    futures = [executor.submit(wait_at, str(gate), x) for x in range(30)]
    wait_for_calls(gate, 20, within_s=50)
    seconds = time.monotonic() - begun_s
    asked = aws.requests()
    gate.touch()
    reads = asked["ecs", "DescribeTasks"] + asked["ecs", "ListTasks"]
    assert reads <= 2 * seconds + 1
    assert asked["ecs", "RunTask"] <= 3 + 3, "thirty tasks are three requests"
    assert sorted(future.result(SOON) for future in futures) == list(range(30))


def test_every_request_for_an_object_names_the_bucket_s_owner(new_executor, aws, settings):
    aws.record_requests()
    try:
        executor = new_executor(2)
        futures = [executor.submit(double, big(300_000)) for _ in range(4)]
        assert [len(future.result(SOON)) for future in futures] == [600_000] * 4
        executor.shutdown()
        asked = [request for request in aws.recorded_requests() if request["service"] == "s3"]
    finally:
        aws.record_requests(on=False)
        aws.forget_requests()
    assert {"PutObject", "GetObject", "ListObjectsV2", "DeleteObjects"} <= {request["operation"] for request in asked}
    owners = {(request["operation"], request["headers"].get("x-amz-expected-bucket-owner")) for request in asked}
    assert {owner for _, owner in owners} == {"123456789012"}, owners
    signers = {request["headers"]["authorization"].split("/")[0] for request in asked}
    assert len(signers) >= 2, "workers have credentials of their own"
