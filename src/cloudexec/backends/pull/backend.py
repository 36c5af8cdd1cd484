"""A backend whose workers take calls from a queue: the engine's face to queues, journal, control and fleet.

    engine's thread, which is also the loop's                              service
    ----------------------------------------                              -------
    place ---------> outbox ------- mailroom: ten to a request ---------> work queue
    poll: runs the loop until something has happened or the time is over
      events <------ news <-------- mailroom: long polls <--------------- out queue
                      |   results' blobs are fetched before the engine sees them
                      +-> journal - once a second, then the reports are deleted
    kill_call -----> control ------ when it changes, and as heartbeat --> control object
    want_lanes ----> fleet -------- requests on threads of its own -----> ECS | EC2

Called by: engine.   Calls: the files beside it.
Everything but `wake` runs on the engine's thread; the asyncio loop runs only inside `poll` and `stop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from cloudexec.backends.protocol import Broken, Event, OutboundCall, Outcomes, StartFailed
from cloudexec.backends.pull.control import ControlWriter, beat_every_s
from cloudexec.backends.pull.fleet import Fleet, NotStarted, Unusable, WorkerEnded
from cloudexec.backends.pull.home import Home, RunRecord
from cloudexec.backends.pull.journal import Journal
from cloudexec.backends.pull.mailroom import Mailroom
from cloudexec.backends.pull.news import News
from cloudexec.errors import CloudexecError, RunTakenOver, WireError, WorkerStartFailed
from cloudexec.ids import BlobRef
from cloudexec.ledger.pace import Pace
from cloudexec.serialization.failures import pack_failure
from cloudexec.transport import s3
from cloudexec.transport.aio import AsyncClient
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.mail import (
    KEY_VARIABLE,
    SETTINGS_VARIABLE,
    Report,
    WorkerSettings,
    decode_report,
    from_text,
    to_text,
)
from cloudexec.wire.messages import Outcome, Verdict, decode_batch, encode_batch
from cloudexec.wire.parts import sole_part, unpack_parts

log = logging.getLogger(__name__)

QUEUE: Final = "queue"
JOURNAL_EVERY_S: Final = 1.0
_FETCH_AHEAD_BYTES: Final = 32 << 20  # larger results are fetched in pieces, when their call is delivered
_FETCHES_AT_ONCE: Final = 16
_LAST_MAIL_S: Final = 30.0
_STOP_WITHIN_S: Final = 20.0

PULL_PACE: Final = Pace(
    target_s=1.0,
    overhead_s=100e-6,
    byte_s=10e-9,
    lane_bytes=1 << 20,
    most_calls=500,
    most_bytes=180_000,  # about 250 KB as a message
    shares=0.1,
    can_recall=False,
    message_s=0.05,
)


class BlobStore(Protocol):
    """What the backend needs of the store that arguments were put into and results come from."""

    def get(self, name: str) -> memoryview:
        """See store.protocol.Store."""
        ...

    def is_done(self, name: str) -> bool:
        """Whether a blob that was put lies in the store."""
        ...

    def wait(self, names: list[str]) -> None:
        """Until these blobs lie in the store. Errors: what their upload met."""
        ...


@dataclass(frozen=True, kw_only=True)
class PullPlan:
    """What a run is made of. `record` and `settings` lack the queues' URLs until these exist."""

    home: Home
    fleet: Fleet
    store: BlobStore
    seal: Seal
    key: bytes
    settings: WorkerSettings
    record: RunRecord
    open_client: Callable[[], AsyncClient]
    on_open: Callable[[RunRecord], None] = lambda record: None
    on_close: Callable[[], None] = lambda: None
    control_etag: str | None = None  # of the control object of the client before us


class PullBackend:
    """See Backend."""

    def __init__(
        self, run_id: str, make_plan: Callable[[], PullPlan], end: Callable[[], None], *, adopted: bool = False
    ) -> None:
        self._run_id = run_id
        self._end = end
        self._client_id = os.urandom(4).hex()
        self._crash: BaseException | None = None
        self._make_plan = make_plan
        self._made: PullPlan | None = None
        self._adopted = adopted
        self._news = News()
        self.journal = Journal()
        self._journal_number = 0
        self._events: deque[Event] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = False
        self._is_open = False
        self._is_broken = False
        self._detached = False
        self._client: AsyncClient | None = None
        self._mailroom: Mailroom | None = None
        self._control: ControlWriter | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, deque[tuple[Report, asyncio.Task[None] | None]]] = defaultdict(deque)
        self._fetched: dict[str, memoryview] = {}
        self._fetching: asyncio.Semaphore | None = None
        self._queues = ("", "")

    @property
    def _plan(self) -> PullPlan:
        """Made when first needed, because making it asks the service questions."""
        if self._made is None:
            self._made = self._make_plan()
        return self._made

    @property
    def pace(self) -> Pace:
        """See Backend."""
        return PULL_PACE

    @property
    def queue(self) -> str | None:
        """See Backend."""
        return QUEUE

    # --- what the engine asks ---

    def want_lanes(self, count: int) -> None:
        """See Backend."""
        if self._open():
            self._plan.fleet.want(-(-count // self._plan.record.n_slots), time.monotonic())
            self._see_fleet()

    def place(self, lane: str, calls: list[OutboundCall]) -> None:
        """See Backend."""
        if not self._open():
            return
        absent = [ref.name for call in calls for ref in _blobs_of(call) if not self._plan.store.is_done(ref.name)]
        if absent:
            self._begin(self._send_when_stored(calls, absent))
        else:
            self._send(calls)

    def recall(self, lane: str) -> int:
        """See Backend. What lies in the queue may be in a worker's hands by now."""
        return 0

    def recall_queue(self) -> list[tuple[int, int]]:
        """See Backend. Asks the queue, which takes two round trips or more."""
        found: list[tuple[int, int]] = []
        if self._mailroom is not None and self._loop is not None:
            _complete(self._loop, self._recall_into(found))
        return found

    def unstarted(self, lane: str) -> int:
        """See Backend."""
        return self._news.n_unstarted(lane)

    def kill_call(self, lane: str, number: int) -> None:
        """See Backend."""
        if self._control is not None:
            self._control.stop_call(number)

    def ping(self, worker: str) -> None:
        """See Backend."""
        self._news.ask(worker)

    def drop_worker(self, worker: str) -> None:
        """See Backend."""
        self._plan.fleet.drop(worker, "cloudexec: the worker gave no sign of life")
        if self._control is not None:
            self._control.leave(worker)

    def fetch(self, ref: BlobRef) -> memoryview:
        """See Backend. It stays in the store until the run is over, for whoever attaches."""
        found = self._fetched.pop(ref.name, None)
        return found if found is not None else self._plan.store.get(ref.name)

    def poll(self, timeout_s: float | None) -> list[Event]:
        """See Backend."""
        loop = self._loop or self._make_loop()
        now_s = time.monotonic()
        self._turn_fleet(now_s)
        if self._events:
            timeout_s = 0.0
        wake_s = float("inf") if timeout_s is None else timeout_s
        if self._is_open:
            wake_s = min(wake_s, self._plan.fleet.next_deadline - now_s)
        if self._woken:
            wake_s = 0.0
        timer = loop.call_later(max(0.0, wake_s), loop.stop) if wake_s != float("inf") else None
        loop.run_forever()
        if timer is not None:
            timer.cancel()
        self._woken = False
        if self._crash is not None:
            raise self._crash
        self._turn_fleet(time.monotonic())
        events = list(self._events)
        self._events.clear()
        return events

    def wake(self) -> None:
        """See Backend."""
        self._woken = True
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(loop.stop)
            except RuntimeError:  # it is closed: nobody waits
                pass

    def detach(self, within_s: float = 60.0) -> None:
        """Leave the run to its workers: everything is sent, written down, and marked as left by intention."""
        loop = self._loop or self._make_loop()
        if self._open():
            _complete(loop, self._let_go(within_s))
            self._detached = True

    def stop(self, grace_s: float) -> None:
        """See Backend."""
        loop, self._loop = self._loop or self._make_loop(), None
        try:
            if self._is_open:
                self._close_run(loop, grace_s)
        finally:
            self._end()
            loop.close()

    def forget_in_child(self) -> None:
        """This process is a fork: what it has copies of belongs to the parent, and is left alone."""

    # --- beginning ---

    def _make_loop(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.new_event_loop()
        if self._woken:
            self._loop.call_soon(self._loop.stop)
        return self._loop

    def _open(self) -> bool:
        """Make what the run needs, once; False if that failed."""
        if self._is_open or self._is_broken:
            return self._is_open
        loop = self._loop or self._make_loop()
        try:
            self._set_up(loop)
        except CloudexecError as error:
            self._break(WorkerStartFailed(f"run {self._run_id} could not be set up: {error}"), error)
        return self._is_open

    def _set_up(self, loop: asyncio.AbstractEventLoop) -> None:
        plan = self._plan
        record = plan.record
        if not self._adopted:
            work_queue, out_queue = plan.home.make_queues(plan.settings.visibility_s)
            record = replace(record, work_queue=work_queue, out_queue=out_queue)
            plan.on_open(record)
            plan.home.write_record(record)
        self._queues = (record.work_queue, record.out_queue)
        self._is_open = True
        self._client = client = plan.open_client()
        self._fetching = asyncio.Semaphore(_FETCHES_AT_ONCE)
        self._control = ControlWriter(
            client,
            plan.seal,
            plan.home.bucket,
            plan.home.key("control"),
            plan.home.owner,
            plan.control_etag,
            beat_s=beat_every_s(plan.settings.stale_s),
        )
        _complete(loop, self._control.write())
        self._mailroom = Mailroom(
            loop,
            client,
            record.work_queue,
            record.out_queue,
            on_report=self._on_report,
            on_sent=self._on_sent,
            on_broken=self._on_broken_mail,
            on_crash=self._crashed,
        )
        self._mailroom.open()
        self._begin(self._keep_control())
        self._begin(self._keep_journal())
        settings = plan.settings._replace(work_queue=record.work_queue, out_queue=record.out_queue)
        environment = {SETTINGS_VARIABLE: settings.to_json(), KEY_VARIABLE: plan.key.hex()}
        plan.fleet.open(environment, self.wake)
        if self._adopted:
            plan.fleet.adopt(time.monotonic())

    def begin_adopted(self, journal_number: int, reports: list[Report]) -> None:
        """Go on where an earlier client ended: its journal has so many entries, with these reports in them."""
        self._journal_number = journal_number
        for report in reports:
            self._hear(report)

    def resume(self) -> None:
        """Open the run of an earlier client. On the engine's thread."""
        self._open()

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._loop is not None
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (crash := task.exception()) is not None:
            self._crashed(crash)

    def _crashed(self, crash: BaseException) -> None:
        """A defect of ours: the engine must die of it, so that no future waits for what nobody does any more."""
        self._crash = self._crash or crash
        if self._loop is not None:
            self._loop.stop()

    def _happened(self, *events: Event) -> None:
        self._events.extend(events)
        if self._loop is not None:
            self._loop.stop()

    def _break(self, error: CloudexecError, cause: BaseException | None = None) -> None:
        if not self._is_broken:
            self._is_broken = True
            error.__cause__ = cause
            self._happened(Broken(error))

    # --- calls out ---

    async def _send_when_stored(self, calls: list[OutboundCall], names: list[str]) -> None:
        assert self._loop is not None
        try:
            await self._loop.run_in_executor(None, self._plan.store.wait, names)
        except CloudexecError as error:
            failure, now_s = pack_failure(error), time.time()
            self._happened(
                Outcomes(
                    QUEUE,
                    [
                        Outcome(call.number, call.attempts, Verdict.REFUSED, now_s, now_s, 0.0, 0, failure)
                        for call in calls
                    ],
                )
            )
        else:
            self._send(calls)

    def _send(self, calls: list[OutboundCall]) -> None:
        assert self._mailroom is not None
        text = to_text(self._plan.seal, Kind.BATCH, encode_batch([call.for_wire() for call in calls]))
        self._mailroom.send(text, [(call.number, call.attempts) for call in calls])

    async def _recall_into(self, found: list[tuple[int, int]]) -> None:
        assert self._mailroom is not None
        for attempts in self._mailroom.take_unsent():
            found += attempts
        for text in await self._mailroom.take_back():
            try:
                batch = decode_batch(from_text(self._plan.seal, Kind.BATCH, text))
            except WireError as error:
                log.error("run %s: a message that is no batch was removed: %s", self._run_id, error)
            else:
                found += [(call.number, call.attempt) for call in batch.calls]

    def _on_sent(self, tokens: list[list[tuple[int, int]]]) -> None:
        for attempts in tokens:
            self.journal.placed(attempts)

    # --- reports in ---

    def _on_report(self, text: str, receipt: str) -> None:
        try:
            body = from_text(self._plan.seal, Kind.REPORT, text)
            report = decode_report(body)
        except WireError as error:
            log.error("run %s: a message that is no report was dropped: %s", self._run_id, error)
            assert self._mailroom is not None
            self._mailroom.delete([receipt])
            return
        self.journal.heard(body, receipt)
        self._hear(report)

    def _hear(self, report: Report) -> None:
        """Take in a report, after the results in it have been fetched, and after those before it."""
        refs = _results_outside(report)
        fetch = self._begin(self._fetch_ahead(report.worker, refs)) if refs and self._is_open else None
        self._waiting[report.worker].append((report, fetch))
        if fetch is None:
            self._read_waiting(report.worker)

    async def _fetch_ahead(self, worker: str, refs: list[BlobRef]) -> None:
        await asyncio.gather(*[self._fetch(ref) for ref in refs])
        assert self._loop is not None
        self._loop.call_soon(self._read_waiting, worker)  # when this task is done

    async def _fetch(self, ref: BlobRef) -> None:
        assert self._client is not None
        assert self._fetching is not None
        home = self._plan.home
        async with self._fetching:
            try:
                found = await self._client.call(s3.get_object(home.bucket, home.key(ref.name), owner=home.owner))
            except CloudexecError as error:  # tried once more when the call is delivered, and told then
                log.info("a result was not fetched ahead: %s", error)
            else:
                self._fetched[ref.name] = found.body

    def _read_waiting(self, worker: str) -> None:
        waiting = self._waiting[worker]
        now_s = time.monotonic()
        while waiting and (waiting[0][1] is None or waiting[0][1].done()):
            report, _ = waiting.popleft()
            receipts = self._news.receipts(worker) if report.leaving else []
            events = self._news.read(report)
            if report.leaving:
                log.info("worker %s left: %s", worker, report.leaving)
                self._plan.fleet.left(worker, now_s)
                self._delete_work(receipts)
            else:
                self._plan.fleet.heard(worker, now_s)
            if events:
                self._happened(*events)
        if not waiting:
            del self._waiting[worker]

    def _delete_work(self, receipts: list[str]) -> None:
        """Messages of a dead worker: the ledger places their calls anew, so they must not come back."""
        if self._mailroom is not None:
            self._mailroom.delete(receipts, work=True)

    def _on_broken_mail(self, error: CloudexecError) -> None:
        self._begin(self._mail_broke(error))

    async def _mail_broke(self, error: CloudexecError) -> None:
        assert self._control is not None
        try:
            await self._control.check()
        except RunTakenOver as taken:
            self._taken_over(taken)
            return
        except CloudexecError:  # what is told then is the queues' own error
            pass
        broken = WorkerStartFailed(f"the queues of run {self._run_id} are of no use any more: {error}")
        self._break(broken, error)

    # --- the fleet ---

    def _turn_fleet(self, now_s: float) -> None:
        if not self._is_open:
            return
        for event in self._plan.fleet.turn(now_s):
            if isinstance(event, WorkerEnded):
                self._delete_work(self._news.receipts(event.worker))
                self._events.extend(self._news.gone(event.worker, event.end))
            elif isinstance(event, NotStarted):
                self._events.append(StartFailed(event.end))
            elif isinstance(event, Unusable):
                self._break(event.error)
        self._see_fleet()

    def _see_fleet(self) -> None:
        if self._control is not None:
            self._control.see_fleet(self._plan.fleet.n_workers)

    # --- what is kept up ---

    async def _keep_control(self) -> None:
        assert self._control is not None
        try:
            await self._control.keep()
        except RunTakenOver as error:
            self._taken_over(error)

    async def _keep_journal(self) -> None:
        with contextlib.suppress(RunTakenOver):  # which has been told
            while True:
                await asyncio.sleep(JOURNAL_EVERY_S)
                await self._write_journal()

    async def _write_journal(self) -> None:
        """Write what has gathered; then the reports in it may go."""
        if self.journal.is_clean:
            return
        assert self._client is not None
        assert self._mailroom is not None
        body, receipts = self.journal.take()
        self._journal_number += 1
        home = self._plan.home
        sealed = self._plan.seal.close(Kind.JOURNAL, body)
        key = home.key(f"journal/{self._journal_number:08d}-{self._client_id}")
        pause_s = 1.0
        while True:
            try:
                await self._client.call(s3.put_object(home.bucket, key, [sealed], owner=home.owner))
                break
            except CloudexecError as error:
                log.warning("run %s: its journal could not be written, it is tried again: %s", home.run_id, error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, 30.0)
        await self._check_ownership()
        self._mailroom.delete(receipts)

    async def _check_ownership(self) -> None:
        """Reports that the run's new owner has not read must stay in their queue."""
        assert self._control is not None
        while True:
            try:
                await self._control.check()
                return
            except RunTakenOver as error:
                self._taken_over(error)
                raise
            except CloudexecError as error:
                log.info("run %s: it is not known whether it is still ours: %s", self._run_id, error)
                await asyncio.sleep(1.0)

    def _taken_over(self, error: RunTakenOver) -> None:
        self._detached = True  # it is not ours to close any more
        self._break(error)

    # --- the end ---

    async def _let_go(self, within_s: float) -> None:
        assert self._mailroom is not None
        assert self._control is not None
        await self._mailroom.flush(within_s)
        self._control.detach()
        await self._control.write()
        await self._write_journal()
        await self._mailroom.flush(within_s)

    def _close_run(self, loop: asyncio.AbstractEventLoop, grace_s: float) -> None:
        plan = self._plan
        try:
            if not self._detached:
                _complete(loop, self._say_goodbye())
            _complete(loop, self._end_tasks())
        finally:
            within_s = max(grace_s, _STOP_WITHIN_S)
            try:
                reason = "cloudexec: the run is over"
                plan.fleet.close(stop_workers=not self._detached, reason=reason, within_s=within_s)
            finally:
                if not self._detached:
                    plan.home.tidy(*self._queues)
                    plan.on_close()

    async def _say_goodbye(self) -> None:
        if self._control is not None:
            self._control.leave("*")
            try:
                await asyncio.wait_for(self._control.write(), 5.0)
            except (CloudexecError, asyncio.TimeoutError) as error:  # the fleet is stopped anyhow
                log.info("workers could not be told to leave: %s", error)

    async def _end_tasks(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._mailroom is not None:
            await self._mailroom.aclose()
        if self._client is not None:
            await self._client.aclose()
        executor_end = asyncio.get_running_loop().shutdown_default_executor()
        await asyncio.wait_for(executor_end, _LAST_MAIL_S)


def _results_outside(report: Report) -> list[BlobRef]:
    """Blobs that hold results or output of a report's outcomes, but for very large ones."""
    refs: list[BlobRef] = []
    for _, outcome in report.outcomes:
        for packed in (outcome.value, outcome.out):
            if packed and sole_part(packed) is None:
                refs += [part for part in unpack_parts(packed) if isinstance(part, BlobRef)]
    return [ref for ref in refs if ref.size <= _FETCH_AHEAD_BYTES]


def _blobs_of(call: OutboundCall) -> Iterable[BlobRef]:
    """What must be stored before the call is sent."""
    modules = call.function.modules
    return (*call.refs, *(module.bundle for module in modules)) if modules else call.refs


def _complete(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    """Run the loop until this is done, however often somebody stops it to wake the engine."""
    task = loop.create_task(work)
    task.add_done_callback(lambda _task: loop.stop())
    while not task.done():
        loop.run_forever()
    task.result()
