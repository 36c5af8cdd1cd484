"""An S3 on loopback for the stores' tests, and small stores in it."""

from __future__ import annotations

import logging
import os
from functools import partial

import pytest

from tests.store.s3_stores import BUCKET, TEST_KEYS, client_of, close_clients, make_store


@pytest.fixture(scope="session")
def s3_url():
    """moto's server, in this process."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto_client(url).create_bucket(Bucket=BUCKET)
    yield url
    server.stop()


@pytest.fixture
def make_s3_store(s3_url):
    """A picklable function that makes stores below one prefix of the test's own."""
    yield partial(make_store, s3_url, f"test-{os.urandom(6).hex()}/runs/r1")
    close_clients()


@pytest.fixture
def s3_store(make_s3_store):
    return make_s3_store()


@pytest.fixture
def boto(s3_url):
    """Somebody else's view of the bucket."""
    return boto_client(s3_url)


@pytest.fixture
def s3_client(s3_url):
    with client_of(s3_url) as client:
        yield client


def boto_client(url):
    import boto3

    keys = {"aws_access_key_id": TEST_KEYS.access_key, "aws_secret_access_key": TEST_KEYS.secret_key}
    return boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
