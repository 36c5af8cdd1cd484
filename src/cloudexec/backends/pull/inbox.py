"""Reports as they come in: checked, put in order, and read when the results that they name are here.

Called by: backend.py; the mailroom hands over messages.   Calls: news.py for what a report means.
A worker's reports are read in the order in which they came. One that names results in the store waits until these have
been fetched, and so do those behind it: what the engine hears of, it can deliver without waiting.
A queue does not keep the order. For most reports that does not matter; a worker's last words wait a moment for those
that they have overtaken, because these may tell where its calls have gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Final, Protocol

from cloudexec.backends.protocol import Event
from cloudexec.backends.pull.loop import EngineLoop
from cloudexec.backends.pull.news import News
from cloudexec.errors import CloudexecError, WireError
from cloudexec.ids import BlobRef
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.mail import Report, decode_report, from_text
from cloudexec.wire.parts import sole_part, unpack_parts

log = logging.getLogger(__name__)

_FETCH_AHEAD_BYTES: Final = 32 << 20  # larger results are fetched in pieces, when their call is delivered
_FETCHES_AT_ONCE: Final = 16
_STRAGGLERS_S: Final = 2.0  # a refused report leaves a gap, too, so that nobody waits longer


class FetchBlob(Protocol):
    """Brings a blob's bytes. Errors: CloudexecError."""

    async def __call__(self, ref: BlobRef) -> memoryview:
        """They are the caller's own."""
        ...


class Inbox:
    """Reads reports. `on_events(report, events)` is told of each."""

    def __init__(self, run_id: str, seal: Seal, news: News, on_events: Callable[[Report, list[Event]], None]) -> None:
        self._run_id = run_id
        self._seal = seal
        self._news = news
        self._on_events = on_events
        self._waiting: defaultdict[str, deque[tuple[Report, asyncio.Task[None] | None]]] = defaultdict(deque)
        self._fetched: dict[str, memoryview] = {}
        self._loop: EngineLoop | None = None
        self._fetch_blob: FetchBlob | None = None
        self._room: asyncio.Semaphore | None = None

    def open(self, loop: EngineLoop, fetch_blob: FetchBlob) -> None:
        """From now on results are fetched ahead."""
        self._loop, self._fetch_blob = loop, fetch_blob
        self._room = asyncio.Semaphore(_FETCHES_AT_ONCE)

    def take(self, text: str) -> memoryview | None:
        """Take in a message; its body, or None if it is no report of this run's workers."""
        try:
            body = from_text(self._seal, Kind.REPORT, text)
            report = decode_report(body)
        except WireError as error:
            log.error("run %s: a message that is no report was dropped: %s", self._run_id, error)
            return None
        self.hear(report)
        return body

    def hear(self, report: Report) -> None:
        """Take in a report."""
        refs = results_outside(report)
        fetch = self._loop.begin(self._fetch_all(report.worker, refs)) if refs and self._loop is not None else None
        self._waiting[report.worker].append((report, fetch))
        if fetch is None:
            self._read_waiting(report.worker)

    def pop_fetched(self, ref: BlobRef) -> memoryview | None:
        """A result that was fetched ahead."""
        return self._fetched.pop(ref.name, None)

    async def _fetch_all(self, worker: str, refs: list[BlobRef]) -> None:
        await asyncio.gather(*[self._fetch(ref) for ref in refs])
        asyncio.get_running_loop().call_soon(self._read_waiting, worker)  # when this task is done

    async def _fetch(self, ref: BlobRef) -> None:
        assert self._room is not None
        assert self._fetch_blob is not None
        async with self._room:
            try:
                self._fetched[ref.name] = await self._fetch_blob(ref)
            except CloudexecError as error:  # tried once more when the call is delivered, and told then
                log.info("a result was not fetched ahead: %s", error)

    def _read_waiting(self, worker: str) -> None:
        waiting = self._waiting[worker]
        while waiting and (waiting[0][1] is None or waiting[0][1].done()):
            report, _ = waiting.popleft()
            if report.leaving and self._loop is not None and self._news.lacks_before(report):
                self._loop.begin(self._read_later(report))
            else:
                self._on_events(report, self._news.read(report))
        if not waiting:
            del self._waiting[worker]

    async def _read_later(self, report: Report) -> None:
        await asyncio.sleep(_STRAGGLERS_S)
        self._on_events(report, self._news.read(report))


def results_outside(report: Report) -> list[BlobRef]:
    """Blobs that hold results or output of a report's outcomes, but for very large ones."""
    refs: list[BlobRef] = []
    for _, outcome in report.outcomes:
        for packed in (outcome.value, outcome.out):
            if packed and sole_part(packed) is None:
                refs += [part for part in unpack_parts(packed) if isinstance(part, BlobRef)]
    return [ref for ref in refs if ref.size <= _FETCH_AHEAD_BYTES]
