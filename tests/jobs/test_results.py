"""What a result object says, as value or exception; whatever lies there, nothing is raised or unpickled."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec import errors
from cloudexec.executors.jobresults import read_result

WHERE = "s3://b/p/results/g/n.json"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def encoded(**said: Any) -> bytes:
    return json.dumps(said).encode()


def failed(kind: str, message: str = "why", traceback: str = "") -> bytes:
    return encoded(state="failed", value=None, error={"type": kind, "message": message, "traceback": traceback})


@given(value=JSON)
def test_a_value_arrives_as_it_is(value):
    found, error, rest = read_result(encoded(state="done", value=value), WHERE)
    assert (found, error) == (value, None)
    assert rest == ("", "", None, None, "")


def test_times_output_and_request_come_along():
    said = {"stdout": "out\n", "stderr": "err\n", "started_s": 1, "finished_s": 2.5, "request_id": "r"}
    _, _, rest = read_result(encoded(state="done", value=1, **said), WHERE)
    assert rest is not None
    assert rest._asdict() == said


def test_a_jobs_exception_is_described_with_its_traceback_as_cause():
    _, error, _ = read_result(failed("mod.Broken", "it broke", "Traceback: line 7"), WHERE)
    assert type(error) is errors.RemoteError
    assert (error.what, error.type_name, error.args[2]) == ("mod.Broken: it broke", "mod.Broken", "it broke")
    assert type(error.__cause__) is errors.RemoteTraceback
    assert "line 7" in str(error.__cause__)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param("CallTimeout", errors.CallTimeout, id="the worker says: too long"),
        pytest.param("OutOfMemory", errors.OutOfMemory, id="the worker says: no memory"),
        pytest.param("EnvironmentLost", errors.EnvironmentLost, id="a retry says: died"),
        pytest.param("SettingsError", errors.SettingsError, id="not allowed"),
        pytest.param("ValueError", errors.RemoteError, id="the job's own, of Python"),
        pytest.param("cloudexec.errors.CallTimeout", errors.RemoteError, id="the job's own, raised in it"),
        pytest.param("RemoteError", errors.RemoteError, id="one that says itself"),
        pytest.param("__all__", errors.RemoteError, id="no class at all"),
    ],
)
def test_what_the_worker_says_of_a_job_has_our_names(name, kind):
    _, error, _ = read_result(failed(name), WHERE)
    assert type(error) is kind
    assert "why" in str(error)
    assert error.__cause__ is None
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x80\x05}.",
        b'{"state": "done"',
        b"[]",
        b"null",
        b"7",
        encoded(state="done"),
        encoded(state="running", value=1),
        encoded(state="failed", error=None),
        encoded(state="failed", error={"type": "X"}),
        encoded(state="done", value=1, started_s=[]),
        encoded(state="done", value=1, started_s="noon"),
        b"[" * 100_000,
    ],
)
def test_a_damaged_result_is_an_error_that_names_the_object(text):
    value, error, rest = read_result(text, WHERE)
    assert (value, rest, type(error)) == (None, None, errors.WireError)
    assert WHERE in str(error)


@given(text=st.binary(max_size=200) | JSON.map(lambda said: json.dumps(said).encode()))
def test_whatever_lies_there_is_read_without_raising(text):
    _, error, rest = read_result(text, WHERE)
    assert (rest is None) == (type(error) is errors.WireError)
