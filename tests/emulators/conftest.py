"""Other people's AWS, started once a session: skipped where it is not installed, but not in CI.

An `Aws` is one of them, seen from a test: its endpoint, an account of our transport on it, boto3's clients.
"""

from __future__ import annotations

import contextlib
import json
import os
import urllib.request
import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from cloudexec.transport.account import Account
from cloudexec.transport.credentials import fixed
from tests.emulators import servers
from tests.emulators.servers import Endpoint, NotInstalled


@dataclass(frozen=True, kw_only=True)
class Aws:
    """A place that behaves like AWS."""

    endpoint: Endpoint
    boto: Any

    def account(self, secret_key: str | None = None, url: str | None = None) -> Account:
        """Ours, or with a wrong secret; or at another address of the same server."""
        return self.account_of(self.endpoint.access_key, secret_key or self.endpoint.secret_key, url)

    def account_of(self, access_key: str, secret_key: str, url: str | None = None) -> Account:
        """Somebody's."""
        url = url or self.endpoint.url
        endpoints = {"s3": url, "sqs": url, "lambda": url}
        return Account(self.endpoint.region, fixed(access_key, secret_key), endpoints=endpoints)

    def new_bucket(self) -> str:
        name = f"bucket-{uuid.uuid4().hex}"
        self.boto("s3").create_bucket(Bucket=name)
        return name

    def new_queue(self) -> str:
        return self.boto("sqs").create_queue(QueueName=f"queue-{uuid.uuid4().hex}")["QueueUrl"]


@contextlib.contextmanager
def started(server):
    """The server in `server`, and boto3 to prepare things there."""
    import boto3

    clients = {}
    with contextlib.ExitStack() as stack:
        try:
            endpoint = stack.enter_context(server)
        except NotInstalled as reason:
            if os.environ.get("CI"):
                pytest.fail(str(reason))
            pytest.skip(str(reason))
        session = boto3.Session(endpoint.access_key, endpoint.secret_key, region_name=endpoint.region)

        def boto(service):
            if service not in clients:
                clients[service] = session.client(service, endpoint_url=endpoint.url)
                stack.callback(clients[service].close)
            return clients[service]

        yield Aws(endpoint=endpoint, boto=boto)


@pytest.fixture(scope="session")
def ministack(tmp_path_factory):
    with started(servers.ministack(tmp_path_factory.mktemp("ministack"))) as aws:
        yield aws


@pytest.fixture(scope="session")
def guarded(tmp_path_factory):
    """A ministack that asks for rights."""
    with started(servers.ministack(tmp_path_factory.mktemp("guarded"), checks_rights=True)) as aws:
        yield aws


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory):
    with started(servers.seaweedfs(tmp_path_factory.mktemp("seaweedfs"))) as aws:
        yield aws


class Weather:
    """What microburst does to the requests that pass through it."""

    def __init__(self, url):
        self.url = url

    def set(self, *rules):
        """From now on these faults, and no others."""
        self._ask("rules", rules)

    def fired(self, since=0):
        """What has happened so far: one entry for each fault."""
        return self._ask("fired")[since:]

    def _ask(self, what, said=None):
        data = None if said is None else json.dumps(said).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}/_microburst/{what}", data, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())


@pytest.fixture(scope="session")
def microburst(ministack, tmp_path_factory):
    server = servers.microburst(tmp_path_factory.mktemp("microburst"), ministack.endpoint)
    with started(server) as aws:
        yield aws


@pytest.fixture
def weather(microburst):
    """Fair, until a test says otherwise, and fair again afterwards."""
    weather = Weather(microburst.endpoint.url)
    weather.set()
    yield weather
    weather.set()
