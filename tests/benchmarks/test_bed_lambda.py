"""The bed under the Lambda benchmark answers as Lambda and its workers do where the figures depend on it."""

from __future__ import annotations

import http.client
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator

import boto3
import pytest

from cloudexec.wire.envelope import Kind, Seal, new_key
from cloudexec.wire.invocation import EventHead, InvocationSettings, decode_answer, open_report
from cloudexec.wire.mail import Report, decode_report
from cloudexec.wire.messages import FunctionTraits, PackedCall, PackedFunction, Verdict, encode_batch
from cloudexec.wire.parts import pack_parts, sole_part
from tests.benchmarks.bed import BENCHMARKS, Bed

INVOKE = "/2015-03-31/functions/bench/invocations"
KEY = new_key()


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    bed = Bed("--concurrency", "3")
    yield bed
    bed.close()


def payload(seconds: list[float], n_slots: int = 1, key: bytes = KEY) -> bytes:
    """What an executor would send for calls that take so long; they are numbered from 0."""
    function = PackedFunction(bytes(32), FunctionTraits(), b"never read")
    calls = [
        PackedCall(number, 1, function, pack_parts((pickle.dumps(((each,), None), 5),)))
        for number, each in enumerate(seconds)
    ]
    settings = InvocationSettings("r1", "us-east-1", n_slots, "3.13")
    return EventHead(key, settings).with_batch(Seal(KEY).close(Kind.BATCH, encode_batch(calls)))


def invoke(bed: Bed, body: bytes) -> Report:
    """The report in the answer."""
    status, content = bed.ask("POST", INVOKE, body)
    assert status == 200, content
    return decode_report(open_report(Seal(KEY), decode_answer(content).report))


def test_each_call_of_a_batch_is_an_outcome_of_the_sealed_report(bed: Bed) -> None:
    report = invoke(bed, payload([0.01, 0.0, 0.02]))
    outcomes = [outcome for _, outcome in report.outcomes]
    assert [outcome.number for outcome in outcomes] == [0, 1, 2]
    assert {outcome.verdict for outcome in outcomes} == {Verdict.RETURNED}
    value = sole_part(outcomes[0].value)
    assert value is not None
    assert pickle.loads(value) == outcomes[0].finished_s


@pytest.mark.parametrize(
    ("n_slots", "least_s", "most_s"),
    [
        pytest.param(1, 0.3, 5.0, id="one after another"),
        pytest.param(3, 0.1, 0.3, id="side by side, as many as there are slots"),
    ],
)
def test_a_batch_takes_as_long_as_its_calls_do(bed: Bed, n_slots: int, least_s: float, most_s: float) -> None:
    start = time.monotonic()
    report = invoke(bed, payload([0.1, 0.1, 0.1], n_slots))
    assert least_s <= time.monotonic() - start < most_s
    assert len({lane for lane, _ in report.outcomes}) == n_slots
    assert all(outcome.finished_s - outcome.started_s == pytest.approx(0.1, abs=1e-5) for _, outcome in report.outcomes)


def test_a_batch_that_was_sealed_with_another_key_is_not_run(bed: Bed) -> None:
    before = bed.state()["lambda"]
    status, content = bed.ask("POST", INVOKE, payload([0.0], key=new_key()))
    assert status == 400, content
    after = bed.state()["lambda"]
    assert (after["done"], after["busy"]) == (before["done"], 0)


def test_more_than_there_are_environments_are_refused_and_the_others_run(bed: Bed) -> None:
    before = bed.state()["lambda"]
    connections = [bed.connect() for _ in range(5)]
    for connection in connections:
        connection.request("POST", INVOKE, payload([0.2]))
    replies = [
        (reply.status, reply.headers, reply.read())
        for reply in map(http.client.HTTPConnection.getresponse, connections)
    ]
    for connection in connections:
        connection.close()
    after = bed.state()["lambda"]
    refused = [(headers, content) for status, headers, content in replies if status == 429]
    assert sorted(status for status, _, _ in replies) == [200, 200, 200, 429, 429]
    assert {headers["x-amzn-ErrorType"] for headers, _ in refused} == {"TooManyRequestsException"}
    assert {json.loads(content)["Reason"] for _, content in refused} == {"ConcurrentInvocationLimitExceeded"}
    assert after["throttled"] - before["throttled"] == 2
    assert after["done"] - before["done"] == 3
    assert (after["most_busy"], after["environments"], after["busy"]) == (3, 3, 0)


def test_boto3_learns_what_an_executor_asks_and_invokes_a_function_of_its_own(bed: Bed) -> None:
    client = boto3.client(
        "lambda",
        region_name="us-east-1",
        endpoint_url=f"http://{bed.host}",
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    )
    try:
        assert client.get_function_configuration(FunctionName="bench")["State"] == "Active"
        assert client.get_account_settings()["AccountLimit"]["ConcurrentExecutions"] == 3
        assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName="bench")
        assert client.get_function_event_invoke_config(FunctionName="bench")["MaximumRetryAttempts"] == 0
        start = time.time()
        reply = client.invoke(FunctionName="bench", Payload=b'{"sleep": 0.05}', LogType="Tail")
        assert json.loads(reply["Payload"].read())["end"] >= start + 0.05
        assert reply["LogResult"]
    finally:
        client.close()


def test_invocations_are_counted_and_priced(bed: Bed) -> None:
    before = bed.state()
    invoke(bed, payload([0.0]))
    after = bed.state()
    n_before = before["requests"].get("client lambda Invoke", 0)
    assert after["requests"]["client lambda Invoke"] - n_before == 1
    assert after["dollars"]["client"] - before["dollars"]["client"] == pytest.approx(0.20 / 1e6)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["cloud.lambda_measures", "3"], id="ours"),
        pytest.param(["cloud.boto3_measures", "2", "3"], id="boto3 by hand"),
    ],
)
def test_a_measure_prints_what_the_calls_have_cost(command: list[str]) -> None:
    measures = ["latency:2", "calls:12:0.01"]
    done = subprocess.run(
        [sys.executable, "-m", *command, *measures], cwd=BENCHMARKS, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["measure"] for line in lines] == ["open", *measures]
    _open, latency, calls = lines
    assert latency["trip_ms"] >= 19.0, "an Invoke takes twenty milliseconds, give or take one"
    assert 0.04 <= calls["wall_s"] < 20.0, "twelve calls, three at a time"
    assert 0.0 < calls["requests"] <= 1.5
    assert 0 < calls["most_busy"] <= 3
    assert calls["refused"] == 0.0
    assert calls["cpu_ms"] > 0.0
