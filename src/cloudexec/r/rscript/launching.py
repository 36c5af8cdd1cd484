"""Start R, where it behaves the same everywhere, and hear that it is ready.

Called by: process.py.   Calls: places, families; start.R is what R runs.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cloudexec.errors import RError, RMissing, RPackageMissing
from cloudexec.r.rscript.families import kill_family
from cloudexec.r.rscript.places import Place

START: Final = Path(__file__).with_name("start.R")
HARNESS: Final = START.with_name("harness.R")
START_S: Final = 120.0  # with large packages from a cold disk
_WORDS_CHARACTERS: Final = 2000
_HERE: Final = Path(__file__).parent
_PRESET: Final = ("LANG", "LANGUAGE", "TMPDIR", "TMP", "TEMP", "HOME")
# Runs between fork and exec, as a program, because code after a fork of a process with threads may hang:
# orphans of R's family return to R (36), and with `die` R dies with the thread that started it (1).
_PRELUDE: Final = """
import ctypes, os, sys
parent, die, *words = sys.argv[1:]
prctl = ctypes.CDLL(None).prctl
prctl(36, 1, 0, 0, 0)
if die == "die":
    prctl(1, 9, 0, 0, 0)
    if os.getppid() != int(parent): os._exit(1)
os.execv(words[0], words)
"""


class Started(NamedTuple):
    """An R that is ready. Descriptors: control to write to, status, stdout and stderr to read from.

    temporary: R's own temporary directory. environment: what it was started with, as Python had it then.
    """

    process: subprocess.Popen[bytes]
    control: int
    status: int
    stdout: int
    stderr: int
    temporary: str
    environment: Mapping[str, str]


def start(
    command: Sequence[str], place: Place, packages: tuple[str, ...], *, dies_with_thread: bool, warms: bool
) -> Started:
    """Start it. command: what ends in running start.R. dies_with_thread: the kernel kills it when the thread that calls
    this ends, on Linux. warms: everything of the packages is loaded at once, for processes that are forked from it.

    Errors: RMissing, RPackageMissing, RError for a package that does not load.
    """
    before = dict(os.environ)
    control_read, control = os.pipe()
    status, status_write = os.pipe()
    stdout, stdout_write = os.pipe()
    stderr, stderr_write = os.pipe()
    theirs = (control_read, status_write, stdout_write, stderr_write)
    try:
        process = subprocess.Popen(
            [*_prelude(dies_with_thread), *command],
            stdin=subprocess.DEVNULL,
            stdout=stdout_write,
            stderr=stderr_write,
            env=surroundings(before, place.temporary) | _settings(place, packages, control_read, status_write, warms),
            pass_fds=(control_read, status_write),
        )
    except OSError as error:
        for fd in (*theirs, control, status, stdout, stderr):
            os.close(fd)
        raise RMissing(f"{command[0]} cannot be started: {error}") from error
    for fd in theirs:
        os.close(fd)
    for fd in (status, stdout, stderr):
        os.set_blocking(fd, False)
    try:
        temporary = _greeting(command[0], process, status, stdout, stderr)
    except BaseException:
        kill_family(process.pid, itself=True)
        process.wait()
        for fd in (control, status, stdout, stderr):
            os.close(fd)
        raise
    return Started(process, control, status, stdout, stderr, temporary, before)


def surroundings(environment: Mapping[str, str], temporary: str) -> dict[str, str]:
    """The environment in which R starts: the same language, order of text, and threads of BLAS wherever it runs.

    A time zone that is not set is UTC. One thread, because as many calls run at once as there are processors; and
    forking is for processes with one thread.
    """
    made = {name: value for name, value in environment.items() if not name.startswith("LC_") and name != "R_TESTS"}
    made |= {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8" if sys.platform.startswith("linux") else "en_US.UTF-8"}
    made |= {"LANGUAGE": "en", "TMPDIR": temporary}
    made.setdefault("TZ", "UTC")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        made.setdefault(name, "1")
    if not os.path.isdir(made.get("HOME", "")):
        made["HOME"] = temporary
    return made


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """What to set and what to remove, so that R has the environment that Python has now."""
    if before == now:
        return {}, []
    mine = {name for name in (*before, *now) if name in _PRESET or name.startswith("LC_")}
    to_set = {name: value for name, value in now.items() if name not in mine and before.get(name) != value}
    return to_set, [name for name in before if name not in now and name not in mine]


def _prelude(dies_with_thread: bool) -> list[str]:
    if not sys.platform.startswith("linux") or not sys.executable or getattr(sys, "frozen", False):
        return []
    die = "die" if dies_with_thread else "live"
    return [sys.executable, "-I", "-S", "-c", _PRELUDE, str(os.getpid()), die]


def _settings(place: Place, packages: tuple[str, ...], control: int, status: int, warms: bool) -> dict[str, str]:
    """What start.R reads, and removes from its environment."""
    return {
        "CLOUDEXEC_R_CONTROL": str(control),
        "CLOUDEXEC_R_STATUS": str(status),
        "CLOUDEXEC_R_SCRATCH": place.path,
        "CLOUDEXEC_R_PACKAGES": " ".join(packages),
        "CLOUDEXEC_R_HERE": str(_HERE),
        "CLOUDEXEC_R_WARM": "yes" if warms else "",
    }


def _greeting(program: str, process: subprocess.Popen[bytes], status: int, stdout: int, stderr: int) -> str:
    """R's temporary directory, when it is ready. Errors: see start."""
    until_s = time.monotonic() + START_S
    said, words = b"", b""
    watch = select.poll()
    for fd in (status, stdout, stderr):
        watch.register(fd, select.POLLIN)
    while b"\n" not in said:
        left_s = until_s - time.monotonic()
        ready = dict(watch.poll(max(0.0, left_s) * 1000))
        if status in ready:
            got = os.read(status, 4096)
            if not got:  # its end is closed: R is going, or gone
                break
            said += got
        for fd in (stdout, stderr):
            if fd in ready and not (got := os.read(fd, 65536)):
                watch.unregister(fd)
            elif fd in ready:
                words = (words + got)[-_WORDS_CHARACTERS:]
        if not ready:
            text = _text(words)
            raise RMissing(f"{program} was not ready after {START_S:g} s; it said: {text or 'nothing'}")
    kind, _, rest = said.decode(errors="replace").strip().partition(" ")
    if kind == "ready":
        return rest.partition(" ")[2]
    if kind == "absent":
        names = tuple(rest.split())
        raise RPackageMissing(f"R packages are not installed here: {', '.join(names)}", packages=names)
    if kind == "broken":
        raise RError(f"R packages do not load: {rest}")
    if kind == "missing":
        what, _, remedy = rest.partition("\t")
        raise RMissing(what, remedy=remedy)
    raise RMissing(f"{program} does not start; it said: {_text(words + _rest(stdout, stderr)) or 'nothing'}")


def _rest(*fds: int) -> bytes:
    """What is still in pipes whose writers are gone, or nearly."""
    time.sleep(0.05)
    found = b""
    for fd in fds:
        try:
            found += os.read(fd, 65536)
        except BlockingIOError:
            pass
    return found


def _text(words: bytes) -> str:
    return words.decode(errors="replace").strip()[-_WORDS_CHARACTERS:]
