"""Nothing that costs money outlives its use, requests stay few, and each for an object names the bucket's owner.

Nothing in Lambda stops an invocation: environments look at the run's control object, and end by themselves.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from tests.awslambda.scene import (
    QUICK,
    SOON,
    big,
    busy_in,
    double,
    eventually,
    left_of,
    trace,
    wait_at,
    wait_for_calls,
)

LARGE = 300_000


def start_client(settings, code):
    """A client in a process of its own, with an executor called `ex`."""
    script = "import sys, time\nsys.path.insert(0, '.')\nfrom cloudexec import LambdaExecutor\n"
    script += "from tests.awslambda.scene import wait_at\n"
    script += f"ex = LambdaExecutor(**{settings!r})\n" + dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=Path.cwd()
    )


# --- ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "within_s"),
    [
        pytest.param(signal.SIGKILL, 2.0 + 8.0, id="killed: when client_timeout_s is over"),
        pytest.param(signal.SIGINT, 0.4 + 6.0, id="Ctrl-C: at the next look at the client's orders"),
    ],
)
def test_calls_of_a_client_that_ended_end_in_lambda(aws, settings, new_function, tmp_path, number, within_s):
    """Without that they would run for the function's 60 s. `within_s` leaves a busy machine some seconds."""
    name, gate = new_function(timeout=60), tmp_path / "gate"
    client = start_client(
        {**settings, "function": name, "max_workers": 2, "client_timeout_s": 2.0},
        f"""
        futures = [ex.submit(wait_at, {str(gate)!r}, x) for x in range(2)]
        print(ex.run.id, flush=True)
        [future.result() for future in futures]
        """,
    )
    try:
        run_id = client.stdout.readline().strip()
        wait_for_calls(gate, 2)
        eventually(lambda: any(key.endswith(f"{run_id}/control") for key in aws.objects()))
        client.send_signal(number)
        ended_s = time.monotonic()
        eventually(lambda: not busy_in(aws, name))
        assert time.monotonic() - ended_s < within_s
        client.wait(SOON)
    finally:
        client.kill()
        client.wait()
        client.stdout.close()
    if number == signal.SIGINT:
        assert left_of(aws, run_id) == [], "who is interrupted tidies up"


def test_a_call_that_is_stopped_ends_in_lambda_and_its_environment_lives_on(new_executor, new_function, aws, tmp_path):
    name, gate = new_function(), tmp_path / "gate"
    executor = new_executor(1, function=name)
    future = executor.submit(wait_at, str(gate), 0)
    wait_for_calls(gate, 1)
    begun_s = time.monotonic()
    future.stop()
    assert future.exception(SOON) is not None
    eventually(lambda: not busy_in(aws, name))
    assert time.monotonic() - begun_s < 8
    assert executor.submit(double, 4).result(SOON) == 8
    assert aws.invocations()[name].cold_starts == 1


def test_a_shutdown_leaves_no_object_whatever_the_run_has_put_there(new_executor, aws):
    """Arguments and results that are too large for an invocation, claims and reports of events, early reports of a
    batch that lasts, and the client's orders."""
    executor = new_executor(1)
    aws.record_requests()
    try:
        assert executor.with_options(timeout_s=600).submit(double, 4).result(SOON) == 8
        assert executor.submit(len, big(LARGE)).result(SOON) == LARGE
        assert len(executor.submit(bytes, 5 * LARGE).result(SOON)) == 5 * LARGE
        quick = [executor.submit(trace, "/dev/null", x) for x in range(50)]
        assert [future.result(SOON) for future in quick] == list(range(50))
        # Calls of this function are known as quick: the last two share an invocation, and the first of them lasts.
        slow = [executor.submit(trace, "/dev/null", x, seconds) for x, seconds in enumerate((0.1, 1.3, 0.0))]
        assert [future.result(SOON) for future in slow] == [0, 1, 2]
        put = [r["path"] for r in aws.recorded_requests() if r["operation"] == "PutObject"]
    finally:
        aws.record_requests(on=False)
        aws.forget_requests()
    for kind in ("/blobs/", ".begun", ".report", ".early", "/control"):
        assert [path for path in put if kind in path], f"no {kind} was there"
    executor.shutdown()
    assert left_of(aws, executor.run.id) == []


def test_terminating_leaves_nothing_although_calls_and_events_run(new_executor, new_function, aws, tmp_path):
    name, gate = new_function(), tmp_path / "gate"
    executor = new_executor(2, function=name)
    held = [executor.submit(wait_at, str(gate), 0)]
    held.append(executor.with_options(timeout_s=600).submit(wait_at, str(gate), 1))
    wait_for_calls(gate, 2)
    executor.terminate_workers()
    executor.shutdown()
    assert all(future.exception(0) is not None for future in held)
    eventually(lambda: not busy_in(aws, name), within_s=8)
    assert left_of(aws, executor.run.id) == []


# --- requests -----------------------------------------------------------------------------------


def test_short_calls_share_invocations_and_an_idle_executor_asks_for_nothing(new_executor, aws):
    """Where a batch takes a second (on a machine that is busy) the client shows that it lives, twice a minute, and both
    sides look at objects every few seconds; that is no request for each call."""
    executor = new_executor(2, tuning={})
    assert executor.submit(abs, -1).result(SOON) == 1
    aws.record_requests()
    try:
        began_s = time.monotonic()
        futures = [executor.submit(abs, -x) for x in range(2000)]
        assert [future.result(SOON) for future in futures] == list(range(2000))
        took_s = time.monotonic() - began_s
        asked = aws.recorded_requests()
        aws.forget_requests()
        time.sleep(1.0)
        idle = aws.recorded_requests()
    finally:
        aws.record_requests(on=False)
        aws.forget_requests()
    assert sum(request["operation"] == "Invoke" for request in asked) <= 40
    objects = [request["path"] for request in asked if request["service"] == "s3"]
    needless = [path for path in objects if any(kind in path for kind in ("/blobs/", "/batches/", "/answers/"))]
    assert not needless, "what is small needs no object"
    assert len(objects) <= 10 * max(0.0, took_s - 0.9), "a batch that is over within a second asks S3 for nothing"
    assert {request["path"].rpartition("/")[2] for request in idle} <= {"control"}
    assert len(idle) <= 1


def test_a_long_call_costs_a_look_in_each_interval_and_no_more(new_executor, aws):
    executor = new_executor(1, tuning={**QUICK, "control_after_s": 0.5, "control_every_s": 0.5})
    assert executor.submit(double, 1).result(SOON) == 2
    aws.forget_requests()
    executor.submit(time.sleep, 2.2).result(SOON)
    asked = aws.requests()
    assert asked["lambda", "Invoke"] == 1
    assert 2 <= asked["s3", "GetObject"] <= 4
    assert asked["s3", "PutObject"] <= 1, "the client's heartbeat comes three times a minute"


def test_every_request_for_an_object_names_the_bucket_s_owner(new_executor, aws):
    aws.record_requests()
    try:
        executor = new_executor(2)
        assert len(executor.submit(double, big(5 * LARGE)).result(SOON)) == 10 * LARGE
        assert executor.with_options(timeout_s=600).submit(double, 4).result(SOON) == 8
        executor.shutdown()
        asked = [request for request in aws.recorded_requests() if request["service"] == "s3"]
    finally:
        aws.record_requests(on=False)
        aws.forget_requests()
    assert {"PutObject", "GetObject", "ListObjectsV2", "DeleteObjects"} <= {request["operation"] for request in asked}
    assert {request["headers"].get("x-amz-expected-bucket-owner") for request in asked} == {"123456789012"}
    signers = {request["headers"]["authorization"].split("/")[0] for request in asked}
    assert len(signers) >= 2, "environments have credentials of their own"
