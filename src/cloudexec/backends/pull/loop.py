"""An asyncio loop that runs only while somebody waits on it: inside the engine's `poll`.

Called by: backend.py, which makes it on the engine's thread, and the files beside it, for tasks.
A task that fails is a defect of ours: the failure is kept, and whoever waits next gets it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

NEVER = float("inf")
CANCEL_AGAIN_S = 0.5


class EngineLoop:
    """The loop, its tasks, and the ways to end a wait."""

    def __init__(self) -> None:
        self.asyncio = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._crash: BaseException | None = None

    def run_for(self, timeout_s: float) -> None:
        """Run until `stop` is called, or the time is over. Errors: what a task died of."""
        timer = self.asyncio.call_later(max(0.0, timeout_s), self.asyncio.stop) if timeout_s != NEVER else None
        self.asyncio.run_forever()
        if timer is not None:
            timer.cancel()
        if self._crash is not None:
            raise self._crash

    def complete(self, work: Coroutine[Any, Any, None]) -> None:
        """Run until this is done, however often somebody stops the loop to wake the engine."""
        task = self.asyncio.create_task(work)
        task.add_done_callback(lambda _task: self.asyncio.stop())
        while not task.done():
            self.asyncio.run_forever()
        task.result()

    def stop(self) -> None:
        """End a wait. On the loop's own thread."""
        self.asyncio.stop()

    def wake(self) -> None:
        """End a wait, or the next one. From any thread."""
        try:
            self.asyncio.call_soon_threadsafe(self.asyncio.stop)
        except RuntimeError:  # it is closed: nobody waits
            pass

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task; it is cancelled at the end."""
        task = self.asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def cancel_all(self) -> None:
        """End every task. Again and again: before Python 3.12, `wait_for` forgets a cancellation that comes with what
        it waits for."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(tuple(self._tasks), timeout=CANCEL_AGAIN_S)

    def close(self) -> None:
        """No more of it."""
        self.asyncio.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (crash := task.exception()) is not None:
            self._crash = self._crash or crash
            self.asyncio.stop()
