"""One pocket AWS for all tests of this folder; an empty account for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudexec.testing import PocketAWS
from tests.infra.stack.scene import Scene


@pytest.fixture(scope="session")
def empty_pocket() -> Iterator[PocketAWS]:
    with PocketAWS(ready_made=False, stop_scale=0.1, stack_resource_s=0.0) as aws:
        yield aws


@pytest.fixture(scope="session")
def clients() -> Iterator[dict[str, Any]]:
    """Of boto3, for tests that look and prepare."""
    made: dict[str, Any] = {}
    yield made
    for client in made.values():
        client.close()


@pytest.fixture
def scene(empty_pocket: PocketAWS, tmp_path: Path, clients: dict[str, Any]) -> Iterator[Scene]:
    empty_pocket.reset()
    yield Scene(empty_pocket, tmp_path, clients)
    empty_pocket.faults.clear()
