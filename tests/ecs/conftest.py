"""Fixtures for what only ECSExecutor does: the pocket AWS, and executors on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloudexec import ECSExecutor
from cloudexec.testing import PocketAWS
from tests.specs.executors import QUICK, pocket


@pytest.fixture
def aws() -> Iterator[PocketAWS]:
    """The pocket AWS, without faults, and counting from zero."""
    found = pocket()
    found.faults.clear()
    found.forget_requests()
    yield found
    found.faults.clear()


@pytest.fixture
def settings(aws: PocketAWS) -> dict[str, Any]:
    """What an executor needs to run here."""
    return {**aws.ecs_setup(), "assign_public_ip": False, "tuning": QUICK}


@pytest.fixture
def new_executor(settings: dict[str, Any]) -> Iterator[Callable[..., ECSExecutor]]:
    """Makes executors that are gone after the test, whatever happened in it."""
    made: list[ECSExecutor] = []

    def new(max_workers: int = 2, **changes: Any) -> ECSExecutor:
        made.append(ECSExecutor(**{"max_workers": max_workers, **settings, **changes}))
        return made[-1]

    yield new
    for executor in made:
        executor.terminate_workers()
    for executor in made:
        executor.shutdown(wait=True)
