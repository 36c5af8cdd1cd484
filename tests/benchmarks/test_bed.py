"""The bed under the ECS benchmark answers as AWS does where the figures depend on it (benchmarks/cloud)."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterator

import pytest

from cloudexec.wire.envelope import Kind, Seal, new_key
from cloudexec.wire.mail import (
    KEY_VARIABLE,
    SETTINGS_VARIABLE,
    Report,
    WorkerSettings,
    decode_report,
    from_text,
    to_text,
)
from cloudexec.wire.messages import FunctionTraits, PackedCall, PackedFunction, encode_batch
from cloudexec.wire.parts import pack_parts
from tests.benchmarks.bed import Bed


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    bed = Bed()
    yield bed
    bed.close()


def test_an_object_is_written_once_if_that_was_asked(bed: Bed) -> None:
    assert bed.ask("PUT", "/bucket/once", b"first", If_None_Match="*")[0] == 200
    assert bed.ask("PUT", "/bucket/once", b"second", If_None_Match="*")[0] == 412
    assert bed.ask("GET", "/bucket/once") == (200, b"first")
    assert bed.ask("GET", "/bucket/once", Range="bytes=1-2") == (206, b"ir")


def test_a_long_poll_is_woken_by_a_message(bed: Bed) -> None:
    url = bed.make_queue("woken")
    parked = bed.connect()
    body = json.dumps({"QueueUrl": url, "WaitTimeSeconds": 20})
    parked.request("POST", "/", body, {"X-Amz-Target": "AmazonSQS.ReceiveMessage"})
    start = time.monotonic()
    bed.call("AmazonSQS.SendMessage", QueueUrl=url, MessageBody="hello")
    (message,) = json.loads(parked.getresponse().read())["Messages"]
    assert message["Body"] == "hello"
    assert time.monotonic() - start < 5.0
    parked.close()


def test_a_long_poll_whose_client_has_gone_takes_no_message_along(bed: Bed) -> None:
    url = bed.make_queue("gone")
    parked = bed.connect()
    body = json.dumps({"QueueUrl": url, "WaitTimeSeconds": 20})
    parked.request("POST", "/", body, {"X-Amz-Target": "AmazonSQS.ReceiveMessage"})
    time.sleep(0.05)  # it is parked
    parked.close()
    time.sleep(0.05)
    bed.call("AmazonSQS.SendMessage", QueueUrl=url, MessageBody="hello")
    assert [message["Body"] for message in bed.receive(url, wait_s=5)] == ["hello"]


def test_a_message_that_is_not_deleted_comes_back_and_its_old_receipt_deletes_nothing(bed: Bed) -> None:
    url = bed.make_queue("back", visibility_s=1)
    bed.call("AmazonSQS.SendMessage", QueueUrl=url, MessageBody="hello")
    (first,) = bed.receive(url)
    assert bed.receive(url) == []
    (second,) = bed.receive(url, wait_s=5)
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"
    bed.call(
        "AmazonSQS.DeleteMessageBatch", QueueUrl=url, Entries=[{"Id": "0", "ReceiptHandle": first["ReceiptHandle"]}]
    )
    assert bed.receive(url, wait_s=5), "it is still there"


def test_a_simulated_worker_answers_each_call_once_in_sealed_reports_and_leaves_when_idle(bed: Bed) -> None:
    work, out = bed.make_queue("work"), bed.make_queue("out")
    key = new_key()
    settings = WorkerSettings("r1", "us-east-1", work, out, "bucket", "123456789012", "runs/r1", 4, "3.13", idle_s=0.5)
    environment = {SETTINGS_VARIABLE: settings.to_json(), KEY_VARIABLE: key.hex()}
    container = {"name": "worker", "environment": [{"name": n, "value": v} for n, v in environment.items()]}
    before = bed.state()["requests"]
    bed.call(
        "AmazonEC2ContainerServiceV20141113.RunTask",
        taskDefinition="worker:1",
        overrides={"containerOverrides": [container]},
    )
    bed.call("AmazonSQS.SendMessage", QueueUrl=work, MessageBody=batch_of(Seal(key), range(20), seconds=0.01))
    reports = read_reports(bed, Seal(key), out)
    after = bed.state()["requests"]

    assert sorted(outcome.number for report in reports for _, outcome in report.outcomes) == list(range(20))
    assert [start.slot for start in reports[0].up] == [0, 1, 2, 3]
    assert reports[-1].leaving
    assert after["worker sqs SendMessageBatch"] - before.get("worker sqs SendMessageBatch", 0) == len(reports)
    assert bed.receive(work) == [], "the message was deleted"


def batch_of(seal: Seal, numbers: range, seconds: float) -> str:
    function = PackedFunction(bytes(32), FunctionTraits(), b"never read")
    packed = pack_parts((pickle.dumps(((seconds,), None), 5),))
    return to_text(seal, Kind.BATCH, encode_batch([PackedCall(number, 1, function, packed) for number in numbers]))


def read_reports(bed: Bed, seal: Seal, url: str) -> list[Report]:
    """All that a worker tells until it leaves."""
    reports: list[Report] = []
    while not any(report.leaving for report in reports):
        messages = bed.receive(url, wait_s=5)
        assert messages, "the worker has said nothing for five seconds"
        reports += [decode_report(from_text(seal, Kind.REPORT, message["Body"])) for message in messages]
    return sorted(reports, key=lambda report: report.number)
