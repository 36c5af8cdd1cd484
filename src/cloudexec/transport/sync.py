"""Carry operations out over keep-alive sockets, for threads.

Called by:  store and worker; account.py opens it.   Calls: conversation.py (decides), http1.py (reads), tls.py.
Threads:    each takes a connection of its own from the pool; one that was left idle is looked at before it is used.
Imports:    no ssl until the first https connection, no asyncio, no http.client: a worker's start pays for this file.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections import defaultdict
from time import monotonic
from types import TracebackType
from typing import Final, TypeVar

from cloudexec.errors import ConnectionLost
from cloudexec.transport.account import Account
from cloudexec.transport.conversation import Lost, Pause, Renew, Send, conversation
from cloudexec.transport.endpoints import Target
from cloudexec.transport.http1 import AnswerReader, BadAnswer
from cloudexec.transport.keepalive import keep_alive
from cloudexec.transport.operation import Buffer, Operation, Reply
from cloudexec.transport.retrying import RetryBudget, RetryPolicy

T = TypeVar("T")
_RECEIVE_BYTES: Final = 64 << 10
_JOINED_BYTES: Final = 64 << 10  # up to here a body is cheaper copied behind its head than sent apart
_MOST_VECTORS: Final = 512  # well under IOV_MAX
_LOOK_AFTER_S: Final = 0.2  # one that was used just now is rarely dead; if it is, the request goes over a new one
_forks = 0  # how many forks lie between the first process and this one


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class SyncClient:
    """Connections to AWS for one account. A fork makes it forget them: two processes cannot share a socket."""

    def __init__(
        self,
        account: Account,
        *,
        policy: RetryPolicy | None = None,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 60.0,
        most_idle: int = 64,
        fresh_idle_s: float = 20.0,
    ) -> None:
        self.account = account
        self._policy = policy or RetryPolicy()
        self._budget = RetryBudget()
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._most_idle = most_idle
        self._fresh_idle_s = fresh_idle_s
        self._closing = threading.Event()
        self._is_closed = False  # the same, without the price of asking an Event for each request
        self._idle: defaultdict[Target, list[_Connection]] = defaultdict(list)
        self._busy: set[_Connection] = set()
        self._forks = _forks

    def call(self, operation: Operation[T]) -> T:
        """See Client.call."""
        steps = conversation(operation, self.account, self._policy, self._budget)
        answer: object = None
        if self._is_closed:
            raise ConnectionLost(f"{operation.what}: the client was closed", False)
        try:
            while True:
                step = steps.send(answer)
                if type(step) is Send:
                    answer = self._exchange(step)
                elif type(step) is Renew:
                    answer = self.account.credentials.renew(step.refused)
                elif type(step) is Pause:
                    answer = None
                    self._closing.wait(step.seconds)
                if self._is_closed and type(answer) is not Reply:
                    ambiguous = type(answer) is Lost and answer.ambiguous
                    raise ConnectionLost(f"{operation.what}: the client was closed", ambiguous)
        except StopIteration as done:
            result: T = done.value
            return result

    def close(self) -> None:
        """See Client.close. A second time does nothing."""
        self._is_closed = True
        self._closing.set()
        for connection in list(self._busy):
            connection.interrupt()  # its thread closes it
        for connections in list(self._idle.values()):
            while connections:
                connections.pop().close()

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _exchange(self, step: Send) -> Reply | Lost:
        if self._forks != _forks:
            self._forget()
        idle = self._idle[step.target]
        try:
            connection = None if step.is_new else self._first_alive(idle, step.once)
            connection = connection or _connect(step.target, self.account.ca_bundle, self._connect_timeout_s)
        except OSError as error:
            return _not_connected(step.target, error)
        self._busy.add(connection)
        try:
            if self._is_closed:
                connection.close()
                return Lost("the client was closed", ambiguous=False)
            answer = connection.exchange(step, self._read_timeout_s)
            if connection.stays and len(idle) < self._most_idle:
                idle.append(connection)
            else:
                connection.close()
        except BaseException:
            connection.close()  # in mid-answer: nobody could make sense of the rest
            raise
        finally:
            self._busy.discard(connection)
        if self._is_closed:
            self.close()  # it may have missed the connection that has just become idle
        return answer

    def _first_alive(self, idle: list[_Connection], once: bool) -> _Connection | None:
        while True:
            try:
                connection = idle.pop()  # the one used last; another thread may have taken the one that we saw
            except IndexError:
                return None
            idle_s = monotonic() - connection.used_s
            if once and idle_s >= self._fresh_idle_s:
                connection.close()
            elif (idle_s < _LOOK_AFTER_S and not once) or not connection.is_stale():
                return connection
            else:
                connection.close()

    def _forget(self) -> None:
        """We are a child: close its copies of the sockets, which the parent goes on using."""
        inherited = [connection for connections in self._idle.values() for connection in connections]
        self._idle, self._busy, self._forks = defaultdict(list), set(), _forks
        for connection in inherited:
            connection.close()


class _Connection:
    """One socket, which carries one request at a time."""

    __slots__ = ("_is_tls", "_poll", "_socket", "_timeout_s", "_was_used", "stays", "used_s")

    def __init__(self, connected: socket.socket, is_tls: bool) -> None:
        self._socket = connected
        self._is_tls = is_tls
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN | select.POLLHUP | select.POLLERR)
        self._was_used = False
        self._timeout_s = -1.0
        self.stays = False
        self.used_s = 0.0

    def is_stale(self) -> bool:
        """Whether the other side has closed it, or sent what nobody asked for."""
        return bool(self._poll.poll(0))

    def close(self) -> None:
        self._socket.close()

    def interrupt(self) -> None:
        """Wake the thread that reads from it."""
        try:
            # Not SSLSocket.shutdown, which would take the TLS state away under the reading thread.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            pass  # it was about to be closed anyway

    def exchange(self, step: Send, timeout_s: float) -> Reply | Lost:
        """Send the request and read its answer; afterwards `stays` says whether the connection is good for more."""
        reader = AnswerReader(step.method)
        was_used, self._was_used, self.stays = self._was_used, True, False
        failure: OSError | None = None
        timeout_s += step.wait_s
        if timeout_s != self._timeout_s:
            self._set_timeout(timeout_s)
        try:
            self._send(step.head, step.pieces)
        except OSError as error:
            failure = error  # a service that refuses may answer and close before it has read everything
        try:
            self._read(reader)
        except (OSError, BadAnswer) as error:
            error = failure or error
            reason = str(error) or type(error).__name__
            if isinstance(error, (TimeoutError, BlockingIOError)):
                reason = f"no answer in {timeout_s:g} s"
            return Lost(reason, failure is None, was_idle=was_used and not reader.has_begun)
        self.stays = reader.stays and failure is None
        self.used_s = monotonic()
        return reader.reply()

    def _set_timeout(self, timeout_s: float) -> None:
        """Without TLS the kernel keeps the time: Python would ask it before each call whether the socket is ready."""
        self._timeout_s = timeout_s
        if self._is_tls:
            self._socket.settimeout(timeout_s)
            return
        self._socket.settimeout(None)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, _timeval(timeout_s))

    def _send(self, head: bytes, pieces: tuple[Buffer, ...]) -> None:
        if not pieces:
            self._socket.sendall(head)
            return
        if len(pieces) == 1 and len(pieces[0]) <= _JOINED_BYTES:
            self._socket.sendall(b"".join((head, pieces[0])))
        elif self._is_tls:
            for piece in (head, *pieces):
                self._socket.sendall(piece)
        else:
            _send_vectors(self._socket, [memoryview(piece).cast("B") for piece in (head, *pieces) if len(piece)])

    def _read(self, reader: AnswerReader) -> None:
        receive = self._socket.recv
        is_complete = False
        while not is_complete:
            room = reader.room()
            if room is None:
                data = receive(_RECEIVE_BYTES)
                is_complete = reader.feed(data) if data else _ended(reader)
            else:
                count = self._socket.recv_into(room)
                is_complete = reader.filled(count) if count else _ended(reader)


def _timeval(seconds: float) -> bytes:
    """C's `struct timeval`; at least a microsecond, because 0 means to wait forever."""
    micros = max(1, int(seconds * 1e6))
    return struct.pack("ll", micros // 1_000_000, micros % 1_000_000)


def _ended(reader: AnswerReader) -> bool:
    if reader.end():
        return True
    raise BadAnswer("the connection was closed in mid-answer" if reader.has_begun else "closed without an answer")


def _send_vectors(connected: socket.socket, buffers: list[memoryview]) -> None:
    """Head and pieces in as few system calls as the kernel allows, without a copy."""
    first = 0
    while first < len(buffers):
        sent = connected.sendmsg(buffers[first : first + _MOST_VECTORS])
        while first < len(buffers) and sent >= buffers[first].nbytes:
            sent -= buffers[first].nbytes
            first += 1
        if sent:
            buffers[first] = buffers[first][sent:]


def _connect(target: Target, ca_bundle: str, timeout_s: float) -> _Connection:
    connected = socket.create_connection((target.host, target.port), timeout=timeout_s)
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(connected)
        if target.is_tls:
            from cloudexec.transport.tls import shared_context

            connected = shared_context(ca_bundle).wrap_socket(connected, server_hostname=target.host)
    except BaseException:
        connected.close()
        raise
    return _Connection(connected, target.is_tls)


def _not_connected(target: Target, error: OSError) -> Lost:
    """The same sentence for every kind of failure; a certificate does not become better by asking again."""
    is_final = type(error).__name__ == "SSLCertVerificationError"
    return Lost(f"cannot connect to {target.host}:{target.port}: {error}", ambiguous=False, is_final=is_final)
