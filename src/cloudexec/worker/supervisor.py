"""Starts slots, watches over them, kills them. Runs no code of the user's, so that it cannot break.

Called by: __main__.py.   Calls: slot.py after each fork; wire.control to talk with the client.
It waits on: the client's messages, SIGCHLD, pokes of slots with a deadline, the client's life, its own timers.

    slot's life:  forked -> (runs calls) -> ended by itself | killed (timeout, stop, frozen) -> reported
A suspended slot (SIGSTOP) is killed after FROZEN_GRACE_S. When the client goes, everything is killed,
and what it left in the store is removed.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import signal
import socket
import sys
import time
from typing import Final, NoReturn

from cloudexec.wire.control import (
    CannotFork,
    ControlSocket,
    DownCause,
    KillCall,
    Message,
    Ping,
    Pong,
    Setup,
    SlotDown,
    SlotUp,
    Stop,
    WantSlots,
)
from cloudexec.wire.envelope import Seal
from cloudexec.wire.lane import SlotLane, widen
from cloudexec.worker.capture import last_words
from cloudexec.worker.printing import OutputLog
from cloudexec.worker.slot import POKE, SlotSettings, run_slot
from cloudexec.worker.status import NEVER, Status
from cloudexec.worker.stores import S3, import_ahead
from cloudexec.worker.system import (
    OomCounter,
    die_with_parent,
    high_descriptor,
    kill_group,
    nameless_file,
    watch_process,
)

FROZEN_GRACE_S: Final = 2.0
CLIENT_END_S: Final = 2.0


class _Slot:
    """What the supervisor knows of a slot's process."""

    def __init__(self, number: int, pid: int, status: Status, stderr: int) -> None:
        self.number = number
        self.pid = pid
        self.status = status
        self.stderr = stderr
        self.killed_call = 0
        self.why = DownCause.DIED
        self.frozen_since = NEVER

    def kill(self, why: str, call: int = 0) -> None:
        """Kill it with everything that it started."""
        self.why, self.killed_call = why, call
        kill_group(self.pid)


class Supervisor:
    """One worker: serves a client until that stops it or dies."""

    def __init__(self, control: ControlSocket, setup: Setup, log_fd: int = -1) -> None:
        self._control = control
        self._output = OutputLog(log_fd, setup.log_as) if log_fd >= 0 and setup.log_as else None
        self._seal = Seal(bytes.fromhex(setup.key_hex))
        self._setup = setup
        self._slots: dict[int, _Slot] = {}
        self._wanted = 0
        self._stop_at = NEVER
        self._oom = OomCounter()
        self._bell_in, self._bell_out = os.pipe()
        self._poke_in, self._poke_out = os.pipe()
        self._child_in, self._child_out = os.pipe()
        self._client = watch_process(setup.client_pid)
        for fd in (self._poke_in, self._child_in, self._child_out):
            os.set_blocking(fd, False)

    @property
    def bell(self) -> int:
        """Where slots ring; the client reads it."""
        return self._bell_in

    def run(self, messages: list[Message]) -> None:
        """Serve until the end, beginning with `messages`; all slots are dead afterwards."""
        signal.set_wakeup_fd(self._child_out)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        poll = select.poll()
        for fd in (self._control.fileno(), self._poke_in, self._child_in, self._client):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        try:
            for message in messages:
                self._obey(message)
            while self._step(dict(poll.poll(self._wait_ms()))):
                pass
        finally:
            self._kill_all()
            if self._stop_at == NEVER and self._client_is_dead():
                self._remove_files()

    def _step(self, ready: dict[int, int]) -> bool:
        """Serve what is ready; False at the end."""
        if self._client in ready:
            return False
        if self._child_in in ready:
            _drain(self._child_in)
            self._reap()
        if self._poke_in in ready:
            _drain(self._poke_in)
        if self._control.fileno() in ready:
            messages = self._control.receive()
            if messages is None:
                return False
            for message in messages:
                self._obey(message)
        self._keep_time(time.monotonic())
        return self._stop_at == NEVER or (bool(self._slots) and time.monotonic() < self._stop_at)

    def _obey(self, message: Message) -> None:
        if isinstance(message, WantSlots):
            self._wanted = message.n_slots
            self._fill_up()
        elif isinstance(message, KillCall):
            self._kill_call(message.slot, message.number)
        elif isinstance(message, Ping):
            self._control.send(Pong(message.token))
        elif isinstance(message, Stop):
            self._wanted = 0
            self._stop_at = time.monotonic() + message.grace_s

    def _kill_call(self, number: int, call: int) -> None:
        slot = self._slots.get(number)
        if slot is not None and slot.status.number == call:
            slot.kill(DownCause.STOPPED, call)

    # --- time ---

    def _wait_ms(self) -> float | None:
        wake = min(
            self._stop_at,
            min((slot.status.armed for slot in self._slots.values()), default=NEVER),
            min((slot.frozen_since + FROZEN_GRACE_S for slot in self._slots.values()), default=NEVER),
        )
        return None if wake == NEVER else max(0.0, (wake - time.monotonic()) * 1000 + 1)

    def _keep_time(self, now: float) -> None:
        """Kill what is over its deadline or suspended; note when to look again."""
        for slot in self._slots.values():
            slot.status.armed = NEVER  # first: a call that starts from here on pokes us
            call, deadline = slot.status.number, slot.status.deadline
            if call and deadline <= now and slot.status.number == call:
                slot.kill(DownCause.TIMEOUT, call)
            elif slot.frozen_since + FROZEN_GRACE_S <= now:
                slot.kill(DownCause.FROZEN)
                slot.frozen_since = NEVER
            elif call and deadline > now:
                slot.status.armed = deadline
            elif slot.status.leave_by <= now:
                kill_group(slot.pid)
            else:
                slot.status.armed = slot.status.leave_by

    # --- processes ---

    def _fill_up(self) -> None:
        for number in range(self._wanted):
            if number not in self._slots:
                self._start(number)

    def _start(self, number: int) -> None:
        status, stderr = Status(), nameless_file()
        work, tokens, out = (os.pipe() for _ in range(3))
        widen(work[1])
        widen(out[1])
        try:
            pid = os.fork()
        except OSError as error:
            self._control.send(CannotFork(number, str(error)))
            for fd in (*work, *tokens, *out, stderr):
                os.close(fd)
            return
        if not pid:
            for fd in (work[1], tokens[1], out[0]):
                os.close(fd)
            self._become_slot(number, status, work[0], tokens[0], out[1], stderr)
        self._slots[number] = _Slot(number, pid, status, stderr)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # the child does it too; whoever comes first
        self._control.send(SlotUp(number, pid), [work[1], tokens[0], tokens[1], out[0]])
        for fd in (*work, *tokens, *out):
            os.close(fd)

    def _become_slot(self, number: int, status: Status, work: int, tokens: int, out: int, stderr: int) -> NoReturn:
        """The child's side of the fork."""
        exitcode = 1
        try:
            parent = os.getppid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setpgid(0, 0)
            die_with_parent(parent)
            poke = self._poke_out
            for fd in (self._control.fileno(), self._bell_in, self._poke_in, self._child_in, self._child_out):
                os.close(fd)
            if self._client >= 0:
                os.close(self._client)
            lane = SlotLane(self._seal, work=work, tokens=tokens, out=out, bell=self._bell_out, number=number)
            run_slot(self._settings(number, stderr), lane, status, lambda note: os.write(poke, note))
        except (EOFError, BrokenPipeError):
            exitcode = 0  # the feeder has gone
        finally:
            if exitcode:
                sys.excepthook(*sys.exc_info())
            os._exit(exitcode)

    def _settings(self, number: int, stderr: int) -> SlotSettings:
        setup = self._setup
        return SlotSettings(
            number,
            setup.store_roots,
            setup.inline_bytes,
            setup.max_tasks_per_child,
            base64.b64decode(setup.initializer),
            stderr,
            setup.store,
            self._output,
        )

    def _reap(self) -> None:
        """Look at every child that ended, was suspended, or goes on."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if not pid:
                return
            slot = next((slot for slot in self._slots.values() if slot.pid == pid), None)
            if slot is None:
                continue
            if os.WIFSTOPPED(status):
                slot.frozen_since = time.monotonic()
            elif os.WIFCONTINUED(status):
                slot.frozen_since = NEVER
            else:
                self._bury(slot, os.waitstatus_to_exitcode(status))

    def _bury(self, slot: _Slot, exitcode: int) -> None:
        kill_group(slot.pid)  # what it started and left behind
        del self._slots[slot.number]
        why = slot.why
        if why == DownCause.DIED and slot.status.leave_by != NEVER:  # all its calls are over, whatever it died of
            why = DownCause.RETIRED
        elif why == DownCause.DIED and exitcode == -signal.SIGKILL and self._oom.has_risen():
            why = DownCause.OUT_OF_MEMORY
        words = last_words(slot.stderr)
        os.close(slot.stderr)
        if words and slot.status.number and self._output is not None:
            self._output.tell(slot.status.number, b"", words.encode())
        self._control.send(SlotDown(slot.number, slot.pid, exitcode, why, slot.killed_call, slot.status.number, words))

    def _client_is_dead(self) -> bool:
        """Whether the client's process has ended; it closes its files a moment before."""
        if self._client >= 0:
            return bool(select.select([self._client], [], [], CLIENT_END_S)[0])
        try:
            os.kill(self._setup.client_pid, 0)
        except ProcessLookupError:
            return True
        return False

    def _remove_files(self) -> None:
        """What the client would have removed."""
        import shutil

        for root in self._setup.store_roots:
            shutil.rmtree(root, ignore_errors=True)

    def _kill_all(self) -> None:
        for slot in self._slots.values():
            kill_group(slot.pid)
        for slot in self._slots.values():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(slot.pid, 0)


def serve(control_fd: int, *, with_bucket: bool = False, log_fd: int = -1) -> int:
    """Be a worker for the client at the other end of a Unix socket; the exit code. `with_bucket`: its Setup may take
    a while, and is likely to name a bucket. log_fd: where the Setup may have output of calls written to."""
    control = ControlSocket(socket.socket(fileno=control_fd))
    if with_bucket:
        import_ahead({"kind": S3})
    messages = _receive_some(control)
    if not messages or not isinstance(setup := messages.pop(0), Setup):
        return 0
    ours = "{}.{}".format(*sys.version_info[:2])
    if setup.python_version != ours:
        print(f"VersionMismatch: client has Python {setup.python_version}, worker {ours}", file=sys.stderr)
        return 3
    sys.path[:] = setup.python_path
    import_ahead(setup.store)
    supervisor = Supervisor(control, setup, high_descriptor(log_fd) if log_fd >= 0 else -1)
    control.send(Pong(0), [supervisor.bell])
    supervisor.run(messages)
    return 0


def _receive_some(control: ControlSocket) -> list[Message]:
    """The first messages; none when the client is gone."""
    while (messages := control.receive()) is not None:
        if messages:
            return messages
    return []


def _drain(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while len(os.read(fd, 4096)) == 4096:
            pass


assert POKE.size <= select.PIPE_BUF  # pokes and bells are written in one piece
