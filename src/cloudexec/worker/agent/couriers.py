"""Threads that carry requests to the services, again and again until they are answered.

Called by: agent.py, post.py.   Calls: a transport's client.
A courier carries one request at a time. What no repeat can help comes back as the AwsError; all else that fails is
repeated without end: the agent, not the courier, gives up.
Answers go to the inbox, and are handled on the agent's thread. What is no AwsError ends the agent there: a courier
that died in silence would leave a worker that takes nothing, and never ends.
"""

from __future__ import annotations

import os
import threading
import time
from _queue import SimpleQueue  # `queue` would import more than it is needed for
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from cloudexec.errors import AwsError, NoSuchKey
from cloudexec.transport.operation import Operation
from cloudexec.worker.agent.books import NEVER

T = TypeVar("T")
_PAUSE_S: Final = 0.1
_PAUSE_MOST_S: Final = 5.0


class Client(Protocol):
    """What carries out operations; safe to use from several threads."""

    def call(self, operation: Operation[T]) -> T:
        """Its result. Errors: AwsError."""
        ...


class Inbox:
    """What other threads have for the agent's loop, and a descriptor that tells of it."""

    def __init__(self) -> None:
        self._items: deque[Callable[[], object]] = deque()
        self.fd, self._out = os.pipe()
        for fd in (self.fd, self._out):
            os.set_blocking(fd, False)

    def put(self, item: Callable[[], object]) -> None:
        """From any thread."""
        self._items.append(item)
        self.ring()

    def ring(self) -> None:
        """Wake the loop; from any thread or signal handler."""
        try:
            os.write(self._out, b"x")
        except BlockingIOError:  # it has not woken from the last thousands yet
            pass

    def take(self) -> list[Callable[[], object]]:
        """All that has come."""
        try:
            while len(os.read(self.fd, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass
        return [self._items.popleft() for _ in range(len(self._items))]


class Courier:
    """One thread; requests are carried in the order in which they were given."""

    def __init__(self, name: str, client: Client, inbox: Inbox) -> None:
        self.n_open = 0  # given and not answered; the loop's thread counts
        self.bad_since_s = NEVER  # when the request under way failed for the first time, in monotonic seconds
        self.trouble = ""
        self._client = client
        self._inbox = inbox
        self._jobs: SimpleQueue[tuple[Operation[Any], Callable[[Any], object]]] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def carry(self, operation: Operation[T], on_answer: Callable[[T | AwsError], object]) -> None:
        """Carry out an operation; its result, or the refusal, is handed to `on_answer` on the loop's thread."""
        self.n_open += 1
        self._jobs.put((operation, on_answer))

    def _run(self) -> None:
        while True:
            operation, on_answer = self._jobs.get()
            try:
                answer = self._persist(operation)
            except BaseException as crash:
                self._inbox.put(partial(_crashed, crash))
                return
            self._inbox.put(partial(self._answered, on_answer, answer))

    def _answered(self, on_answer: Callable[[Any], object], answer: Any) -> None:
        self.n_open -= 1
        on_answer(answer)

    def _persist(self, operation: Operation[T]) -> T | AwsError:
        pause_s = _PAUSE_S
        while True:
            try:
                result = self._client.call(operation)
            except AwsError as error:
                if _is_final(error):
                    self.bad_since_s = NEVER
                    return error
                self.trouble = error.what
                if self.bad_since_s == NEVER:
                    self.bad_since_s = time.monotonic()
                    self._inbox.ring()  # the loop shall know until when to be patient
                time.sleep(pause_s * (1 + os.urandom(1)[0] / 255) / 2)  # `random` is not worth importing
                pause_s = min(2 * pause_s, _PAUSE_MOST_S)
            else:
                self.bad_since_s = NEVER
                return result


def _crashed(crash: BaseException) -> None:
    raise crash


def is_gone(error: AwsError) -> bool:
    """Whether the queue was removed."""
    return error.code.endswith(("QueueDoesNotExist", "NonExistentQueue"))


def is_too_large(error: AwsError) -> bool:
    """Whether the queue has lower limits for messages than we thought."""
    return error.code.endswith(("BatchRequestTooLong", "InvalidParameterValue", "RequestTooLong"))


def _is_final(error: AwsError) -> bool:
    """Whether no repeat would help. All else is repeated: rights may be mended, credentials renewed."""
    return is_gone(error) or is_too_large(error) or isinstance(error, NoSuchKey)
