"""One execution environment: a process of the runtime, the Runtime API it talks to, one invocation at a time.

Called by:  pool.py, which makes and ends it; invoke.py and events.py, which have it run something.
Calls:      runtime_api.py, words.py, records.py; containers.py to kill what is left.
Threads:    none of its own. The thread that runs an invocation waits for everything at once: the runtime's
            connections, its output, its end.

  cold -> busy -> idle -> frozen        the process group is stopped while nothing is invoked
            ^______/________/           (frozen: SIGSTOP; SIGCONT comes with the next invocation)
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cloudexec.testing.pocket.server.awslambda import words
from cloudexec.testing.pocket.server.awslambda.functions import Function
from cloudexec.testing.pocket.server.awslambda.runtime_api import BASE, Connection, Said
from cloudexec.testing.pocket.server.containers import kill_marked, orphans_marked
from cloudexec.testing.pocket.server.memory import anonymous_bytes, descendants

OK: Final = b'{"status":"OK"}\n'
_ROUNDS: Final = 20  # of signals to everything in an environment
ANSWER_S: Final = 5.0  # a runtime that lives reads its answers
PIPE_BYTES: Final = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What an environment's process is started from."""

    argv: list[str]
    directory: Path  # of the process
    own: Path  # the environment's alone, TMPDIR in it; removed with it
    environment: dict[str, str] | None  # None: as it is in argv, for podman
    mark: str  # in the variables of everything it starts
    pidless: bool = False  # the processes are not ours to stop or measure: podman has them
    on_end: Callable[[], None] = lambda: None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One invocation to run."""

    request_id: str
    arn: str  # as it was invoked, with version or alias
    payload: bytes
    trace: str = ""
    client_context: str = ""  # JSON
    kill: str = ""  # a fault: "before", "mid-call", "after" or "idle"
    kill_after_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of an invocation."""

    payload: bytes
    error: str = ""  # "Unhandled": the function failed, in whatever way
    trouble: str = ""  # "timeout" or the platform's error type
    log_tail: bytes = field(repr=False, default=b"")


class Environment:
    """From the start of its process to the end of the last thing it has started."""

    def __init__(self, function: Function, stream_prefix: str, write: Callable[[str, str], None]) -> None:
        self.function = function
        self.id = uuid.uuid4().hex
        self.log_stream = f"{stream_prefix}{self.id}"
        self.lock = threading.Lock()  # over freezing, thawing and ending
        self.is_busy, self.is_frozen, self.is_over = True, False, False
        self.is_reserved = False  # runs within its function's reserved concurrency
        self.n_invocations = 0
        self.idle_since_s = 0.0
        self.peak_bytes = 0
        self.over_memory = False
        self._write = write
        self._launch: Launch | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self._epoll = select.epoll()
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._pidfd = self._pipe = -1
        self._waiting: Connection | None = None  # asks for the next invocation
        self._told: deque[tuple[Connection, Said]] = deque()
        self._gone = False  # the process has ended, or has been killed
        self._partial = b""
        self._tail = bytearray()

    # --- from outside --------------------------------------------------------------------------

    @property
    def api(self) -> str:
        """Host and port of the Runtime API."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def pid(self) -> int | None:
        """The runtime's process; None before its start."""
        return self._process.pid if self._process else None

    @property
    def state(self) -> str:
        """cold, busy, idle or frozen."""
        if self.is_busy:
            return "busy" if self.n_invocations else "cold"
        return "frozen" if self.is_frozen else "idle"

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return not self.is_over and self._process is not None and self._process.poll() is None

    @property
    def can_freeze(self) -> bool:
        """Whether its processes are there to be stopped."""
        return not self.is_frozen and self._launch is not None and not self._launch.pidless

    @property
    def memory_limit_bytes(self) -> int | None:
        """Above it the environment is killed; None where podman enforces it."""
        measured = self._launch is not None and not self._launch.pidless
        return self.function.memory_mb * 1024 * 1024 if measured else None

    # --- life ----------------------------------------------------------------------------------

    def start(self, launch: Launch) -> None:
        """Start the runtime; OSError if its program cannot be started."""
        self._launch = launch
        self._gone = False
        self._process = subprocess.Popen(
            launch.argv,
            env=launch.environment,
            cwd=launch.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        self._pidfd = os.pidfd_open(self._process.pid)
        for descriptor in (self._pipe, self._pidfd):
            self._epoll.register(descriptor, select.EPOLLIN)

    def claim(self) -> bool:
        """Take an idle environment for an invocation, or for its end; False if it is not to be had."""
        with self.lock:
            if self.is_busy or not self.is_alive:
                return False
            self.is_busy = True
            return True

    def rest(self) -> None:
        """Nothing is invoked any more."""
        with self.lock:
            self.idle_since_s = time.monotonic()
            self.is_busy = False

    def freeze(self) -> None:
        """Stop everything in it, if nothing is invoked meanwhile."""
        with self.lock:
            if self.can_freeze and not (self.is_busy or self.is_over):
                self._drain()
                self._signal_all(signal.SIGSTOP)
                self.is_frozen = True

    def thaw(self) -> None:
        """Let everything run again."""
        with self.lock:
            if self.is_frozen and not self.is_over:
                self._signal_all(signal.SIGCONT)
            self.is_frozen = False

    def _signal_all(self, number: signal.Signals) -> None:
        if self._launch is None or self._launch.pidless or self._process is None or self._process.poll() is not None:
            return
        known: set[int] = set()
        # Who is listed while siblings come and go may be missed, and whoever is not stopped yet may fork.
        for _ in range(_ROUNDS):
            found = self._family() - known
            if not found:
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            for pid in found:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
            known |= found

    def _family(self) -> set[int]:
        """Everything that came from the leader; orphans are the server's by now, and known by their mark."""
        assert self._launch is not None
        assert self._process is not None
        orphans = orphans_marked(self._launch.mark, self._process.pid)
        return {*descendants(self._process.pid), *(pid for orphan in orphans for pid in descendants(orphan))}

    def kill(self) -> None:
        """SIGKILL to everything in it; whoever runs an invocation sees the process end."""
        self._signal_all(signal.SIGKILL)
        if self._launch is not None and self._launch.pidless:
            self._launch.on_end()

    def end(self) -> None:
        """Kill what is left and give everything back."""
        with self.lock:
            if self.is_over:
                return
            self.is_over = True
            self._end_process()
            if self._process is None and self._launch is not None:
                self._launch.on_end()  # it could not be started
            for connection in self._connections.values():
                connection.sock.close()
            self._epoll.close()
            self._listener.close()

    def _end_process(self) -> None:
        """The runtime and whatever came from it are gone when this returns."""
        if self._process is None or self._launch is None:
            return
        family = [] if self._launch.pidless else descendants(self._process.pid)
        self.kill()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # the leader may be gone, and others of its group not
        self._process.wait()
        kill_marked(self._launch.mark)  # what was forked in between, or left its parent before
        for pid in family[1:]:  # the server adopts orphans, see containers.adopt_orphans
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-self._process.pid, 0):
                pass
        self._drain()
        for descriptor in (self._pipe, self._pidfd):
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)
        os.close(self._pidfd)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._pipe = self._pidfd = -1
        self._launch.on_end()

    # --- one invocation ------------------------------------------------------------------------

    def run(self, job: Job, *, init_limit_s: float, executed: Callable[[], None]) -> Outcome | None:
        """Run one invocation; the environment may be over afterwards.

        None: the runtime had ended while nothing was invoked, so the invocation is for another environment.
        """
        self._tail.clear()
        self.peak_bytes = 0
        self.over_memory = False
        self.thaw()
        init_s = None
        began_s = time.monotonic()
        if self.n_invocations == 0:
            self._line(words.init_start(self.function.runtime))
            failed = self._await_init(job, init_limit_s)
            init_s = time.monotonic() - began_s
            if failed is not None:
                return self._finish(job, failed, began_s, None)
            began_s = time.monotonic()
        elif self._until(self._is_ready, began_s + self.function.timeout_s) == "exit":
            self.end()
            return None
        self.n_invocations += 1
        self._line(words.start_line(job.request_id, self.function.version))
        outcome = self._attempt(job, began_s + self.function.timeout_s, executed)
        return self._finish(job, outcome, began_s, init_s)

    def _await_init(self, job: Job, limit_s: float) -> Outcome | None:
        """Wait until the runtime asks for work; the outcome if it does not get there.

        An init phase that is too long is begun anew within the function's own time.
        """
        began_s = time.monotonic()
        if self._until(self._is_ready, began_s + limit_s) == "timeout":
            self._line(words.init_report(time.monotonic() - began_s, "timeout"))
            assert self._launch is not None
            launch = self._launch
            self._restart(launch)
            began_s = time.monotonic()
            if self._until(self._is_ready, began_s + self.function.timeout_s) == "timeout":
                return self._timed_out(job)
        if self._waiting is not None:
            return None
        body = self._init_error()
        kind = "Runtime.ExitError" if body is None else words.init_error_type(body)
        self._line(words.init_report(time.monotonic() - began_s, "error", kind))
        self._line(words.start_line(job.request_id, self.function.version))
        if body is None:
            return self._exited(job)
        return Outcome(payload=words.init_error_payload(body, job.request_id), error="Unhandled", trouble=kind)

    def _restart(self, launch: Launch) -> None:
        on_end = launch.on_end
        self._launch = Launch(**{**launch.__dict__, "on_end": lambda: None})  # its directory is needed again
        self._end_process()
        for connection in self._connections.values():
            self._forget(connection)
        self._connections.clear()
        self._told.clear()
        self._waiting = None
        self.start(Launch(**{**launch.__dict__, "on_end": on_end}))

    def _is_ready(self) -> bool:
        for connection, said in self._told:
            if said.path.startswith(f"{BASE}init/error"):
                return True
            if said.path == f"{BASE}invocation/next" and connection in self._connections.values():
                self._waiting = connection
        if self._waiting is not None:
            self._told.clear()
        return self._waiting is not None

    def _init_error(self) -> bytes | None:
        for connection, said in self._told:
            if said.path.startswith(f"{BASE}init/error"):
                connection.answer(202, OK, {}, ANSWER_S)
                return said.body
        return None

    def _attempt(self, job: Job, deadline_s: float, executed: Callable[[], None]) -> Outcome:
        if job.kill == "before":
            self.kill()
            self._until(lambda: False, deadline_s)
            return self._exited(job)
        if self._waiting is None:  # something still runs that keeps it from asking
            return self._timed_out(job)
        waiting, self._waiting = self._waiting, None
        if waiting.answer(200, job.payload, self._next_headers(job, deadline_s), deadline_s - time.monotonic()):
            executed()
        return self._await_answer(job, deadline_s)

    def _next_headers(self, job: Job, deadline_s: float) -> dict[str, str]:
        deadline_ms = int((time.time() + deadline_s - time.monotonic()) * 1000)
        headers = {
            "Lambda-Runtime-Aws-Request-Id": job.request_id,
            "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": job.arn,
            "Lambda-Runtime-Trace-Id": job.trace,
        }
        return {**headers, "Lambda-Runtime-Client-Context": job.client_context} if job.client_context else headers

    def _await_answer(self, job: Job, deadline_s: float) -> Outcome:
        if job.kill == "mid-call":
            self._until(lambda: False, min(deadline_s, time.monotonic() + job.kill_after_s))
            self.kill()
        why = self._until(lambda: self._answered(job), deadline_s)
        if why == "timeout":
            return self._timed_out(job)
        if why == "exit" or job.kill in ("after", "mid-call"):
            self.kill()
            self._until(lambda: False, deadline_s)
            return self._exited(job)
        connection, said = self._told.popleft()
        if len(said.body) > words.MOST_ANSWER_BYTES:
            refused = b'{"errorMessage":"Exceeded maximum allowed payload size.","errorType":"RequestEntityTooLarge"}'
            connection.answer(413, refused, {}, ANSWER_S)
            trouble = "Function.ResponseSizeTooLarge"
            return Outcome(payload=words.too_large_payload(len(said.body)), error="Unhandled", trouble=trouble)
        connection.answer(202, OK, {}, ANSWER_S)
        if job.kill == "idle":
            self.kill()
            self._until(lambda: False, time.monotonic() + ANSWER_S)
        if said.path.endswith("/error"):
            return Outcome(payload=said.body, error="Unhandled")
        return Outcome(payload=said.body)

    def _answered(self, job: Job) -> bool:
        """Whether the answer to this invocation stands first; all else is refused."""
        while self._told:
            connection, said = self._told[0]
            if said.path in (
                f"{BASE}invocation/{job.request_id}/response",
                f"{BASE}invocation/{job.request_id}/error",
            ):
                return True
            self._told.popleft()
            refused = b'{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}'
            connection.answer(400 if said.path.startswith(BASE) else 404, refused, {}, ANSWER_S)
        return False

    def _timed_out(self, job: Job) -> Outcome:
        self._drain()
        self._line(words.timeout_line(job.request_id, self.function.timeout_s, time.time()))
        text = words.timeout_words(self.function.timeout_s)
        payload = words.error_payload("Sandbox.Timedout", text, job.request_id)
        return Outcome(payload=payload, error="Unhandled", trouble="timeout")

    def _exited(self, job: Job) -> Outcome:
        assert self._process is not None
        self._drain()
        text = words.exit_words(self._process.wait())
        self._line(f"RequestId: {job.request_id} Error: {text}")
        self._line("Runtime.ExitError")
        payload = words.error_payload("Runtime.ExitError", text, job.request_id)
        trouble = "Runtime.OutOfMemory" if self.over_memory else "Runtime.ExitError"  # in the REPORT line alone
        return Outcome(payload=payload, error="Unhandled", trouble=trouble)

    def _finish(self, job: Job, outcome: Outcome, began_s: float, init_s: float | None) -> Outcome:
        duration_s = time.monotonic() - began_s
        self._drain()
        if self._partial:
            partial, self._partial = self._partial, b""
            self._line(partial.decode("utf-8", "replace"))
        used_mb = self._used_mb()
        if outcome.trouble:
            self.end()
        self._line(words.end_line(job.request_id))
        report = words.report_line(
            job.request_id,
            duration_s=duration_s,
            init_s=init_s,
            memory_mb=self.function.memory_mb,
            used_mb=used_mb,
            trouble=outcome.trouble,
        )
        self._line(report)
        return Outcome(
            payload=outcome.payload,
            error=outcome.error,
            trouble=outcome.trouble,
            log_tail=bytes(self._tail[-words.TAIL_BYTES :]),
        )

    def _used_mb(self) -> int:
        """The most memory that was seen; the limit when that was the reason to kill it."""
        if self.over_memory:
            return self.function.memory_mb
        now_bytes = anonymous_bytes(self.pid) if self.pid and not self._gone else 0
        return min(self.function.memory_mb, max(1, (max(self.peak_bytes, now_bytes) + (1 << 20) - 1) >> 20))

    # --- waiting -------------------------------------------------------------------------------

    def _until(self, done: Callable[[], bool], deadline_s: float) -> str:
        """Wait; "" when it is done, "exit" when the process has ended, "timeout" when the time is over."""
        while not done():
            if self._gone:
                return "exit"
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return "timeout"
            self._turn(left_s)
        return ""

    def _turn(self, timeout_s: float) -> None:
        """Wait for something to happen, and take it in."""
        ready = [descriptor for descriptor, _ in self._epoll.poll(timeout_s)]
        for descriptor in ready:
            if descriptor == self._pipe:
                self._read_output()
            elif descriptor == self._listener.fileno():
                self._accept()
            elif descriptor in self._connections:
                self._receive(self._connections[descriptor])
        if self._pidfd in ready:  # last: what it said before its end counts
            self._gone = True

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        self._connections[sock.fileno()] = Connection(sock)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _receive(self, connection: Connection) -> None:
        is_open = connection.receive()
        while (said := connection.take()) is not None:
            self._told.append((connection, said))
        if not is_open:
            self._connections.pop(connection.sock.fileno())
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        self._epoll.unregister(connection.sock.fileno())
        connection.sock.close()
        if self._waiting is connection:
            self._waiting = None

    # --- output --------------------------------------------------------------------------------

    def _read_output(self) -> bool:
        """Take what the process has written; False when nothing is there."""
        try:
            data = os.read(self._pipe, PIPE_BYTES)
        except OSError:  # nothing there now
            return False
        if not data:
            with contextlib.suppress(OSError):
                self._epoll.unregister(self._pipe)  # all writers are gone: it would be ready for ever
            return False
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "replace"))
        return True

    def _drain(self) -> None:
        while self._pipe >= 0 and self._read_output():
            pass

    def _line(self, line: str) -> None:
        self._tail += line.encode() + b"\n"
        if len(self._tail) > 16 * words.TAIL_BYTES:
            del self._tail[: -words.TAIL_BYTES]
        self._write(self.log_stream, line)
