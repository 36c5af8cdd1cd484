"""Real workers against moto's server on loopback."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.worker.agent.customer import Customer
from tests.worker.agent.flaky import FlakyFront


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """S3 and SQS in memory, behind real HTTP."""
    moto_server = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="session")
def clients(moto_url: str) -> Iterator[dict[str, Any]]:
    """boto3's clients."""
    import boto3

    session = boto3.Session("test", "test", region_name="us-east-1")
    made = {service: session.client(service, endpoint_url=moto_url) for service in ("s3", "sqs")}
    yield made
    for client in made.values():
        client.close()


@pytest.fixture
def customer(moto_url: str, clients: dict[str, Any], tmp_path: Path) -> Iterator[Customer]:
    """A run of its own; its workers are ended after the test."""
    made = Customer(moto_url, clients, tmp_path)
    yield made
    made.close()


@pytest.fixture
def flaky(moto_url: str) -> Iterator[FlakyFront]:
    """What throttles and loses answers on the way to the server."""
    front = FlakyFront(moto_url, seed=7)
    thread = threading.Thread(target=front.serve_forever, daemon=True)
    thread.start()
    yield front
    front.shutdown()
    thread.join()
    front.server_close()


class _Metadata(BaseHTTPRequestHandler):
    """The endpoint that a container on ECS can ask about its task."""

    def do_GET(self) -> None:
        task = "arn:aws:ecs:us-east-1:123456789012:task/cluster/0123456789abcdef0123456789abcdef"
        body = json.dumps({"TaskARN": task}).encode() if self.path == "/v4/x/task" else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def metadata_url() -> Iterator[str]:
    """A metadata endpoint on loopback."""
    server = HTTPServer(("127.0.0.1", 0), _Metadata)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v4/x"
    server.shutdown()
    thread.join()
    server.server_close()
