"""One worker process on this machine, its control channel and its lanes.

Called by: host.py.   Calls: `cloudexec.worker` in a child process, wire.control, wire.lane.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import Final

import cloudexec
from cloudexec.wire.control import ControlSocket, Setup
from cloudexec.wire.lane import Feeder
from cloudexec.worker.system import nameless_file

_START: Final = (
    "import sys; sys.path[0] = {path!r}; from cloudexec.worker.__main__ import main; sys.exit(main(sys.argv[1:]))"
)
_LAST_WORDS_BYTES: Final = 4000


class LaneProcess:
    """A slot's process and the feeder's end of its lane."""

    def __init__(self, id: str, slot: int, pid: int, feeder: Feeder) -> None:
        self.id = id
        self.slot = slot
        self.pid = pid
        self.feeder = feeder
        self.condemned = ""

    def condemn(self, reason: str) -> None:
        """Kill the slot, and read nothing more from it; its supervisor reports the end."""
        self.condemned = f"was killed: {reason}"
        self.feeder.stop_reading()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


class WorkerProcess:
    """A worker: started by the constructor, in a session of its own, so that Ctrl-C does not reach it."""

    def __init__(self, setup: Setup) -> None:
        self.id = setup.worker_id
        self.lanes: dict[int, LaneProcess] = {}
        self.bell: int | None = None
        self._words = open(nameless_file(), "r+b")  # noqa: SIM115 - closed by close()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                _command(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._words,
                stderr=self._words,
                start_new_session=True,
            )
        self.control = ControlSocket(ours)
        self.control.send(setup)

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self._process.pid

    def kill(self) -> None:
        """Kill the supervisor and every slot, at once."""
        self._process.kill()
        self.kill_slots()

    def kill_slots(self) -> None:
        """Kill what a dead supervisor may have left: slots, and what they started."""
        for lane in self.lanes.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(lane.pid, signal.SIGKILL)

    def wait(self, timeout_s: float) -> int | None:
        """The supervisor's exit code; None if it still lives after `timeout_s`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        self._words.seek(0, os.SEEK_END)
        self._words.seek(max(0, self._words.tell() - _LAST_WORDS_BYTES))
        return self._words.read().decode(errors="replace").strip()

    def close(self) -> None:
        """Close every descriptor that leads to it."""
        for lane in self.lanes.values():
            lane.feeder.close()
        self.lanes.clear()
        if self.bell is not None:
            os.close(self.bell)
            self.bell = None
        self.control.close()
        self._words.close()


def _command(control_fd: int) -> list[str]:
    package_home = os.path.dirname(os.path.dirname(os.path.abspath(cloudexec.__file__)))
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    return [sys.executable, *flags, "-c", _START.format(path=package_home), "--control-fd", str(control_fd)]
