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
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from cloudexec.backends.protocol import Broken, Event, OutboundCall, Outcomes, StartFailed
from cloudexec.backends.pull.control import ControlWriter, Hold, beat_every_s
from cloudexec.backends.pull.fleet import Fleet, NotStarted, Unusable, WorkerEnded
from cloudexec.backends.pull.home import Home, RunRecord
from cloudexec.backends.pull.inbox import Inbox
from cloudexec.backends.pull.journal import Journal
from cloudexec.backends.pull.loop import NEVER, EngineLoop
from cloudexec.backends.pull.mailroom import Mailroom
from cloudexec.backends.pull.news import News
from cloudexec.backends.pull.scribe import Scribe
from cloudexec.errors import BlobMissing, CloudexecError, RunTakenOver, WireError, WorkerStartFailed
from cloudexec.ids import BlobRef
from cloudexec.ledger.pace import Pace
from cloudexec.serialization.failures import pack_failure
from cloudexec.transport import s3
from cloudexec.transport.account import AwaitedClient
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.mail import KEY_VARIABLE, SETTINGS_VARIABLE, Report, WorkerSettings, from_text, to_text
from cloudexec.wire.messages import Outcome, Verdict, decode_batch, encode_batch

log = logging.getLogger(__name__)

QUEUE: Final = "queue"
_LAST_UPLOADS_S: Final = 30.0
_GOODBYE_S: Final = 5.0
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
    key: bytes = field(repr=False)
    settings: WorkerSettings
    record: RunRecord
    open_client: Callable[[], AwaitedClient]
    on_open: Callable[[RunRecord], None] = lambda record: None
    on_close: Callable[[], None] = lambda: None
    on_set_up: Callable[[], None] = lambda: None
    control: Hold | None = None  # the control object with which we have claimed the run of a client before us


class PullBackend:
    """See Backend. `make_plan` is called when the plan is first needed, `end` when nothing more is."""

    def __init__(
        self, run_id: str, make_plan: Callable[[], PullPlan], end: Callable[[], None], *, adopted: bool = False
    ) -> None:
        self.journal = Journal()
        self._run_id = run_id
        self._make_plan = make_plan
        self._end = end
        self._adopted = adopted
        self._n_journal_entries = 0
        self._events: deque[Event] = deque()
        self._news = News()
        self._inbox: Inbox | None = None
        self._loop: EngineLoop | None = None
        self._run: _OpenRun | None = None
        self._made: PullPlan | None = None
        self._woken = False
        self._is_broken = False
        self._is_left = False  # detached, or taken over: it is not ours to close

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
            plan = self._plan
            plan.fleet.want(-(-count // plan.record.n_slots), time.monotonic())
            self._see_fleet()

    def place(self, lane: str, calls: list[OutboundCall]) -> None:
        """See Backend."""
        run = self._open()
        if run is None:
            return
        absent = [ref.name for call in calls for ref in _blobs_of(call) if not self._plan.store.is_done(ref.name)]
        if absent:
            run.begin_storing(self._send_when_stored(run, calls, absent))
        else:
            self._send(run, calls)

    def recall(self, lane: str) -> int:
        """See Backend. What lies in the queue may be in a worker's hands by now."""
        return 0

    def recall_queue(self) -> list[tuple[int, int]]:
        """See Backend. Asks the queue, which takes two round trips or more."""
        found: list[tuple[int, int]] = []
        if self._run is not None:
            self._run.loop.complete(self._recall_into(self._run, found))
        return found

    def unstarted(self, lane: str) -> int:
        """See Backend."""
        return self._news.n_unstarted(lane)

    def kill_call(self, lane: str, number: int) -> None:
        """See Backend."""
        if self._run is not None:
            self._run.control.stop_call(number)

    def ping(self, worker: str) -> None:
        """See Backend."""
        self._news.ask(worker)

    def drop_worker(self, worker: str) -> None:
        """See Backend."""
        if self._run is not None:
            self._plan.fleet.drop(worker, "the worker gave no sign of life")
            self._run.control.leave(worker)

    def fetch(self, ref: BlobRef) -> memoryview:
        """See Backend. It stays in the store until the run is over, for whoever attaches."""
        found = self._inbox.pop_fetched(ref) if self._inbox is not None else None
        if found is None:
            found = self._plan.store.get(ref.name)
        if found.nbytes != ref.size:
            raise BlobMissing(f"{ref.name} has {found.nbytes:,} bytes in the store, and {ref.size:,} were sent")
        return found

    def poll(self, timeout_s: float | None) -> list[Event]:
        """See Backend."""
        loop = self._ensure_loop()
        now_s = time.monotonic()
        self._turn_fleet(now_s)
        wait_s = NEVER if timeout_s is None else timeout_s
        if self._run is not None and not self._is_left:
            wait_s = min(wait_s, self._plan.fleet.next_deadline - now_s)
        loop.run_for(0.0 if self._events or self._woken else wait_s)
        self._woken = False
        self._turn_fleet(time.monotonic())
        events = list(self._events)
        self._events.clear()
        return events

    def wake(self) -> None:
        """See Backend."""
        self._woken = True
        if self._loop is not None:
            self._loop.wake()

    def detach(self, within_s: float = 60.0) -> None:
        """Leave the run to its workers: everything is sent, written down, and marked as left by intention."""
        run = self._open()
        if run is not None:
            self._is_left = True  # whatever happens now, the run is not removed any more
            try:
                run.loop.complete(run.let_go(within_s))
            except RunTakenOver as error:
                self._taken_over(error)

    def stop(self, grace_s: float) -> None:
        """See Backend."""
        loop, self._loop = self._ensure_loop(), None
        try:
            if self._run is not None:
                self._close_run(self._run, grace_s)
        finally:
            self._end()
            loop.close()

    def forget_in_child(self) -> None:
        """This process is a fork: what it has copies of belongs to the parent, and is left alone."""

    def begin_adopted(self, n_journal_entries: int, reports: list[Report]) -> None:
        """Go on where an earlier client ended: its journal has so many entries, with these reports in them."""
        self._n_journal_entries = n_journal_entries
        for report in reports:
            self._ensure_inbox().hear(report)

    def resume(self) -> None:
        """Open the run of an earlier client. On the engine's thread."""
        self._open()

    # --- beginning ---

    @property
    def _plan(self) -> PullPlan:
        """Made when first needed, because making it asks the service questions."""
        if self._made is None:
            self._made = self._make_plan()
        return self._made

    def _ensure_loop(self) -> EngineLoop:
        if self._loop is None:
            self._loop = EngineLoop()
        return self._loop

    def _ensure_inbox(self) -> Inbox:
        if self._inbox is None:
            self._inbox = Inbox(self._run_id, self._plan.seal, self._news, self._on_events)
        return self._inbox

    def _open(self) -> _OpenRun | None:
        """Make what the run needs, once; None if that failed."""
        if self._run is None and not self._is_broken:
            try:
                self._set_up()
            except CloudexecError as error:
                what = f"run {self._run_id} could not be set up: {error.what}"
                self._break(WorkerStartFailed(what, remedy=error.remedy), error)
        return self._run

    def _set_up(self) -> None:
        plan, loop = self._plan, self._ensure_loop()
        record = plan.record
        if not self._adopted:
            record = self._begin_record(plan)
        self._run = run = _OpenRun(self, plan, loop, record, self._n_journal_entries)
        try:
            loop.complete(run.control.write())
        except RunTakenOver as error:
            self._taken_over(error)
            return
        self._ensure_inbox().open(loop, run.fetch_blob)
        run.mailroom.open()
        loop.begin(self._keep(run.control.keep()))
        loop.begin(self._keep(run.scribe.keep()))
        settings = plan.settings._replace(work_queue=record.work_queue, out_queue=record.out_queue)
        plan.fleet.open({SETTINGS_VARIABLE: settings.to_json(), KEY_VARIABLE: plan.key.hex()}, self.wake)
        if self._adopted:
            plan.fleet.adopt(time.monotonic())
        plan.on_set_up()

    def _begin_record(self, plan: PullPlan) -> RunRecord:
        """Make the queues, and write down where they are; if that fails, there is no run, and no trace of it."""
        work_queue, out_queue = plan.home.make_queues(plan.settings.visibility_s)
        record = replace(plan.record, work_queue=work_queue, out_queue=out_queue)
        try:
            plan.on_open(record)
            plan.home.write_record(record, plan.seal)
        except BaseException:
            plan.home.remove_queues(work_queue, out_queue)
            plan.on_close()
            raise
        return record

    async def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Something that goes on for as long as the run is ours."""
        try:
            await work
        except RunTakenOver as error:
            self._taken_over(error)

    def _taken_over(self, error: RunTakenOver) -> None:
        self._is_left = True
        if self._run is not None:
            self._run.mailroom.leave_to_others()
        self._break(error)

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

    async def _send_when_stored(self, run: _OpenRun, calls: list[OutboundCall], names: list[str]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._plan.store.wait, names)
        except CloudexecError as error:
            failure, now_s = pack_failure(error), time.time()
            refused = [
                Outcome(call.number, call.attempts, Verdict.REFUSED, now_s, now_s, 0.0, 0, failure) for call in calls
            ]
            self._happened(Outcomes(QUEUE, refused))
        else:
            self._send(run, calls)

    def _send(self, run: _OpenRun, calls: list[OutboundCall]) -> None:
        text = to_text(self._plan.seal, Kind.BATCH, encode_batch([call.for_wire() for call in calls]))
        run.mailroom.send(text, [(call.number, call.attempts) for call in calls])

    async def _recall_into(self, run: _OpenRun, found: list[tuple[int, int]]) -> None:
        for attempts in run.mailroom.take_unsent():
            found += attempts
        for text in await run.mailroom.take_back():
            try:
                batch = decode_batch(from_text(self._plan.seal, Kind.BATCH, text))
            except WireError as error:
                log.error("run %s: a message that is no batch was removed: %s", self._run_id, error)
            else:
                found += [(call.number, call.attempt) for call in batch.calls]

    def on_sent(self, tokens: list[list[tuple[int, int]]]) -> None:
        """The queue has these messages."""
        for attempts in tokens:
            self.journal.placed(attempts)

    # --- reports in ---

    def on_report(self, text: str, receipt: str) -> None:
        """A message of the out queue."""
        body = self._ensure_inbox().take(text)
        if body is not None:
            self.journal.heard(body, receipt)
        elif self._run is not None:
            self._run.mailroom.delete([receipt])

    def _on_events(self, report: Report, events: list[Event]) -> None:
        now_s = time.monotonic()
        if report.leaving:
            log.info("worker %s left: %s", report.worker, report.leaving)
            self._plan.fleet.left(report.worker, now_s)
            if self._run is not None:  # the ledger places anew what it still held
                self._run.mailroom.delete(list(report.receipts), work=True)
        else:
            self._plan.fleet.heard(report.worker, now_s)
        if events:
            self._happened(*events)

    def on_broken_mail(self, error: CloudexecError) -> None:
        """The queues refuse us for good."""
        if self._run is not None:
            self._run.loop.begin(self._mail_broke(self._run, error))

    async def _mail_broke(self, run: _OpenRun, error: CloudexecError) -> None:
        try:
            await run.control.check()
        except RunTakenOver as taken:
            self._taken_over(taken)
            return
        except CloudexecError:  # what is told then is the queues' own error
            pass
        what = f"the queues of run {self._run_id} are of no use any more: {error.what}"
        broken = WorkerStartFailed(what, remedy=error.remedy)
        self._break(broken, error)

    # --- the fleet ---

    def _turn_fleet(self, now_s: float) -> None:
        if self._run is None or self._is_left:
            return
        for event in self._plan.fleet.turn(now_s):
            if isinstance(event, WorkerEnded):
                # The ledger places its calls anew, so its messages must not come back.
                self._run.mailroom.delete(self._news.receipts(event.worker), work=True)
                self._events.extend(self._news.gone(event.worker, event.end))
            elif isinstance(event, NotStarted):
                self._events.append(StartFailed(event.end))
            elif isinstance(event, Unusable):
                self._break(event.error)
        self._see_fleet()

    def _see_fleet(self) -> None:
        if self._run is not None:
            self._run.control.see_fleet(self._plan.fleet.n_workers)

    # --- the end ---

    def _close_run(self, run: _OpenRun, grace_s: float) -> None:
        plan = self._plan
        try:
            if not self._is_left:
                run.loop.complete(self._say_goodbye(run))
            run.loop.complete(run.close())
        finally:
            try:
                plan.fleet.close(
                    stop_workers=not self._is_left,
                    reason="the run is over",
                    within_s=max(grace_s, _STOP_WITHIN_S),
                )
            finally:
                if not self._is_left:
                    plan.home.tidy(run.record.work_queue, run.record.out_queue)
                    plan.on_close()

    async def _say_goodbye(self, run: _OpenRun) -> None:
        """Tell all workers to leave, unless they are another client's by now."""
        run.control.leave("*")
        try:
            await asyncio.wait_for(run.control.write(), _GOODBYE_S)
        except RunTakenOver as error:
            self._taken_over(error)
        except (CloudexecError, asyncio.TimeoutError) as error:  # the fleet is stopped anyhow
            log.info("workers could not be told to leave: %s", error)


class _OpenRun:
    """What a run has from its first need on: connections, queues, and what is kept up."""

    def __init__(
        self, backend: PullBackend, plan: PullPlan, loop: EngineLoop, record: RunRecord, n_journal_entries: int
    ) -> None:
        home = plan.home
        self.loop = loop
        self.record = record
        self._home = home
        self._blobs = plan.settings.blob_prefix or home.prefix
        self._storing: set[asyncio.Task[None]] = set()
        self._client = plan.open_client()
        self.control = ControlWriter(
            self._client,
            plan.seal,
            home.bucket,
            home.key("control"),
            home.owner,
            plan.control,
            beat_s=beat_every_s(plan.settings.stale_s),
        )
        self.mailroom = Mailroom(
            loop,
            self._client,
            record.work_queue,
            record.out_queue,
            on_report=backend.on_report,
            on_sent=backend.on_sent,
            on_broken=backend.on_broken_mail,
        )
        self.scribe = Scribe(
            backend.journal, home, plan.seal, self._client, self.control, self.mailroom.delete, n_journal_entries
        )

    async def fetch_blob(self, ref: BlobRef) -> memoryview:
        """A blob's bytes, and hardly more than were announced: somebody may have put a giant in its place."""
        home, key = self._home, f"{self._blobs}/{ref.name}"
        found = await self._client.call(s3.get_object(home.bucket, key, owner=home.owner, range=(0, ref.size + 1)))
        return found.body

    async def let_go(self, within_s: float) -> None:
        """Send and write everything, and mark the run as left by intention. Nobody may attach before the journal tells
        all."""
        if self._storing:
            await asyncio.wait(self._storing, timeout=within_s)
        await self.mailroom.flush(within_s)
        await self.scribe.write()
        self.control.detach()
        await self.control.write()
        await self.mailroom.flush(within_s)

    def begin_storing(self, work: Coroutine[Any, Any, None]) -> None:
        """Send calls when what they refer to has been stored."""
        task = self.loop.begin(work)
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)

    async def close(self) -> None:
        """End what is kept up; close every connection."""
        await self.loop.cancel_all()
        await self._client.aclose()
        await asyncio.wait_for(asyncio.get_running_loop().shutdown_default_executor(), _LAST_UPLOADS_S)


def _blobs_of(call: OutboundCall) -> Iterable[BlobRef]:
    """What must be stored before the call is sent."""
    modules = call.function.modules
    return (*call.refs, *(module.bundle for module in modules)) if modules else call.refs
