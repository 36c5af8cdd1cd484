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
from collections.abc import Collection, Iterator
from typing import Final

import cloudexec
from cloudexec.wire.control import ControlSocket, Setup
from cloudexec.wire.lane import Feeder
from cloudexec.worker.system import nameless_file

_START: Final = (
    "import sys; sys.path[0] = {path!r}; from cloudexec.worker.__main__ import main; sys.exit(main(sys.argv[1:]))"
)
_LAST_WORDS_BYTES: Final = 4000
WITH_BUCKET: Final = "--with-bucket"


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


class Launch:
    """A supervisor's process, started by the constructor in a session of its own, so that Ctrl-C does not reach it.
    It imports what it needs and waits for its Setup: it may be started before there is one, and need not be used.

    hidden: variables that it and its slots shall not see. with_bucket: it imports what a bucket asks for, too. log_fd:
    our log, to which its Setup may have the output of calls written.
    """

    def __init__(self, *, hidden: Collection[str] = (), with_bucket: bool = False, log_fd: int = -1) -> None:
        self.words = open(nameless_file(), "r+b")  # noqa: SIM115 - closed by WorkerProcess
        ours, theirs = socket.socketpair()
        with theirs, _twin_of(log_fd) as log:
            self.process = subprocess.Popen(
                _command(theirs.fileno(), with_bucket, log),
                pass_fds=[fd for fd in (theirs.fileno(), log) if fd >= 0],
                stdin=subprocess.DEVNULL,
                stdout=self.words,
                stderr=self.words,
                env={k: v for k, v in os.environ.items() if k not in hidden} if hidden else None,
                start_new_session=True,
            )
        self.control = ControlSocket(ours)

    def discard(self) -> None:
        """End it unused."""
        self.process.kill()
        self.process.wait()
        self.control.close()
        self.words.close()


class WorkerProcess:
    """A worker: what was launched, and its lanes."""

    def __init__(self, setup: Setup, launch: Launch) -> None:
        self.id = setup.worker_id
        self.lanes: dict[int, LaneProcess] = {}
        self.bell: int | None = None
        self._words, self._process, self.control = launch.words, launch.process, launch.control
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


@contextlib.contextmanager
def _twin_of(fd: int) -> Iterator[int]:
    """Another descriptor for the same file, for a child whose own one of that number is something else; -1 for none."""
    try:
        twin = os.dup(fd) if fd >= 0 else -1
    except OSError:  # it is closed
        twin = -1
    try:
        yield twin
    finally:
        if twin >= 0:
            os.close(twin)


def _command(control_fd: int, with_bucket: bool, log_fd: int) -> list[str]:
    package_home = os.path.dirname(os.path.dirname(os.path.abspath(cloudexec.__file__)))
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    more = [*(["--log-fd", str(log_fd)] if log_fd >= 0 else []), *([WITH_BUCKET] if with_bucket else [])]
    return [sys.executable, *flags, "-c", _START.format(path=package_home), "--control-fd", str(control_fd), *more]
