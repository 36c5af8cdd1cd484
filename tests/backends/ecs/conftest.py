"""A control plane on loopback, for what asks AWS: moto's server, real HTTP, boto3 unchanged."""

import logging

import boto3
import pytest

from cloudexec.backends.clients import Clients


@pytest.fixture(scope="session")
def endpoint():
    """The URL of an emulated AWS."""
    server_of = pytest.importorskip("moto.server", reason="pip install 'cloudexec[testing]'")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_of.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def session_in(region):
    """A boto3 session with keys of its own."""
    return boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=region)


@pytest.fixture
def clients(endpoint):
    """Clients of the emulated AWS in eu-west-1."""
    made = Clients(session=session_in("eu-west-1"), endpoint_url=endpoint)
    yield made
    made.close()
