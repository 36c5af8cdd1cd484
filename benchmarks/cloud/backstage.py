"""Requests that simulated workers make: as slow and as dear as the client's, but without HTTP.

Called by: fleet.py, functions.py.   Calls: latency.py, bill.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cloud.bill import WORKER, Bill
from cloud.latency import Clock, Latency
from cloud.queues import Message, Queue

Then = Callable[[Any], object]


class Backstage:
    """The way from simulated workers to the services."""

    def __init__(self, clock: Clock, latency: Latency, bill: Bill) -> None:
        self.clock = clock
        self._latency = latency
        self._bill = bill

    def request(
        self, service: str, operation: str, act: Callable[[], Any], then: Then | None = None, n_bytes: int = 0
    ) -> None:
        """`act` when the request has come to the service, `then` with what it gave when the answer is back."""
        half_s = self._travel(service, operation, n_bytes)
        self.clock.after(half_s, self._act, half_s, act, then)

    def receive(
        self, queue: Queue, most: int, wait_s: float, visibility_s: float, then: Callable[[list[Message]], object]
    ) -> None:
        """A long poll."""
        half_s = self._travel("sqs", "ReceiveMessage", 0)

        def deliver(messages: list[Message]) -> None:
            self._bill.add_carried(WORKER, sum(len(message.body) for message in messages))
            self.clock.after(half_s, then, messages)

        self.clock.after(half_s, queue.receive, most, wait_s, visibility_s, deliver)

    def _travel(self, service: str, operation: str, n_bytes: int) -> float:
        self._bill.add(WORKER, service, operation, n_bytes)
        return self._latency.of(service, operation) / 2

    def _act(self, half_s: float, act: Callable[[], Any], then: Then | None) -> None:
        result = act()
        if then is not None:
            self.clock.after(half_s, then, result)
