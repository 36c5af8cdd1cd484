"""What answers and refusals of Lambda mean to the ledger."""

import json

import pytest

from cloudexec import errors
from cloudexec.backends.awslambda.replies import Fate, all_down, read_failure, read_refusal, read_report
from cloudexec.backends.protocol import CallDown, GivenBack, InitializerError, OutboundCall, Outcomes
from cloudexec.errors import AccessDenied, AwsError, ConnectionLost, Throttled
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import CallOptions, Cause
from cloudexec.ledger.pace import Estimate
from cloudexec.transport.lambdas import Invocation
from cloudexec.wire.control import DownCause
from cloudexec.wire.mail import LaneStop, Report
from cloudexec.wire.messages import FunctionTraits, Outcome, PackedFunction, Verdict

FULL = "REPORT RequestId: x Duration: 9 ms Billed Duration: 9 ms Memory Size: 128 MB\tMax Memory Used: 128 MB\t\n"
ROOMY = FULL.replace("Used: 128", "Used: 60")


def ended(kind, message, log="last words"):
    payload = json.dumps({"errorType": kind, "errorMessage": message, "stackTrace": ["  line 1\n"]}).encode()
    return Invocation(200, "Unhandled", log, payload, "request", "1")


@pytest.mark.parametrize(
    ("invocation", "cause", "error"),
    [
        pytest.param(
            ended("Sandbox.Timedout", "RequestId: x Error: Task timed out after 3.00 seconds"),
            Cause.TIMEOUT,
            "FunctionTimeout",
            id="timeout",
        ),
        pytest.param(
            ended("Runtime.ExitError", "RequestId: x Error: Runtime exited with error: signal: killed", FULL),
            Cause.OOM,
            "",
            id="killed with all memory in use",
        ),
        pytest.param(
            ended("Runtime.ExitError", "RequestId: x Error: Runtime exited with error: signal: killed", ROOMY),
            Cause.LOST,
            "EnvironmentLost",
            id="killed with room left",
        ),
        pytest.param(ended("Runtime.OutOfMemory", "out of memory"), Cause.OOM, "", id="out of memory by name"),
        pytest.param(
            ended("Runtime.ExitError", "Runtime exited with error: exit status 1"),
            Cause.LOST,
            "EnvironmentLost",
            id="exit",
        ),
        pytest.param(
            Invocation(200, "Unhandled", "", b"\xff", "r", "1"), Cause.LOST, "EnvironmentLost", id="unreadable"
        ),
    ],
)
def test_an_environment_that_ends_in_a_call_ends_the_attempt_by_name(invocation, cause, error):
    end = read_failure(invocation, 3.0)
    assert isinstance(end, LaneEnd)
    assert (end.cause, end.error) == (cause, error)
    assert invocation.log_tail.strip() in end.detail


@pytest.mark.parametrize(
    ("kind", "message", "error", "remedy"),
    [
        ("Runtime.ImportModuleError", "No module named 'cloudexec'", errors.FunctionImportFailed, "cloudexec"),
        ("Runtime.ImportModuleError", "x.cpython-310-x86_64-linux-gnu.so", errors.FunctionImportFailed, "runtime"),
        ("Runtime.HandlerNotFound", "Handler 'x' missing on module 'y'", errors.HandlerNotFound, "handler"),
        ("Runtime.InvalidEntrypoint", "exec format error", errors.WrongArchitecture, "arm64"),
        ("KeyError", "'key'", errors.FunctionFailed, "version"),
    ],
)
def test_an_environment_that_cannot_run_the_worker_breaks_the_executor_by_name(kind, message, error, remedy):
    found = read_failure(ended(kind, message), 3.0)
    assert type(found) is error
    assert message in found.what
    assert "last words" in found.what
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("error", "fate", "kind"),
    [
        (Throttled("x", "TooManyRequestsException", 429), Fate.LATER, errors.InvocationThrottled),
        (ConnectionLost("no connection", False), Fate.LATER, errors.WorkerStartFailed),
        (ConnectionLost("reset", True), Fate.LOST, errors.WorkerStartFailed),
        (AwsError("x", "ServiceException", 500), Fate.LOST, errors.WorkerStartFailed),
        (AwsError("x", "EC2ThrottledException", 502), Fate.LATER, errors.InvocationThrottled),
        (AwsError("x", "ResourceConflictException", 409), Fate.LATER, errors.InvocationThrottled),
        (AwsError("x", "ResourceNotFoundException", 404), Fate.NEVER, errors.FunctionMissing),
        (AccessDenied("x", "AccessDeniedException", 403), Fate.NEVER, errors.FunctionDenied),
        (AwsError("x", "KMSDisabledException", 502), Fate.NEVER, errors.FunctionKeyDenied),
        (AwsError("x", "RecursiveInvocationException", 400), Fate.NEVER, errors.RecursionStopped),
        (AwsError("x", "InvalidRuntimeException", 502), Fate.NEVER, errors.WrongArchitecture),
        (AwsError("x", "InvalidRequestContentException", 400), Fate.NEVER, errors.WorkerStartFailed),
    ],
)
def test_what_follows_from_a_refusal(error, fate, kind):
    refused = read_refusal(error, "fn")
    assert refused.fate is fate
    assert type(refused.error) is kind


# --- reports ---------------------------------------------------------------------------------


def call(number):
    function = PackedFunction(bytes(32), FunctionTraits(), b"")
    return OutboundCall(number, Estimate(), CallOptions(), function, b"", (), "", None)


def outcome(number):
    return Outcome(number, 1, Verdict.RETURNED, 1.0, 2.0, 0.5, 0, b"x")


def test_each_call_of_the_batch_is_in_one_event():
    stop = LaneStop("slot", -9, DownCause.DIED, 0, 2, "words", [])
    report = Report("env", 1, outcomes=[("slot", outcome(1)), ("slot", outcome(9))], down=[stop], requeued=[(3, 1)])
    events = read_report("i1", report, [call(n) for n in (1, 2, 3, 4)], 60.0)
    assert events[0] == Outcomes("i1", [outcome(1)])
    assert [(type(event), event.number) for event in events if isinstance(event, CallDown)] == [
        (CallDown, 2),
        (CallDown, 4),
    ]
    assert GivenBack([3]) in events
    silent = events[-1].end
    assert (silent.cause, silent.error) == (Cause.LOST, "EnvironmentLost")


@pytest.mark.parametrize(
    ("why", "cause", "error"),
    [
        (DownCause.DIED, Cause.CRASH, ""),
        (DownCause.OUT_OF_MEMORY, Cause.OOM, ""),
        (DownCause.TIMEOUT, Cause.TIMEOUT, ""),
        (DownCause.DEADLINE, Cause.TIMEOUT, "FunctionTimeout"),
    ],
)
def test_the_death_of_a_slot_is_that_of_its_call(why, cause, error):
    report = Report("env", 1, down=[LaneStop("slot", -9, why, 1, 1, "words", [])])
    (event,) = read_report("i1", report, [call(1)], 60.0)
    assert (event.number, event.end.cause, event.end.error) == (1, cause, error)
    assert "words" in event.end.detail


@pytest.mark.parametrize(
    ("whys", "alone"),
    [
        pytest.param([DownCause.LOST, DownCause.LOST, DownCause.DIED], [1, 2], id="with their supervisor"),
        pytest.param([DownCause.LOST, DownCause.DIED], [], id="one by itself"),
    ],
)
def test_calls_whose_slots_were_lost_together_go_alone_from_then_on(whys, alone):
    stops = [LaneStop(f"slot{n}", -9, why, 0, n, "words", []) for n, why in enumerate(whys, 1)]
    events = read_report("i1", Report("env", 1, down=stops), [call(n) for n in range(1, len(whys) + 1)], 60.0)
    assert [event.number for event in events if event.alone] == alone


def test_an_initializer_that_raised_says_nothing_of_calls():
    report = Report("env", 1, outcomes=[("slot", outcome(0))], failed_start=True)
    assert read_report("i1", report, [call(1)], 60.0) == [InitializerError(outcome(0))]


def test_of_several_calls_that_died_together_none_is_blamed_by_name():
    end = LaneEnd(Cause.OOM, "out of memory")
    (only,) = all_down("i1", [call(1)], end)
    assert (only.end.cause, only.alone) == (Cause.OOM, False)
    assert [(one.number, one.end.cause, one.alone) for one in all_down("i1", [call(1), call(2)], end)] == [
        (1, Cause.LOST, True),
        (2, Cause.LOST, True),
    ]


def test_a_call_whose_result_did_not_fit_beside_others_goes_alone_at_the_price_of_a_lost_attempt():
    stop = LaneStop("w.1", 0, DownCause.CROWDED, 0, 1, "3,000,000 bytes, beside the results of other calls", [])
    (event,) = read_report("i1", Report("w", 1, down=[stop]), [call(1)], 60.0)
    assert isinstance(event, CallDown)
    assert (event.number, event.end.cause, event.end.error) == (1, Cause.LOST, "EnvironmentLost")
    assert event.alone
    assert "3,000,000 bytes" in event.end.detail
    assert "bucket=" in event.end.remedy
