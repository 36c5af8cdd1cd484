"""The account in which runs are looked at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloudexec.backends.clients import Clients
from cloudexec.infra.place import Place
from cloudexec.testing import PocketAWS
from tests.specs.executors import pocket


@pytest.fixture(scope="module")
def aws() -> PocketAWS:
    return pocket()


@pytest.fixture(scope="module")
def place(aws: PocketAWS) -> Iterator[Place]:
    made = Place(Clients(region="us-east-1", endpoint_url=aws.endpoint_url))
    yield made
    made.close()
