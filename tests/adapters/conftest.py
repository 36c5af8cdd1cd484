"""Libraries that take an executor: each is run with every kind of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.specs.executors import EXECUTORS


@pytest.fixture(params=EXECUTORS, ids=lambda kind: kind.name)
def executor(request: pytest.FixtureRequest) -> Iterator[Any]:
    with request.param.new(2, on_error="kill") as executor:
        yield executor
