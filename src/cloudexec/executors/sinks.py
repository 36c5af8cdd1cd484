"""How the end of a call reaches its future.

Called by: base.py makes them, engine delivers to them.
"""

from __future__ import annotations

from concurrent.futures import InvalidStateError
from contextlib import suppress
from typing import Any

from cloudexec.backends.protocol import OutboundCall
from cloudexec.future import Future


class FutureSink:
    """Sets a future's result. The future lives as long as its call is open, or somebody holds it."""

    __slots__ = ("_future",)

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def deliver(
        self, call: OutboundCall, value: Any, error: BaseException | None, story: tuple[Any, ...] | None
    ) -> None:
        """See engine.Sink."""
        future = self._future
        future._story = story
        with suppress(InvalidStateError):  # its owner set it by hand
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)

    def withdraw(self, call: OutboundCall) -> None:
        """See engine.Sink."""
        self._future.withdraw()
