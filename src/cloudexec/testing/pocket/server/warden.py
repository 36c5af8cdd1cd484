"""End the containers when the server has ended without a word, e.g. by `kill -9`.

Called by:  serve.py, before it has threads.   Calls: containers.py.
How:        a small process that waits at a pipe whose other end the server holds.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from cloudexec.testing.pocket.server.containers import kill_marked


class Warden:
    """The server's side: tell the warden what to look for; it acts when this process is no more."""

    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._writing)
            _wait_and_end(reading)
        os.close(reading)

    def watch(self, mark: str, root: Path, pocket_id: str) -> None:
        """From now on these containers and this directory are in the warden's care."""
        os.write(self._writing, f"{mark}\n{root}\n{pocket_id}\n".encode())

    def dismiss(self) -> None:
        """The server ends in good order; the warden looks once more and goes."""
        os.close(self._writing)
        os.waitpid(self._pid, 0)


def _wait_and_end(reading: int) -> None:
    os.setsid()  # Ctrl-C in a terminal is for the server
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with open(reading, encoding="utf-8") as pipe:
        lines = pipe.read().splitlines()
    if len(lines) == 3:
        mark, root, pocket_id = lines
        while kill_marked(mark):  # what was just being born is there the second time
            pass
        _end_podman(pocket_id)
        shutil.rmtree(root, ignore_errors=True)
    os._exit(0)


def _end_podman(pocket_id: str) -> None:
    if shutil.which("podman") is None:
        return
    wanted = ["podman", "ps", "--all", "--quiet", "--filter", f"label=pocket={pocket_id}"]
    names = subprocess.run(wanted, capture_output=True, text=True, check=False).stdout.split()
    if names:
        subprocess.run(["podman", "rm", "--force", *names], capture_output=True, check=False)
