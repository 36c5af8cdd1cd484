"""Fixtures of the faults: executors of every kind, and bystanders around a call that goes wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.events import Gate, eventually
from tests.faults.scene import Scene, processes_of_session
from tests.specs.executors import EXECUTORS, ExecutorKind


@pytest.fixture(params=EXECUTORS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> ExecutorKind:
    return request.param


@pytest.fixture
def local(kind: ExecutorKind) -> None:
    """For tests of how workers are started and where bytes lie on this machine; see tests/ecs for the cloud."""
    if kind.in_containers:
        pytest.skip("it is about processes and directories that the client's machine has by itself")


@pytest.fixture
def warm(kind: ExecutorKind) -> None:
    """For tests of what workers keep from one run to the next."""
    if not kind.keeps_warm:
        pytest.skip("its workers end with the executor, and so does all that is in them")


@pytest.fixture
def new_executor(kind: ExecutorKind) -> Iterator[Callable[..., Any]]:
    """Makes executors with one worker; after the test none of their processes is left, or none is at work where
    workers are kept for the next run."""
    made = []
    sessions: set[int] = set()

    def new(max_workers: int = 2, **settings: Any) -> Any:
        made.append(kind.new(max_workers, **{**kind.together(max_workers), **settings}))
        return made[-1]

    yield new
    for executor in made:
        sessions.update(kind.sessions_of(executor))
        executor.terminate_workers()
    for executor in made:
        executor.shutdown(wait=True)
    for session in sessions:
        eventually(lambda session=session: not processes_of_session(session))
    if kind.keeps_warm:
        eventually(lambda: not kind.left_behind(os.getpid()))


@pytest.fixture
def executor(new_executor: Callable[..., Any]) -> Any:
    """Two slots."""
    return new_executor(2)


@pytest.fixture
def single(new_executor: Callable[..., Any]) -> Any:
    """One slot: each call meets what the one before it has left."""
    return new_executor(1)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@pytest.fixture
def scene(kind: ExecutorKind, executor: Any, gate: Gate, tmp_path: Path) -> Scene:
    return Scene(kind, executor, gate, tmp_path / "diary")
