"""The public API as the type checker sees it. This file is checked, never run.

Each `right` must be accepted. Each `wrong` must be refused: if the inferred type were `Any`, nothing would be
wrong, and the unused ignore would itself become an error.
"""

from collections.abc import Iterator
from concurrent import futures

from cloudexec import Future, LocalExecutor


def double(x: int, /, *, times: int = 1) -> int:
    return 2 * x * times


def describe(x: int, label: str) -> str:
    return f"{label}: {x}"


def a_future_is_typed_by_its_callable(executor: LocalExecutor) -> None:
    future = executor.submit(double, 1, times=3)
    right: Future[int] = future
    wrong: Future[str] = future  # type: ignore[assignment]  # `double` returns int

    right_result: int = future.result()
    wrong_result: str = future.result()  # type: ignore[assignment]  # `double` returns int


def arguments_are_those_of_the_callable(executor: LocalExecutor) -> None:
    executor.submit(describe, 1, label="one")
    executor.submit(describe, "one", label="one")  # type: ignore[arg-type]  # x is an int
    executor.submit(describe, 1)  # type: ignore[call-arg]  # label is missing


def map_yields_what_the_callable_returns(executor: LocalExecutor) -> None:
    results = executor.map(describe, [1, 2], ["one", "two"])
    right: Iterator[str] = results
    wrong: Iterator[int] = results  # type: ignore[assignment]  # `describe` returns str


def the_context_manager_keeps_its_type() -> None:
    with LocalExecutor() as executor:
        right: LocalExecutor = executor
        wrong: int = executor  # type: ignore[assignment]  # it is not Any


def a_future_and_an_executor_are_the_standard_library_s(executor: LocalExecutor) -> None:
    right_executor: futures.Executor = executor
    right_future: futures.Future[int] = executor.submit(double, 1)
    done, pending = futures.wait([executor.submit(double, 1)])
