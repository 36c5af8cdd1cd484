"""The bed under the ECS benchmark answers as AWS does where the figures depend on it (benchmarks/cloud)."""

from __future__ import annotations

import http.client
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


class Bed:
    """The emulator's process, with latencies cut to a tenth."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "cloud.emulator", "--scale", "0.1", "--start-delay", "0.01"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=BENCHMARKS
        )
        assert self.process.stdout is not None
        self.host = urlsplit(json.loads(self.process.stdout.readline())["endpoint"]).netloc

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, timeout=10)

    def ask(self, method: str, path: str, body: str | bytes = b"", **headers: str) -> tuple[int, bytes]:
        connection = self.connect()
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        reply = connection.getresponse()
        status, content = reply.status, reply.read()
        connection.close()
        return status, content

    def call(self, target: str, **asked: Any) -> dict[str, Any]:
        status, content = self.ask("POST", "/", json.dumps(asked), X_Amz_Target=target)
        assert status == 200, content
        return dict(json.loads(content))

    def make_queue(self, name: str, visibility_s: int = 30) -> str:
        attributes = {"VisibilityTimeout": str(visibility_s)}
        return str(self.call("AmazonSQS.CreateQueue", QueueName=name, Attributes=attributes)["QueueUrl"])

    def receive(self, url: str, wait_s: int = 0) -> list[dict[str, Any]]:
        asked = {"QueueUrl": url, "WaitTimeSeconds": wait_s, "MaxNumberOfMessages": 10}
        return list(self.call("AmazonSQS.ReceiveMessage", **asked).get("Messages", ()))

    def state(self) -> dict[str, Any]:
        return dict(json.loads(self.ask("GET", "/_bed")[1]))

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


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
