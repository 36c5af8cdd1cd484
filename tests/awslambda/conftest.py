"""Fixtures for what only LambdaExecutor does: a pocket AWS with little concurrency, functions and executors there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloudexec import LambdaExecutor
from cloudexec.ids import new_run_id
from cloudexec.testing import PocketAWS
from tests.awslambda.scene import HANDLER, QUICK


@pytest.fixture(scope="session")
def pocket_aws() -> Iterator[PocketAWS]:
    """One for this folder, whatever the rest of the session uses."""
    # Lambda tries an event again after 60 ms instead of 60 s.
    with PocketAWS(lambda_concurrency=30, lambda_retry_scale=0.001) as aws:
        yield aws


@pytest.fixture
def aws(pocket_aws: PocketAWS) -> Iterator[PocketAWS]:
    """The pocket AWS of this folder, without faults; environments stay warm from test to test."""
    with pocket_aws.activated():
        pocket_aws.faults.clear()
        yield pocket_aws
        pocket_aws.faults.clear()


@pytest.fixture
def settings(aws: PocketAWS) -> dict[str, Any]:
    """What an executor needs to run here."""
    return {**aws.lambda_setup(), "tuning": QUICK}


@pytest.fixture
def new_function(aws: PocketAWS) -> Iterator[Callable[..., str]]:
    """Makes functions that no other test has; their names. The handler is cloudexec's unless a test has another."""
    made: list[str] = []
    client = aws.session().client("lambda")

    def new(**changes: Any) -> str:
        name = f"f-{new_run_id()}"
        usual = {"handler": HANDLER, "files": {"README": "cloudexec is imported from outside"}, "memory": 1769}
        aws.make_function(name, **{**usual, "timeout": 30, **changes})
        made.append(name)
        return name

    yield new
    for name in made:
        try:
            client.delete_function(FunctionName=name)
        except client.exceptions.ResourceNotFoundException:
            pass  # the test has done it


@pytest.fixture
def new_executor(settings: dict[str, Any]) -> Iterator[Callable[..., LambdaExecutor]]:
    """Makes executors that are gone after the test, whatever happened in it."""
    made: list[LambdaExecutor] = []

    def new(max_workers: int | None = 2, **changes: Any) -> LambdaExecutor:
        made.append(LambdaExecutor(**{"max_workers": max_workers, **settings, **changes}))
        return made[-1]

    yield new
    for executor in made:
        executor.terminate_workers()
    for executor in made:
        executor.shutdown(wait=True)
