"""Fixtures of the contract: executors of every kind, a gate for calls, and scripts run as users run them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.contract.events import SOON, Gate, eventually
from tests.specs.executors import EXECUTORS, ExecutorKind


@pytest.fixture(params=EXECUTORS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> ExecutorKind:
    return request.param


@pytest.fixture
def new_executor(kind: ExecutorKind) -> Iterator[Callable[..., Any]]:
    """Makes executors that are gone after the test, whatever happened in it."""
    made = []

    def new(max_workers: int | None = 2, **settings: Any) -> Any:
        made.append(kind.new(max_workers, **settings))
        return made[-1]

    yield new
    for executor in made:
        executor.terminate_workers()
    for executor in made:
        executor.shutdown(wait=True)


@pytest.fixture
def executor(new_executor: Callable[..., Any]) -> Any:
    """Two workers."""
    return new_executor(2)


@pytest.fixture
def single(new_executor: Callable[..., Any]) -> Any:
    """One worker: a call at its gate keeps all others queued."""
    return new_executor(1)


@pytest.fixture(scope="module")
def kept() -> Iterator[dict[tuple[str, int], Any]]:
    """Executors of this file's tests, by kind and size: see `handed_on`."""
    executors: dict[tuple[str, int], Any] = {}
    yield executors
    for executor in executors.values():
        executor.terminate_workers()
    for executor in executors.values():
        executor.shutdown(wait=True)


@pytest.fixture
def handed_on(kept: dict[tuple[str, int], Any], kind: ExecutorKind) -> Callable[[int], Any]:
    """For tests that submit and read, and nothing else: an executor that earlier tests of the file have used.

    A container starts in half a second of CPU, and most sentences hold for any executor, however old. One that is not
    as good as new any more is replaced.
    """

    def take(max_workers: int) -> Any:
        wanted = kind.name, max_workers
        if wanted in kept and not is_as_good_as_new(kept[wanted]):
            kept.pop(wanted).terminate_workers()
        if wanted not in kept:
            kept[wanted] = kind.new(max_workers)
        return kept[wanted]

    return take


def is_as_good_as_new(executor: Any) -> bool:
    """Whether it takes calls, and has none."""
    try:
        executor.submit(int).result(SOON)
    except RuntimeError:  # closed, or broken
        return False
    return executor.run.pending == executor.run.running == 0


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


class Script:
    """A user's program in a process of its own."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", path],  # for `end`
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=path.parent,
            start_new_session=True,  # so that Ctrl-C can be sent to the whole group, as a terminal does
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def read_line(self) -> str:
        """The next line that it prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate(timeout=SOON)
            raise AssertionError(f"the script ended without printing a line:\n{errors}")
        return line.strip()

    def press_ctrl_c(self) -> None:
        os.killpg(self.pid, signal.SIGINT)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: exit code, rest of stdout, stderr."""
        try:
            out, errors = self._process.communicate(timeout=SOON)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGABRT)  # where do its threads stand?
            out, errors = self._process.communicate()
            raise AssertionError(f"the script goes on; it had printed\n{out}\n{errors}") from None
        return self._process.returncode, out, errors

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def start_script(kind: ExecutorKind, tmp_path: Path) -> Iterator[Callable[[str], Script]]:
    """Starts a script, in which `NewExecutor` makes executors of this kind."""
    started = []

    def start(code: str) -> Script:
        path = tmp_path / "script.py"
        path.write_text(kind.preamble + dedent(code))
        started.append(Script(path))
        return started[-1]

    yield start
    for script in started:
        script.kill()
    eventually(lambda: not any(kind.left_behind(script.pid) for script in started))


@pytest.fixture
def run_script(start_script: Callable[[str], Script]) -> Callable[[str], str]:
    """Runs a script that must end well and say nothing on stderr; returns what it printed."""

    def run(code: str) -> str:
        exitcode, out, errors = start_script(code).end()
        assert (exitcode, errors) == (0, "")
        return out.strip()

    return run
