"""Carry operations out on an event loop: many requests in flight on one thread.

Called by:  backends (the engine's side); account.py opens it.
Calls:      conversation.py (decides), http1.py (reads), tls.py.
Bound:      at most `max_connections` at once; who comes later waits in line. A long poll occupies one while it waits.
Cancelling: a cancelled call closes its connection, since nobody will read the answer.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from time import monotonic
from types import TracebackType
from typing import Any, Final, TypeVar

from cloudexec.errors import ConnectionLost
from cloudexec.transport.account import Account
from cloudexec.transport.addresses import Addresses
from cloudexec.transport.conversation import Lost, Pause, Renew, Send, conversation
from cloudexec.transport.endpoints import Target
from cloudexec.transport.http1 import AnswerReader, BadAnswer
from cloudexec.transport.keepalive import keep_alive
from cloudexec.transport.operation import Operation, Reply
from cloudexec.transport.retrying import RetryBudget, RetryPolicy

T = TypeVar("T")
_JOINED_BYTES: Final = 64 << 10
_RECEIVE_BYTES: Final = 64 << 10
_WRITE_BYTES: Final = 256 << 10  # what a transport is given at once; it copies what the socket does not take


class AsyncClient:
    """Connections to AWS for one account, all on one event loop."""

    def __init__(
        self,
        account: Account,
        *,
        max_connections: int = 64,
        policy: RetryPolicy | None = None,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 60.0,
        fresh_idle_s: float = 20.0,
    ) -> None:
        self.account = account
        self._policy = policy or RetryPolicy()
        self._budget = RetryBudget()
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._fresh_idle_s = fresh_idle_s
        self._free = asyncio.Semaphore(max_connections)
        self._idle: defaultdict[Target, list[_Connection]] = defaultdict(list)
        self._open: set[_Connection] = set()
        self._pauses: set[asyncio.Task[None]] = set()
        self._addresses = Addresses()
        self._scratch = memoryview(bytearray(_RECEIVE_BYTES))
        self._is_closed = False

    async def call(self, operation: Operation[T]) -> T:
        """Carry out, with repeats where they do no harm. Errors: AwsError and its subclasses."""
        steps = conversation(operation, self.account, self._policy, self._budget)
        answer: object = None
        try:
            while True:
                step = steps.send(answer)
                if self._is_closed:
                    raise ConnectionLost(f"{operation.what}: the client was closed", _is_ambiguous(answer))
                if type(step) is Send:
                    async with self._free:
                        answer = await self._exchange(step)
                elif type(step) is Renew:
                    # Metadata services are asked with blocking sockets: rarely, and in a thread.
                    answer = await asyncio.to_thread(self.account.credentials.renew, step.refused)
                elif type(step) is Pause:
                    answer = None
                    await self._pause(step.seconds)
        except StopIteration as done:
            result: T = done.value
            return result

    async def aclose(self) -> None:
        """Close all connections; calls under way end with ConnectionLost. A second time does nothing."""
        self._is_closed = True
        for pause in list(self._pauses):
            pause.cancel()
        self._addresses.close()
        connections = list(self._open)
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.closed

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _pause(self, seconds: float) -> None:
        pause = asyncio.ensure_future(asyncio.sleep(seconds))
        self._pauses.add(pause)
        try:
            await asyncio.wait((pause,))  # not the pause itself: closing cancels that, and not the call
        finally:
            pause.cancel()
            self._pauses.discard(pause)

    async def _exchange(self, step: Send) -> Reply | Lost:
        if self._is_closed:
            return Lost("the client was closed", ambiguous=False)
        idle = self._idle[step.target]
        connection = None if step.is_new else self._first_alive(idle, step.once)
        if connection is None:
            try:
                connection = await asyncio.wait_for(self._connect(step.target), self._connect_timeout_s)
            except (OSError, asyncio.TimeoutError) as error:  # two classes until Python 3.11
                return _not_connected(step.target, error, self._connect_timeout_s)
            if self._is_closed:
                connection.close()
                return Lost("the client was closed", ambiguous=False)
        try:
            answer = await connection.exchange(step, self._read_timeout_s + step.wait_s)
        except BaseException:
            connection.close()
            raise
        if connection.stays and not self._is_closed:
            connection.used_s = monotonic()
            idle.append(connection)
        else:
            connection.close()
        return answer

    def _first_alive(self, idle: list[_Connection], once: bool) -> _Connection | None:
        while idle:
            connection = idle.pop()  # the one used last
            if not connection.is_alive():
                continue
            if not once or monotonic() - connection.used_s < self._fresh_idle_s:
                return connection
            connection.close()
        return None

    async def _connect(self, target: Target) -> _Connection:
        loop = asyncio.get_running_loop()
        context = None
        if target.is_tls:
            from cloudexec.transport.tls import shared_context

            context = shared_context(self.account.ca_bundle)
        failure: OSError | None = None
        for address in await self._addresses.of(target.host, target.port):
            try:
                _, connection = await loop.create_connection(
                    lambda: _Connection(loop, self._open, self._scratch),
                    address,
                    target.port,
                    ssl=context,
                    server_hostname=target.host if context else None,
                )
                return connection
            except OSError as error:
                failure = failure or error
        assert failure is not None
        raise failure


class _Connection(asyncio.BufferedProtocol):
    """One socket, which carries one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, registry: set[_Connection], scratch: memoryview) -> None:
        self._loop = loop
        self._scratch = scratch  # of the client: what arrives is taken out of it at once
        self._is_room = False  # whether what arrives is written where it belongs, without a copy
        self._registry = registry
        self._transport: asyncio.Transport | None = None
        self._reader: AnswerReader | None = None
        self._answered: asyncio.Future[Reply | Lost] | None = None
        self._may_write: asyncio.Future[None] | None = None  # exists while the socket takes no more
        self._timer: asyncio.TimerHandle | None = None
        self._deadline_s = self._timeout_s = 0.0
        self._has_sent = False
        self._was_used = False
        self._has_ended = False
        self.closed: asyncio.Future[None] = loop.create_future()
        self.stays = False
        self.used_s = 0.0

    async def exchange(self, step: Send, timeout_s: float) -> Reply | Lost:
        """Send the request and read its answer; afterwards `stays` says whether the connection is good for more."""
        transport = self._transport
        assert transport is not None
        self._reader = AnswerReader(step.method)
        self.stays, self._has_sent = False, False
        answered: asyncio.Future[Reply | Lost] = self._loop.create_future()
        self._answered = answered
        self._watch(timeout_s)
        try:
            if len(step.pieces) <= 1 and (not step.pieces or len(step.pieces[0]) <= _JOINED_BYTES):
                transport.write(b"".join((step.head, *step.pieces)))
            else:
                await self._write_pieces(transport, step, answered)
            self._has_sent = True
            return await answered
        finally:
            self._reader, self._answered, self._was_used = None, None, True

    def _watch(self, timeout_s: float) -> None:
        """Give the request under way so long. One timer serves many requests: to make and cancel one would cost each as
        much as its signature."""
        self._timeout_s = timeout_s
        self._deadline_s = self._loop.time() + timeout_s
        if self._timer is not None and self._timer.when() > self._deadline_s:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._answered is None:
            return
        if self._loop.time() < self._deadline_s:
            self._timer = self._loop.call_at(self._deadline_s, self._look)
        else:
            self._lose(f"no answer in {self._timeout_s:g} s")

    async def _write_pieces(
        self, transport: asyncio.Transport, step: Send, answered: asyncio.Future[Reply | Lost]
    ) -> None:
        transport.write(step.head)
        for piece in step.pieces:
            view = memoryview(piece).cast("B")
            for start in range(0, len(view), _WRITE_BYTES):
                while self._may_write is not None and not answered.done():
                    await asyncio.wait((self._may_write, answered), return_when=asyncio.FIRST_COMPLETED)
                if answered.done():
                    return  # refused before it was all read
                transport.write(view[start : start + _WRITE_BYTES])

    def close(self) -> None:
        """Close at once; an answer under way is lost."""
        self._lose("the client was closed")
        if self._transport is not None:
            self._transport.abort()

    def is_alive(self) -> bool:
        """Whether nothing has been heard of its end; TLS transports themselves know it late, or not at all."""
        return not self._has_ended and self._transport is not None and not self._transport.is_closing()

    def _lose(self, reason: str) -> None:
        reader, answered = self._reader, self._answered
        if answered is not None and reader is not None and not answered.done():
            was_idle = self._was_used and not reader.has_begun
            answered.set_result(Lost(reason, ambiguous=self._has_sent, was_idle=was_idle))

    def _lose_at_end(self, error: Exception | None) -> None:
        begun = self._reader is not None and self._reader.has_begun
        self._lose(str(error or ("the connection was closed in mid-answer" if begun else "closed without an answer")))

    # --- what the event loop calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        keep_alive(transport.get_extra_info("socket"))
        self._registry.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        room = self._reader.room() if self._reader is not None else None
        self._is_room = room is not None
        return self._scratch if room is None else room

    def buffer_updated(self, count: int) -> None:
        reader, answered = self._reader, self._answered
        if reader is None or answered is None or answered.done():
            self.close()  # nobody asked for this
            return
        try:
            if reader.filled(count) if self._is_room else reader.feed(bytes(self._scratch[:count])):
                self.stays = reader.stays and self._has_sent
                answered.set_result(reader.reply())
        except BadAnswer as error:
            self._lose(str(error))

    def eof_received(self) -> None:
        self._has_ended = True
        reader, answered = self._reader, self._answered
        if reader is not None and answered is not None and not answered.done() and reader.end():
            answered.set_result(reader.reply())
        self._lose_at_end(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._has_ended = True
        self._lose_at_end(error)
        self._registry.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()  # until Python 3.11, TLS transports complain if nobody has closed them
        if self._may_write is not None:
            self.resume_writing()
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._may_write = self._loop.create_future()

    def resume_writing(self) -> None:
        waiting, self._may_write = self._may_write, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


def _is_ambiguous(answer: Any) -> bool:
    return type(answer) is Lost and answer.ambiguous


def _not_connected(target: Target, error: BaseException, timeout_s: float) -> Lost:
    is_final = type(error).__name__ == "SSLCertVerificationError"
    reason = str(error) or f"no connection in {timeout_s:g} s"
    return Lost(f"cannot connect to {target.host}:{target.port}: {reason}", ambiguous=False, is_final=is_final)
