"""Servers that the transport's tests talk to: moto's, and our own that misbehave."""

import logging
import uuid

import pytest

from cloudexec.transport.account import Account
from cloudexec.transport.credentials import fixed
from tests.transport.scripted import Scripted


@pytest.fixture(scope="session")
def moto_url():
    """S3 and SQS in memory, behind real HTTP on loopback."""
    moto_server = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="session")
def moto_account(moto_url):
    return Account("us-east-1", fixed("test", "test"), endpoints={"s3": moto_url, "sqs": moto_url})


@pytest.fixture(scope="session")
def moto_clients(moto_url):
    """boto3's own S3 and SQS clients, for what the transport does not do: making buckets and queues."""
    import boto3

    session = boto3.Session("test", "test", region_name="us-east-1")
    clients = {service: session.client(service, endpoint_url=moto_url) for service in ("s3", "sqs")}
    yield clients
    for client in clients.values():
        client.close()


@pytest.fixture
def bucket(moto_clients):
    name = f"bucket-{uuid.uuid4().hex}"
    moto_clients["s3"].create_bucket(Bucket=name)
    return name


@pytest.fixture
def queue_url(moto_clients):
    return moto_clients["sqs"].create_queue(QueueName=f"queue-{uuid.uuid4().hex}")["QueueUrl"]


@pytest.fixture
def serve():
    """Start a `Scripted` server with these actions; all are stopped afterwards."""
    servers = []

    def start(*actions, **settings):
        servers.append(Scripted(*actions, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
