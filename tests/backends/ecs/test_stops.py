"""What the service says of an end becomes a class, a remedy, and what the ledger is told; its own words are kept."""

import pytest

from cloudexec import errors
from cloudexec.backends.ecs.replies import read_task
from cloudexec.backends.ecs.stops import StopKind, late_start, stop_for_error, stop_for_reason, stop_of
from cloudexec.engine.verdicts import breakdown_of, failure_of
from cloudexec.errors import AccessDenied, AwsError, ConnectionLost, Throttled
from cloudexec.ledger.calls import Call, CallOptions, Cause
from cloudexec.ledger.pace import Estimate


def stopped(code="", reason="", exit_code=None, container="", started=True):
    containers = [] if exit_code is None and not container else [{"name": "worker", "reason": container}]
    if exit_code is not None:
        containers[0]["exitCode"] = exit_code
    times = {"createdAt": 1.0, **({"startedAt": 2.0} if started else {})}
    return read_task(
        {
            "taskArn": "arn:aws:ecs:eu-west-1:1:task/c/abc",
            "lastStatus": "STOPPED",
            "stopCode": code,
            "stoppedReason": reason,
            "containers": containers,
            "launchType": "FARGATE",
            **times,
        }
    )


EXITED, FAILED = "EssentialContainerExited", "TaskFailedToStart"
PULL = "CannotPullContainerError: "


@pytest.mark.parametrize(
    ("task", "kind", "elsewhere", "permanent", "remedy"),
    [
        pytest.param(stopped(EXITED, "Essential container in task exited", 1), StopKind.EXITED, False, False,
                     "log", id="the worker exited"),
        pytest.param(stopped(EXITED, "", 137), StopKind.EXITED, False, False, "memory", id="killed by somebody"),
        pytest.param(stopped(EXITED, "", 127), StopKind.EXITED, False, False, "python", id="no such command"),
        pytest.param(stopped(EXITED, "", 137, "OutOfMemoryError: container killed due to memory usage"),
                     StopKind.OOM, False, False, "memory_mib", id="out of memory"),
        pytest.param(stopped(EXITED, "", 137, "OutOfMemory: Container killed due to memory usage"),
                     StopKind.OOM, False, False, "memory_mib", id="out of memory, as others write it"),
        pytest.param(stopped("SpotInterruption", "", 143, "OutOfMemoryError: container killed"),
                     StopKind.SPOT, True, False, "on_demand_base", id="spot, and before that a slot for memory"),
        pytest.param(stopped("UserInitiated", "cloudexec: x", 0, "OutOfMemoryError: container killed"),
                     StopKind.STOPPED_BY_US, False, False, "this run", id="by us, and before that a slot for memory"),
        pytest.param(stopped("SpotInterruption", "Your Spot Task was interrupted.", 143),
                     StopKind.SPOT, True, False, "on_demand_base", id="spot"),
        pytest.param(stopped("SpotInterruption", "Your Spot Task was interrupted.", started=False),
                     StopKind.CAPACITY, True, False, "fallback", id="spot, and it never ran"),
        pytest.param(stopped("", "Your Spot Task was interrupted."), StopKind.SPOT, True, False, "Spot",
                     id="spot, told by the text alone"),
        pytest.param(stopped("TerminationNotice", ""), StopKind.HOST, True, False, "machine", id="the host goes"),
        pytest.param(stopped("InfrastructureHealth", ""), StopKind.HOST, True, False, "machine", id="the host is ill"),
        pytest.param(stopped("UserInitiated", "cloudexec: shutdown"), StopKind.STOPPED_BY_US, False, False,
                     "this run", id="we did it"),
        pytest.param(stopped("UserInitiated", "Task stopped by user"), StopKind.STOPPED_BY_SOMEBODY, False, False,
                     "who stops", id="somebody did it"),
        pytest.param(stopped("ServiceSchedulerInitiated", ""), StopKind.STOPPED_BY_SOMEBODY, False, False,
                     "who stops", id="a scheduler did it"),
        pytest.param(stopped(FAILED, "Capacity is unavailable at this time. Please try again later",
                             started=False), StopKind.CAPACITY, True, False, "zones", id="no room on Fargate"),
        pytest.param(stopped(FAILED, PULL + "pull image manifest has been retried 5 time(s): x:1: not found",
                             started=False), StopKind.PULL, False, True, "name and tag", id="no such image"),
        pytest.param(stopped(FAILED, "Task failed to start", container=PULL + "403 Forbidden: denied",
                             started=False), StopKind.PULL, False, True, "execution role", id="may not pull"),
        pytest.param(stopped(FAILED, PULL + "dial tcp 1.2.3.4:443: i/o timeout", started=False),
                     StopKind.PULL, False, True, "assign_public_ip", id="no way to the registry"),
        pytest.param(stopped(FAILED, PULL + "toomanyrequests: rate limit", started=False),
                     StopKind.PULL, False, False, "copy of the image in ECR", id="pulls are limited"),
        pytest.param(stopped(FAILED, PULL + "no matching manifest for linux/arm64", started=False),
                     StopKind.PULL, False, True, "arch=", id="another processor"),
        pytest.param(stopped(FAILED, "ResourceInitializationError: unable to pull secrets", started=False),
                     StopKind.INIT, False, True, "execution role", id="not initialized"),
        pytest.param(stopped(FAILED, "", container="CannotStartContainerError: exec: python: not found",
                             started=False), StopKind.INIT, False, True, "command", id="no such program"),
        pytest.param(stopped(FAILED, "", started=False), StopKind.INIT, False, False, "execution role",
                     id="failed to start, without a word and without containers"),
        pytest.param(stopped(EXITED, "InternalError: x"), StopKind.HOST, True, False, "machine", id="theirs"),
        pytest.param(stopped(), StopKind.UNKNOWN, False, False, "words", id="not a word"),
        pytest.param(stopped("NewCode", "a text of 2031"), StopKind.UNKNOWN, False, False, "words", id="unheard of"),
    ],
)  # fmt: skip
def test_a_stop_is(task, kind, elsewhere, permanent, remedy):
    stop = stop_of(task)
    assert stop.kind is kind
    assert (stop.retry_elsewhere, stop.is_permanent) == (elsewhere, permanent)
    assert remedy in stop.remedy
    assert task.arn in stop.text
    assert all(reason in stop.text for reason in task.reasons)


@pytest.mark.parametrize(
    ("reason", "kind", "permanent"),
    [
        pytest.param("RESOURCE:MEMORY", StopKind.CAPACITY, False, id="no machine with so much memory free"),
        pytest.param("Capacity is unavailable at this time", StopKind.CAPACITY, False, id="Fargate"),
        pytest.param("AGENT", StopKind.CAPACITY, False, id="the machine's agent is away"),
        pytest.param("ATTRIBUTE", StopKind.UNKNOWN, True, id="no machine has what the definition asks for"),
        pytest.param("", StopKind.UNKNOWN, False, id="no reason"),
    ],
)
def test_a_failure_of_run_task_is(reason, kind, permanent):
    stop = stop_for_reason(reason, "detail")
    assert (stop.kind, stop.is_permanent) == (kind, permanent)
    assert "detail" in stop.text


@pytest.mark.parametrize(
    ("error", "kind", "permanent", "may_pass"),
    [
        pytest.param(AccessDenied("no", "AccessDeniedException", 400), StopKind.REFUSED, True, False, id="denied"),
        pytest.param(AwsError("no cluster", "ClusterNotFoundException", 400), StopKind.REFUSED, True, False,
                     id="no such cluster"),
        pytest.param(AwsError("You've reached the limit on the number of vCPUs you can run concurrently",
                              "ClientException", 400), StopKind.CAPACITY, False, True, id="the account's quota"),
        pytest.param(AwsError("The quota of tasks in the PROVISIONING state was reached", "ClientException", 400),
                     StopKind.CAPACITY, False, True, id="too many at once"),
        pytest.param(Throttled("slow down", "ThrottlingException", 400), StopKind.UNKNOWN, False, True, id="throttle"),
        pytest.param(ConnectionLost("reset", True), StopKind.UNKNOWN, False, True, id="no answer"),
    ],
)  # fmt: skip
def test_a_refusal_of_run_task_is(error, kind, permanent, may_pass):
    stop = stop_for_error(error)
    assert (stop.kind, stop.is_permanent, stop.may_pass) == (kind, permanent, may_pass)
    assert error.what in stop.text


def test_the_quota_has_its_own_remedy():
    stop = stop_for_error(AwsError("You've reached the limit on the number of vCPUs", "ClientException", 400))
    assert "L-3032A538" in stop.remedy


@pytest.mark.parametrize(
    ("task", "cause", "error"),
    [
        pytest.param(stopped(EXITED, "", 1), Cause.LOST, "TaskStopped", id="exited"),
        pytest.param(stopped("SpotInterruption", ""), Cause.LOST, "TaskStopped", id="spot"),
        pytest.param(stopped(EXITED, "", 137, "OutOfMemoryError: x"), Cause.OOM, "", id="memory has its own budget"),
    ],
)
def test_what_the_calls_of_a_worker_are_told(task, cause, error):
    end = stop_of(task).as_end("abc")
    assert (end.cause, end.error, end.exitcode) == (cause, error, task.exit_code)
    assert end.detail.startswith("worker abc: task arn:aws:ecs:")
    assert end.remedy


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        pytest.param(stopped(FAILED, PULL + "not found", started=False), errors.ImagePullFailed, id="image"),
        pytest.param(stopped(FAILED, "Capacity is unavailable", started=False), errors.CapacityUnavailable, id="room"),
        pytest.param(stopped(EXITED, "", 1), errors.WorkerStartFailed, id="anything else"),
    ],
)
def test_an_executor_without_workers_says_why(task, kind):
    stop = stop_of(task)
    error = breakdown_of(stop.as_failed_start())
    assert type(error) is kind
    assert stop.text in error.what
    assert error.remedy == stop.remedy


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        pytest.param(stopped("SpotInterruption", "Your Spot Task was interrupted."), errors.TaskStopped, id="spot"),
        pytest.param(stopped(EXITED, "", 137, "OutOfMemoryError: x"), errors.OutOfMemory, id="memory"),
    ],
)
def test_a_call_whose_worker_stopped_once_too_often_says_why(task, kind):
    stop = stop_of(task)
    call = Call(17, Estimate(), CallOptions(), 0)
    error = failure_of(call, stop.as_end("abc"), "call r1/17")
    assert type(error) is kind
    assert error.what.startswith("call r1/17")
    assert stop.text in error.what
    assert error.remedy == stop.remedy


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        pytest.param("RUNNING", "way to SQS", id="it runs, and reaches nobody"),
        pytest.param("PENDING", "size of the image", id="it does not run"),
    ],
)
def test_a_start_that_is_late(status, remedy):
    stop = late_start(read_task({"taskArn": "arn:x/1", "lastStatus": status}), 300)
    assert f"did not report within 300 s: it is {status}" in stop.text
    assert remedy in stop.remedy
