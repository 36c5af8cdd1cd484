"""A front of a server that throttles, and that loses answers after the server has acted.

Called by: conftest.py.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_THROTTLED = b'{"__type": "com.amazonaws.sqs#RequestThrottled", "message": "slow down"}'
_PASSED_ON = ("content-length", "connection", "transfer-encoding", "keep-alive")


class FlakyFront(ThreadingHTTPServer):
    """`throttled`: how many requests more are refused. `lost`: the share of answers that never arrive. `late_s`: by
    operation of SQS, how long its answers take. `failing`: by operation on the work queue, how many requests more have
    all of their entries fail."""

    daemon_threads = True

    def __init__(self, behind: str, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind.removeprefix("http://")
        self.throttled = 0
        self.lost = 0.0
        self.late_s: dict[str, float] = {}
        self.failing: Counter[str] = Counter()
        self.n_lost = 0
        self.answered: list[str] = []  # "METHOD path" of requests that got what is behind, and SQS's operation
        self.chance = random.Random(seed)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FlakyFront

    def _carry(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.server.throttled > 0:
            self.server.throttled -= 1
            self._answer(400, {"content-type": "application/x-amz-json-1.0"}, _THROTTLED)
            return
        operation = self.headers.get("x-amz-target", "").rpartition(".")[2]
        if self.server.failing[operation] > 0 and (said := json.loads(body))["QueueUrl"].endswith("-work"):
            self.server.failing[operation] -= 1
            self.server.answered.append(f"{self.command} {self.path} {operation}")
            failed = [{"Id": each["Id"], "SenderFault": False, "Code": "InternalError"} for each in said["Entries"]]
            content = json.dumps({"Successful": [], "Failed": failed}).encode()
            self._answer(200, {"content-type": "application/x-amz-json-1.0"}, content)
            return
        behind = http.client.HTTPConnection(self.server.behind, timeout=40)
        behind.request(self.command, self.path, body, dict(self.headers))
        reply = behind.getresponse()
        content = reply.read()
        behind.close()
        if self.server.chance.random() < self.server.lost:
            self.server.n_lost += 1
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        headers = {name: value for name, value in reply.getheaders() if name.lower() not in _PASSED_ON}
        self.server.answered.append(f"{self.command} {self.path} {operation}".rstrip())
        time.sleep(self.server.late_s.get(operation, 0.0))
        self._answer(reply.status, headers, content)

    do_GET = do_POST = do_PUT = do_HEAD = _carry

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:  # the worker was killed
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
