"""What the ledger is told of a command's end, by what ECS says and what we asked for."""

import pytest

from cloudexec import Command, CommandResult
from cloudexec.backends.ecs.commands.jobs import Ended, Job, Why
from cloudexec.backends.ecs.commands.orders import Order
from cloudexec.backends.ecs.commands.verdicts import event_of
from cloudexec.backends.ecs.replies import read_task
from cloudexec.backends.ecs.requests import OUR_STOP, Outfit
from cloudexec.backends.ecs.stops import stop_for_error, stop_for_reason, stop_of, vanished
from cloudexec.backends.ecs.target import EcsTarget
from cloudexec.backends.protocol import LaneDown, Outcomes
from cloudexec.errors import (
    AccessDenied,
    CapacityUnavailable,
    CommandFailed,
    ImagePullFailed,
    TaskStopped,
    WorkerStartFailed,
)
from cloudexec.ledger.calls import Cause
from cloudexec.serialization.failures import load_failure
from cloudexec.serialization.loading import load
from cloudexec.wire.messages import Verdict

ARN = "arn:aws:ecs:r:1:task/c/abc"
LOG = "first\nlast words\n"


def a_state(code="EssentialContainerExited", reason="Essential container in task exited", *, ran=True, **containers):
    """A stopped task; `containers`: exit code, or reason, by name."""
    shown = [
        {"name": name, **({"exitCode": said} if isinstance(said, int) else {"reason": said})}
        for name, said in containers.items()
        if said is not None
    ] + [{"name": name} for name, said in containers.items() if said is None]
    times = {"createdAt": 1.0, "stoppedAt": 9.0, "executionStoppedAt": 8.0} | ({"startedAt": 4.0} if ran else {})
    return read_task(
        {
            "taskArn": ARN,
            "lastStatus": "STOPPED",
            "stopCode": code,
            "stoppedReason": reason,
            "containers": shown,
            "capacityProviderName": "FARGATE",
            **times,
        }
    )


def judged(state=None, *, stop=None, why=None, error=None, ran=True, log=LOG, **command):
    """The event for a job that ended like this."""
    command = Command(["run", "it"], task_definition="td", container="main", **command)
    target = EcsTarget(cluster="c", task_definition="td", container="main")
    job = Job("c1", 7, 2, Order(command=command, target=target, outfit=Outfit(run_id="r")), None)
    job.runs, job.why = ran, why
    return event_of(Ended(job, stop or stop_of(state), state, error), log)


def outcome_of(event):
    """The verdict, and the value or exception that its future gets."""
    assert isinstance(event, Outcomes)
    (outcome,) = event.outcomes
    assert (event.lane, outcome.number, outcome.attempt) == ("c1", 7, 2)
    unpack = load if outcome.verdict is Verdict.RETURNED else load_failure
    return outcome.verdict, unpack(outcome.value, lambda ref: memoryview(b""))


def test_exit_code_0_is_a_result_with_all_that_is_known():
    event = judged(a_state(main=0))
    assert outcome_of(event) == (
        Verdict.RETURNED,
        CommandResult(
            exit_code=0,
            stop_code="EssentialContainerExited",
            stopped_reason="Essential container in task exited",
            created_s=1.0,
            started_s=4.0,
            stopped_s=8.0,
            log=LOG,
            task_arn=ARN,
            provider="FARGATE",
            attempt=2,
        ),
    )
    (outcome,) = event.outcomes
    assert (outcome.started_s, outcome.finished_s) == (4.0, 8.0)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        pytest.param(3, "its last lines", id="any"),
        pytest.param(126, "cannot be executed", id="not executable"),
        pytest.param(127, "no such program", id="not there"),
        pytest.param(137, "more memory", id="killed"),
    ],
)
def test_another_exit_code_is_an_error_of_the_commands_own(code, remedy):
    verdict, error = outcome_of(judged(a_state(main=code)))
    assert (verdict, type(error), error.exit_code) == (Verdict.RAISED, CommandFailed, code)
    assert "last words" in error.what
    assert ARN in error.what
    assert remedy in error.remedy
    assert error.result.task_arn == ARN
    assert str(error.__cause__) == f'\n"""\nCommandFailed, task {ARN}\n"""'


def test_without_check_it_is_a_result():
    verdict, result = outcome_of(judged(a_state(main=3), check=False))
    assert (verdict, result.exit_code) == (Verdict.RETURNED, 3)


def test_the_exit_code_is_that_of_the_commands_container():
    verdict, result = outcome_of(judged(a_state(side=5, main=0)))
    assert (verdict, result.exit_code) == (Verdict.RETURNED, 0)


def test_a_task_that_another_container_ended_has_no_exit_code_of_ours():
    verdict, error = outcome_of(judged(a_state(side=5, main=None)))
    assert (verdict, type(error)) == (Verdict.REFUSED, TaskStopped)
    assert "before its container 'main' did" in error.what


@pytest.mark.parametrize("why", [Why.STOPPED, Why.TIMEOUT, Why.CLOSED], ids=lambda why: why.name)
def test_a_program_that_ends_just_before_it_is_stopped_has_a_result(why):
    assert outcome_of(judged(a_state(main=0), why=why))[0] is Verdict.RETURNED


OURS = a_state("UserInitiated", f"{OUR_STOP}the call was stopped", main=143)
SPOT = a_state("SpotInterruption", "Your Spot Task was interrupted.", main=143)
HOST = a_state("TerminationNotice", "The host goes away.", main=143)
OOM = a_state(main="OutOfMemoryError: container killed due to memory usage")


@pytest.mark.parametrize(
    ("ended", "cause", "stopped", "killed"),
    [
        pytest.param({"state": OURS, "why": Why.STOPPED}, Cause.CRASH, True, 7, id="stopped"),
        pytest.param({"state": OURS, "why": Why.CLOSED}, Cause.CRASH, True, 7, id="the executor ended"),
        pytest.param({"state": OURS, "why": Why.TIMEOUT}, Cause.TIMEOUT, False, 7, id="its time was over"),
        pytest.param({"state": OOM}, Cause.OOM, False, 0, id="memory"),
        pytest.param({"state": SPOT}, Cause.LOST, False, 0, id="Spot"),
        pytest.param({"state": HOST}, Cause.LOST, False, 0, id="its host"),
        pytest.param({"stop": vanished(ARN)}, Cause.LOST, False, 0, id="vanished"),
        pytest.param({"state": a_state(main=None)}, Cause.LOST, False, 0, id="ran, and nothing is said"),
    ],
)
def test_an_end_that_is_not_the_programs_own_ends_the_lane(ended, cause, stopped, killed):
    event = judged(**ended)
    assert isinstance(event, LaneDown)
    assert (event.lane, event.unstarted) == ("c1", 0)
    assert (event.end.cause, event.end.stopped, event.end.killed_call) == (cause, stopped, killed)
    assert event.end.detail.endswith("; its last lines:\nfirst\nlast words\n")
    if cause is Cause.OOM:
        assert "memory_mib" in event.end.remedy


def failed_start(reason):
    return a_state("TaskFailedToStart", reason, ran=False, main=None)


@pytest.mark.parametrize(
    ("ended", "kind"),
    [
        pytest.param({"stop": stop_for_reason("Capacity is unavailable")}, CapacityUnavailable, id="no capacity"),
        pytest.param(
            {"state": failed_start("CannotPullContainerError: not found")}, ImagePullFailed, id="image not pulled"
        ),
        pytest.param(
            {"state": failed_start("ResourceInitializationError: no logs")}, WorkerStartFailed, id="not initialized"
        ),
        pytest.param({"stop": stop_for_reason("")}, WorkerStartFailed, id="nobody knows"),
        pytest.param(
            {"stop": stop_for_error(AccessDenied("no")), "error": AccessDenied("no")}, AccessDenied, id="refused"
        ),
    ],
)
def test_what_never_ran_is_refused_with_a_named_error(ended, kind):
    verdict, error = outcome_of(judged(ran=False, log="", **ended))
    assert (verdict, type(error)) == (Verdict.REFUSED, kind)
    assert error.remedy


def test_somebodys_stop_is_not_tried_again():
    state = a_state("UserInitiated", "too dear", main=143)
    verdict, error = outcome_of(judged(state))
    assert (verdict, type(error)) == (Verdict.REFUSED, TaskStopped)
    assert "too dear" in error.what
    assert "last words" in error.what
