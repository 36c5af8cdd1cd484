"""The messages of one queue: visible, in flight, delayed; long polls that cost nothing and wake at once.

Called by:  sqs.py.   Calls: nothing.
Reason:     moto's queues scan all messages for each request, wake late, and give a message to a client that has gone.
"""

from __future__ import annotations

import heapq
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LOOK_AGAIN_S = 1.0  # a parked request whose client has gone leaves within this time


class QueueDeleted(Exception):
    """The queue was deleted while somebody waited for its messages."""


@dataclass(kw_only=True, eq=False)
class Message:
    """One delivery of a message; a duplicated one stands here twice, with the same id.

    `receipt` numbers the receives: the newest counts, and 0 means none yet.
    """

    id: str
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    body: str
    attributes: dict[str, Any] = field(default_factory=dict)
    sent_ms: int = 0
    first_received_ms: int = 0
    receipt: int = 0
    visible_s: float = 0.0  # on the monotonic clock


class Mailbox:
    """All messages of a standard queue."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._visible: dict[str, Message] = {}  # by key, oldest first
        self._hidden: list[tuple[float, int, Message]] = []  # a heap; entries that moved on are skipped
        self._all: dict[str, Message] = {}  # by key
        self._order = 0
        self._deleted = False

    def put(self, message: Message, delay_s: float = 0.0) -> None:
        """Add a message; it becomes visible after the delay."""
        with self._changed:
            self._all[message.key] = message
            if delay_s > 0:
                self._hide(message, delay_s)
                self._changed.notify_all()  # who waits must learn of the new earliest time
            else:
                self._visible[message.key] = message
                self._changed.notify()

    def take(self, most: int, wait_s: float, hide_s: float, is_gone: Callable[[], bool]) -> list[Message]:
        """Up to `most` messages, hidden from others for `hide_s`; waits for the first up to `wait_s`.

        A client that has gone gets nothing: what it would have got goes to the next.
        """
        deadline = time.monotonic() + wait_s
        with self._changed:
            while True:
                now = time.monotonic()
                self._reveal(now)
                if self._deleted:
                    raise QueueDeleted
                if self._visible and not is_gone():
                    return [self._hand_out(hide_s) for _ in range(min(most, len(self._visible)))]
                if now >= deadline or (wait_s and is_gone()):
                    if self._visible:
                        self._changed.notify()
                    return []
                self._changed.wait(min(deadline - now, LOOK_AGAIN_S, self._next_reveal(now)))

    def _hand_out(self, hide_s: float) -> Message:
        message = self._visible.pop(next(iter(self._visible)))
        message.receipt += 1
        message.first_received_ms = message.first_received_ms or int(time.time() * 1000)
        self._hide(message, hide_s)
        return message

    def delete(self, key: str, receipt: int) -> None:
        """Remove a message; as on AWS, an older receipt than the newest removes nothing."""
        with self._changed:
            message = self._all.get(key)
            if message is not None and message.receipt == receipt:
                del self._all[key]
                message.visible_s = -1.0  # its entry in the heap is void
                self._visible.pop(key, None)  # its time was over, and nobody has taken it again

    def change(self, key: str, receipt: int, hide_s: float) -> bool:
        """Hide a message for so long from now; False when it is not in flight under this receipt."""
        with self._changed:
            self._reveal(time.monotonic())
            message = self._all.get(key)
            if message is None or message.receipt != receipt or key in self._visible:
                return False
            self._hide(message, hide_s)
            self._changed.notify_all()  # it may be visible earlier than who waits believes
            return True

    def purge(self) -> None:
        """Remove every message."""
        with self._changed:
            self._all.clear()
            self._visible.clear()
            self._hidden.clear()

    def close(self) -> None:
        """The queue is deleted: who waits learns it now."""
        with self._changed:
            self._deleted = True
            self.purge()
            self._changed.notify_all()

    def counts(self) -> tuple[int, int, int]:
        """How many messages are visible, in flight, delayed."""
        with self._changed:
            self._reveal(time.monotonic())
            hidden = [message for message in self._all.values() if message.key not in self._visible]
            delayed = sum(1 for message in hidden if not message.receipt)
            return len(self._visible), len(hidden) - delayed, delayed

    def hidden(self) -> int:
        """How many messages are in flight or delayed, at a glance."""
        return len(self._all) - len(self._visible)

    def messages(self) -> list[Message]:
        """All messages, for who looks from outside."""
        with self._changed:
            return list(self._all.values())

    def _hide(self, message: Message, hide_s: float) -> None:
        self._order += 1
        message.visible_s = time.monotonic() + hide_s
        heapq.heappush(self._hidden, (message.visible_s, self._order, message))

    def _reveal(self, now: float) -> None:
        while self._hidden and self._hidden[0][0] <= now:
            visible_s, _, message = heapq.heappop(self._hidden)
            if message.visible_s == visible_s:  # not hidden anew, not deleted
                self._visible[message.key] = message

    def _next_reveal(self, now: float) -> float:
        return max(0.0, self._hidden[0][0] - now) if self._hidden else LOOK_AGAIN_S
