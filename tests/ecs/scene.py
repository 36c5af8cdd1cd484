"""What the cloud's faults are tested with: calls that leave traces, and looks at what a run has in the pocket AWS.

Called by: the tests here, and by workers, which run these calls.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

SOON = 30.0  # seconds: only what hangs takes longer


# --- calls -------------------------------------------------------------------------------------


def double(x: Any) -> Any:
    return 2 * x


def trace(path: str, x: Any, seconds: float = 0.0) -> Any:
    """Leave a line for each time that it runs."""
    with open(path, "a") as file:
        file.write(f"{x}\n")
    time.sleep(seconds)
    return x


def wait_at(gate: str, x: Any, diary: str = os.devnull) -> Any:
    """Stand at a gate until the file is there."""
    trace(diary, x)
    Path(f"{gate}.{x}.{os.getpid()}").touch()
    deadline = time.monotonic() + 50
    while not os.path.exists(gate) and time.monotonic() < deadline:
        time.sleep(0.01)
    return x


def kill_container(diary: str = os.devnull, x: Any = "killer") -> None:
    """Kill the container's main process, as the kernel does it: the agent, which has started the supervisor."""
    trace(diary, x)
    with open(f"/proc/{os.getppid()}/stat") as file:
        agent = int(file.read().rpartition(")")[2].split()[1])
    os.kill(agent, signal.SIGKILL)
    time.sleep(60)


def say_and_wait(gate: str, text: str) -> None:
    print(text, file=sys.stderr, flush=True)
    wait_at(gate, 0)


def grow_beyond(n_bytes: int) -> None:
    """Take memory step by step, so that a watcher sees it."""
    hoard = []
    while True:
        hoard.append(b"x" * (16 << 20))
        if len(hoard) * (16 << 20) > n_bytes:
            time.sleep(60)


def big(n_bytes: int) -> bytes:
    return b"\x07" * n_bytes


class Bomb:
    """Leaves a file behind wherever it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self._path,)


# --- looking -----------------------------------------------------------------------------------


def wait_for_calls(gate: Path, count: int, within_s: float = SOON) -> None:
    """Until so many calls have come to the gate."""
    eventually(lambda: len(list(gate.parent.glob(f"{gate.name}.*"))) >= count, within_s)


def runs_in(diary: Path) -> Counter[str]:
    """How often each traced call has started."""
    return Counter(diary.read_text().splitlines()) if diary.exists() else Counter()


def tasks_of(aws: Any, executor: Any) -> list[Any]:
    """The tasks that a run has started."""
    return [task for task in aws.tasks() if task.facts.get("startedBy") == executor.run.id]


def running_tasks_of(aws: Any, executor: Any) -> list[Any]:
    return [task for task in tasks_of(aws, executor) if task.state == "RUNNING"]


def left_of(aws: Any, run_id: str) -> list[str]:
    """What is left of a run: tasks that have not stopped, queues, objects."""
    tasks = [task.arn for task in aws.tasks() if task.facts.get("startedBy") == run_id and task.state != "STOPPED"]
    queues = [queue.name for queue in aws.queues() if run_id in queue.name]
    return [*tasks, *queues, *(key for key in aws.objects() if f"runs/{run_id}" in key)]


def assert_nothing_left(aws: Any, run_id: str) -> None:
    """After a shutdown queues and objects are gone; tasks have been told to end, and do."""
    assert [name for name in left_of(aws, run_id) if not name.startswith("arn:")] == []
    eventually(lambda: left_of(aws, run_id) == [])


def eventually(condition: Any, within_s: float = SOON) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"after {within_s:g} s it still does not hold"
        time.sleep(0.02)
