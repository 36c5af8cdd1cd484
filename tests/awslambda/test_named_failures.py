"""Whatever Lambda refuses, and however a function ends, the user reads it by name, with a remedy and the log's end.

The promise: no future hangs (docs/guarantees.md, 1). What a payload without a bucket may hold: tests/docs.
"""

from __future__ import annotations

import re
import signal
import sys
import time

import pytest

from cloudexec import Retry, errors
from tests.awslambda.scene import (
    SOON,
    double,
    kill_environment,
    runs_in,
    signal_runtime,
    wait_at,
    wait_for_calls,
)
from tests.ecs.scene import grow_beyond

ONCE = Retry(lost=0)


def assert_broken_by(kind, executor) -> errors.CloudexecError:
    """Every call gets this error, and `submit` raises it from then on."""
    error = executor.submit(double, 1).exception(SOON)
    assert type(error) is kind, error
    assert error.remedy
    with pytest.raises(kind):
        executor.submit(double, 2)
    return error


# --- Lambda refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("AccessDeniedException", 403, errors.FunctionDenied),
        ("KMSAccessDeniedException", 502, errors.FunctionKeyDenied),
        ("KMSDisabledException", 502, errors.FunctionKeyDenied),
        ("RecursiveInvocationException", 400, errors.RecursionStopped),
        ("InvalidRuntimeException", 502, errors.WrongArchitecture),
        ("InvalidZipFileException", 502, errors.FunctionImportFailed),
    ],
)
def test_what_no_patience_mends(new_executor, aws, code, status, kind):
    aws.faults.error(code, "as Lambda says it", status=status, service="lambda", operation="Invoke")
    error = assert_broken_by(kind, new_executor())
    assert "as Lambda says it" in error.what


def test_a_function_that_is_deleted_while_it_is_used(new_executor, new_function, aws):
    name = new_function()
    executor = new_executor(function=name)
    assert executor.submit(double, 4).result(SOON) == 8
    aws.session().client("lambda").delete_function(FunctionName=name)
    assert_broken_by(errors.FunctionMissing, executor)


@pytest.mark.parametrize("reason", ["CallerRateLimitExceeded", "ConcurrentInvocationLimitExceeded"])
def test_throttles_that_last_are_named_by_their_reason(new_executor, aws, reason):
    aws.faults.invoke_throttle(reason=reason)
    begun_s = time.monotonic()
    error = assert_broken_by(errors.InvocationThrottled, new_executor(throttle_timeout_s=0.5))
    assert reason in error.what
    assert time.monotonic() - begun_s < 10


def test_a_function_whose_concurrency_is_taken_away_is_waited_for_and_then_given_up(new_executor, new_function, aws):
    name = new_function(reserved=1)
    executor = new_executor(function=name, throttle_timeout_s=0.5)
    assert executor.submit(double, 4).result(SOON) == 8
    aws.session().client("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    error = assert_broken_by(errors.InvocationThrottled, executor)
    assert "ReservedFunctionConcurrentInvocationLimitExceeded" in error.what


def test_the_deadline_of_throttles_does_not_run_while_lambda_takes_anything(new_executor, new_function, tmp_path):
    executor = new_executor(4, function=new_function(reserved=1), throttle_timeout_s=0.3)
    gate = tmp_path / "gate"
    futures = [executor.submit(wait_at, str(gate), x) for x in range(4)]
    wait_for_calls(gate, 1)
    time.sleep(1.0)  # three times the deadline, and one call runs all the time
    gate.touch()
    assert [future.result(SOON) for future in futures] == list(range(4))


# --- the function does not fit ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "source", "kind", "words", "remedy"),
    [
        pytest.param(
            "absent.handler",
            "",
            errors.FunctionImportFailed,
            "No module named 'absent'",
            "into the zip",
            id="no worker",
        ),
        pytest.param(
            "main.handler",
            "raise ImportError('core.cpython-36m-x86_64-linux-gnu.so is missing')",
            errors.FunctionImportFailed,
            "cpython-36m",
            "build it for the function's runtime",
            id="packages of another Python",
        ),
        pytest.param("main.nothing", "", errors.HandlerNotFound, "'nothing' missing", "set the", id="no such handler"),
        pytest.param(
            "main.handler",
            "def handler(e, c): return {'statusCode': 200, 'body': 'hello'}",
            errors.HandlerNotFound,
            "invoked, and",
            "set the function's handler to cloudexec",
            id="somebody else's function",
        ),
        pytest.param(
            "main.handler",
            "def handler(e, c): print('I try', flush=True); raise KeyError('oh')",
            errors.FunctionFailed,
            "I try",
            "log lines",
            id="a handler that raises",
        ),
    ],
)
def test_a_function_that_cannot_run_calls(new_executor, new_function, handler, source, kind, words, remedy):
    name = new_function(handler=handler, files={"main.py": source})
    error = assert_broken_by(kind, new_executor(function=name))
    assert words in error.what
    assert remedy in error.remedy


def test_a_function_of_another_python_is_refused_before_anything_is_sent(new_executor, new_function, aws):
    theirs = "python3.11" if sys.version_info[:2] != (3, 11) else "python3.12"
    name = new_function(Runtime=theirs)
    with pytest.raises(errors.VersionMismatch) as caught:
        new_executor(function=name).submit(double, 1)
    assert theirs in caught.value.what
    assert "the runtime python" in caught.value.remedy
    assert name not in aws.invocations()


@pytest.mark.parametrize(
    ("changes", "told", "remedy"),
    [
        pytest.param({"function": "nope"}, "'nope'", "correct function=", id="function"),
        pytest.param({"qualifier": "nope"}, ":nope", "correct function=, qualifier=", id="qualifier"),
        pytest.param({"shards": ["nope"]}, "'nope'", "correct function=", id="shard"),
        pytest.param({"endpoint_url": "http://127.0.0.1:9"}, "http://127.0.0.1:9", "endpoint", id="endpoint"),
    ],
)
def test_a_setting_that_names_nothing(new_executor, changes, told, remedy):
    with pytest.raises(errors.CloudexecError) as caught, new_executor(**changes) as executor:
        executor.submit(abs, -1).result(SOON)
    assert told in caught.value.what
    assert remedy in caught.value.remedy


def test_a_bucket_that_is_not_there_is_told_by_the_first_call_that_needs_it(new_executor):
    error = new_executor(bucket="nope").submit(len, bytes(400_000)).exception(SOON)
    assert isinstance(error, errors.CloudexecError)
    assert "s3://nope/" in error.what


# --- calls and environments end -----------------------------------------------------------------


def test_a_call_ends_by_name_before_the_function_s_own_timeout_and_the_environment_lives_on(
    new_executor, new_function, aws
):
    name = new_function(timeout=2)
    executor = new_executor(1, function=name)
    error = executor.submit(time.sleep, 60).exception(SOON)
    assert type(error) is errors.FunctionTimeout
    assert "the function's timeout of 2 s" in error.what
    assert executor.submit(double, 4).result(SOON) == 8
    assert aws.invocations()[name].errors == 0, "no invocation was ended by Lambda"
    assert aws.invocations()[name].cold_starts == 1


def test_a_worker_that_hangs_with_its_call_is_ended_by_the_function_s_timeout(new_executor, new_function):
    executor = new_executor(1, function=new_function(timeout=2))
    executor.submit(double, 4).exception(SOON)  # then it is warm, whatever a busy machine has made of that call
    error = executor.submit(signal_runtime, signal.SIGSTOP).exception(SOON)
    assert type(error) is errors.FunctionTimeout
    assert "Task timed out after 2.00 seconds" in error.what
    assert "REPORT RequestId" in error.what


def test_a_call_that_kills_its_environment_fails_with_the_log_s_end_and_others_run(
    new_executor, new_function, tmp_path
):
    executor = new_executor(1, function=new_function())
    diary = tmp_path / "diary"
    killer = executor.with_options(retries=Retry(lost=1)).submit(kill_environment, str(diary))
    others = [executor.submit(double, x) for x in range(5)]
    error = killer.exception(SOON)
    assert type(error) is errors.EnvironmentLost
    assert "signal: killed" in error.what
    assert "START RequestId" in error.what
    assert killer.attempts == runs_in(diary)["killer"] == 2
    assert [future.result(SOON) for future in others] == [0, 2, 4, 6, 8]


def test_a_call_that_needs_more_memory_than_the_function_has(new_executor, new_function):
    executor = new_executor(1, function=new_function(memory=256))
    error = executor.submit(grow_beyond, 600 << 20).exception(SOON)
    assert type(error) is errors.OutOfMemory
    assert "MemorySize" in error.remedy
    assert executor.submit(double, 4).result(SOON) == 8


def test_a_result_that_cannot_be_stored_is_an_error_of_its_call_alone(new_executor, new_function, aws):
    executor = new_executor(1, function=new_function(), retries=ONCE)
    assert executor.submit(double, 4).result(SOON) == 8
    aws.faults.error("AccessDenied", "not authorized", status=403, service="s3", operation="PutObject")
    error = executor.submit(bytes, 3_000_000).exception(SOON)
    assert isinstance(error, errors.CloudexecError)
    assert "not authorized" in str(error)
    assert executor.submit(double, 5).result(SOON) == 10


def test_events_of_a_function_that_cannot_report_fail_at_once_by_name_and_others_run(new_executor, new_function, aws):
    """Otherwise their client would wait for hours: nobody hears what an Event's invocation answers."""
    executor = new_executor(1, function=new_function())
    assert executor.submit(double, 4).result(SOON) == 8
    rule = aws.faults.error("AccessDenied", "not authorized", status=403, service="s3", operation="PutObject")
    error = executor.with_options(timeout_s=600).submit(double, 1).exception(SOON)
    assert type(error) is errors.AccessDenied
    assert "not authorized" in error.what
    assert re.search(r"s3:PutObject on arn:aws:s3:::.*/cloudexec/runs/\* to the function's role arn:aws", error.remedy)
    assert executor.submit(double, 5).result(SOON) == 10
    aws.faults.clear(rule)
    assert executor.with_options(timeout_s=600).submit(double, 6).result(SOON) == 12, "asked again, and mended"


def test_events_without_a_bucket_to_report_into_fail_at_once_by_name(new_executor):
    error = new_executor(1, bucket="nope").with_options(timeout_s=600).submit(abs, -1).exception(SOON)
    assert isinstance(error, errors.AwsError)
    assert "ListObjects" in error.what
    assert error.code == "NoSuchBucket"
    assert "correct bucket=" in error.remedy


def test_a_bucket_that_was_never_needed_and_is_not_there_is_told_at_the_end(new_executor, caplog):
    executor = new_executor(1, bucket="nope")
    assert executor.submit(abs, -4).result(SOON) == 4
    executor.shutdown()
    (told,) = [each.getMessage() for each in caplog.records if "nope" in each.getMessage()]
    assert "there is no bucket nope" in told
    assert "left" not in told


def test_an_event_that_lambda_refuses_is_told_like_any_other_refusal(new_executor, aws):
    aws.faults.error("AccessDeniedException", "no events", status=403, service="lambda", operation="Invoke")
    future = new_executor(1).with_options(timeout_s=600).submit(double, 1)
    assert type(future.exception(SOON)) is errors.FunctionDenied
