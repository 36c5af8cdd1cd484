"""Jobs from a bucket: what they may say, and what their results say."""

from __future__ import annotations

import json
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.worker.awslambda.jobs import _Refusal, find_place, read_job, run_jobs
from cloudexec.worker.awslambda.request import read_context
from tests.worker.awslambda.caller import OWNER, Context

HERE = "tests.worker.awslambda.tasks"


def record(bucket: str, key: str) -> dict:
    """As S3 writes it: with a key that is encoded as forms are."""
    from urllib.parse import quote_plus

    return {
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key, safe="/"), "size": 1}},
    }


@pytest.fixture
def caller(caller_with_bucket, monkeypatch):
    """Jobs may call what is in tasks.py."""
    monkeypatch.setenv("CLOUDEXEC_JOBS", f"nothing:*, {HERE}:*")
    return caller_with_bucket


def notify(caller, key, seconds=60.0, request_id="request-1"):
    return caller.invoke({"Records": [record(caller.bucket, key)]}, seconds, request_id)


def result_of(caller, job, name="one", seconds=60.0):
    """Put a job; its result."""
    text = job if isinstance(job, bytes) else json.dumps(job).encode()
    caller.write(f"p/jobs/group/{name}.json", text)
    notify(caller, f"p/jobs/group/{name}.json", seconds)
    return json.loads(caller.read(f"p/results/group/{name}.json"))


def test_a_job_is_run_and_its_result_written(caller):
    began_s = time.time()
    job = {"call": f"{HERE}:total", "args": [1, 2.5], "kwargs": {"start": 10}, "timeout_s": 30}
    result = result_of(caller, job, "with a space é")
    assert began_s <= result.pop("started_s") <= result.pop("finished_s") <= time.time()
    assert result == {
        "job": "p/jobs/group/with a space é.json",
        "state": "done",
        "value": 13.5,
        "error": None,
        "stdout": "adding 2\n",
        "stderr": "to stderr\n",
        "request_id": "request-1",
    }


def test_dotted_attributes_are_found(caller):
    assert result_of(caller, {"call": f"{HERE}:Tools.double", "args": [4]})["value"] == 8


def test_an_exception_is_described_with_its_traceback(caller):
    result = result_of(caller, {"call": f"{HERE}:fail"})
    assert (result["state"], result["value"]) == ("failed", None)
    assert (result["error"]["type"], result["error"]["message"]) == ("ValueError", "on purpose")
    assert "in fail" in result["error"]["traceback"]
    assert "jobcall" not in result["error"]["traceback"]


@pytest.mark.parametrize(
    ("job", "error", "says"),
    [
        pytest.param({"call": f"{HERE}:leave", "args": [3]}, "SystemExit", "3", id="sys.exit"),
        pytest.param({"call": f"{HERE}:die", "args": [3]}, "CallCrashed", "exit code 3", id="the process ends"),
        pytest.param(
            {"call": f"{HERE}:nap", "args": [60], "timeout_s": 0.2}, "CallTimeout", "timeout_s", id="too long"
        ),
        pytest.param({"call": f"{HERE}:absent"}, "AttributeError", "absent", id="no such function"),
        pytest.param({"call": "nothing:at_all"}, "ModuleNotFoundError", "nothing", id="no such module"),
        pytest.param({"call": f"{HERE}:unwritable", "args": ["set"]}, "UnpicklableResult", "set", id="no JSON"),
        pytest.param({"call": f"{HERE}:unwritable", "args": ["nan"]}, "UnpicklableResult", "JSON", id="NaN is no JSON"),
        pytest.param({"call": "os:system", "args": ["true"]}, "SettingsError", "CLOUDEXEC_JOBS", id="not allowed"),
        pytest.param(b'{"call": ', "WireError", "not JSON", id="damaged"),
        pytest.param({"call": f"{HERE}:fail", "arguments": []}, "WireError", "arguments", id="an unknown field"),
    ],
)
def test_what_goes_wrong_is_named_in_the_result(caller, job, error, says):
    result = result_of(caller, job)
    assert (result["state"], result["error"]["type"]) == ("failed", error)
    assert says in result["error"]["message"]


def test_last_words_of_a_process_that_died_are_in_the_result(caller):
    assert "my last words" in result_of(caller, {"call": f"{HERE}:die", "args": [3]})["stderr"]


def test_a_job_that_outlasts_the_function_is_ended_by_name(caller):
    result = result_of(caller, {"call": f"{HERE}:nap", "args": [60]}, seconds=1.0)
    assert result["error"]["type"] == "FunctionTimeout"


def test_a_notification_that_comes_twice_runs_the_job_once(caller, tmp_path):
    diary = tmp_path / "diary"
    result_of(caller, {"call": f"{HERE}:note", "args": [os.fspath(diary)]})
    assert notify(caller, "p/jobs/group/one.json") == {"jobs": {"p/jobs/group/one.json": "duplicate"}}
    assert diary.read_text() == "ran\n"


def test_a_claim_without_a_result_is_respected_while_its_owner_may_live(caller):
    caller.write("p/jobs/group/one.json", json.dumps({"call": f"{HERE}:fail"}).encode())
    caller.write("p/results/group/one.begun", b"{}")
    assert notify(caller, "p/jobs/group/one.json")["jobs"] == {"p/jobs/group/one.json": "duplicate"}
    assert "p/results/group/one.json" not in caller.objects()


def test_a_job_whose_environment_died_has_a_result_that_says_so(caller, tmp_path):
    key, diary = "p/jobs/group/one.json", tmp_path / "diary"
    caller.write(key, json.dumps({"call": f"{HERE}:note", "args": [os.fspath(diary)]}).encode())
    caller.write("p/results/group/one.begun", b"{}")
    time.sleep(2.1)  # ages of objects are whole seconds
    request, event = read_context(Context()), {"Records": [record(caller.bucket, key)]}
    assert run_jobs(event, request, caller.environment, forbidden, silent_s=0.5)["jobs"] == {key: "failed"}
    result = json.loads(caller.read("p/results/group/one.json"))
    assert (result["state"], result["error"]["type"]) == ("failed", "EnvironmentLost")
    assert run_jobs(event, request, caller.environment, forbidden, silent_s=0.5)["jobs"] == {key: "duplicate"}


def forbidden(event):
    raise AssertionError("nothing is run again")


def test_a_job_that_is_gone_has_a_result_that_says_so(caller):
    notify(caller, "p/jobs/group/one.json")
    assert json.loads(caller.read("p/results/group/one.json"))["error"]["type"] == "NoSuchKey"


def test_jobs_do_not_see_secrets(caller, monkeypatch):
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    assert "AWS_LAMBDA_RUNTIME_API" not in result_of(caller, {"call": f"{HERE}:secrets"})["value"]


@pytest.mark.parametrize(
    "key",
    ["p/results/group/one.json", "p/results/group/one.begun", "p/jobs/one.json", "p/jobs/group/one.txt", "jobs//.json"],
)
def test_what_is_no_job_is_left_alone(caller, key):
    assert notify(caller, key) == {"jobs": {}}
    assert not caller.objects()


# --- pure parts ---

PARTS = st.text(st.characters(exclude_characters="/", exclude_categories=("Cs",)), min_size=1)


@given(prefix=st.lists(PARTS | st.just("jobs")), group=PARTS, name=PARTS)
def test_a_result_is_never_a_job(prefix, group, name):
    stem = "/".join([*prefix, "jobs", group, name])
    place = find_place(record("bucket", f"{stem}.json"), OWNER)
    assert place is not None
    assert place.key == f"{stem}.json"
    assert find_place(record("bucket", place.result), OWNER) is None
    assert find_place(record("bucket", place.claim), OWNER) is None


@pytest.mark.parametrize(
    ("allowed", "call", "is_allowed"),
    [
        pytest.param(None, "a:b", False, id="nothing is allowed where nothing is said"),
        pytest.param("", "a:b", False, id="nor by nothing"),
        pytest.param("a:b", "a:b", True, id="by name"),
        pytest.param("x:y, a:*", "a:b.c", True, id="by pattern"),
        pytest.param("a:b", "a:b.c", False, id="an attribute is another callable"),
        pytest.param("a:*", "aa:b", False, id="another module"),
        pytest.param("A:*", "a:b", False, id="case counts"),
        pytest.param("*", "../a:b", False, id="a name is a name"),
        pytest.param("*", "a:b:c", False, id="one colon"),
        pytest.param("*", "a:b\n", False, id="no line end"),
    ],
)
def test_a_callable_is_allowed(allowed, call, is_allowed):
    text = json.dumps({"call": call}).encode()
    if is_allowed:
        assert read_job(text, allowed).call == call
    else:
        with pytest.raises(_Refusal):
            read_job(text, allowed)


@given(st.binary() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(lambda x: json.dumps(x).encode()))
def test_any_bytes_are_a_job_or_refused(text):
    with pytest.raises(_Refusal):
        read_job(text, "*")


@pytest.mark.parametrize(
    "field", [{"args": {}}, {"kwargs": []}, {"timeout_s": "1"}, {"timeout_s": -1}, {"timeout_s": True}]
)
def test_fields_have_their_types(field):
    with pytest.raises(_Refusal):
        read_job(json.dumps({"call": "a:b", **field}).encode(), "*")
