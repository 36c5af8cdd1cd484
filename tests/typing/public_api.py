"""The public API as the type checker sees it. This file is checked, never run.

Each `right` must be accepted. Each `wrong` must be refused: if the inferred type were `Any`, nothing would be
wrong, and the unused ignore would itself become an error.
"""

import asyncio
from collections.abc import Iterator
from concurrent import futures
from functools import partial
from itertools import count
from pathlib import Path

from cloudexec import CallStats, Command, CommandResult, ECSExecutor, Future, LocalExecutor, Retry, RunFacts


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


def a_task_may_be_anything_that_can_be_called(executor: LocalExecutor) -> None:
    from_lambda: Future[int] = executor.submit(lambda x: 2 * x, 1)
    from_partial: Future[str] = executor.submit(partial(describe, 1), label="one")
    from_builtin: Future[int] = executor.submit(len, "abc")
    from_type: Future[Path] = executor.submit(Path, "a", "b")
    from_method: Future[bool] = executor.submit(Path("a").exists)
    nothing: Future[None] = executor.submit(print, "hello")
    executor.submit(3)  # type: ignore[arg-type]  # it cannot be called


def a_command_gives_its_result(executor: ECSExecutor) -> None:
    future = executor.submit(Command(["python", "script.py"], env={"A": "1"}, task_definition="model", check=False))
    right: Future[CommandResult] = future
    code: int = future.result().exit_code
    executor.submit(Command(["python"]), "script.py")  # type: ignore[call-arg]  # its arguments are its own
    Command(["python", 3])  # type: ignore[list-item]  # words are texts


def own_options_are_not_arguments_of_submit(executor: LocalExecutor) -> None:
    executor.submit(double, 1, timeout_s=3.0)  # type: ignore[call-arg]  # `double` has no such argument
    view = executor.with_options(timeout_s=3.0, retries=Retry(crash=2), env={"A": "1"}, name="nightly")
    right: Future[int] = view.submit(double, 1)
    again: Future[str] = view.with_options(retries=1).submit(describe, 1, "one")
    as_executor: futures.Executor = view
    executor.with_options(memory=3)  # type: ignore[call-arg]  # there is no such option
    executor.with_options(timeout_s="3")  # type: ignore[arg-type]  # a number of seconds


def map_yields_what_the_callable_returns(executor: LocalExecutor) -> None:
    results = executor.map(describe, [1, 2], ["one", "two"])
    right: Iterator[str] = results
    wrong: Iterator[int] = results  # type: ignore[assignment]  # `describe` returns str
    windowed: Iterator[int] = executor.map(double, count(), timeout=1.5, chunksize=10, buffersize=5)
    from_view: Iterator[int] = executor.with_options(name="n").map(double, range(3))


def the_context_manager_keeps_its_type() -> None:
    with LocalExecutor() as executor:
        right: LocalExecutor = executor
        wrong: int = executor  # type: ignore[assignment]  # it is not Any


def a_future_and_an_executor_are_the_standard_library_s(executor: LocalExecutor) -> None:
    right_executor: futures.Executor = executor
    right_future: futures.Future[int] = executor.submit(double, 1)
    done, pending = futures.wait([executor.submit(double, 1)])
    for future in futures.as_completed([right_future]):
        same: int = future.result()


async def asyncio_knows_the_type(executor: LocalExecutor) -> None:
    right: int = await asyncio.wrap_future(executor.submit(double, 1))
    wrong: str = await asyncio.wrap_future(executor.submit(double, 1))  # type: ignore[arg-type]  # an int
    also: str = await asyncio.get_running_loop().run_in_executor(executor, describe, 1, "one")


def a_future_tells_the_story_of_its_call(future: Future[int]) -> None:
    call_id: str = future.call_id
    attempts: int = future.attempts
    printed: tuple[str, str] = (future.stdout, future.stderr)
    stats: CallStats = future.stats
    run_s: float | None = stats.run_s
    queued_s: float = stats.queued_s
    surely: float = stats.started_s  # type: ignore[assignment]  # None while the call has not started
    cancelled: bool = future.cancel()
    future.stop()
    error: BaseException | None = future.exception(timeout=1.0)
    future.add_done_callback(takes_a_future_of_int)
    future.add_done_callback(takes_an_int)  # type: ignore[arg-type]  # it gets the future, not the result


def takes_a_future_of_int(future: futures.Future[int]) -> None:
    right: int = future.result()


def takes_an_int(number: int) -> None:
    pass


def a_run_has_counts(executor: LocalExecutor) -> None:
    facts: RunFacts = executor.run
    identity: str = facts.id
    counts: list[int] = [facts.pending, facts.running, facts.done, facts.failed, facts.cancelled, facts.total]
    width: int = executor.max_workers


def an_executor_has_the_standard_settings_and_its_own() -> None:
    LocalExecutor(2, initializer=describe, initargs=(1, "one"), max_tasks_per_child=1)
    LocalExecutor(max_workers=None, timeout_s=1, retries=1, env={"A": "1"}, name="n", store_dir=Path("/tmp"))
    LocalExecutor(on_error="cancel")
    LocalExecutor(on_error="explode")  # type: ignore[arg-type]  # not one of wait, cancel, kill
    LocalExecutor("2")  # type: ignore[arg-type]  # a number
    LocalExecutor(2, describe)  # type: ignore[call-arg]  # only max_workers goes without its name


def the_end_is_that_of_the_standard_library(executor: LocalExecutor) -> None:
    executor.shutdown()
    executor.shutdown(False, cancel_futures=True)
    executor.terminate_workers()
    executor.kill_workers()
    executor.shutdown(True, True)  # type: ignore[call-arg]  # cancel_futures goes by its name
