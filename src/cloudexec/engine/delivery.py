"""The last step of a call: its outcome becomes a value or an exception, and whoever waits is told.

Called by: engine.py, on its thread and under no lock.   Calls: serialization, verdicts, sinks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from cloudexec.backends.protocol import OutboundCall
from cloudexec.engine.annex import CameBack
from cloudexec.engine.verdicts import annotate, failure_of
from cloudexec.errors import CloudexecError, ResultUnreadable
from cloudexec.ids import BlobRef, attempt_id
from cloudexec.ledger.actions import Fail, LaneEnd, Resolve
from cloudexec.observe.recorder import Recorder
from cloudexec.serialization.failures import load_failure, shown
from cloudexec.serialization.loading import Fetch, load
from cloudexec.wire.messages import Outcome, Verdict
from cloudexec.wire.parts import pack_parts, unpack_parts


class Sink(Protocol):
    """Who is to learn how a call ended. Called once, on the engine's thread, under no lock."""

    def deliver(
        self, call: OutboundCall, value: Any, error: BaseException | None, story: tuple[Any, ...] | None
    ) -> None:
        """The call is over. `story`: started_s, finished_s, cpu_s, peak_rss, lane, packed output."""
        ...

    def withdraw(self, call: OutboundCall) -> None:
        """The call was cancelled by the executor."""
        ...

    def follow(self, call: OutboundCall) -> None:
        """The call goes on as this one, whose attempts count from now on. May be called under a lock of ours."""
        ...


class Delivery:
    """Delivers the ends of a run's calls, and counts them."""

    def __init__(
        self,
        run_id: str,
        fetch: Fetch,
        release: Callable[[tuple[BlobRef, ...]], None],
        counts: Counter[str],
        recorder: Recorder | None = None,
    ) -> None:
        self._run_id = run_id
        self._fetch = fetch
        self._release = release
        self._counts = counts
        self._recorder = recorder

    def deliver(self, end: Resolve | Fail, breakdown: CloudexecError | None) -> None:
        """Tell a call's sink how it ended. `breakdown`: why the executor is of no more use, if it is not."""
        call = end.call
        assert isinstance(call, OutboundCall)
        if call.refs:
            self._release(call.refs)
        if isinstance(end, Fail):
            self._fail(call, self._failure(call, end.end, breakdown), None)
            return
        outcome: Outcome = end.outcome
        story = self._story(outcome, end.lane)
        self._record(story)
        if outcome.verdict is Verdict.RETURNED:
            self._deliver_value(call, outcome, story)
        else:
            error = load_failure(outcome.value, self._fetch)
            annotate(error, self._label(call))
            self._fail(call, error, story)

    def hand_on(self, end: CameBack) -> None:
        """Tell a call's sink how it ended in another engine."""
        call = end.call
        if call.refs:
            self._release(call.refs)
        if end.story is not None:
            self._record(end.story)
        if end.is_withdrawn:
            self._counts["cancelled"] += 1
            call.sink.withdraw(call)
        elif end.error is not None:
            self._fail(call, end.error, end.story)
        else:
            self._counts["done"] += 1
            call.sink.deliver(call, end.value, None, end.story)

    def _deliver_value(self, call: OutboundCall, outcome: Outcome, story: tuple[Any, ...]) -> None:
        try:
            value = load(outcome.value, self._fetch)
        except BaseException as problem:
            error = ResultUnreadable(f"the result of {self._label(call)} cannot be unpickled here: {shown(problem)}")
            error.__cause__ = problem
            self._fail(call, error, story)
        else:
            self._counts["done"] += 1
            call.sink.deliver(call, value, None, story)

    def _fail(self, call: OutboundCall, error: BaseException, story: tuple[Any, ...] | None) -> None:
        self._counts["failed"] += 1
        if self._recorder is not None:
            lane = story[4] if story is not None else ""
            self._recorder.failed(call.number, call.options.name or "", error, lane, call.attempts)
        call.sink.deliver(call, None, error, story)

    def _record(self, story: tuple[Any, ...]) -> None:
        if self._recorder is not None:
            self._recorder.ended(story[0], story[1], story[2], story[3])

    def _story(self, outcome: Outcome, lane: str) -> tuple[Any, ...]:
        out = outcome.out
        return (
            outcome.started_s,
            outcome.finished_s,
            outcome.cpu_s,
            outcome.peak_rss,
            lane,
            self._output(out) if out else b"",
        )

    def _output(self, packed: bytes | memoryview) -> bytes:
        """What a call printed, with blobs fetched."""
        parts = unpack_parts(packed)
        try:
            return pack_parts([self._fetch(part) if isinstance(part, BlobRef) else part for part in parts])
        except CloudexecError as error:
            return pack_parts([b"", f"(what the call printed is lost: {error})".encode()])

    def _failure(self, call: OutboundCall, end: LaneEnd, breakdown: CloudexecError | None) -> BaseException:
        if breakdown is not None and not end.stopped:
            return copy_of(breakdown)
        return failure_of(call, end, self._label(call))

    def _label(self, call: OutboundCall) -> str:
        name = f" ({call.options.name})" if call.options.name else ""
        return f"call {attempt_id(self._run_id, call.number, max(1, call.attempts))}{name}"


def copy_of(error: CloudexecError) -> CloudexecError:
    """An exception object of its own for each future: raising adds to its traceback."""
    twin = type(error)(*error.args, remedy=error.remedy)
    twin.__cause__ = error.__cause__
    return twin
