"""One pocket AWS for all tests of this folder; an empty account for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudexec.testing import PocketAWS
from tests.infra.stack.scene import Scene


@pytest.fixture(scope="session")
def empty_pocket() -> Iterator[PocketAWS]:
    with PocketAWS(ready_made=False, stop_scale=0.1, stack_resource_s=0.0) as aws:
        yield aws


@pytest.fixture
def scene(empty_pocket: PocketAWS, tmp_path: Path) -> Iterator[Scene]:
    empty_pocket.reset()
    yield Scene(empty_pocket, tmp_path)
    empty_pocket.faults.clear()
