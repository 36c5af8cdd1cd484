"""How wide, how soon, how dear; the function; and what one real call tells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.errors import AccessDenied, AwsError, WorkerStartFailed
from cloudexec.infra.doctor.findings import Level
from cloudexec.infra.doctor.function import judge_events, judge_function, judge_invoke, judge_log
from cloudexec.infra.doctor.quotas import (
    FargateRoom,
    LambdaRoom,
    judge_fargate,
    judge_lambda,
    price_note,
    seconds_until,
)
from cloudexec.infra.doctor.trial import Trial, cost_of, judge_failure, judge_trial, make_witness
from cloudexec.infra.template.awslambda import HANDLER
from cloudexec.observe.prices import US_EAST_1

OK, WARNING, FAILED, UNKNOWN = Level.OK, Level.WARNING, Level.FAILED, Level.UNKNOWN


def levels(findings):
    return [finding.level for finding in findings if not finding.is_detail]


# --- Fargate --------------------------------------------------------------------------------------------


def room(**changes):
    known = {"n_tasks": 10, "vcpu": 1.0, "memory_mib": 2048, "arch": "x86_64", "region": "us-east-1", "n_vcpus": 64.0}
    return FargateRoom(**known | {"per_s": 20.0} | changes)


@pytest.mark.parametrize(
    ("changes", "level", "words", "remedy"),
    [
        pytest.param({}, OK, "all running after about 30 s; $0.49 an hour", "", id="they fit"),
        pytest.param({"has_public_ip": True}, OK, "$0.54 an hour", "", id="with public addresses"),
        pytest.param({"spot": True}, OK, "Fargate Spot", "", id="Spot is cheaper"),
        pytest.param({"region": "eu-west-1"}, OK, "and eu-west-1 differs", "", id="prices of another region"),
        pytest.param({"n_tasks": 300, "n_vcpus": 4000.0}, OK, "about 40 s", "", id="launching takes its time"),
        pytest.param({"n_vcpus": 6.0}, WARNING, "lets 6 run at once", "L-3032A538 --desired-value 10", id="a new one"),
        pytest.param({"n_vcpus": 6.0, "spot": True}, WARNING, "lets 6", "L-36FBB829 --desired-value 10", id="Spot"),
        pytest.param({"n_vcpus": 6.0, "vcpu": 4.0}, WARNING, "lets 1 run", "--desired-value 40", id="large workers"),
        pytest.param({"n_vcpus": 0.0}, FAILED, "lets 0 run", "--desired-value 10", id="none at all"),
        pytest.param({"n_vcpus": None}, OK, "which nobody could look at", "", id="nobody may look"),
    ],
)
def test_fargate(changes, level, words, remedy):
    (finding,) = judge_fargate(room(**changes), 10)
    assert finding.level is level
    assert words in finding.text
    assert remedy in finding.remedy


@given(
    st.integers(1, 5000), st.floats(0.25, 5000), st.sampled_from([0.25, 1.0, 4.0]), st.sampled_from([None, 5.0, 20.0])
)
def test_never_more_run_than_the_quota_has_room_for(n_tasks, n_vcpus, vcpu, per_s):
    (finding,) = judge_fargate(room(n_tasks=n_tasks, n_vcpus=n_vcpus, vcpu=vcpu, per_s=per_s), n_tasks)
    fit = finding.facts["fit"]
    assert fit * vcpu <= n_vcpus + 1e-6
    assert fit <= n_tasks
    assert (finding.level is OK) == (fit == n_tasks)


@pytest.mark.parametrize(
    ("n_tasks", "per_s", "seconds"),
    [
        pytest.param(1, 20.0, 30.0, id="one"),
        pytest.param(100, 20.0, 30.0, id="the burst"),
        pytest.param(101, 20.0, 31.0, id="one more"),
        pytest.param(100, 5.0, 45.0, id="a young region: 25 at once, then 5 a second"),
        pytest.param(0, 20.0, 30.0, id="none"),
    ],
)
def test_how_soon(n_tasks, per_s, seconds):
    assert seconds_until(n_tasks, per_s) == seconds


def test_prices_say_where_and_when_they_are_from():
    assert price_note("us-east-1", US_EAST_1) == f" (list prices of us-east-1, {US_EAST_1.listed})"


# --- Lambda ---------------------------------------------------------------------------------------------


def concurrency(**changes):
    known = {"memory_mib": 1769, "slots": 1, "arch": "x86_64", "region": "us-east-1", "n_places": 800}
    return LambdaRoom(**known | {"account": 1000, "unreserved": 1000} | changes)


@pytest.mark.parametrize(
    ("changes", "level", "words", "remedy"),
    [
        pytest.param({}, OK, "max_workers=800, which is the default,", "", id="four fifths of the account"),
        pytest.param({"n_workers": 10}, OK, "10 environments of 1769 MiB", "", id="a few"),
        pytest.param({"n_workers": 10, "slots": 4}, OK, "3 environments", "", id="several in each"),
        pytest.param({"reserved": 5, "n_places": 5}, OK, "max_workers=5", "", id="what is reserved"),
        pytest.param({"reserved": 5, "n_workers": 10}, WARNING, "lets 5 run", "put-function-concurrency", id="less"),
        pytest.param({"n_workers": 1500}, WARNING, "lets 1000 run", "--desired-value 1500", id="the account's end"),
        pytest.param(
            {"account": None, "unreserved": None, "n_places": 100}, OK, "max_workers=100", "", id="nobody may look"
        ),
        pytest.param({"n_workers": 3, "account": 10, "unreserved": 0}, FAILED, "lets 0 run", "13", id="all reserved"),
        pytest.param({"n_workers": 2000, "account": 3000, "unreserved": 3000}, OK, "about 11 s", "", id="it grows"),
    ],
)
def test_lambda(changes, level, words, remedy):
    (finding,) = judge_lambda(concurrency(**changes))
    assert finding.level is level
    assert words in finding.text
    assert remedy in finding.remedy


# --- the function ---------------------------------------------------------------------------------------

GOOD = {
    "FunctionName": "f",
    "Runtime": "python3.13",
    "Handler": HANDLER,
    "Timeout": 900,
    "MemorySize": 1769,
    "Environment": {"Variables": {"CLOUDEXEC_BUCKET": "b"}},
}


@pytest.mark.parametrize(
    ("changes", "found", "words"),
    [
        pytest.param({}, [OK], "python3.13, x86_64, 1769 MiB, 900 s", id="well"),
        pytest.param({"State": "Failed", "StateReason": "no image"}, [FAILED], "no image", id="cannot run"),
        pytest.param({"LastUpdateStatus": "Failed"}, [FAILED], "cannot run", id="its last change failed"),
        pytest.param({"State": "Pending"}, [OK, WARNING], "", id="being made"),
        pytest.param({"Runtime": "python3.10"}, [FAILED], "python3.10", id="another Python"),
        pytest.param(
            {"PackageType": "Image", "Runtime": None, "Handler": None}, [OK], "an image", id="an image: nobody can look"
        ),
        pytest.param({"Handler": "app.handler"}, [OK, WARNING], "", id="another handler"),
        pytest.param({"Timeout": 3}, [OK, WARNING], "", id="a short timeout"),
        pytest.param({"MemorySize": 128}, [OK, WARNING], "", id="little memory"),
        pytest.param({"Environment": {}}, [OK, WARNING], "", id="it knows no bucket"),
        pytest.param({"Environment": {"Variables": {"CLOUDEXEC_BUCKET": "c"}}}, [OK, WARNING], "", id="another bucket"),
    ],
)
def test_the_function(changes, found, words):
    findings = judge_function(GOOD | changes, "3.13", "b")
    assert levels(findings) == found
    assert words in findings[0].text


@pytest.mark.parametrize(
    ("said", "found"),
    [
        pytest.param({"MaximumRetryAttempts": 0}, [], id="none"),
        pytest.param({"MaximumRetryAttempts": 1}, [WARNING], id="one"),
        pytest.param({}, [WARNING], id="two, by default"),
        pytest.param(None, [WARNING], id="nobody has said anything"),
    ],
)
def test_repeated_events(said, found):
    assert levels(judge_events("f", said)) == found


def test_the_functions_log():
    assert levels(judge_log("/g", [])) == []
    assert [one.subject for one in judge_log("/g", [{"logGroupName": "/g"}])] == ["lambda"]


def test_a_dry_run_that_is_refused():
    assert judge_invoke("f", AccessDenied("x", "AccessDeniedException", 403)).level is FAILED
    assert judge_invoke("f", AwsError("x", "ServiceException", 500)).level is UNKNOWN


# --- one real call --------------------------------------------------------------------------------------

HERE = {"python": "3.13.1", "cloudexec": "1.0", "cloudpickle": "3.1.2", "arch": "x86_64", "cpus": 1, "memory_mib": 900}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        pytest.param({}, [OK], id="the same on both sides"),
        pytest.param({"python": "3.13.9"}, [OK], id="another patch of Python"),
        pytest.param({"python": "3.12.1"}, [OK, FAILED], id="another Python"),
        pytest.param({"cloudexec": "1.1"}, [OK, WARNING], id="another cloudexec"),
        pytest.param({"cloudpickle": "3.0"}, [OK, WARNING], id="another cloudpickle"),
        pytest.param({"cloudexec": ""}, [OK], id="nobody knows"),
    ],
)
def test_a_trial(changes, found):
    trial = Trial(backend="ecs", first_s=31.4, second_s=0.012, there=HERE | changes, here=HERE, usd=0.00082)
    findings = judge_trial(trial)
    assert levels(findings) == found
    assert findings[0].text == ("the first result came after 31.4 s, the next after 12 ms; it cost about $0.0008")


def test_a_trial_that_fails_is_told_in_the_executors_words():
    (finding,) = judge_failure("ecs", WorkerStartFailed("three starts failed", remedy="look at the log"))
    assert finding.text == "WorkerStartFailed: three starts failed"
    assert finding.remedy == "look at the log"
    assert judge_failure("lambda", TimeoutError("too slow"))[0].level is FAILED


def test_fargate_bills_a_minute_at_least():
    width = {"usd_h": 3.6, "fit": 10}
    assert cost_of("ecs", width, 5.0) == pytest.approx(0.006)
    assert cost_of("lambda", width, 5.0) == pytest.approx(0.0005)


def test_the_witness_needs_nothing_but_the_standard_library():
    assert set(make_witness()()) == set(HERE)
    assert make_witness().__code__.co_freevars == ()
