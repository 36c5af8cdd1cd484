"""Queues as SQS has them: long polls, visibility, receipts. No HTTP here: both sides use the same queues.

Called by: sqs.py (the client), fleet.py (simulated workers).   Calls: latency.py for timers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import md5
from itertools import count

from cloud.latency import Clock


class Message:
    """One message; `receipt` is that of the last time it was taken; `due_s` when it comes back then."""

    __slots__ = ("body", "digest", "due_s", "id", "receipt", "sent_s", "takes")

    def __init__(self, number: int, body: str) -> None:
        self.id = f"m{number}"
        self.body = body
        self.digest = md5(body.encode(), usedforsecurity=False).hexdigest()
        self.sent_s = time.time()
        self.takes = 0
        self.receipt = 0
        self.due_s = 0.0


class Poll:
    """A receive that waits for messages. `is_over` once it has got some, or will get none any more."""

    __slots__ = ("deliver", "is_over", "most", "visibility_s")

    def __init__(self, most: int, visibility_s: float, deliver: Callable[[list[Message]], None]) -> None:
        self.most = most
        self.visibility_s = visibility_s
        self.deliver = deliver
        self.is_over = False


class Queue:
    """One queue. Polls are served in the order in which they came."""

    def __init__(self, clock: Clock, url: str, visibility_s: float) -> None:
        self.url = url
        self.visibility_s = visibility_s
        self._clock = clock
        self._numbers = count(1)
        self._ready: deque[Message] = deque()
        self._taken: dict[int, Message] = {}
        self._polls: deque[Poll] = deque()

    @property
    def n_ready(self) -> int:
        """Messages that could be taken."""
        return len(self._ready)

    @property
    def n_taken(self) -> int:
        """Messages that somebody has taken and not deleted."""
        return len(self._taken)

    def send(self, bodies: Sequence[str], delay_s: float = 0.0) -> list[Message]:
        """Put messages into the queue, and wake who waits for them."""
        messages = [Message(next(self._numbers), body) for body in bodies]
        if delay_s:
            self._clock.after(delay_s, self._return, messages)
        else:
            self._return(messages)
        return messages

    def receive(
        self, most: int, wait_s: float, visibility_s: float | None, deliver: Callable[[list[Message]], None]
    ) -> Poll:
        """Call `deliver` with up to `most` messages: at once if some are there, else within `wait_s`."""
        poll = Poll(most, self.visibility_s if visibility_s is None else visibility_s, deliver)
        if self._ready or not wait_s:
            self._serve(poll)
        else:
            self._polls.append(poll)
            self._clock.after(wait_s, self._give_up, poll)
        return poll

    def delete(self, receipt: int) -> None:
        """Forget a message, if this is still how it was taken last."""
        self._taken.pop(receipt, None)

    def change_visibility(self, receipt: int, seconds: float) -> bool:
        """When the message comes back, counted from now; False if somebody else has it, or nobody."""
        message = self._taken.get(receipt)
        if message is None:
            return False
        message.due_s = time.monotonic() + seconds
        self._clock.after(seconds, self._look, message, receipt)
        return True

    def _return(self, messages: Sequence[Message]) -> None:
        self._ready.extend(messages)
        while self._ready and self._polls:
            poll = self._polls.popleft()
            if not poll.is_over:
                self._serve(poll)

    def _serve(self, poll: Poll) -> None:
        poll.is_over = True
        got: list[Message] = []
        due_s = time.monotonic() + poll.visibility_s
        while self._ready and len(got) < poll.most:
            message = self._ready.popleft()
            message.takes += 1
            message.receipt = next(self._numbers)
            message.due_s = due_s
            self._taken[message.receipt] = message
            self._clock.after(poll.visibility_s, self._look, message, message.receipt)
            got.append(message)
        poll.deliver(got)

    def _give_up(self, poll: Poll) -> None:
        if not poll.is_over:
            self._serve(poll)

    def _look(self, message: Message, receipt: int) -> None:
        """Whether a message that was taken has to come back; its time may have been extended meanwhile."""
        if receipt in self._taken and time.monotonic() >= message.due_s:
            del self._taken[receipt]
            self._return([message])
