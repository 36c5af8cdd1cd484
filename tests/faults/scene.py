"""A call that goes wrong, and bystanders that must not notice.

Called by: the tests here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from textwrap import dedent
from typing import Any

from cloudexec.errors import CloudexecError
from tests.contract.events import SOON, Gate, eventually
from tests.faults import deeds
from tests.specs.executors import ExecutorKind

N_BEHIND = 20


class Scene:
    """An executor with two slots: one holds a neighbour, the other the victim, and calls queue behind both.

    Every call writes a line into the diary when it starts, so it shows how often each has run.
    """

    def __init__(self, kind: ExecutorKind, executor: Any, gate: Gate, diary: Path) -> None:
        self._kind = kind
        self.executor = executor
        self.gate = gate
        self._diary = os.fspath(diary)
        self._others: dict[str, Any] = {}

    def play(
        self, deed: Callable[..., Any], *args: Any, neighbour: bool = True, patience_s: float = SOON, **options: Any
    ) -> Any:
        """Have a call do the deed amid others; its future, once it is done."""
        self._learn()
        view = self.executor.with_options(**options)

        def submit_neighbour() -> None:
            if neighbour:
                self._submit("neighbour", self.gate, "neighbour")

        def submit_others() -> Any:
            victim = view.submit(deeds.note, self._diary, "victim", deed, *args)
            for number in range(N_BEHIND):
                self._submit(f"behind {number}")
            return victim

        if self._kind.answers_once:  # they are only neighbours if one message carries them all
            _, victim = in_one_go(self.executor, submit_neighbour, submit_others)
            self.gate.wait_for(int(neighbour))
        else:
            submit_neighbour()
            self.gate.wait_for(int(neighbour))
            victim = submit_others()
        victim.exception(patience_s)
        self.gate.open()
        return victim

    def runs_of_victim(self) -> int:
        """How often the call that went wrong has started."""
        return self._runs()["victim"]

    def assert_unharmed(self, repeats: int = 0) -> None:
        """The others have finished with their own results and run once, but for some `repeats`; the executor
        takes calls."""
        for line, future in self._others.items():
            assert future.result(SOON) == line
        runs = self._runs()
        extra = {line: runs[line] - 1 for line in self._others if runs[line] != 1}
        assert min(extra.values(), default=0) >= 0, "some never ran"
        assert sum(extra.values()) <= repeats, extra
        assert self.executor.submit(deeds.identity, "usable").result(SOON) == "usable"

    def _learn(self) -> None:
        """Calls of `note` are known to be short, so that later ones travel in batches."""
        for line in ("first", "second", "third"):
            self.executor.submit(deeds.note, os.devnull, line).result(SOON)

    def _submit(self, line: str, *deed: Any) -> None:
        self._others[line] = self.executor.submit(deeds.note, self._diary, line, *deed)

    def _runs(self) -> Counter[str]:
        return Counter(Path(self._diary).read_text().splitlines())


def in_one_go(executor: Any, *jobs: Callable[[], Any]) -> list[Any]:
    """Have a callback do these, which submit something: the engine sees all of it at once, so that calls which can
    travel together do; what the jobs return."""
    done: Future[list[Any]] = Future()
    executor.submit(deeds.identity, "first").add_done_callback(lambda _: done.set_result([job() for job in jobs]))
    return done.result(SOON)


def assert_explains(future: Any) -> None:
    """The future's error names the call, and what to do about it."""
    error = future.exception(0)
    assert isinstance(error, CloudexecError)
    assert future.call_id in str(error)
    assert f"Remedy: {error.remedy}" in str(error)


def parent_of(pid: int) -> int:
    """The process that has started another: the supervisor of a slot."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def processes_of_session(session: int) -> list[int]:
    """Living processes of a session: a worker, its slots, and what calls started."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                state, _parent, _group, its_session = (
                    Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:4]
                )
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(its_session) == session and state not in "ZX":
                found.append(int(name))
    return found


def at_work(kind: ExecutorKind, session: int) -> list[int]:
    """Of those, the ones that are not merely kept for the next run."""
    return [pid for pid in processes_of_session(session) if kind.works(pid)]


def run_script(kind: ExecutorKind, code: str, timeout_s: float = SOON) -> str:
    """What a program of its own prints, which may use `NewExecutor`."""
    done = subprocess.run(
        [sys.executable, "-c", kind.preamble + dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait_for_file(path: Path) -> str:
    """What a file holds, once it exists."""
    eventually(path.exists)
    return path.read_text()
