"""The conversation with one R session: lets it in, does what it asks, ends with it.

Called by: __main__.py.   Calls: frames.py, settings.py, loops.py, outcomes.py.
One thread: it waits for R's next frame and for the ends of tasks at once. R sends a request only after it has read the
answer to the one before; therefore neither side can block the other by writing. (TASK and QUIT have no answer.)
"""

from __future__ import annotations

import hmac
import os
import selectors
import socket
import time
from collections.abc import Callable
from typing import Final

from cloudexec.adapters.foreach.frames import Frame, encode, read
from cloudexec.adapters.foreach.loops import Loop
from cloudexec.adapters.foreach.outcomes import classes_of
from cloudexec.adapters.foreach.settings import loop_options, open_executor
from cloudexec.errors import WireError
from cloudexec.executors.base import CloudExecutor

_LOOK_S: Final = 2.0  # how often to see whether R lives: what R has forked may keep the connection open
_GREETING_S: Final = 5.0
_GREETING_BYTES: Final = 512


class Gone(Exception):
    """R has left."""


def let_in(listener: socket.socket, token: str, is_wanted: Callable[[], bool]) -> socket.socket:
    """The first connection that shows the token; others are closed unanswered. Errors: Gone."""
    listener.settimeout(_LOOK_S)
    while is_wanted():
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        connection.settimeout(_GREETING_S)
        try:
            frame = read(_taker(connection), _GREETING_BYTES)
        except (WireError, Gone, OSError):
            connection.close()
            continue
        if frame.kind == "HELO" and hmac.compare_digest(b"".join(frame.parts), token.encode()):
            connection.settimeout(None)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        connection.close()
    raise Gone


class Conversation:
    """Serves one R session until it ends. is_wanted: whether that session lives."""

    def __init__(self, connection: socket.socket, is_wanted: Callable[[], bool]) -> None:
        self._connection = connection
        self._take = _taker(connection)
        self._is_wanted = is_wanted
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_in.setblocking(False)
        self._executor: CloudExecutor | None = None
        self._loops: dict[int, Loop] = {}
        self._waiting: tuple[int, Loop] | None = None  # a NEXT that has no answer yet
        self._handlers: dict[str, Callable[[Frame], None]] = {
            "OPEN": self._open,
            "LOOP": self._begin_loop,
            "TASK": self._submit,
            "NEXT": self._next,
            "DROP": self._drop,
            "QUIT": self._leave,
        }

    def serve(self) -> None:
        """Answer until R leaves; then stop everything that it has asked for."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ)
            selector.register(self._wake_out, selectors.EVENT_READ)
            try:
                while self._is_wanted():
                    ready = {key.fileobj for key, _ in selector.select(_LOOK_S)}
                    if self._wake_out in ready:
                        self._wake_out.recv(4096)
                        self._answer_waiting()
                    if self._connection in ready:
                        self._handle(read(self._take))
            except (Gone, ConnectionError):
                pass
            finally:
                self._end()

    def _handle(self, frame: Frame) -> None:
        handler = self._handlers.get(frame.kind)
        if handler is None:
            raise WireError(f"nobody here understands a {frame.kind} frame")
        try:
            handler(frame)
        except (Gone, OSError, WireError):
            raise
        except Exception as error:  # whatever it is, R waits for an answer
            self._say("FAIL", [frame.number(0), str(error), "\n".join(classes_of(error))])

    def _open(self, frame: Frame) -> None:
        """OPEN number, kind, settings -> GOOD number, max_workers, run."""
        if self._executor is not None:
            raise WireError("OPEN came twice")
        self._executor = open_executor(frame.text(1), frame.text(2))
        self._say("GOOD", [frame.number(0), self._executor.max_workers, self._executor.run.id])

    def _begin_loop(self, frame: Frame) -> None:
        """LOOP number, common, packages, options -> GOOD number. The loop has the request's number."""
        packages = tuple(frame.text(2).split("\n")) if frame.text(2) else ()
        options = loop_options(frame.text(3))
        if self._executor is None:
            raise WireError("LOOP came before OPEN")
        self._loops[frame.number(0)] = Loop(self._executor, frame.parts[1], packages, options, self._wake)
        self._say("GOOD", [frame.number(0)])

    def _submit(self, frame: Frame) -> None:
        """TASK number, loop, number of the first task, arguments of each. No answer."""
        loop, first = self._loops[frame.number(1)], frame.number(2)
        for number, args in enumerate(frame.parts[3:], start=first):
            loop.submit(number, args)

    def _next(self, frame: Frame) -> None:
        """NEXT number, loop -> GOOD number, outcomes (at least one while the loop is not over)."""
        self._waiting = (frame.number(0), self._loops[frame.number(1)])
        self._answer_waiting()

    def _answer_waiting(self) -> None:
        if self._waiting is None:
            return
        number, loop = self._waiting
        outcomes = loop.ended()
        if outcomes or loop.is_over():
            self._waiting = None
            self._say("GOOD", [number, *(part for outcome in outcomes for part in outcome.parts())])

    def _drop(self, frame: Frame) -> None:
        """DROP number, loop -> GOOD number. What is left of the loop is stopped, and it is forgotten."""
        self._waiting = None
        loop = self._loops.pop(frame.number(1), None)
        if loop is not None:
            loop.drop()
        self._say("GOOD", [frame.number(0)])

    def _leave(self, frame: Frame) -> None:
        raise Gone

    def _say(self, kind: str, parts: list[bytes | str | int]) -> None:
        for piece in encode(kind, parts):
            self._connection.sendall(piece)

    def _wake(self) -> None:
        try:
            self._wake_in.send(b".")
        except OSError:  # full, so it will wake up anyway; or closed, so nobody is interested
            pass

    def _end(self) -> None:
        self._connection.close()
        if self._executor is not None:
            self._executor.terminate_workers()
            self._executor.shutdown(wait=True)


def _taker(connection: socket.socket) -> Callable[[int], bytes]:
    """`take(n)` for frames.read. Errors: Gone at the connection's end."""

    def take(n_bytes: int) -> bytes:
        taken = bytearray(n_bytes)
        view, done = memoryview(taken), 0
        while done < n_bytes:
            got = connection.recv_into(view[done:])
            if not got:
                raise Gone
            done += got
        view.release()
        return bytes(taken)

    return take


def lives(pid: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def wanted(pid: int, patience_s: float) -> Callable[[], bool]:
    """Whether R lives and has not let us wait too long."""
    until_s = time.monotonic() + patience_s
    return lambda: lives(pid) and time.monotonic() < until_s
