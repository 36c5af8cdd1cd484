"""What a function says when it is asked whether its events can report, and how often it is asked."""

import asyncio
import json

import pytest

from cloudexec import errors
from cloudexec.backends.awslambda.probe import Probe, read_finding
from cloudexec.backends.awslambda.replies import Fate, Refused
from cloudexec.backends.pull.home import Home
from cloudexec.errors import AccessDenied, AwsError, ConnectionLost, Throttled
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause
from cloudexec.transport.lambdas import Invocation
from cloudexec.wire.envelope import Kind, Seal, new_key
from cloudexec.wire.invocation import Answer, encode_answer
from cloudexec.wire.mail import Report, encode_report

SEAL = Seal(new_key())
ROLE = "arn:aws:iam::123456789012:role/worker"


def home():
    return Home("r1", bucket="mine", prefix="cloudexec", owner="1", client=None, ask=None, tags={})


def answered(said, error=""):
    return Invocation(200, error, "", json.dumps(said).encode(), "request", "1")


def refused(error, what):
    return answered(encode_answer(Answer(refused_error=error, refused_what=what)))


def able(seal=SEAL):
    return answered(encode_answer(Answer(report=seal.close(Kind.REPORT, encode_report(Report("w", 1))))))


def finding(invocation):
    return read_finding(invocation, "f", home(), SEAL, ROLE, 60.0)


def test_a_function_that_can_write_has_nothing_in_its_way():
    assert finding(able()) is None


def test_a_right_that_is_missing_is_told_with_action_place_and_role():
    error = finding(refused("AccessDenied", "PutObject: AccessDenied (403)"))
    assert type(error) is AccessDenied
    assert "s3://mine/cloudexec/runs/r1/events/" in error.what
    assert "PutObject: AccessDenied (403)" in error.what
    assert error.remedy == f"allow s3:PutObject on arn:aws:s3:::mine/cloudexec/runs/* to the function's role {ROLE}"


@pytest.mark.parametrize(
    "invocation",
    [
        pytest.param(refused("ConnectionLost", "no way"), id="S3 cannot be reached"),
        pytest.param(refused("Throttled", "slow down"), id="S3 is busy"),
        pytest.param(refused("AwsError", "InternalError (500)"), id="S3 has a fault"),
        pytest.param(
            answered({"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out"}, "Unhandled"),
            id="the function's time was over",
        ),
    ],
)
def test_what_may_pass_costs_attempts_for_lost_workers(invocation):
    end = finding(invocation)
    assert isinstance(end, LaneEnd)
    assert (end.cause, end.error) == (Cause.LOST, "EnvironmentLost")
    assert "events/" in end.detail


@pytest.mark.parametrize(
    ("invocation", "kind"),
    [
        pytest.param(refused("VersionMismatch", "3.9"), errors.VersionMismatch, id="another Python"),
        pytest.param(refused("WireError", "what?"), errors.WorkerStartFailed, id="another version of cloudexec"),
        pytest.param(answered({"statusCode": 200}), errors.HandlerNotFound, id="somebody else's function"),
        pytest.param(able(Seal(new_key())), errors.HandlerNotFound, id="an answer with another signature"),
        pytest.param(
            answered({"errorType": "Runtime.ImportModuleError", "errorMessage": "no module"}, "Unhandled"),
            errors.FunctionImportFailed,
            id="no worker in it",
        ),
    ],
)
def test_a_function_that_can_run_nothing_breaks_the_executor(invocation, kind):
    found = finding(invocation)
    assert isinstance(found, Refused)
    assert (found.fate, type(found.error)) == (Fate.NEVER, kind)


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        pytest.param(Throttled("busy", "TooManyRequestsException", 429, ""), Fate.LATER, id="a throttle"),
        pytest.param(ConnectionLost("gone", True), Fate.LATER, id="a lost answer: it carried no call"),
        pytest.param(AwsError("fault", "ServiceException", 500, ""), Fate.LATER, id="a fault of Lambda"),
        pytest.param(AccessDenied("no", "AccessDeniedException", 403, ""), Fate.NEVER, id="not allowed"),
    ],
)
def test_what_lambda_refuses_loses_no_call(error, fate):
    async def invoke(function):
        raise error

    found = asyncio.run(Probe(invoke, home(), SEAL, ROLE, 60.0).find("f"))
    assert isinstance(found, Refused)
    assert found.fate is fate


def test_each_function_is_asked_once_and_again_if_something_was_in_its_way():
    answers = {"f": [refused("AccessDenied", "no"), able()], "g": [able()]}
    asked = []

    async def invoke(function):
        asked.append(function)
        await asyncio.sleep(0)
        return answers[function].pop(0)

    async def scene():
        probe = Probe(invoke, home(), SEAL, ROLE, 60.0)
        together = await asyncio.gather(*[probe.find("f") for _ in range(5)])
        later = [await probe.find("f") for _ in range(3)]
        return together, later, [await probe.find("g") for _ in range(2)]

    together, later, other = asyncio.run(scene())
    assert {type(found) for found in together} == {AccessDenied}
    assert later == [None] * 3
    assert other == [None] * 2
    assert asked == ["f", "f", "g"]
