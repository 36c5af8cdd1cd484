"""The engines that must behave the same, and how the sentences of this folder speak to them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloudexec.r import engines
from cloudexec.r.engines import Reply, Request

# "process" runs the same loop in a new R, and rpy2's "session" the same code as its "fork": test_processes.py,
# tests/r/rpy2/test_engine.py
ENGINES = [
    "rscript-fork",
    "rscript-session",
    pytest.param("rpy2-fork", marks=pytest.mark.r("rpy2")),
]
SETTINGS = {"packages", "timeout_s", "returns", "seed", "env", "outputs", "kind", "name"}

Ask = Callable[..., Reply]


@pytest.fixture(params=ENGINES)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def ask(kind: str) -> Iterator[Ask]:
    """Run code with arguments; names that a Request has are settings of the call."""
    engine, _, isolation = kind.partition("-")

    def run(code: str, *args: Any, **named: Any) -> Reply:
        settings = {name: value for name, value in named.items() if name in SETTINGS}
        kwargs = {name: value for name, value in named.items() if name not in SETTINGS}
        return engines.run(Request(code=code, args=args, kwargs=kwargs, **settings), engine=engine, isolation=isolation)

    return run
