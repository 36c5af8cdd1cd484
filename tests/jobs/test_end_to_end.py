"""A job that is put, a notification, a genuine function in an environment of its own, a result, a future."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudexec import LambdaExecutor, errors
from cloudexec.executors.jobs import Jobs
from cloudexec.ids import new_run_id
from tests.jobs.conftest import GROUP, PREFIX, Shelf

WAIT_S = 40
REPORTS = """
import os, sys, time

def words(text, *, most=None):
    print("counting", text)
    print("carefully", file=sys.stderr)
    return {"count": len(text.split()), "most": most}

def fail(message):
    raise KeyError(message)

def leave():
    os._exit(3)

def sleep(seconds):
    time.sleep(seconds)

def append(path):
    with open(path, "a") as file:
        file.write("once\\n")

def odd():
    return {1, 2}
"""


@pytest.fixture
def function(shelf: Shelf) -> str:
    """A function that jobs of this test's bucket start; its ARN."""
    aws = shelf.aws
    arn = aws.make_function(
        f"jobs-{new_run_id().replace('.', '-')}",
        handler="cloudexec.worker.awslambda.handler",
        files={"reports.py": REPORTS},
        memory=1769,
        timeout=30,
        env={"CLOUDEXEC_JOBS": "reports:*"},
    )
    rules = [{"Name": "prefix", "Value": f"{PREFIX}/jobs/"}, {"Name": "suffix", "Value": ".json"}]
    wanted = {
        "LambdaFunctionArn": arn,
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": rules}},
    }
    shelf.s3.put_bucket_notification_configuration(
        Bucket=shelf.bucket, NotificationConfiguration={"LambdaFunctionConfigurations": [wanted]}
    )
    return arn


def test_jobs_run_in_the_function_and_their_results_are_futures(
    function: str, shelf: Shelf, attach: Callable[..., Jobs]
):
    jobs = attach(timeout_s=5)
    good = jobs.submit("a good one, né?", "reports:words", "to be or not", most="to")
    failed = jobs.submit("failed", "reports:fail", "why")
    left = jobs.submit("left", "reports:leave")
    odd = jobs.submit("odd", "reports:odd")
    forbidden = jobs.submit("forbidden", "os:getcwd")

    assert good.result(WAIT_S) == {"count": 4, "most": "to"}
    assert (good.stdout, good.stderr) == ("counting to be or not\n", "carefully\n")
    assert good.outcome is not None
    assert good.outcome.started_s is not None
    assert good.outcome.finished_s is not None
    assert 0 <= good.outcome.finished_s - good.outcome.started_s < WAIT_S

    error = failed.exception(WAIT_S)
    assert isinstance(error, errors.RemoteError)
    assert (error.type_name, error.args[2]) == ("KeyError", "'why'")
    assert 'reports.py", line' in str(error.__cause__)
    assert type(left.exception(WAIT_S)) is errors.CallCrashed
    assert type(odd.exception(WAIT_S)) is errors.UnpicklableResult
    refusal = forbidden.exception(WAIT_S)
    assert type(refusal) is errors.SettingsError
    assert "CLOUDEXEC_JOBS" in str(refusal)


def test_a_time_limit_ends_a_job(function: str, attach: Callable[..., Jobs]):
    future = attach(timeout_s=0.5).submit("slow", "reports:sleep", 25)
    assert type(future.exception(WAIT_S)) is errors.CallTimeout


def test_a_notification_that_comes_twice_runs_the_job_once(
    function: str, shelf: Shelf, attach: Callable[..., Jobs], tmp_path: Path
):
    shelf.aws.faults.duplicate_events()
    written = tmp_path / "written"
    attach().submit("once", "reports:append", str(written)).result(WAIT_S)
    end_s = time.monotonic() + WAIT_S
    while shelf.aws.invocations()[function.rpartition(":")[2]].n_executed < 2 or shelf.aws.waiting_events():
        assert time.monotonic() < end_s
        time.sleep(0.02)
    assert written.read_text() == "once\n"


def test_who_has_nothing_but_s3_can_put_a_job_and_read_its_result(
    function: str, shelf: Shelf, attach: Callable[..., Jobs]
):
    shelf.put_job("plain", call="reports:words", args=["x y z"])
    jobs = attach()
    was_done = threading.Event()
    jobs.futures["plain"].add_done_callback(lambda _: was_done.set())
    assert was_done.wait(WAIT_S)
    found = shelf.s3.get_object(Bucket=shelf.bucket, Key=f"{PREFIX}/results/{GROUP}/plain.json")
    said = json.loads(found["Body"].read())
    assert (said["job"], said["state"], said["value"]["count"]) == (f"{PREFIX}/jobs/{GROUP}/plain.json", "done", 3)


def test_attaching_by_the_executors_class_needs_no_function(function: str, shelf: Shelf):
    with LambdaExecutor.attach(
        GROUP, bucket=shelf.bucket, prefix=PREFIX, session=shelf.aws.session(), endpoint_url=shelf.aws.endpoint_url
    ) as jobs:
        assert jobs.submit("one", "reports:words", "a").result(WAIT_S)["count"] == 1
