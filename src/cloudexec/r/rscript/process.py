"""One R: how a call runs in it, is watched, and is killed.

Called by: engine.py.   Calls: launching (starts it), relay (its output), families (kills), places (its directory).

    run(N)  --"fork N"-->  R  --"started N PID", "done N"-->  run      poll: status, output, and the end of PID and of R
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple

from cloudexec.r.rscript import places
from cloudexec.r.rscript.families import has_ended, how_it_ended, is_alone, kill_family, watched
from cloudexec.r.rscript.launching import start
from cloudexec.r.rscript.places import Place
from cloudexec.r.rscript.relay import Relay

_LEAVE_S: Final = 0.5  # a child that has answered goes; then it is killed
_LOOK_S: Final = 0.1  # how often to look at a process that cannot be watched
_MOST_DEAD: Final = 64  # orphans that R has inherited and does not bury; then a new R is due


class End(Enum):
    """How a call came to its end."""

    ANSWERED = "answered"
    TIMED_OUT = "timed out"
    GONE = "gone"  # the process that ran it has ended without an answer


class Ended(NamedTuple):
    """What is known of a call's end; exit_code and signal where somebody could tell. quit: by the code's own wish."""

    end: End
    began: bool = True
    exit_code: int | None = None
    signal: int | None = None
    quit: bool = False
    output: str = ""


class RProcess:
    """A resident R. command: what starts it. isolation: "fork", "process" (it serves one call) or "session".

    Errors of the constructor: RMissing, RPackageMissing, RError.
    """

    def __init__(self, command: Sequence[str], packages: tuple[str, ...], isolation: str) -> None:
        self.place = Place()
        self._isolation = isolation
        self._number = 0
        # Killed by the kernel when Python dies, however it dies. Not a thread's R that others use after it, and not
        # one that forks: it must outlive Python by the moment in which it kills its child.
        in_main = threading.current_thread() is threading.main_thread()
        dies = isolation == "process" or (isolation == "session" and in_main)
        try:
            self._r = start(command, self.place, packages, dies_with_thread=dies, warms=isolation == "fork")
        except BaseException:
            self.place.remove()
            raise
        self._r_end = watched(self._r.process.pid)
        self._dead = 0
        self._said = b""
        self._kept = set(os.listdir(self._r.temporary)) if os.path.isdir(self._r.temporary) else set()

    @property
    def environment(self) -> Mapping[str, str]:
        """Python's, when R was started."""
        return self._r.environment

    @property
    def is_fit(self) -> bool:
        """Whether it can take another call."""
        return self._r.control >= 0 and self._r.process.poll() is None and self._dead < _MOST_DEAD

    def run(self, request: bytes, timeout_s: float | None) -> tuple[Ended, bytes]:
        """Run a request to its end, whatever that is; the reply if there is one. What the call does raises nothing."""
        self._number += 1
        request_path, reply_path = self.place.file(f"{self._number}.in"), self.place.file(f"{self._number}.out")
        try:
            with open(request_path, "wb") as file:
                file.write(request)
            ended = self._watch(None if timeout_s is None else time.monotonic() + timeout_s)
            if ended.end is not End.ANSWERED:
                return ended, b""
            with open(reply_path, "rb") as file:
                return ended, file.read()
        finally:
            self._tidy(request_path, reply_path)

    def close(self) -> None:
        """End it and everything that it started."""
        if self._r.control >= 0:
            kill_family(self._r.process.pid, itself=True)
            self._r.process.wait()
            self._close_descriptors()
            self.place.remove()

    def forget(self) -> None:
        """It belongs to the process that we were forked from: leave it alone."""
        if self._r.control >= 0:
            self._r.process.returncode = 0  # else Popen complains that it still runs
            self._close_descriptors()
            self.place.forget()

    def _watch(self, until_s: float | None) -> Ended:
        watch = _Watch(self._r.status, self._r.stdout, self._r.stderr, self._r_end)
        watch.relay.discard()
        self._hear()  # what is left of a call that was killed
        child, started, quit_status = 0, False, None
        try:
            if not self._say():
                return Ended(End.GONE, began=False)
            while True:
                if until_s is not None and time.monotonic() >= until_s:
                    self._end_call(child)
                    watch.relay.finish()
                    return Ended(End.TIMED_OUT, output=watch.relay.tail)
                is_over = watch.wait(until_s)
                for word, *numbers in self._hear():
                    if numbers[0] != self._number:
                        continue
                    if word == "started":
                        started, child = True, numbers[1]
                        if self._isolation == "fork":
                            watch.follow(child)
                    elif word == "quit":
                        quit_status = numbers[1]
                    else:
                        self._let_go(child, watch)
                        return Ended(End.ANSWERED, output=watch.relay.tail)
                if is_over or (self._isolation == "fork" and started and not watch.follows and has_ended(child)):
                    return self._gone(child, started, quit_status, watch)
        except BaseException:  # Ctrl-C, an alarm, a stream of the user's that cannot be written to
            self._end_call(child)
            raise
        finally:
            watch.close()

    def _say(self) -> bool:
        """Hand over the call; whether somebody is there to take it."""
        words = {"fork": "fork {}\n", "session": "run {} kept\n", "process": "run {} once\n"}[self._isolation]
        try:
            os.write(self._r.control, words.format(self._number).encode())
        except BrokenPipeError:
            return False
        return True

    def _hear(self) -> list[tuple[str, int, int]]:
        """Lines of R's that are complete: a word, the call's number, one more number."""
        try:
            while got := os.read(self._r.status, 4096):
                self._said += got
        except BlockingIOError:
            pass
        *lines, self._said = self._said.split(b"\n")
        split = [line.decode().split() for line in lines]
        return [(words[0], int(words[1]), int(words[2]) if len(words) > 2 else 0) for words in split]

    def _let_go(self, child: int, watch: _Watch) -> None:
        """The call has answered: its child goes by itself, which takes as long as a fork, so nobody waits for it.

        What it left running is killed.
        """
        if self._isolation == "fork" and not is_alone(child, self._r.process.pid):
            until_s = time.monotonic() + _LEAVE_S
            while time.monotonic() < until_s and not watch.wait(until_s):
                if not watch.follows and has_ended(child):
                    break
            self._dead = kill_family(self._r.process.pid, itself=False)
        elif self._isolation == "process":
            kill_family(self._r.process.pid, itself=False)
        watch.relay.finish()  # R has flushed everything before it answered

    def _gone(self, child: int, started: bool, quit_status: int | None, watch: _Watch) -> Ended:
        """The process that ran the call has ended; find out how."""
        if self._isolation == "fork" and self._r.process.poll() is None:
            exit_code, number = how_it_ended(child)
            self._dead = kill_family(self._r.process.pid, itself=False)
        else:
            kill_family(self._r.process.pid, itself=True)
            code = self._r.process.wait()
            exit_code, number = (code, None) if code >= 0 else (None, -code)
        watch.relay.finish()
        if quit_status is not None:
            exit_code = quit_status
        elif number is None:
            number = _confessed(watch.relay.tail)
        return Ended(End.GONE, started, exit_code, number, quit_status is not None, watch.relay.tail)

    def _end_call(self, child: int) -> None:
        """Kill what runs the call, and what came from it; R itself if it has no child, or is the one that runs it."""
        is_forked = self._isolation == "fork" and child
        self._dead = kill_family(self._r.process.pid, itself=not is_forked)
        if not is_forked:
            self._r.process.wait()

    def _tidy(self, *paths: str) -> None:
        """A call's files go with it, also those in R's temporary directory, which forked children share."""
        for path in paths:
            try:
                os.unlink(path)
            except OSError:
                pass
        if self._isolation == "fork":
            places.empty(self._r.temporary, self._kept)

    def _close_descriptors(self) -> None:
        r = self._r
        for fd in (r.control, r.status, r.stdout, r.stderr, self._r_end):
            if fd >= 0:
                os.close(fd)
        self._r = r._replace(control=-1, status=-1, stdout=-1, stderr=-1)
        self._r_end = -1


class _Watch:
    """Everything that may happen during a call, waited for at once."""

    def __init__(self, status: int, stdout: int, stderr: int, r_end: int) -> None:
        self.relay = Relay(stdout, stderr)
        self._output = (stdout, stderr)
        self._ends = [r_end] if r_end >= 0 else []
        self._child_end = -1
        self._poll = select.poll()
        self._is_blind = r_end < 0
        self._status = status
        for fd in (status, stdout, stderr, *self._ends):
            self._poll.register(fd, select.POLLIN)

    @property
    def follows(self) -> bool:
        """Whether the end of the child will be told."""
        return self._child_end >= 0

    def follow(self, child: int) -> None:
        """Be told of the end of a process."""
        self._child_end = watched(child)
        self._is_blind |= not self.follows
        if self.follows:
            self._ends.append(self._child_end)
            self._poll.register(self._child_end, select.POLLIN)

    def wait(self, until_s: float | None) -> bool:
        """Wait for something to happen, and pass on what is printed; whether a process has ended."""
        left_s = None if until_s is None else max(0.0, until_s - time.monotonic())
        if self._is_blind:  # look at it now and then
            left_s = _LOOK_S if left_s is None else min(left_s, _LOOK_S)
        ready = dict(self._poll.poll(None if left_s is None else left_s * 1000 + 1))
        for fd in self._output:
            if fd in ready and not self.relay.move(fd) and ready[fd] & select.POLLHUP:
                self._poll.unregister(fd)
        if ready.get(self._status, 0) & select.POLLHUP:
            return True
        return any(fd in ready for fd in self._ends)

    def close(self) -> None:
        if self.follows:
            os.close(self._child_end)


def _confessed(output: str) -> int | None:
    """The signal that R says it has caught, where nobody else can tell."""
    for words, number in (
        ("*** caught segfault ***", signal.SIGSEGV),
        ("*** caught bus error ***", signal.SIGBUS),
        ("*** caught illegal operation ***", signal.SIGILL),
    ):
        if words in output:
            return int(number)
    return None
