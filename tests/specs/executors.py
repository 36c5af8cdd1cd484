"""Every executor that the specifications run over: a new executor is one entry in EXECUTORS.

Called by: tests/contract, tests/faults and tests/adapters, through their `kind` fixture.
"""

from __future__ import annotations

import atexit
import functools
import glob
import importlib
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from cloudexec.testing import PocketAWS
from tests.contract.events import is_alive


@dataclass(frozen=True, kw_only=True)
class ExecutorKind:
    """One executor class with the settings that make it run here.

    left_behind: what executors of a client process, by its pid, have left besides processes of its own.
    in_containers: workers live elsewhere. They do not inherit the client's environment, each takes a container to
    start, and what runs in them when the client dies is finished, for whoever attaches to the run.
    places_ahead: a worker that has a call is given the next one.
    together: settings that put all slots of an executor into one worker.
    answers_once: calls of one message come back together; what one of them was lost with does not go along again.
    keeps_warm: workers outlive their executor. They are idle, which means stopped, and keep their slots until another
    run comes to them, or their own end.
    works: whether a worker's process, by its pid, is still at work for anybody.
    sessions_of: the processes that lead the sessions of all that ends with an executor; none if workers are kept.
    """

    name: str
    home: str  # "module:class"
    set_up: Callable[[], dict[str, Any]] = dict
    left_behind: Callable[[int], list[str]] = lambda _pid: []
    in_containers: bool = False
    places_ahead: bool = True
    answers_once: bool = False
    keeps_warm: bool = False
    together: Callable[[int], dict[str, Any]] = lambda _max_workers: {}
    works: Callable[[int], bool] = is_alive
    sessions_of: Callable[[Any], list[int]] = lambda _executor: []

    @property
    def settings(self) -> dict[str, Any]:
        """What its constructor is given here, besides what a test asks for."""
        return self.set_up()

    def new(self, max_workers: int | None = 2, **settings: Any) -> Any:
        """An executor of this kind."""
        module, name = self.home.split(":")
        kind: type[Executor] = getattr(importlib.import_module(module), name)
        return kind(**{"max_workers": max_workers, **self.settings, **settings})

    @property
    def preamble(self) -> str:
        """The first lines of a script that uses this kind as `NewExecutor`."""
        module, name = self.home.split(":")
        if not self.settings:
            return f"from {module} import {name} as NewExecutor\n"
        return (
            f"import {module}\n"
            f"def NewExecutor(max_workers=None, **settings):\n"
            f"    return {module}.{name}(**{{'max_workers': max_workers, **{self.settings!r}, **settings}})\n"
        )


def _supervisors_of(executor: Any) -> list[int]:
    return [pid for name, pid in executor._core.engine.backend.pids.items() if "." not in name]


def _directories_of(pid: int) -> list[str]:
    bases = ("/dev/shm", tempfile.gettempdir())
    return [path for base in bases for path in glob.glob(os.path.join(base, f"cloudexec-{pid}-*"))]


@functools.cache
def pocket() -> PocketAWS:
    """The pocket AWS of this test process, started by the first test that needs one."""
    state = tempfile.mkdtemp(prefix="cloudexec-test-state-")
    os.environ["XDG_STATE_HOME"] = state
    aws = PocketAWS(stop_scale=0.1).start().activate()

    def end() -> None:
        aws.close()
        shutil.rmtree(state, ignore_errors=True)

    atexit.register(end)
    return aws


# Workers look at things more often than they would in a real account, and we at them, so that tests need not wait.
QUICK = {"control_every_s": 0.2, "tell_after_s": 0.05, "beat_every_s": 1.0, "visibility_s": 10.0, "look_every_s": 1.0}
CLIENT_TIMEOUT_S = 6.0  # a client that is silent for so long on a busy machine is dead, not slow


def _on_ecs() -> dict[str, Any]:
    return {
        **pocket().ecs_setup(),
        "assign_public_ip": True,  # otherwise each of hundreds of executors makes a client and asks EC2
        "tuning": QUICK,
        "client_timeout_s": CLIENT_TIMEOUT_S,
    }


def _on_lambda() -> dict[str, Any]:
    return {
        **pocket().lambda_setup(),
        "tuning": {"control_after_s": 0.2, "control_every_s": 0.2, "event_beat_s": 1.0, "early_after_s": 0.1},
        "client_timeout_s": CLIENT_TIMEOUT_S,
    }


def _busy_environments(_pid: int) -> list[str]:
    """Invocations that go on. Idle environments are Lambda's to end."""
    return [f"{each.function} pid {each.pid}" for each in pocket().environments() if each.state in ("cold", "busy")]


def _is_stopped(pid: int) -> bool:
    """Lambda stops all that is in an idle environment, and bills nothing for it.

    A shell that was stopped in the middle of a vfork is in state D: it waits for a child that was stopped, too.
    """
    try:
        with open(f"/proc/{pid}/stat") as file:
            state = file.read().rpartition(")")[2].split()[0]
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = [int(child) for child in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state == "T" or (state == "D" and bool(children) and all(map(_is_stopped, children)))


def _tasks_of(pid: int) -> list[str]:
    """Tasks that executors of a client process have left running.

    Queues and objects of a client that was killed stay on purpose: with them another client can attach.
    """
    return [
        task.arn
        for task in pocket().tasks()
        if task.state != "STOPPED"
        and any(tag["key"] == "cloudexec:client" and f"/{pid}/" in tag["value"] for tag in task.facts.get("tags", ()))
    ]


def _sessions_in_containers_of(executor: Any) -> list[int]:
    """The agents in a run's containers, and the supervisors that they have started."""
    agents = [task.pid for task in pocket().tasks() if task.pid and task.facts.get("startedBy") == executor.run.id]
    return agents + [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) in agents]


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


EXECUTORS = [
    ExecutorKind(
        name="local", home="cloudexec:LocalExecutor", left_behind=_directories_of, sessions_of=_supervisors_of
    ),
    ExecutorKind(
        name="ecs",
        home="cloudexec:ECSExecutor",
        set_up=_on_ecs,
        left_behind=_tasks_of,
        in_containers=True,
        together=lambda max_workers: {"slots": max_workers},
        sessions_of=_sessions_in_containers_of,
    ),
    ExecutorKind(
        name="lambda",
        home="cloudexec:LambdaExecutor",
        set_up=_on_lambda,
        left_behind=_busy_environments,
        in_containers=True,
        places_ahead=False,
        answers_once=True,
        keeps_warm=True,
        together=lambda max_workers: {"slots": max_workers},
        works=lambda pid: is_alive(pid) and not _is_stopped(pid),
    ),
]
