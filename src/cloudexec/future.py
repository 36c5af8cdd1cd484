"""What `submit` returns: a `concurrent.futures.Future` that knows its call.

Called by: executors (make it), engine (resolves it), users.   Calls: the engine, through `Controller`.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future as StandardFuture
from concurrent.futures import InvalidStateError
from contextlib import suppress
from math import inf
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from cloudexec.errors import ExecutorForked
from cloudexec.ids import call_id

T = TypeVar("T")


PENDING: Final = "PENDING"
FINISHED: Final = "FINISHED"
_OVER: Final = ("CANCELLED", "CANCELLED_AND_NOTIFIED", FINISHED)
# A signal that comes just before its thread waits for a lock, or to another thread, does not end that wait: Python sees
# it afterwards. So whoever waits for one of our futures or maps looks up so often.
SIGNALS_WITHIN_S: Final = 1.0
_MAKING: Final = threading.Lock()  # guards `_made_condition` of all futures; held for a microsecond


def await_end(future: StandardFuture[Any], timeout: float | None) -> None:
    """Until it is done, or that many seconds are over."""
    end_s = time.monotonic() + timeout if timeout is not None else inf
    with future._condition:
        while not future.done() and (left_s := end_s - time.monotonic()) > 0:
            future._condition.wait(min(left_s, SIGNALS_WITHIN_S))


class CallStats(NamedTuple):
    """Where and when a call ran. Times are seconds since the epoch; `started_s` and `finished_s` by the worker's
    clock. None where the call did not get so far; `peak_rss` is in bytes, 0 where unknown."""

    queued_s: float
    started_s: float | None
    finished_s: float | None
    cpu_s: float | None
    peak_rss: int
    worker: str | None

    @property
    def run_s(self) -> float | None:
        """How long it ran, in seconds."""
        if self.started_s is None or self.finished_s is None:
            return None
        return self.finished_s - self.started_s


class Controller(Protocol):
    """What a future asks of the engine that its call belongs to. `call` is the ledger's own."""

    run_id: str

    def cancel(self, call: Any) -> bool:
        """Forget the call unless it has started."""
        ...

    def stop(self, call: Any) -> None:
        """Kill the call if it runs."""
        ...

    def has_started(self, call: Any) -> bool:
        """Whether the call has started."""
        ...

    def invoke_callbacks(self, future: Any) -> None:
        """Run the callbacks of a future that is done, on a thread that may block."""
        ...


class Future(StandardFuture[T]):
    """The outcome of one call, to come. All of `concurrent.futures.Future`, and the call's own story.

    `cancel()` succeeds exactly as long as the call has not started; `stop()` also ends one that runs.
    """

    def __init__(self, controller: Controller, number: int, queued_s: float) -> None:
        # Not super().__init__(): its condition is two thirds of a future's 1.6 kB and of the work that futures make
        # for the garbage collector, and most futures are done before anybody waits for them. The six names below
        # are what every Python since 3.2 sets there; a test compares them.
        self._made_condition: threading.Condition | None = None
        self._state = PENDING
        self._result: Any = None
        self._exception: BaseException | None = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Any] = []
        self._controller = controller
        self._number = number
        self._queued_s = queued_s
        self._call: Any = None  # while it is open; later the two would keep each other alive
        self._attempts = 0
        self._has_warned = False
        self._story: tuple[float, float, float, int, str, bytes] | None = None

    @property
    def call_id(self) -> str:
        """RUN/number, as it stands in logs and errors."""
        return call_id(self._controller.run_id, self._number)

    @property
    def attempts(self) -> int:
        """How often the call was handed to a worker so far; a call that was taken back unstarted is not counted."""
        call = self._call
        return int(call.attempts) if call is not None else self._attempts

    @property
    def stats(self) -> CallStats:
        """Where and when the call ran; complete once the future is done."""
        if self._story is None:
            return CallStats(self._queued_s, None, None, None, 0, None)
        started_s, finished_s, cpu_s, peak_rss, worker, _ = self._story
        return CallStats(self._queued_s, started_s, finished_s, cpu_s, peak_rss, worker)

    @property
    def stdout(self) -> str:
        """What the call, its C code and its child processes wrote to standard output."""
        return self._output(0)

    @property
    def stderr(self) -> str:
        """What they wrote to standard error."""
        return self._output(1)

    def cancel(self) -> bool:
        """Cancel the call unless it has started; True if it is cancelled and will never run."""
        self._check_not_forked()
        call = self._call
        if self.done() or call is None:
            return super().cancel()
        if not self._controller.cancel(call):
            return self.cancelled()
        self.withdraw()
        return True

    def deliver(self, call: object, value: Any, error: BaseException | None, story: tuple[Any, ...] | None) -> None:
        """See engine.delivery.Sink."""
        self._story = story
        if self._finish_unseen(value, error):
            self._part_with_call()
            return
        with suppress(InvalidStateError):  # its owner set it by hand
            if error is not None:
                self.set_exception(error)
            else:
                self.set_result(value)

    def follow(self, call: object) -> None:
        """See engine.delivery.Sink."""
        if self._call is not None:
            self._call = call

    def done(self) -> bool:
        """See concurrent.futures.Future.done."""
        return self._state in _OVER

    def withdraw(self, call: object = None) -> None:
        """The executor has cancelled the call; it never started. See engine.delivery.Sink."""
        if super().cancel():
            self.set_running_or_notify_cancel()

    def stop(self) -> None:
        """Cancel the call, or kill it if it runs: then the future gets CallStopped. Others are not harmed."""
        self._check_not_forked()
        call = self._call
        if not self.done() and call is not None and not self.cancel():
            self._controller.stop(call)

    def running(self) -> bool:
        """Whether the call runs now, as far as this process can see without asking."""
        self._check_not_forked()
        call = self._call
        if self.done() or super().running() or call is None:
            return super().running()
        return self._controller.has_started(call)

    def result(self, timeout: float | None = None) -> T:
        """See concurrent.futures.Future.result. In a forked child an open future raises ExecutorForked."""
        if self._state == FINISHED and self._exception is None:
            if self._story is not None and self._story[5]:
                self._warn()
            return self._result  # type: ignore[no-any-return]  # it came from the call
        self._check_not_forked()
        await_end(self, timeout)
        try:
            value = super().result(0)
        except BaseException:
            del self  # else the exception's traceback leads back to the exception
            raise
        if self._story is not None and self._story[5]:
            self._warn()
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """See concurrent.futures.Future.exception."""
        self._check_not_forked()
        await_end(self, timeout)
        return super().exception(0)

    def __reduce__(self) -> str:
        raise TypeError("a future belongs to its executor's process and cannot be pickled; pickle its result()")

    def _check_not_forked(self) -> None:
        if getattr(self._controller, "pid", 0) not in (0, os.getpid()) and not self.done():
            raise ExecutorForked(f"the call {self.call_id} belongs to the process that forked this one")

    def _warn(self) -> None:
        """Issue the call's warnings, at the first look at its result."""
        if not self._has_warned and self._story is not None:
            self._has_warned = True
            from cloudexec.serialization import warned

            warned.issue(self._story[5], stacklevel=3)

    def _output(self, which: int) -> str:
        out = self._story[5] if self._story is not None else b""
        if not out:
            return ""
        from cloudexec.wire.parts import unpack_parts

        text = unpack_parts(out)[which]
        return bytes(text).decode(errors="backslashreplace") if not isinstance(text, tuple) else ""

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]  # nobody sets it
        """What waiters wait on; made for the first of them."""
        if self._made_condition is None:
            fresh = threading.Condition()  # not under the lock: garbage collection may run other people's code here
            with _MAKING:
                if self._made_condition is None:
                    self._made_condition = fresh
        return self._made_condition

    def _finish_unseen(self, value: Any, error: BaseException | None) -> bool:
        """Finish, if nobody waits, has added a callback, or looks at the future right now."""
        with _MAKING:
            if self._made_condition is not None or self._state != PENDING:
                return False
            self._result, self._exception = value, error
            self._state = FINISHED  # the last, as readers go by it
            return True

    def _part_with_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            self._attempts = int(call.attempts)

    def _invoke_callbacks(self) -> None:
        self._part_with_call()
        # The base class runs callbacks right here, which is the engine's thread: a callback that waits for
        # another call would wait for ever. Same name in every Python since 3.2; a test watches over it.
        if self._done_callbacks:
            self._controller.invoke_callbacks(self)

    def run_callbacks(self) -> None:
        """Run them now; the engine's callback thread does."""
        super()._invoke_callbacks()  # type: ignore[misc]  # private, see above
