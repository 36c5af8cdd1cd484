"""What goes wrong between services and us: throttles, broken connections, stale and lost answers, keys that expire.

The promise under all of them: no future hangs, no result is lost or delivered twice (docs/guarantees.md, 1 and 2).
"""

from __future__ import annotations

import base64
import pickle
import time

import pytest

from cloudexec import ECSExecutor, errors
from cloudexec.executors.base import CloudExecutor
from cloudexec.wire.envelope import Kind, Seal, new_key
from cloudexec.wire.mail import to_text
from tests.ecs.scene import (
    SOON,
    Bomb,
    assert_nothing_left,
    big,
    double,
    eventually,
    runs_in,
    tasks_of,
    trace,
    wait_at,
    wait_for_calls,
)
from tests.specs.executors import QUICK

N_CALLS = 40
FORGETFUL = {**QUICK, "visibility_s": 2.0}  # what was lost on the way to a worker comes again soon
LARGE = 300_000  # bytes: an argument or result that travels as a blob


def assert_all_arrive(executor: CloudExecutor, diary) -> None:
    """Small calls, and one with a large argument and a large result, bring their values, each once."""
    futures = [executor.submit(trace, str(diary), x) for x in range(N_CALLS)]
    large = executor.submit(double, big(LARGE))
    assert [future.result(SOON) for future in futures] == list(range(N_CALLS))
    assert large.result(SOON) == big(2 * LARGE)
    runs = runs_in(diary)
    assert set(runs) == {str(x) for x in range(N_CALLS)}


# --- requests that are refused or broken --------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("ecs", "RunTask"),
        ("ecs", "DescribeTasks"),
        ("ecs", "DescribeTaskDefinition"),
        ("sqs", "CreateQueue"),
        ("sqs", "SendMessageBatch"),
        ("sqs", "ReceiveMessage"),
        ("sqs", "DeleteMessageBatch"),
        ("s3", "PutObject"),
        ("s3", "GetObject"),
    ],
)
def test_throttles_cost_time_and_nothing_else(new_executor, aws, tmp_path, service, operation):
    aws.faults.throttle(service, operation, times=3)
    before = len(aws.faults.fired("throttle"))
    executor = new_executor(2)
    assert_all_arrive(executor, tmp_path / "diary")
    eventually(lambda: len(aws.faults.fired("throttle")) > before)
    assert max(runs_in(tmp_path / "diary").values()) == 1, "a throttle is no reason to run a call twice"
    executor.shutdown()
    assert_nothing_left(aws, executor.run.id)


@pytest.mark.parametrize("after", [False, True], ids=["before the service acted", "after it acted"])
@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("ecs", "RunTask"),
        ("ecs", "DescribeTasks"),
        ("sqs", "SendMessageBatch"),
        ("sqs", "ReceiveMessage"),
        ("sqs", "DeleteMessageBatch"),
        ("s3", "PutObject"),
        ("s3", "GetObject"),
    ],
)
def test_broken_connections_lose_nothing(new_executor, aws, tmp_path, service, operation, after):
    aws.faults.reset(service, operation, after=after, times=2)
    before = len(aws.faults.fired("reset"))
    executor = new_executor(2, tuning=FORGETFUL)
    assert_all_arrive(executor, tmp_path / "diary")
    eventually(lambda: len(aws.faults.fired("reset")) > before)
    executor.shutdown()
    assert_nothing_left(aws, executor.run.id)


def test_a_lost_answer_to_run_task_starts_no_second_task(new_executor, aws):
    aws.faults.reset("ecs", "RunTask", after=True, times=2)
    executor = new_executor(1)
    assert executor.submit(double, 4).result(SOON) == 8
    assert len(aws.faults.fired("reset")) >= 2
    assert len(tasks_of(aws, executor)) == 1


@pytest.mark.parametrize("number", range(1, 4))
def test_when_every_request_may_fail_all_results_arrive(new_executor, aws, tmp_path, number):
    executor = new_executor(2, tuning=FORGETFUL)
    assert executor.submit(double, 1).result(SOON) == 2
    aws.faults.throttle(rate=0.1, seed=number)
    aws.faults.reset(rate=0.03, seed=number + 100)
    aws.faults.reset(rate=0.03, after=True, seed=number + 200)
    assert_all_arrive(executor, tmp_path / "diary")
    aws.faults.clear()
    executor.shutdown()
    assert_nothing_left(aws, executor.run.id)


@pytest.mark.parametrize("after", [False, True], ids=["before the service acted", "after it acted"])
def test_a_journal_that_was_written_in_bad_weather_is_complete(new_executor, aws, after):
    first = new_executor(1)
    assert first.submit(double, 0).result(SOON) == 0
    aws.faults.reset("s3", "PutObject", after=after, rate=0.5, seed=3)
    aws.faults.throttle("s3", "PutObject", rate=0.2, seed=4)
    futures = [first.submit(double, x) for x in range(1, 30)]
    assert [future.result(SOON) for future in futures] == [2 * x for x in range(1, 30)]
    time.sleep(1.5)  # the journal is written once a second
    run_id = first.detach()
    assert aws.faults.fired("reset")
    aws.faults.clear()
    with ECSExecutor.attach(run_id) as second:
        assert [future.result(SOON) for future in second.futures] == [2 * x for x in range(30)]


def test_an_order_whose_answer_was_lost_is_ours_and_reaches_the_workers(new_executor, aws, tmp_path):
    executor = new_executor(1)
    future = executor.submit(wait_at, str(tmp_path / "gate"), 1)
    eventually(future.running)
    aws.faults.reset("s3", "PutObject", after=True, times=2)  # the repeat finds an object that is newer than it knows
    future.stop()
    assert isinstance(future.exception(SOON), errors.CallStopped)
    assert len(aws.faults.fired("reset")) >= 2
    assert executor.submit(double, 4).result(SOON) == 8


def test_credentials_that_expire_in_the_middle_are_renewed(new_executor, aws, tmp_path):
    executor = new_executor(2)
    gate = tmp_path / "gate"
    futures = [executor.submit(wait_at, str(gate), x) for x in range(6)]
    wait_for_calls(gate, 2)
    aws.faults.expire_credentials()
    gate.touch()
    assert [future.result(SOON) for future in futures] == list(range(6))
    assert [future.attempts for future in futures] == [1] * 6


# --- what the services tell is old, or not all of it --------------------------------------------


def test_what_ecs_tells_late_is_no_end_of_a_worker(new_executor, aws, tmp_path):
    aws.faults.stale_describe(2.0)
    executor = new_executor(2)
    futures = [executor.submit(trace, str(tmp_path / "diary"), x, 0.05) for x in range(40)]
    assert [future.result(SOON) for future in futures] == list(range(40))
    assert max(runs_in(tmp_path / "diary").values()) == 1
    assert len(tasks_of(aws, executor)) == 2


# --- messages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", ["-work", "-out"])
def test_doubled_messages_bring_each_result_once(new_executor, aws, tmp_path, queue):
    aws.faults.duplicate_messages(queue, rate=0.5, seed=7)
    executor = new_executor(2)
    done = []
    futures = [executor.submit(trace, str(tmp_path / "diary"), x) for x in range(100)]
    for future in futures:
        future.add_done_callback(done.append)
    assert [future.result(SOON) for future in futures] == list(range(100))
    assert aws.faults.fired("duplicate_messages")
    executor.shutdown()
    assert len(done) == 100
    assert_nothing_left(aws, executor.run.id)


@pytest.mark.slow  # nothing but patience tells that a message was lost
@pytest.mark.parametrize("queue", ["-work", "-out"])
@pytest.mark.parametrize("seconds", [0.0, 0.5], ids=["short calls", "calls that were told as held"])
def test_a_lost_message_costs_an_attempt_and_no_result(new_executor, aws, tmp_path, queue, seconds):
    executor = new_executor(1, tuning={**QUICK, "visibility_s": 1.0})
    assert executor.submit(double, 1).result(SOON) == 2
    aws.faults.lose_messages(queue, times=1)
    future = executor.submit(trace, str(tmp_path / "diary"), 5, seconds)
    assert future.result(55) == 5
    assert aws.faults.fired("lose_messages")


@pytest.mark.slow
def test_a_lost_message_is_missed_although_idle_workers_leave_before_long(new_executor, aws):
    executor = new_executor(1, idle_timeout_s=2.0, tuning={**QUICK, "visibility_s": 1.0})
    aws.faults.lose_messages("-work", times=1)
    assert executor.submit(double, 5).result(55) == 10


def test_what_is_in_a_queue_without_our_signature_is_never_unpickled(new_executor, aws, tmp_path):
    executor = new_executor(1)
    assert executor.submit(double, 1).result(SOON) == 2
    sqs = aws.session().client("sqs")
    bomb = pickle.dumps(Bomb(str(tmp_path / "crater")))
    texts = [base64.b64encode(bomb).decode(), *(to_text(Seal(new_key()), kind, bomb) for kind in Kind), "no base64!"]
    for which in ("work", "out"):
        url = sqs.get_queue_url(QueueName=f"cloudexec-{executor.run.id}-{which}")["QueueUrl"]
        for text in texts:
            sqs.send_message(QueueUrl=url, MessageBody=text)
    assert [executor.submit(double, x).result(SOON) for x in range(5)] == [0, 2, 4, 6, 8]
    executor.shutdown()
    assert not (tmp_path / "crater").exists()
