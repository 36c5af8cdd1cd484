"""Faults on demand: what each does, that its seed repeats it, and that the audit tells of it."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillAsked  # not the built-in one before Python 3.11

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.testing.pocket.server.faults import FaultBook
from tests.pocket.driving import PATIENT, SPOT, code_of, python

# --- requests --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "ask", "code", "status"),
    [
        pytest.param("ecs", lambda c: c.list_clusters(), "ThrottlingException", 400, id="ecs"),
        pytest.param("s3", lambda c: c.list_buckets(), "SlowDown", 503, id="s3"),
        pytest.param("sqs", lambda c: c.list_queues(), "RequestThrottled", 403, id="sqs"),
        pytest.param("ec2", lambda c: c.describe_subnets(), "RequestLimitExceeded", 503, id="ec2"),
        pytest.param("iam", lambda c: c.list_roles(), "Throttling", 400, id="iam"),
        pytest.param("logs", lambda c: c.describe_log_groups(), "ThrottlingException", 400, id="logs"),
        pytest.param("lambda", lambda c: c.list_functions(), "TooManyRequestsException", 429, id="lambda"),
    ],
)
def test_a_throttle_has_the_words_of_its_service(drive, service, ask, code, status):
    drive.aws.faults.throttle(service, times=1)
    with pytest.raises(ClientError) as error:
        ask(drive.client(service))
    assert code_of(error) == code
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    ask(drive.client(service))  # times=1: the next is served


def test_botocore_recovers_from_throttles_by_itself(drive):
    drive.aws.faults.throttle("ecs", "RunTask", times=2)
    reply = drive.client("ecs", PATIENT).run_task(**drive.request(["true"]))
    assert reply["ResponseMetadata"]["RetryAttempts"] == 2
    assert len(drive.aws.tasks()) == 1
    assert [event["operation"] for event in drive.aws.faults.fired("throttle")] == ["RunTask", "RunTask"]
    assert drive.aws.requests()["ecs", "RunTask"] == 3


def test_a_throttle_of_one_operation_leaves_the_others_alone(drive):
    drive.aws.faults.throttle("ecs", "RunTask")
    drive.ecs.list_tasks(cluster="cloudexec")
    with pytest.raises(ClientError):
        drive.run("true")
    drive.aws.faults.clear()
    drive.run("true")


def test_any_error_can_be_asked_for(drive):
    drive.aws.faults.error("AccessDeniedException", "not you", status=403, service="ecs", operation="ListTasks")
    with pytest.raises(ClientError, match="not you") as error:
        drive.ecs.list_tasks(cluster="cloudexec")
    assert code_of(error) == "AccessDeniedException"


def test_latency_holds_up_one_service(drive):
    drive.aws.faults.latency("sqs", 1.0, times=1)
    began = time.monotonic()
    drive.s3.list_buckets()
    assert time.monotonic() - began < 1.0
    drive.sqs.list_queues()
    assert time.monotonic() - began >= 1.0


def test_what_a_rule_holds_up_goes_on_when_the_rule_is_cleared(drive):
    rule = drive.aws.faults.latency("sqs", 600.0)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(drive.sqs.list_queues)
        with pytest.raises(StillAsked):
            asked.result(0.2)
        drive.aws.faults.clear(rule)
        asked.result(30)


@pytest.mark.parametrize("after", [False, True])
def test_a_broken_connection_before_or_after_the_service_acted(drive, after):
    bucket = drive.setup["bucket"]
    drive.aws.faults.reset("s3", "PutObject", after=after, times=1)
    with pytest.raises(ConnectionClosedError):
        drive.s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert drive.aws.objects() == ({"k": 1} if after else {})


def test_a_lost_answer_makes_a_conditional_put_refuse_its_own_success(drive):
    drive.aws.faults.reset("s3", "PutObject", after=True, times=1)
    with pytest.raises(ClientError) as error:
        drive.client("s3", PATIENT).put_object(Bucket=drive.setup["bucket"], Key="k", Body=b"x", IfNoneMatch="*")
    assert code_of(error) == "PreconditionFailed"
    assert drive.aws.objects() == {"k": 1}


def test_a_lost_answer_to_run_task_starts_nothing_twice_with_a_client_token(drive):
    drive.aws.faults.reset("ecs", "RunTask", after=True, times=1)
    reply = drive.client("ecs", PATIENT).run_task(**drive.request(["true"], clientToken="t"))
    assert [task.arn for task in drive.aws.tasks()] == [task["taskArn"] for task in reply["tasks"]]


# --- tasks -----------------------------------------------------------------------------------


def test_run_task_answers_200_with_failures_for_a_part_of_its_tasks(drive):
    drive.aws.faults.run_task_failures(times=2, reason="RESOURCE:MEMORY")
    reply = drive.ecs.run_task(**drive.request(["true"], count=5))
    assert len(reply["tasks"]) == 3
    assert [failure["reason"] for failure in reply["failures"]] == ["RESOURCE:MEMORY"] * 2


def test_capacity_may_lack_on_one_provider_alone(drive):
    drive.aws.faults.run_task_failures(provider="FARGATE_SPOT")
    reply = drive.ecs.run_task(**drive.request(["true"], capacity=SPOT))
    assert reply["tasks"] == []
    assert reply["failures"][0]["reason"].startswith("Capacity is unavailable at this time")
    drive.run("true")


def test_a_task_may_stop_without_ever_having_had_containers(drive):
    drive.aws.faults.empty_start(times=1)
    task = drive.until(drive.run("true"), "STOPPED")
    assert (task["containers"], task["stopCode"]) == ([], "TaskFailedToStart")


def test_an_image_that_cannot_be_pulled(drive):
    drive.aws.faults.pull_error(times=1)
    task = drive.until(drive.run("true"), "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith("CannotPullContainerError")
    assert "exitCode" not in task["containers"][0]


def test_a_task_that_never_starts(drive):
    drive.aws.faults.never_start(times=1)
    arn = drive.run("true")
    time.sleep(0.3)
    assert drive.describe(arn)["lastStatus"] == "PENDING"


READY = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *a: (print('warned'), {})); print('ready'); {}"
LEAVES = READY.format("sys.exit(9)", "time.sleep(60)")
STAYS = READY.format("0", "[time.sleep(60) for _ in range(9)]")


@pytest.mark.parametrize(
    ("code", "warning_s", "exit_code", "log"),
    [
        pytest.param(LEAVES, None, 9, "ready\nwarned\n", id="it uses the warning"),
        pytest.param(STAYS, 0.3, 137, "ready\nwarned\n", id="it lets the warning pass"),
        pytest.param(LEAVES, 0, 137, "ready\n", id="no warning at all"),
    ],
)
def test_a_spot_interruption(drive, code, warning_s, exit_code, log):
    arn = drive.run(*python(code), capacity=SPOT)
    drive.until_logged(arn, "ready")
    assert drive.aws.faults.interrupt(warning_s=warning_s) == [arn]
    task = drive.until(arn, "STOPPED")
    assert (task["stopCode"], task["stoppedReason"]) == ("SpotInterruption", "Your Spot Task was interrupted.")
    assert task["containers"][0]["exitCode"] == exit_code
    assert drive.aws.task(arn).log == log


def test_on_demand_capacity_is_not_interrupted_unless_named(drive):
    arn = drive.run("sleep", "60")
    drive.until(arn, "RUNNING")
    assert drive.aws.faults.interrupt(5) == []
    assert drive.aws.faults.interrupt(arn, warning_s=0) == [arn]
    assert drive.until(arn, "STOPPED")["stopCode"] == "SpotInterruption"


def test_a_task_can_be_killed_without_a_word(drive):
    arn = drive.run("sleep", "60")
    drive.until(arn, "RUNNING")
    assert drive.aws.faults.kill(arn)
    task = drive.until(arn, "STOPPED")
    assert (task["stopCode"], task["containers"][0]["exitCode"]) == ("EssentialContainerExited", 137)
    assert not drive.aws.faults.kill(arn)


def test_a_task_can_vanish_from_the_record(drive):
    arn = drive.run("sleep", "60")
    drive.until(arn, "RUNNING")
    pid = drive.aws.task(arn).pid
    assert drive.aws.faults.vanish(arn)
    reply = drive.ecs.describe_tasks(cluster="cloudexec", tasks=[arn])
    assert reply["failures"] == [{"arn": arn, "reason": "MISSING"}]
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_describe_tasks_may_tell_the_past(drive):
    old = drive.run("sleep", "60")
    drive.until(old, "RUNNING")
    time.sleep(1.6)
    drive.aws.faults.stale_describe(1.5)  # time enough for four requests on a busy machine
    new = drive.run("sleep", "60")
    reply = drive.ecs.describe_tasks(cluster="cloudexec", tasks=[old, new])
    assert [task["lastStatus"] for task in reply["tasks"]] == ["RUNNING"]
    assert [failure["reason"] for failure in reply["failures"]] == ["MISSING"]
    drive.stop(old)
    assert drive.describe(old)["desiredStatus"] == "RUNNING"
    deadline = time.monotonic() + 5
    while drive.describe(old)["desiredStatus"] != "STOPPED":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_keys_of_tasks_can_expire_and_boto3_in_the_task_is_told_so(drive):
    code = """
import boto3, sys
client = boto3.client('sts')
first = client.get_caller_identity()
print('ready')
import time
while True:
    try: client.get_caller_identity()
    except Exception as error: sys.exit(print(error.response['Error']['Code']))
    time.sleep(0.02)
"""
    arn = drive.run(*python(code))
    drive.until_logged(arn, "ready")
    drive.aws.faults.expire_credentials()
    drive.until(arn, "STOPPED")
    assert drive.aws.task(arn).log == "ready\nExpiredToken\n"
    drive.ecs.list_tasks(cluster="cloudexec")  # ours are not among them


# --- messages --------------------------------------------------------------------------------


def test_messages_can_be_lost_on_one_queue(drive):
    lossy, safe = drive.queue("one-lossy"), drive.queue("one-safe")
    drive.aws.faults.lose_messages("lossy")
    for url in (lossy, safe):
        assert drive.sqs.send_message(QueueUrl=url, MessageBody="x")["MessageId"]
    assert [queue.visible for queue in drive.aws.queues()] == [0, 1]


def test_messages_can_arrive_twice_and_each_copy_must_be_deleted(drive):
    url = drive.queue()
    drive.aws.faults.duplicate_messages(times=1)
    drive.sqs.send_message(QueueUrl=url, MessageBody="x")
    first, second = drive.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert first["MessageId"] == second["MessageId"]
    drive.sqs.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
    assert drive.aws.queues()[0].in_flight == 1


# --- the book --------------------------------------------------------------------------------


def struck(seed, rate, requests=200):
    book = FaultBook()
    book.add({"kind": "throttle", "service": "ecs", "rate": rate, "seed": seed})
    return [bool(book.strike(("throttle",), service="ecs", operation="RunTask")) for _ in range(requests)]


@given(seed=st.integers(0, 1000), rate=st.floats(0, 1))
def test_a_seed_repeats_itself(seed, rate):
    assert struck(seed, rate) == struck(seed, rate)


def test_seeds_differ_and_a_rate_is_a_rate():
    assert struck(1, 0.5) != struck(2, 0.5)
    assert 800 < sum(struck(3, 0.1, requests=10_000)) < 1200


@given(times=st.integers(0, 20), requests=st.integers(0, 40))
def test_times_is_an_upper_bound_and_without_a_rate_exact(times, requests):
    book = FaultBook()
    book.add({"kind": "throttle", "times": times})
    hits = sum(bool(book.strike(("throttle",), service="s3", operation="GetObject")) for _ in range(requests))
    assert hits == min(times, requests) == len(book.fired())


def test_one_rule_can_be_cleared_and_the_audit_stays():
    book = FaultBook()
    first = book.add({"kind": "throttle", "service": "ecs"})
    book.add({"kind": "throttle", "service": "sqs"})
    book.strike(("throttle",), service="ecs", operation="RunTask")
    book.clear(first)
    assert book.strike(("throttle",), service="ecs", operation="RunTask") == []
    assert len(book.strike(("throttle",), service="sqs", operation="SendMessage")) == 1
    assert len(book.fired()) == 2


def test_a_fault_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="meteor"):
        FaultBook().add({"kind": "meteor"})
