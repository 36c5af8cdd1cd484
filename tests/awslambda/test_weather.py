"""What goes wrong between Lambda and us: throttles, broken connections, environments that die, events that do not come.

The promise under all of them: no future hangs, no result is lost or delivered twice (docs/guarantees.md, 1 and 2).
The pocket AWS counts how often a function was really handed an invocation; calls leave a line each time they run.
"""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from cloudexec import LambdaExecutor, Retry, errors
from tests.awslambda.scene import (
    SOON,
    big,
    double,
    eventually,
    kill_environment,
    left_of,
    most_at_once,
    runs_in,
    span,
    trace,
    wait_at,
    wait_for_calls,
)

N_CALLS = 40
LARGE = 300_000  # bytes: an argument that travels through the bucket
LARGE_RESULT = 1_200_000
AT_MOST_ONCE = Retry(lost=0)


class Resolutions:
    """How often each future was resolved."""

    def __init__(self, futures) -> None:
        self.counts: Counter[int] = Counter()
        for x, future in enumerate(futures):
            future.add_done_callback(lambda _future, x=x: self.counts.update([x]))

    def assert_once(self, n_calls) -> None:
        eventually(lambda: len(self.counts) == n_calls)
        assert set(self.counts.values()) == {1}


def submit_all(executor, diary, n_calls=N_CALLS, seconds=0.01):
    futures = [executor.submit(trace, str(diary), x, seconds) for x in range(n_calls)]
    return futures, Resolutions(futures)


# --- requests that are refused or broken --------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "retry_after_s"),
    [
        ("ConcurrentInvocationLimitExceeded", None),
        ("CallerRateLimitExceeded", 0.1),
        ("ReservedFunctionConcurrentInvocationLimitExceeded", 0.0),
    ],
)
def test_a_storm_of_throttles_costs_time_and_nothing_else(
    new_executor, new_function, aws, tmp_path, reason, retry_after_s
):
    name = new_function()
    aws.faults.invoke_throttle(reason=reason, retry_after_s=retry_after_s, times=6)
    before = len(aws.faults.fired("invoke_throttle"))
    executor = new_executor(4, function=name, retries=AT_MOST_ONCE)
    futures, resolutions = submit_all(executor, tmp_path / "diary")
    assert [future.result(SOON) for future in futures] == list(range(N_CALLS))
    assert len(aws.faults.fired("invoke_throttle")) == before + 6
    assert {future.attempts for future in futures} == {1}, "a throttle is no attempt"
    assert set(runs_in(tmp_path / "diary").values()) == {1}
    resolutions.assert_once(N_CALLS)


def test_what_was_refused_waits_as_long_as_lambda_asks_for(new_executor, aws):
    executor = new_executor(1)
    assert executor.submit(double, 1).result(SOON) == 2
    aws.faults.invoke_throttle(retry_after_s=0.8, times=1)
    begun_s = time.monotonic()
    assert executor.submit(double, 2).result(SOON) == 4
    assert time.monotonic() - begun_s >= 0.8


@pytest.mark.parametrize("after", [False, True], ids=["before it ran", "after it ran"])
def test_a_broken_connection_costs_an_attempt_and_no_result(new_executor, new_function, aws, tmp_path, after):
    name, diary = new_function(), tmp_path / "diary"
    executor = new_executor(2, function=name)
    assert executor.submit(double, 1).result(SOON) == 2
    aws.faults.reset("lambda", "Invoke", after=after, times=3)
    futures, resolutions = submit_all(executor, diary)
    assert [future.result(SOON) for future in futures] == list(range(N_CALLS))
    resolutions.assert_once(N_CALLS)
    again = sum(runs_in(diary).values()) - N_CALLS
    assert (again > 0) is after, "what ran, and was not heard of, ran again"
    assert again == sum(future.attempts - 1 for future in futures) * after


@pytest.mark.parametrize("after", [False, True], ids=["before it ran", "after it ran"])
def test_at_most_once_is_kept_when_connections_break(new_executor, new_function, aws, tmp_path, after):
    name, diary = new_function(), tmp_path / "diary"
    executor = new_executor(2, function=name, retries=AT_MOST_ONCE)
    assert executor.submit(double, 1).result(SOON) == 2
    aws.faults.reset("lambda", "Invoke", after=after, times=2)
    futures, resolutions = submit_all(executor, diary)
    ends = [future.exception(SOON) for future in futures]
    lost = {str(x) for x, end in enumerate(ends) if end is not None}
    assert {type(end) for end in ends} == {type(None), errors.EnvironmentLost}
    assert "its answer was lost" in str(next(end for end in ends if end is not None))
    runs = runs_in(diary)
    assert max(runs.values()) == 1
    assert set(runs) == {str(x) for x in range(N_CALLS)} - (set() if after else lost)
    resolutions.assert_once(N_CALLS)
    executed = aws.invocations()[name].executed
    assert set(executed.values()) == {1}
    assert len(executed) == executor.run.batches - (0 if after else 2), "no request was repeated by a transport"


def test_slow_answers_cost_time_alone(new_executor, new_function, aws, tmp_path):
    name = new_function()
    executor = new_executor(4, function=name, retries=AT_MOST_ONCE)
    aws.faults.latency("lambda", 0.2, 0.2, operation="Invoke", seed=1)
    futures, resolutions = submit_all(executor, tmp_path / "diary", 12)
    assert [future.result(SOON) for future in futures] == list(range(12))
    assert set(aws.invocations()[name].executed.values()) == {1}
    resolutions.assert_once(12)


@pytest.mark.parametrize("operation", ["PutObject", "GetObject", "ListObjectsV2", "DeleteObjects"])
def test_a_bucket_that_throttles_and_breaks_connections_loses_nothing(new_executor, aws, operation):
    aws.faults.throttle("s3", operation, times=2)
    aws.faults.reset("s3", operation, times=1)
    aws.faults.reset("s3", operation, after=True, times=1)
    executor = new_executor(2)
    argument = executor.submit(len, big(LARGE))
    result = executor.submit(bytes, LARGE_RESULT)
    event = executor.with_options(timeout_s=600).submit(double, 4)
    assert argument.result(SOON) == LARGE
    assert result.result(SOON) == bytes(LARGE_RESULT)
    assert event.result(SOON) == 8
    executor.shutdown()
    assert left_of(aws, executor.run.id) == []


# --- environments that die ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "runs_again"),
    [
        pytest.param("before", False, id="before it gets the call"),
        pytest.param("mid-call", True, id="in mid-call"),
        pytest.param("after", True, id="after the call, before its answer"),
        pytest.param("idle", False, id="while it is idle"),
    ],
)
def test_an_environment_that_is_killed_loses_no_result(new_executor, new_function, aws, tmp_path, when, runs_again):
    name, diary = new_function(), tmp_path / "diary"
    executor = new_executor(1, function=name)
    assert executor.submit(double, 1).result(SOON) == 2
    aws.faults.kill_environment(when=when, delay_s=0.15, times=1)
    future = executor.submit(trace, str(diary), 1, 0.2)
    assert future.result(SOON) == 1
    assert executor.submit(double, 2).result(SOON) == 4
    assert runs_in(diary)["1"] == 1 + runs_again
    assert future.attempts == (1 if when == "idle" else 2)
    assert aws.invocations()[name].cold_starts == 2


def test_at_most_once_is_kept_when_an_environment_is_killed(new_executor, new_function, aws, tmp_path):
    name, diary = new_function(), tmp_path / "diary"
    executor = new_executor(1, function=name, retries=AT_MOST_ONCE)
    aws.faults.kill_environment(when="mid-call", delay_s=0.3, times=1)
    error = executor.submit(trace, str(diary), 1, 5.0).exception(SOON)
    assert type(error) is errors.EnvironmentLost
    assert runs_in(diary)["1"] <= 1
    assert executor.submit(trace, str(diary), 2).result(SOON) == 2


# --- events -------------------------------------------------------------------------------------


def test_an_event_that_comes_twice_runs_once(new_executor, new_function, aws, tmp_path):
    name, diary = new_function(), tmp_path / "diary"
    aws.faults.duplicate_events()
    executor = new_executor(2, function=name, events_above_s=0.001, timeout_s=20)
    futures, resolutions = submit_all(executor, diary, 6)
    assert [future.result(SOON) for future in futures] == list(range(6))
    eventually(lambda: aws.waiting_events() == 0)
    assert set(runs_in(diary).values()) == {1}
    executed = sorted(aws.invocations()[name].executed.values())
    assert executed == [1] + [2] * 6, "first it is asked whether events can report; Lambda did deliver each event twice"
    resolutions.assert_once(6)


@pytest.mark.parametrize("after", [False, True], ids=["before Lambda had it", "after Lambda took it"])
def test_an_event_whose_acceptance_was_lost_is_sent_again_and_runs_once(
    new_executor, new_function, aws, tmp_path, after
):
    """Otherwise nobody could tell for hours whether it is still to come."""
    name, diary = new_function(), tmp_path / "diary"
    executor = new_executor(1, function=name, retries=AT_MOST_ONCE).with_options(timeout_s=600)
    assert executor.submit(trace, str(diary), 0).result(SOON) == 0
    aws.faults.reset("lambda", "Invoke", after=after, times=2)
    future = executor.submit(trace, str(diary), 1)
    assert future.result(SOON) == 1
    eventually(lambda: aws.waiting_events() == 0)
    assert runs_in(diary) == {"0": 1, "1": 1}
    assert aws.invocations()[name].events == (4 if after else 2)


@pytest.mark.slow  # nothing but patience tells that an environment is silent
def test_an_event_whose_environment_died_runs_again_by_our_policy_alone(new_executor, new_function, aws, tmp_path):
    """Lambda tries a failed event again, twice; its first try finds the claim, runs nothing, and ends well."""
    name, diary = new_function(), tmp_path / "diary"
    executor = new_executor(2, function=name, events_above_s=0.001, timeout_s=40)
    never = executor.with_options(retries=AT_MOST_ONCE).submit(kill_environment, str(diary), "never")
    again = executor.with_options(retries=Retry(lost=1)).submit(kill_environment, str(diary), "again", times=1)
    error = never.exception(SOON)
    assert type(error) is errors.EventDropped
    assert "has been silent" in error.what
    assert again.result(SOON) == "again"
    assert runs_in(diary) == {"never": 1, "again": 2}
    executed = sorted(aws.invocations()[name].executed.values())
    assert executed == [1, 1, 2, 2], "first it is asked whether events can report"


def test_nothing_is_sent_as_an_event_whose_report_may_not_be_listed(new_executor, new_function, aws):
    name = new_function()
    executor = new_executor(1, function=name)
    aws.faults.error("AccessDenied", "not authorized", status=403, service="s3", operation="ListObjectsV2")
    error = executor.with_options(timeout_s=600).submit(double, 1).exception(SOON)
    assert type(error) is errors.AccessDenied
    assert "s3:ListBucket" in error.remedy
    assert name not in aws.invocations()
    assert executor.submit(double, 4).result(SOON) == 8, "other calls need no list"


@pytest.mark.slow
def test_events_end_by_name_when_the_right_to_list_reports_is_taken_away(new_executor, aws, tmp_path):
    executor = new_executor(1, retries=AT_MOST_ONCE)
    future = executor.with_options(timeout_s=600).submit(wait_at, str(tmp_path / "gate"), 1)
    wait_for_calls(tmp_path / "gate", 1)
    aws.faults.error("AccessDenied", "not authorized", status=403, service="s3", operation="ListObjectsV2")
    error = future.exception(SOON)
    assert type(error) is errors.EventDropped
    assert "could not be looked up" in error.what
    assert "not authorized" in error.what
    (tmp_path / "gate").touch()


# --- concurrency --------------------------------------------------------------------------------


def test_a_reserved_concurrency_below_max_workers_is_kept_and_costs_few_refusals(new_executor, new_function, tmp_path):
    executor = new_executor(8, function=new_function(reserved=2), retries=AT_MOST_ONCE)
    diary = tmp_path / "diary"
    futures = [executor.submit(span, str(diary), 0.05) for _ in range(30)]
    assert [future.result(SOON) for future in futures] == [None] * 30
    assert most_at_once(diary) == 2
    assert {future.attempts for future in futures} == {1}
    assert executor._core.engine.backend.n_refused <= 30


def test_what_somebody_else_holds_of_the_account_is_taken_up_when_it_is_free(new_executor, new_function, aws, tmp_path):
    """The account has 30; 26 are reserved, a tenant holds 3 of the rest, and we want 4."""
    new_function(reserved=26)
    tenant = new_executor(3, function=new_function())
    gate, diary = tmp_path / "gate", tmp_path / "diary"
    held = [tenant.submit(wait_at, str(gate), x) for x in range(3)]
    wait_for_calls(gate, 3)
    executor = new_executor(4, function=new_function(), retries=AT_MOST_ONCE)
    futures = [executor.submit(span, str(diary), 0.05) for _ in range(60)]
    eventually(lambda: sum(future.done() for future in futures) >= 3)
    assert most_at_once(diary) == 1
    gate.touch()
    assert [future.result(SOON) for future in held] == [0, 1, 2]
    assert [future.result(SOON) for future in futures] == [None] * 60
    assert most_at_once(diary) > 1, "room that has become free is used"


def test_two_executors_of_one_process_share_what_there_is(settings, new_function, tmp_path):
    name = new_function(reserved=2)
    totals = {}

    def work(which):
        with LambdaExecutor(**{**settings, "function": name, "max_workers": 4}) as executor:
            totals[which] = sum(executor.map(double, range(20), timeout=SOON))

    threads = [threading.Thread(target=work, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert totals == {0: 380, 1: 380}
