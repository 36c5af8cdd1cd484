"""The bed under the benchmarks, as its tests see it.

Called by: the tests beside this file.   Calls: benchmarks/cloud/emulator.py, in a process of its own.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


class Bed:
    """The emulator's process, with latencies cut to a tenth."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "cloud.emulator", "--scale", "0.1", "--start-delay", "0.01", *options]
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
