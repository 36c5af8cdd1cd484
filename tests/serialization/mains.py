"""Functions as a script defines them, and a process that reads them as a slot does."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

READ = """
import asyncio, inspect, pickle, sys, types
from cloudexec.serialization.loading import load

def value_of(packed):
    function = load(packed, None)
    try:
        result = function()
        if inspect.iscoroutine(result):
            return asyncio.run(result)
        return list(result) if isinstance(result, types.GeneratorType) else result
    except Exception as error:
        return type(error).__name__

packed = pickle.load(sys.stdin.buffer)
pickle.dump([value_of(each) for each in packed], sys.stdout.buffer)
"""


class Script:
    """A namespace that stands for `__main__`: what it defines cannot be imported anywhere."""

    def __init__(self, source: str) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.go_on(source)

    def go_on(self, source: str) -> None:
        """Run some more lines."""
        exec(compile(textwrap.dedent(source), "<script>", "exec"), self.namespace)

    @property
    def f(self) -> Any:
        """The function that is submitted."""
        return self.namespace["f"]


def values_elsewhere(packed: Sequence[bytes]) -> list[Any]:
    """What the packed functions return, one after another, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", READ], input=pickle.dumps(list(packed)), stdout=subprocess.PIPE, check=True, timeout=60
    )
    found: list[Any] = pickle.loads(done.stdout)
    return found


def printed_by(script: str, *arguments: str) -> str:
    """What a script prints; its definitions are in the real `__main__`."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
