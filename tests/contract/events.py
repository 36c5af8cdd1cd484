"""What tests wait for: a gate that calls stand at until the test opens it, and conditions that come true.

Called by: the tests here, and by workers, which import this module: it is light.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOON = 30.0  # seconds: only what hangs takes longer
_LOOK_EVERY_S = 0.005


def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, f"after {SOON:g} s it still does not hold"
        time.sleep(_LOOK_EVERY_S)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Gate:
    """Calls wait at it, in whatever process they run, until it is opened."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = os.fspath(directory)

    def __call__(self, value: Any = None) -> Any:
        """Arrive, wait, and return `value`."""
        handle, _ = tempfile.mkstemp(prefix="arrived-", dir=self._directory)
        os.write(handle, str(os.getpid()).encode())
        os.close(handle)
        eventually(lambda: os.path.exists(self._open_sign))
        return value

    def open(self) -> None:
        """Let everybody pass, now and later."""
        Path(self._open_sign).touch()

    @property
    def arrivals(self) -> int:
        """How many calls have come to the gate."""
        return len(self._arrived())

    def wait_for(self, arrivals: int = 1) -> list[int]:
        """Wait until so many calls have come; the process ids of all that have."""
        eventually(lambda: self.arrivals >= arrivals)
        eventually(lambda: all(path.stat().st_size for path in self._arrived()))
        return [int(path.read_text()) for path in self._arrived()]

    @property
    def _open_sign(self) -> str:
        return os.path.join(self._directory, "open")

    def _arrived(self) -> list[Path]:
        return list(Path(self._directory).glob("arrived-*"))
