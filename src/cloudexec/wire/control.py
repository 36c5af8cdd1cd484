"""What a client and its local worker say to each other about slots.

Called by: worker/host (client) and worker/supervisor.   Calls: nothing of ours but errors.
Layout:    one JSON array a line on a Unix stream socket, [name, field, ...]; the four feeder's ends of a new
           lane travel beside SlotUp as file descriptors, the worker's bell beside its
           first Pong. Nothing here is ever unpickled.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from cloudexec.errors import WireError

FDS_PER_LANE: Final = 4
_CLOEXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # Linux; elsewhere they are marked on arrival


class Setup(NamedTuple):
    """First message to a worker: all that its slots need to know. Bytes travel as base64 or hex text.

    store_roots: directories, which are removed when the client dies. store: where blobs lie if not only there; see
    worker/stores.py. log_as: the run whose calls' output goes to the worker's log; empty: none does.
    """

    run_id: str
    worker_id: str
    key_hex: str
    client_pid: int
    store_roots: list[str]
    python_path: list[str]
    python_version: str
    max_tasks_per_child: int
    initializer: str
    inline_bytes: int
    store: Mapping[str, str] = {}
    log_as: str = ""


class WantSlots(NamedTuple):
    """Have this many slots."""

    n_slots: int


class KillCall(NamedTuple):
    """Kill the slot if it is still running this call."""

    slot: int
    number: int


class Ping(NamedTuple):
    """Answer if you are alive."""

    token: int


class Stop(NamedTuple):
    """End: idle slots leave by themselves within `grace_s` seconds, then all are killed."""

    grace_s: float


class SlotUp(NamedTuple):
    """A slot is there; its lane's descriptors come with this message."""

    slot: int
    pid: int


class SlotDown(NamedTuple):
    """A slot's process has ended. `exitcode` is negative for a signal; `killed_call` is the call that we killed it
    for, `running_call` the one that it was in; 0 for none. `last_words` is the end of its stderr. `why` is one of the
    words in `DownCause`."""

    slot: int
    pid: int
    exitcode: int
    why: str
    killed_call: int
    running_call: int
    last_words: str


class Pong(NamedTuple):
    """Answer to a Ping."""

    token: int


class CannotFork(NamedTuple):
    """The worker could not start a slot."""

    slot: int
    reason: str


class DownCause:
    """Why a slot ended."""

    RETIRED = "retired"  # it has done its max_tasks_per_child
    TIMEOUT = "timeout"  # we killed it: the call's timeout_s was over
    DEADLINE = "deadline"  # we killed it: the time of the Lambda function is over
    STOPPED = "stopped"  # we killed it: the client asked
    FROZEN = "frozen"  # we killed it: somebody had suspended it (SIGSTOP)
    OUT_OF_MEMORY = "oom"  # the kernel killed it
    DIED = "died"  # it ended by itself or by somebody else's signal
    LOST = "lost"  # its supervisor had died
    CROWDED = "crowded"  # no slot ended: a call's result did not fit into the answer beside those of others


Message = Setup | WantSlots | KillCall | Ping | Stop | SlotUp | SlotDown | Pong | CannotFork
_TYPES: Final = {
    kind.__name__: kind for kind in (Setup, WantSlots, KillCall, Ping, Stop, SlotUp, SlotDown, Pong, CannotFork)
}


class ControlSocket:
    """One end of the control channel."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        self._fds: deque[int] = deque()

    def fileno(self) -> int:
        """For polling."""
        return self._sock.fileno()

    def send(self, message: Message, fds: list[int] | None = None) -> bool:
        """Send a message; False when the other end is gone."""
        data = json.dumps([type(message).__name__, *message]).encode() + b"\n"
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            sent = self._sock.sendmsg([data], ancillary)
            self._sock.sendall(data[sent:])
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def receive(self) -> list[Message] | None:
        """The messages that one read completes (maybe none); None when the other end is gone."""
        room = socket.CMSG_SPACE(64 * array.array("i").itemsize)
        try:
            data, ancillary, _flags, _addr = self._sock.recvmsg(1 << 16, room, _CLOEXEC)
        except ConnectionResetError:
            return None
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i", payload[: len(payload) // 4 * 4])
                for fd in fds:
                    os.set_inheritable(fd, False)
                self._fds.extend(fds)
        if not data:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [_parse(line) for line in lines]

    def take_fds(self, count: int) -> list[int]:
        """The oldest descriptors that came and were not taken yet: a message tells how many came with it."""
        return [self._fds.popleft() for _ in range(count)]

    def close(self) -> None:
        """Close this end."""
        self._sock.close()


def _parse(line: bytes) -> Message:
    try:
        name, *fields = json.loads(line)
        return _TYPES[name](*fields)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise WireError(f"a control message of {len(line)} bytes is damaged: {error!r}") from None
