"""LambdaExecutor: calls run in a Lambda function, a thousand at once within seconds.

Called by: users.   Calls: backends.awslambda, stores.py; base.py for what all executors share.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final

from cloudexec.backends.awslambda.backend import LambdaBackend, LambdaPlan, without_bucket
from cloudexec.backends.awslambda.discovery import FunctionFacts, LambdaPlace, complete, event_facts, settle
from cloudexec.backends.clients import Clients
from cloudexec.backends.pull.home import Home
from cloudexec.engine.engine import Engine
from cloudexec.errors import SettingsError
from cloudexec.executors.base import CloudExecutor, Core, OnError, checked_env
from cloudexec.executors.jobs import Jobs, open_jobs
from cloudexec.executors.settings import checked_initializer, positive, positive_or_none, seconds
from cloudexec.executors.stores import LazyBlobs, RunStore
from cloudexec.executors.summaries import SummaryKeeper, SummaryObject, client_facts
from cloudexec.ids import BlobRef, new_run_id
from cloudexec.ledger.calls import CallOptions, Retry
from cloudexec.ledger.ledger import Ledger, Limits
from cloudexec.ledger.pace import Pace
from cloudexec.observe.recorder import Recorder
from cloudexec.observe.summary import Where
from cloudexec.serialization.blobs import BlobBook
from cloudexec.serialization.packer import Packer
from cloudexec.store.memory import address_of
from cloudexec.store.s3 import S3Store
from cloudexec.store.uploads import Uploads
from cloudexec.transport.account import Account, AwaitedClient, open_async_client, open_client
from cloudexec.transport.boto import account_of
from cloudexec.transport.limits import raise_descriptor_limit
from cloudexec.wire.envelope import Seal, new_key
from cloudexec.wire.invocation import InvocationSettings

log = logging.getLogger(__name__)

PREFIX: Final = "cloudexec"
BACKEND: Final = "lambda"
INLINE_BYTES: Final = 256 * 1024  # of an argument; a larger one is uploaded once, and fetched once an environment
RESULT_INLINE_BYTES: Final = 1 << 20
NO_BUCKET_INLINE_BYTES: Final = 4 << 20
EVENTS_ABOVE_S: Final = 300.0
_INITIALIZER_INLINE: Final = 64 * 1024  # it goes along in each invocation
_MOST_CONCURRENT: Final = 100_000
_TUNABLE: Final = frozenset({"margin_s", "control_after_s", "control_every_s", "early_after_s", "event_beat_s"})
_CONTROL_S: Final = 2.0

LAMBDA_PACE: Final = Pace(
    target_s=0.5,  # an environment takes ten invocations a second at most, and each costs 20 ms on its way
    overhead_s=150e-6,
    byte_s=10e-9,
    lane_bytes=1 << 22,
    most_calls=2000,
    most_bytes=4_300_000,  # of arguments: base64 adds a third, and Lambda takes 6 MiB
    shares=0.34,
    message_s=0.03,
    can_recall=False,
    pipelined=False,
)


@dataclass(frozen=True, kw_only=True)
class _Settings:
    max_workers: int | None
    max_tasks: int | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    modules: Any
    throttle_timeout_s: float
    stale_s: float
    events_above_s: float
    log_output: bool
    name: str
    tuning: Mapping[str, float]


class LambdaExecutor(CloudExecutor):
    """Runs calls in a Lambda function whose handler is cloudexec's; one invocation carries one call, or several short
    ones, and its answer their results.

    Where: function (a name or an ARN) and qualifier; shards, more functions with the same code, each with a ramp of its
    own; bucket and prefix for what is too large for an invocation; region, profile or session, endpoint_url. What is
    not given comes from the environment (CLOUDEXEC_FUNCTION, ...), `~/.config/cloudexec/config.toml`, the deployed
    stack; the bucket also from the function's own variable CLOUDEXEC_BUCKET. Memory and timeout are the function's.

    How much: max_workers is the number of calls at once. By default that is what is reserved for the function, or four
    fifths of the concurrency that the account has not reserved: others live there, too. slots of them share an
    environment, one for each vCPU by default.

    Throttles slow the executor down and fail nothing, until Lambda has refused everything for throttle_timeout_s.
    A call ends with FunctionTimeout shortly before the function's own timeout. Calls whose timeout_s is above
    events_above_s are invoked by Event, and their results come through the bucket. Running calls end when the client
    has shown no sign of life for client_timeout_s (with a bucket).

    initializer, initargs, max_tasks_per_child, timeout_s, retries, env, name, on_error, modules: as for ECSExecutor.
    retries=Retry(lost=0) is for calls that must never run twice: then a broken connection fails them.
    log_output: what calls print goes to the function's log, too, each line with its call's id in front.
    tuning: intervals by name, see docs/lambda.md. Nothing is asked of AWS before the first submission.
    Errors: SettingsError.
    """

    def __init__(
        self,
        function: str | None = None,
        *,
        max_workers: int | None = None,
        qualifier: str | None = None,
        shards: Sequence[str] | None = None,
        slots: int | None = None,
        bucket: str | None = None,
        prefix: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        session: Any = None,
        endpoint_url: str | None = None,
        stack: str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
        modules: Any = "auto",
        timeout_s: float | None = None,
        retries: int | Retry = Retry(),  # noqa: B008 - frozen
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        throttle_timeout_s: float = 900.0,
        client_timeout_s: float = 120.0,
        events_above_s: float = EVENTS_ABOVE_S,
        on_error: OnError = "wait",
        log_output: bool = True,
        tuning: Mapping[str, float] | None = None,
    ) -> None:
        given = {
            "function": function,
            "qualifier": qualifier,
            "shards": shards,
            "slots": slots,
            "bucket": bucket,
            "prefix": prefix,
            "region": region,
            "stack": stack,
            "endpoint_url": endpoint_url,
            "aws_profile": profile,
        }
        place = settle(given, os.environ)
        settings = _Settings(
            max_workers=None if max_workers is None else positive("max_workers", max_workers),
            max_tasks=positive_or_none("max_tasks_per_child", max_tasks_per_child),
            initializer=checked_initializer(initializer),
            initargs=tuple(initargs),
            modules=modules,
            throttle_timeout_s=seconds("throttle_timeout_s", throttle_timeout_s),
            stale_s=seconds("client_timeout_s", client_timeout_s),
            events_above_s=seconds("events_above_s", events_above_s),
            log_output=bool(log_output),
            name=name or "",
            tuning=_checked_tuning(tuning or {}),
        )
        options = CallOptions(
            timeout_s=timeout_s, retry=Retry.of(retries), env=checked_env(env) if env else None, name=name
        )
        self._run = _LambdaRun(new_run_id(), place, _checked_session(session), settings)
        super().__init__(self._run.core(), options, on_error)

    @classmethod
    def attach(
        cls,
        group: str,
        *,
        bucket: str | None = None,
        prefix: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        session: Any = None,
        endpoint_url: str | None = None,
        begin_within_s: float = 600.0,
        timeout_s: float | None = None,
    ) -> Jobs:
        """The jobs of a group that lie in a bucket, whoever put them there; docs/lambda.md tells what jobs are.

        A job that nobody has begun begin_within_s after it was put ends with EventDropped. timeout_s: of the jobs that
        are submitted here. Errors: SettingsError, AwsError and its kin.
        """
        return open_jobs(
            group,
            bucket=bucket,
            prefix=prefix,
            region=region,
            profile=profile,
            session=session,
            endpoint_url=endpoint_url,
            begin_within_s=begin_within_s,
            timeout_s=timeout_s,
        )


class _LambdaRun:
    """Puts together what one run needs; what AWS must be asked is asked once, before the first submission."""

    def __init__(self, run_id: str, place: LambdaPlace, session: Any, settings: _Settings) -> None:
        self.id = run_id
        self._key = new_key()
        self._settings = settings
        self._asked = place
        self._session = session
        self._lock = threading.Lock()
        self._found: _Found | None = None
        self._core: Core | None = None
        self._recorder = Recorder(run_id, BACKEND, settings.max_workers or 0)
        self._keeper: SummaryKeeper | None = None
        self._packer = Packer(BlobBook(_Blobs(self._uploads), address_of), INLINE_BYTES, settings.modules)
        if settings.initializer is not None:
            self._packer.check((settings.initializer, settings.initargs))

    def core(self) -> Core:
        """The executor's inside."""
        settings = self._settings
        most = settings.max_workers or _MOST_CONCURRENT
        limits = Limits(
            max_lanes=most,
            ping_every_s=60.0,
            silent_after_s=1e9,  # each invocation has a deadline of its own
            start_within_s=1e9,  # lanes come when Lambda has room; the backend gives up by throttle_timeout_s
            timeout_grace_s=1e9,  # environments keep time limits
        )
        backend = LambdaBackend(self.id, LAMBDA_PACE, self._plan, self._close)
        engine = Engine(self.id, Ledger(limits, backend.pace), backend, self._packer.release, recorder=self._recorder)
        self._core = Core(engine, self._packer, most, attach=False, prepare=self._prepare)
        return self._core

    # --- what AWS is asked ---

    def _prepare(self) -> _Found:
        """Where calls run; found on first need. Errors: SettingsError, AwsError and its kin, and what breaks a run."""
        with self._lock:
            if self._found is None:
                self._found = found = self._find()
                assert self._core is not None
                self._core.max_workers = found.max_workers
                n_slots = found.n_slots
                at_once = found.max_workers if n_slots > 1 else 0
                pace = replace(LAMBDA_PACE, together=n_slots, most_at_once=at_once)
                if found.uploads is None:
                    self._packer.keep_inline(NO_BUCKET_INLINE_BYTES)
                self._core.engine.ledger.adjust(found.most_lanes, pace)
            return self._found

    def _find(self) -> _Found:
        asked = self._asked
        clients = Clients(
            session=self._session, region=asked.region, profile=asked.aws_profile, endpoint_url=asked.endpoint_url
        )
        try:
            place, facts = complete(asked, clients.ask)
            endpoints = dict.fromkeys(("s3", "lambda"), asked.endpoint_url) if asked.endpoint_url else {}
            account = account_of(clients.session, region=clients.region, endpoints=endpoints)
            n_slots = place.slots or facts.n_vcpus
            max_workers = self._settings.max_workers or facts.n_concurrent * n_slots
            # Calls that come singly have an environment each, but not more than the account has.
            most_lanes = max(-(-max_workers // n_slots), min(max_workers, facts.n_concurrent))
            possible = raise_descriptor_limit(most_lanes)
            if possible < most_lanes:
                log.warning(
                    "this process may open few files: only %d of %d invocations can be in flight at once. Raise the "
                    "hard limit (ulimit -Hn, or LimitNOFILE=), or take a function with more memory and slots",
                    possible,
                    most_lanes,
                )
            found = _Found(
                clients=clients,
                account=account,
                place=place,
                facts=facts,
                n_slots=n_slots,
                most_lanes=min(most_lanes, possible),
                max_workers=min(max_workers, possible * n_slots),
            )
            if place.bucket:
                found.open_objects(self.id)
        except BaseException:
            clients.close()
            raise
        return found

    def _uploads(self) -> Uploads:
        found = self._prepare()
        if found.uploads is None:
            raise _NoBucket
        return found.uploads

    def _plan(self) -> LambdaPlan:
        found = self._prepare()
        place, settings = found.place, self._settings
        return LambdaPlan(
            functions=(place.function, *place.shards),
            qualifier=place.qualifier,
            facts=found.facts,
            most_lanes=found.most_lanes,
            settings=self._invocation_settings(found),
            seal=Seal(self._key),
            key=self._key,
            home=found.home,
            store=RunStore(found.store, found.uploads) if found.store and found.uploads else None,
            open_client=lambda: _open_async(found),
            read_event_facts=lambda: event_facts(place, found.facts, found.clients.ask),
            throttle_timeout_s=settings.throttle_timeout_s,
            events_above_s=settings.events_above_s,
            on_open=lambda: self._keep_summary(found),
            on_invoked=self._recorder.invoked,
        )

    def _keep_summary(self, found: _Found) -> None:
        """From now on, people are told of the run; without a bucket there is no place for that."""
        home, recorder, core = found.home, self._recorder, self._core
        assert core is not None
        if home is None or self._keeper is not None:
            return
        place, facts = found.place, found.facts
        recorder.begin(self._settings.name)
        recorder.max_workers = found.max_workers
        recorder.client = client_facts(found.clients.known_arn)
        recorder.where = Where(
            region=found.account.region,
            bucket=home.bucket,
            prefix=place.prefix or PREFIX,
            functions=(place.function, *place.shards),
            qualifier=place.qualifier,
            arch=facts.arch,
            memory_mib=facts.memory_mib,
            slots=found.n_slots,
            log_group=facts.log_group,
            logs_output=self._settings.log_output,
        )
        described = SummaryObject(found.client, home.bucket, place.prefix or PREFIX, home.owner, self.id)
        self._keeper = SummaryKeeper(recorder, described, lambda: core.engine)
        self._keeper.begin()

    def _invocation_settings(self, found: _Found) -> InvocationSettings:
        home, settings = found.home, self._settings
        initializer, initializer_blob = self._packed_initializer(found)
        known = InvocationSettings(
            run_id=self.id,
            region=found.account.region,
            n_slots=found.n_slots,
            python_version="{}.{}".format(*sys.version_info[:2]),
            bucket=home.bucket if home is not None else "",
            owner=home.owner if home is not None else "",
            prefix=home.prefix if home is not None else "",
            max_tasks_per_child=settings.max_tasks or 0,
            inline_bytes=RESULT_INLINE_BYTES if home is not None else NO_BUCKET_INLINE_BYTES,
            initializer=initializer,
            initializer_blob=initializer_blob,
            margin_s=min(1.0, found.facts.timeout_s / 4),
            control_after_s=_CONTROL_S,
            control_every_s=_CONTROL_S,
            stale_s=settings.stale_s,
            log_output=settings.log_output,
        )
        return known._replace(**settings.tuning)  # type: ignore[arg-type]  # checked by _checked_tuning

    def _packed_initializer(self, found: _Found) -> tuple[str, str]:
        """In the invocation, or the name of a blob; see InvocationSettings."""
        initializer = self._settings.initializer
        if initializer is None:
            return "", ""
        from base64 import b64encode

        packed, refs = self._packer.pack_initializer(initializer, self._settings.initargs)
        if refs and found.uploads is not None:
            found.uploads.wait([ref.name for ref in refs])  # environments read them before any call tells them to
        if len(packed) <= _INITIALIZER_INLINE:
            return b64encode(packed).decode("ascii"), ""
        if found.store is None:
            raise without_bucket(f"the initializer takes {len(packed):,} bytes")
        return "", found.store.put_blob(memoryview(packed)).name

    def _close(self) -> None:
        """Close every connection. Nothing of the run is asked for any more."""
        if self._keeper is not None:
            self._keeper.end()
        with self._lock:
            if self._found is not None:
                self._found.close()


@dataclass(kw_only=True)
class _Found:
    """Where a run lives. home, store, uploads: None without a bucket."""

    clients: Clients
    account: Account
    place: LambdaPlace
    facts: FunctionFacts
    n_slots: int
    most_lanes: int
    max_workers: int
    home: Home | None = None
    store: S3Store | None = None
    uploads: Uploads | None = None
    client: Any = None

    def open_objects(self, run_id: str) -> None:
        """Connect to the bucket."""
        self.client = open_client(self.account)
        owner = self.clients.account_id
        self.home = Home(
            run_id,
            bucket=self.place.bucket,
            prefix=self.place.prefix or PREFIX,
            owner=owner,
            client=self.client,
            ask=self.clients.ask,
            tags={},
        )
        self.store = S3Store(self.client, self.place.bucket, self.home.prefix, owner)
        self.uploads = Uploads(self.store)

    def close(self) -> None:
        """Close every connection."""
        if self.uploads is not None:
            self.uploads.close(abandon=True)
        if self.client is not None:
            self.client.close()
        self.clients.close()


def _open_async(found: _Found) -> AwaitedClient:
    services = ("s3", "lambda")
    return open_async_client(found.account, max_connections=found.most_lanes + 64, services=services)


class _Blobs(LazyBlobs):
    """A blob book's store, if there is a bucket."""

    def put_blob(self, content: memoryview) -> BlobRef:
        """See LazyBlobs. Errors: SettingsError without a bucket."""
        try:
            return super().put_blob(content)
        except _NoBucket:
            what = f"a large argument or a local module, {content.nbytes:,} bytes, must travel beside the invocation"
            raise without_bucket(what, "; a module may also be in the function's zip (modules=None)") from None


class _NoBucket(Exception):
    """There is nowhere to put it."""


def _checked_session(session: Any) -> Any:
    if session is not None and not (hasattr(session, "region_name") and hasattr(session, "client")):
        raise SettingsError(f"session={session!r} is not a session of boto3", remedy="give boto3.Session(...)")
    return session


def _checked_tuning(tuning: Mapping[str, float]) -> Mapping[str, float]:
    if not isinstance(tuning, Mapping):
        what = f"tuning={tuning!r} is not a mapping"
        raise SettingsError(what, remedy='give intervals by name, e.g. {"margin_s": 2}')
    for name, value in tuning.items():
        if name not in _TUNABLE:
            raise SettingsError(f"tuning[{name!r}] is unknown", remedy=f"names are {', '.join(sorted(_TUNABLE))}")
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < inf:
            raise SettingsError(f"tuning[{name!r}]={value!r} is not a positive number of seconds")
    return tuning
