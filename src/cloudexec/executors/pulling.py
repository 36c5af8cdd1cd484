"""Puts together what one run needs whose workers pull: store, packer, backend, ledger, engine.

Called by: ecs.py.   Calls: backends.pull, serialization, store, transport.
Nothing is asked of a service before the first submission: then `Place` is found, once, on the caller's thread, so
that wrong settings are raised there.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cloudexec.backends.protocol import OutboundCall
from cloudexec.backends.pull.backend import PullBackend, PullPlan
from cloudexec.backends.pull.control import Hold, claim, is_dead_here, read_control
from cloudexec.backends.pull.fleet import Fleet
from cloudexec.backends.pull.home import Ask, Home, RunRecord
from cloudexec.backends.pull.journal import Restored
from cloudexec.engine.annex import Annex
from cloudexec.engine.engine import Engine
from cloudexec.engine.verdicts import failure_of
from cloudexec.errors import NoSuchKey, PreconditionFailed, RunBusy, SettingsError, SignatureError
from cloudexec.executors import runkeys
from cloudexec.executors.base import Core
from cloudexec.executors.runkeys import RunKey
from cloudexec.executors.stores import LazyBlobs, RunStore
from cloudexec.executors.summaries import SummaryKeeper, SummaryObject, client_facts
from cloudexec.future import Future
from cloudexec.ids import BlobRef, call_id
from cloudexec.ledger.ledger import Ledger, Limits
from cloudexec.ledger.pace import Estimate
from cloudexec.observe.recorder import Heritage, Recorder
from cloudexec.observe.summary import Where
from cloudexec.serialization.blobs import BlobBook
from cloudexec.serialization.packer import Packer
from cloudexec.serialization.shipping import AUTO
from cloudexec.store.memory import address_of
from cloudexec.store.s3 import S3Store
from cloudexec.store.uploads import Uploads
from cloudexec.transport import s3
from cloudexec.transport.account import Account, open_async_client
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.mail import WorkerSettings

INLINE_BYTES: Final = 96 * 1024  # of an argument: as a message it costs two requests of 64 KiB, as a blob three
RESULT_INLINE_BYTES: Final = 96 * 1024
_TAKEN_FOR_DEAD_S: Final = 60.0  # a client writes its heartbeat every 20 s
_OF_WORKERS: Final = frozenset(WorkerSettings._fields[WorkerSettings._fields.index("visibility_s") :])
_TUNABLE: Final = _OF_WORKERS | {"look_every_s"}


@dataclass(frozen=True, kw_only=True)
class PullSettings:
    """What does not depend on the service. `tuning`: fields of WorkerSettings from `visibility_s` on, and
    `look_every_s`, which the fleet goes by."""

    max_workers: int
    n_slots: int
    max_tasks: int | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    modules: Any
    start_timeout_s: float
    log_output: bool = True
    tuning: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.tuning.items():
            if name not in _TUNABLE:
                raise SettingsError(f"tuning[{name!r}] is unknown", remedy=f"names are {', '.join(sorted(_TUNABLE))}")
            if not isinstance(value, (int, float)) or value <= 0:
                raise SettingsError(f"tuning[{name!r}]={value!r} is not a positive number")

    @classmethod
    def of_record(cls, record: RunRecord) -> PullSettings:
        """Those of an earlier client; its initializer lies in the store."""
        return cls(
            max_workers=record.max_workers,
            n_slots=record.n_slots,
            max_tasks=record.worker["max_tasks_per_child"] or None,
            initializer=None,
            initargs=(),
            modules=AUTO,
            start_timeout_s=record.start_timeout_s,
            log_output=bool(record.worker.get("log_output", True)),
            tuning={name: record.worker[name] for name in _OF_WORKERS},
        )


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run lives, as found. `client` is shared by threads; `ask` makes other requests. where, caller_arn: for
    the run's summary."""

    account: Account
    client: Any
    ask: Ask
    bucket: str
    prefix: str
    owner: str
    fleet: Fleet
    tags: Mapping[str, str]
    name: str
    fleet_record: Mapping[str, Any]
    close: Callable[[], None]
    endpoint_url: str = ""
    profile: str = ""
    where: Callable[[], Where] = Where
    caller_arn: Callable[[], str] = str


@dataclass(frozen=True, kw_only=True)
class Found:
    """A run that another client has left. `entries`: its journal, signatures checked."""

    record: RunRecord
    control: Hold
    restored: Restored
    n_entries: int


class PullingRun:
    """One run: made for a new executor, or restored from what an earlier client left.

    larger: makes the run in which calls are tried again that run out of memory here; tried: all its sizes, for errors.
    parent: the run whose calls are tried again in this one. Its blobs stay where they are, and results join them.
    """

    def __init__(
        self,
        run_id: str,
        key: bytes,
        recorder: Recorder,
        settings: PullSettings,
        find_place: Callable[[], Place],
        *,
        adopted: Found | None = None,
        larger: Callable[[PullingRun], PullingRun] | None = None,
        tried: str = "",
        parent: PullingRun | None = None,
    ) -> None:
        self.id = run_id
        self.key = key
        self._seal = Seal(key)
        self.recorder = recorder
        self._settings = settings
        self._find_place = find_place
        self._adopted = adopted
        self._larger = larger
        self._tried = tried
        self._parent = parent
        self._lock = threading.Lock()
        self._place: Place | None = None
        self._uploads: Uploads | None = None
        self._store: S3Store | None = None
        self._keeper: SummaryKeeper | None = None
        self._engine: Engine | None = None
        self.backend = PullBackend(run_id, self._plan, self._close, adopted=adopted is not None)
        self._packer: Packer = parent._packer if parent is not None else self._new_packer()

    def _new_packer(self) -> Packer:
        blobs, settings = BlobBook(LazyBlobs(lambda: self.uploads), address_of), self._settings
        packer = Packer(blobs, INLINE_BYTES, settings.modules)
        if settings.initializer is not None:
            packer.check((settings.initializer, settings.initargs))
        return packer

    def core(self, kind: Callable[..., Core] = Core) -> Core:
        """The executor's inside."""
        return kind(self.engine(), self._packer, self._settings.max_workers, attach=False, prepare=self.place)

    def engine(self) -> Engine:
        """What runs calls. Nothing is asked of a service before it gets one."""
        settings, parent = self._settings, self._parent
        annex = Annex(self._larger_engine, self._tried) if self._larger is not None else None
        limits = Limits(
            max_lanes=settings.max_workers,
            max_tasks_per_lane=settings.max_tasks,
            ping_every_s=10.0,
            silent_after_s=4 * self._tuned("beat_every_s") + 20.0,
            start_within_s=settings.start_timeout_s + 30.0,  # the fleet's own deadline comes first, and knows more
            queue_patience_s=2 * self._tuned("visibility_s") + 10.0,
            start_pause_s=1.0,
            oom_goes_on=annex is not None,
        )
        ledger = Ledger(limits, self.backend.pace)
        if parent is not None:  # whose journal tells of these calls, and whose packer knows when to release blobs
            return Engine(self.id, ledger, self.backend, _keep, annex=annex, parent_id=parent.root.id)
        self._engine = Engine(
            self.id,
            ledger,
            self.backend,
            self._packer.release,
            self.backend.journal,
            annex=annex,
            recorder=self.recorder,
        )
        return self._engine

    def _larger_engine(self) -> Engine:
        assert self._larger is not None
        return self._larger(self).engine()

    @property
    def root(self) -> PullingRun:
        """The run to which the calls belong."""
        return self if self._parent is None else self._parent.root

    def place(self) -> Place:
        """Where the run lives; found on first need. Errors: SettingsError, AwsError and its kin."""
        with self._lock:
            if self._place is None:
                place = self._find_place()
                if self._parent is not None:
                    self._parent.place()
                    self._store, self._uploads = self._parent._store, self._parent._uploads
                else:
                    self._store = S3Store(place.client, place.bucket, self._home(place).prefix, place.owner)
                    self._uploads = Uploads(self._store)
                self._place = place
            return self._place

    @property
    def uploads(self) -> Uploads:
        """The run's blobs."""
        self.place()
        assert self._uploads is not None
        return self._uploads

    def _close(self) -> None:
        """Close every connection. Nothing of the run is asked for any more."""
        if self._keeper is not None:
            self._keeper.end()
        with self._lock:
            if self._uploads is not None and self._parent is None:
                self._uploads.close(abandon=True)
            if self._place is not None:
                self._place.close()

    @property
    def _prefix(self) -> str:
        return self._home(self.place()).prefix

    def _home(self, place: Place) -> Home:
        return Home(
            self.id,
            bucket=place.bucket,
            prefix=place.prefix,
            owner=place.owner,
            client=place.client,
            ask=place.ask,
            tags=place.tags,
        )

    def _tuned(self, name: str) -> float:
        return float(self._settings.tuning.get(name, WorkerSettings._field_defaults[name]))

    def _plan(self) -> PullPlan:
        place, settings = self.place(), self._settings
        assert self._store is not None
        home = self._home(place)
        worker = self._worker_settings(place, home)
        record = (
            self._adopted.record
            if self._adopted is not None
            else RunRecord(
                run_id=self.id,
                backend=self.recorder.backend,
                work_queue="",
                out_queue="",
                python_version=worker.python_version,
                n_slots=settings.n_slots,
                max_workers=settings.max_workers,
                start_timeout_s=settings.start_timeout_s,
                name=place.name,
                worker=worker._asdict(),
                fleet=place.fleet_record,
            )
        )
        return PullPlan(
            home=home,
            fleet=place.fleet,
            store=RunStore(self._store, self.uploads),
            seal=self._seal,
            key=self.key,
            settings=worker,
            record=record,
            open_client=lambda: open_async_client(place.account),
            on_open=lambda _record: self._save_key(place),
            on_close=lambda: runkeys.forget(self.id),
            control=self._adopted.control if self._adopted is not None else None,
            on_set_up=lambda: self._keep_summary(place),
        )

    def _keep_summary(self, place: Place) -> None:
        """From now on, people are told of the run. Larger workers of it are told of with it."""
        if self._parent is not None:
            self.recorder.larger_run(self.id)
            return
        adopted, recorder = self._adopted, self.recorder
        described = SummaryObject(place.client, place.bucket, place.prefix, place.owner, self.id)
        recorder.begin(place.name)
        if adopted is not None:
            recorder.inherit(
                Heritage(
                    before=described.read(),
                    n_cancelled=len(adopted.restored.cancelled),
                    failed=frozenset(adopted.restored.failed),
                )
            )
        recorder.client, recorder.where = client_facts(place.caller_arn()), place.where()
        self._keeper = SummaryKeeper(recorder, described, self._own_engine)
        self._keeper.begin()

    def _own_engine(self) -> Engine:
        assert self._engine is not None
        return self._engine

    def _save_key(self, place: Place) -> None:
        if self._parent is not None:  # nobody attaches to it: who attaches to its parent tries its calls again
            return
        key = RunKey(
            run_id=self.id,
            key_hex=self.key.hex(),
            bucket=place.bucket,
            prefix=place.prefix,
            owner=place.owner,
            region=place.account.region,
            endpoint_url=place.endpoint_url,
            profile=place.profile,
        )
        runkeys.save(key)

    def _worker_settings(self, place: Place, home: Home) -> WorkerSettings:
        if self._adopted is not None:
            return WorkerSettings(**self._adopted.record.worker)
        settings = self._settings
        fixed = WorkerSettings(
            run_id=self.id,
            region=place.account.region,
            work_queue="",
            out_queue="",
            bucket=place.bucket,
            bucket_owner=place.owner,
            prefix=home.prefix,
            n_slots=settings.n_slots,
            python_version="{}.{}".format(*sys.version_info[:2]),
            max_tasks_per_child=settings.max_tasks or 0,
            inline_bytes=RESULT_INLINE_BYTES,
            initializer=self._stored_initializer(),
            blob_prefix=self._parent.root._prefix if self._parent is not None else "",
            calls_run=self._parent.root.id if self._parent is not None else "",
            log_output=settings.log_output,
        )
        tuned = {name: value for name, value in settings.tuning.items() if name in _OF_WORKERS}
        return fixed._replace(**tuned)  # type: ignore[arg-type]  # checked by PullSettings

    def _stored_initializer(self) -> str:
        """The blob from which slots read the initializer; empty if there is none."""
        initializer = self._settings.initializer
        if initializer is None:
            return ""
        packed, refs = self._packer.pack_initializer(initializer, self._settings.initargs)
        self.uploads.wait([ref.name for ref in refs])  # workers read them before any call tells them to
        assert self._store is not None
        return self._store.put_blob(memoryview(packed)).name


def _keep(refs: tuple[BlobRef, ...]) -> None:
    """The blobs of a parent's calls are the parent's to release."""


# --- attaching -------------------------------------------------------------------------------


def find_run(home: Home, seal: Seal, *, take_over: bool) -> Found:
    """Read all that is known of a run. Errors: RunMissing, RunBusy, SignatureError (another run's key)."""
    record = home.read_record(seal)
    try:
        before = _control_before(home, seal, take_over)
        control = claim(home.client, seal, home.bucket, home.key("control"), home.owner, before)
    except PreconditionFailed:
        raise RunBusy(f"another client attached to run {home.run_id} at the same time") from None
    restored = Restored()
    entries = home.journal_entries()
    for entry in entries:
        kind, body = seal.open(entry)
        if kind is not Kind.JOURNAL:
            raise SignatureError(f"an entry in the journal of run {home.run_id} is a {kind.name} message")
        restored.add(body)
    return Found(record=record, control=control, restored=restored, n_entries=len(entries))


def _control_before(home: Home, seal: Seal, take_over: bool) -> Hold | None:
    """The control object that we are to replace. Errors: RunBusy."""
    try:
        found = home.client.call(s3.get_object(home.bucket, home.key("control"), owner=home.owner))
    except NoSuchKey:
        return None
    control = read_control(seal, found.body)
    age_s = (found.server_date_s or time.time()) - (found.last_modified_s or 0.0)
    if not (take_over or control.detached or age_s > _TAKEN_FOR_DEAD_S or is_dead_here(control.client)):
        raise RunBusy(f"run {home.run_id} belongs to client {control.client}, whose heartbeat is {age_s:.0f} s old")
    return Hold(str(found.etag), control.number)


def take_over_run(run: PullingRun, core: Core, found: Found) -> list[Future[Any]]:
    """Futures for all calls of a run, in the order of their numbers; the run goes on from here."""
    restored, engine = found.restored, core.engine
    calls = list(_outbound(restored))
    futures = core.restore(calls)
    adopted, new = [], []
    for call, future in zip(calls, futures, strict=True):
        if call.number in restored.cancelled:
            future.withdraw()
        elif call.number in restored.failed:
            future.set_exception(failure_of(call, restored.failed[call.number], f"call {call_id(run.id, call.number)}"))
        elif call.number in restored.placed:
            call.attempts = restored.placed[call.number]
            adopted.append(call)
        else:
            new.append(call)
    engine.adopt(adopted)
    run.backend.begin_adopted(found.n_entries, restored.reports)
    engine.start(run.backend.resume)
    if new:
        engine.submit(new)
    return futures


def _outbound(restored: Restored) -> Iterable[OutboundCall]:
    for number in sorted(restored.calls):
        packed, options = restored.calls[number]
        yield OutboundCall(
            number,
            Estimate(),
            options,
            packed.function,
            bytes(packed.packed),
            (),
            restored.pickler[number],
            None,
        )
