"""Every executor that the specifications run over: a new executor is one entry in EXECUTORS.

Called by: tests/contract and tests/adapters, through their `kind` fixture.
"""

from __future__ import annotations

import glob
import importlib
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ExecutorKind:
    """One executor class with the settings that make it run here.

    left_behind: what executors of a client process, by its pid, have left on this machine besides processes.
    """

    name: str
    home: str  # "module:class"
    settings: dict[str, Any] = field(default_factory=dict)
    left_behind: Callable[[int], list[str]] = lambda _pid: []

    def new(self, max_workers: int | None = 2, **settings: Any) -> Any:
        """An executor of this kind."""
        module, name = self.home.split(":")
        kind: type[Executor] = getattr(importlib.import_module(module), name)
        return kind(max_workers, **self.settings, **settings)  # type: ignore[call-arg]  # Executor itself takes none

    @property
    def preamble(self) -> str:
        """The first lines of a script that uses this kind as `NewExecutor`."""
        module, name = self.home.split(":")
        return (
            f"import functools, {module}\nNewExecutor = functools.partial({module}.{name}, **{self.settings!r})\n"
            if self.settings
            else f"from {module} import {name} as NewExecutor\n"
        )


def _directories_of(pid: int) -> list[str]:
    bases = ("/dev/shm", tempfile.gettempdir())
    return [path for base in bases for path in glob.glob(os.path.join(base, f"cloudexec-{pid}-*"))]


EXECUTORS = [
    ExecutorKind(name="local", home="cloudexec:LocalExecutor", left_behind=_directories_of),
]
