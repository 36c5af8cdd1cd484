"""Jobs that lie in a bucket, from the client's side: put them there, and get their results as futures.

Called by: awslambda.py (`LambdaExecutor.attach`).   Calls: jobobjects.py (S3), jobresults.py.

    submit --- PUT, once ---> PREFIX/jobs/GROUP/NAME.json ---- notification ---> the function
    futures <-- LIST, GET --- PREFIX/results/GROUP/NAME.begun, NAME.json <------ its claim, its result

Requests:  one LIST for each thousand objects, 0.2 s after the last news and then less and less often, down to one in
           5 s; one GET for each result. None while nothing is open.
No hang:   a job that nobody begins is given up after `begin_within_s`; one whose claim is not renewed any more, after
           SILENT_S; trouble with the bucket, at once if it is a refusal, else after TROUBLE_S.
Nothing that comes from the bucket is unpickled.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from types import TracebackType
from typing import Any, Final

from cloudexec.backends.awslambda.discovery import settle
from cloudexec.backends.clients import Clients
from cloudexec.errors import (
    AwsError,
    ConnectionLost,
    EngineFailed,
    EnvironmentLost,
    EventDropped,
    RunDetached,
    SettingsError,
    Throttled,
)
from cloudexec.executors.jobobjects import JobObjects, check_name, used
from cloudexec.executors.jobresults import JobResult, read_result
from cloudexec.executors.settings import seconds
from cloudexec.future import await_end
from cloudexec.store.transfers import together
from cloudexec.transport.account import Client, open_client
from cloudexec.transport.boto import account_of

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.2
MOST_PAUSE_S: Final = 5.0
SILENT_S: Final = 60.0  # the function renews a claim every 10 s
TROUBLE_S: Final = 120.0
_PAUSE_GROWTH: Final = 1.5
_ANEW: Final = "attach to the group again: results that were written stay in the bucket"


class JobFuture(Future[Any]):
    """The outcome of one job, to come. It cannot be cancelled: what lies in the bucket is on its way."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.outcome: JobResult | None = None  # once there is a result; None if the job was given up

    @property
    def stdout(self) -> str:
        """What the job wrote to standard output, or the end of it."""
        return self.outcome.stdout if self.outcome is not None else ""

    @property
    def stderr(self) -> str:
        """The same of standard error."""
        return self.outcome.stderr if self.outcome is not None else ""

    def cancel(self) -> bool:
        """False: nothing takes a job back. Errors: none."""
        return False

    def result(self, timeout: float | None = None) -> Any:
        """See concurrent.futures.Future.result."""
        await_end(self, timeout)
        try:
            return super().result(0)
        finally:
            del self  # else an exception's traceback leads back to the exception

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """See concurrent.futures.Future.exception."""
        await_end(self, timeout)
        return super().exception(0)


@dataclass(slots=True)
class _Open:
    """A job without a result. Seconds on the monotonic clock. beat: when its claim was written, as S3 says it."""

    future: JobFuture
    give_up_s: float
    beat: str = ""
    seen_s: float = 0.0


class Jobs:
    """The jobs of one group, and their futures; a context manager. `submit` puts more.

    A thread looks for results and resolves the futures; their callbacks run on it. Leaving the block lets the jobs go
    on; futures that are open then end with RunDetached.
    """

    def __init__(
        self,
        objects: JobObjects,
        *,
        begin_within_s: float,
        timeout_s: float | None = None,
        silent_s: float = SILENT_S,
        trouble_s: float = TROUBLE_S,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._objects = objects
        self._begin_within_s = begin_within_s
        self._timeout_s = timeout_s
        self._silent_s = silent_s
        self._trouble_s = trouble_s
        self._close = close
        self._changed = threading.Condition()
        self._futures: dict[str, JobFuture] = {}
        self._open: dict[str, _Open] = {}
        self._is_closed = False
        self._pause_s = FIRST_PAUSE_S
        self._look_at_s = 0.0
        self._trouble_since_s = inf
        self._find_all()
        self._thread = threading.Thread(target=self._work, name="cloudexec-jobs", daemon=True)
        self._thread.start()

    @property
    def futures(self) -> dict[str, JobFuture]:
        """The futures of all jobs by their names, in the order of the names: those that lay there when this client
        attached, and those that it has submitted."""
        with self._changed:
            return dict(sorted(self._futures.items()))

    def submit(self, name: str, call: str, /, *args: Any, **kwargs: Any) -> JobFuture:
        """Put a job that calls `call`, "module:function", with arguments that JSON can hold; its future.

        A name is used once in a group. Errors: SettingsError, AwsError and its kin.
        """
        check_name("name", name)
        body = self._job(name, call, args, kwargs)
        with self._changed:
            if self._is_closed:
                raise SettingsError(f"job {name!r}: these jobs were closed", remedy=_ANEW)
            if name in self._futures:
                raise used(name, self._objects.group)
            self._futures[name] = future = JobFuture(name)  # so that no other thread takes the name
        try:
            self._objects.put_job(name, body)
        except BaseException:
            with self._changed:
                del self._futures[name]
            raise
        with self._changed:
            self._watch(future, 0.0)
            is_closed = self._is_closed
        if is_closed:  # meanwhile, and nobody looks any more
            self._let_go()
        return future

    def close(self) -> None:
        """Let go: jobs go on, open futures end with RunDetached. A second time does nothing."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._changed.notify_all()
        self._objects.client.close()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._let_go()
        self._close()

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        with self._changed:
            return f"<jobs of group {self._objects.group!r}: {len(self._futures)}, {len(self._open)} of them open>"

    def _job(self, name: str, call: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """What the job's object says. Errors: SettingsError."""
        job: dict[str, Any] = {"call": call, "args": args, "kwargs": kwargs}
        if self._timeout_s is not None:
            job["timeout_s"] = self._timeout_s
        try:
            return json.dumps(job, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            what = f"the arguments of job {name!r} cannot be written as JSON: {error}"
            raise SettingsError(what, remedy="pass numbers, texts, lists and dictionaries") from error

    def _find_all(self) -> None:
        """Futures for all jobs of the group, also for those of which only the result is left. Errors: AwsError."""
        put_s, found = self._objects.jobs(), self._objects.results()
        waiting = put_s.keys() - found.begun.keys() - set(found.ended)
        service_s = self._objects.service_time_s(min(waiting)) if waiting else 0.0
        with self._changed:
            for name in sorted(put_s.keys() | set(found.ended)):
                self._futures[name] = future = JobFuture(name)
                at_s = put_s.get(name) if name in waiting else None
                self._watch(future, 0.0 if at_s is None else max(0.0, service_s - at_s))
            self._look_at_s = 0.0

    # --- the thread ---

    def _watch(self, future: JobFuture, age_s: float) -> None:
        """Look for the job's result from now on. The lock is held."""
        now_s = time.monotonic()
        self._open[future.name] = _Open(future, now_s + max(0.0, self._begin_within_s - age_s), seen_s=now_s)
        self._pause_s = FIRST_PAUSE_S
        self._look_at_s = min(self._look_at_s, now_s + FIRST_PAUSE_S) if len(self._open) > 1 else now_s + FIRST_PAUSE_S
        self._changed.notify_all()

    def _work(self) -> None:
        try:
            while self._wait():
                self._turn()
        except BaseException as error:  # no future may hang, whatever is wrong with us
            if not self._is_closed:
                log.exception("group %s: the thread that reads results has failed", self._objects.group)
            described = f"the thread that reads results of group {self._objects.group!r} has failed: {error!r}"
            self._give_up_all(partial(_caused, EngineFailed, described, error))

    def _wait(self) -> bool:
        """Until it is time to look; False when this is over."""
        with self._changed:
            while not self._is_closed:
                left_s = (self._look_at_s if self._open else inf) - time.monotonic()
                if left_s <= 0:
                    return True
                self._changed.wait(None if left_s == inf else left_s)
            return False

    def _turn(self) -> None:
        try:
            has_news = self._look()
            self._trouble_since_s = inf
        except AwsError as error:
            if self._is_closed:
                return
            has_news = False
            self._meet(error)
        with self._changed:
            self._pause_s = FIRST_PAUSE_S if has_news else min(self._pause_s * _PAUSE_GROWTH, MOST_PAUSE_S)
            self._look_at_s = time.monotonic() + self._pause_s

    def _meet(self, error: AwsError) -> None:
        """Go on for a while if it may pass; otherwise nobody will ever read a result."""
        now_s = time.monotonic()
        may_pass = isinstance(error, (ConnectionLost, Throttled)) or (error.status or 0) >= 500
        if self._trouble_since_s == inf:
            log.warning("group %s: results cannot be looked for: %s", self._objects.group, error)
            self._trouble_since_s = now_s
        if not may_pass or now_s - self._trouble_since_s > self._trouble_s:
            self._give_up_all(lambda: _again(error))

    def _look(self) -> bool:
        """Resolve what has ended; whether there is anything new. Errors: AwsError."""
        with self._changed:
            still = dict(self._open)
        if not still:
            return False
        found = self._objects.results(min(still, key=lambda name: f"{name}."))
        has_news = self._deliver([name for name in found.ended if name in still])
        for name in still.keys() - set(found.ended):
            has_news |= self._look_after(name, still[name], found.begun.get(name, ""))
        return has_news

    def _deliver(self, names: list[str]) -> bool:
        """Fetch these results, several at once, and resolve their futures; whether there were any. Errors: AwsError."""
        texts: dict[str, bytes | None] = {}

        def fetch(name: str) -> None:
            texts[name] = self._objects.result(name)

        try:
            together([partial(fetch, name) for name in names])
        finally:
            for name in names:
                text = texts.get(name)
                if text is not None:
                    self._resolve(name, *read_result(text, self._objects.result_url(name)))
        return bool(texts)

    def _look_after(self, name: str, job: _Open, beat: str) -> bool:
        """See whether a job without a result lives; whether it has just begun."""
        now_s = time.monotonic()
        has_just_begun = bool(beat) and not job.beat
        if beat and beat != job.beat:
            job.beat, job.seen_s = beat, now_s
            if has_just_begun:
                job.future.set_running_or_notify_cancel()
        elif job.beat and now_s - job.seen_s > self._silent_s:
            what = f"job {name!r} began, and has been silent for {self._silent_s:g} s, so its environment has died"
            self._resolve(name, None, EnvironmentLost(what, remedy="see the function's log; put it under another name"))
        elif not job.beat and now_s >= job.give_up_s:
            self._resolve(name, None, self._never_begun(name))
        return has_just_begun

    def _never_begun(self, name: str) -> EventDropped:
        what = (
            f"nobody has begun job {name!r} in {self._begin_within_s:g} s. Probably the bucket sends no notification "
            f"to the function for objects below {self._objects.where}, or it was lost"
        )
        remedy = (
            "compare `aws s3api get-bucket-notification-configuration` with docs/lambda.md; see the function's log "
            "and throttles; put the job again under another name"
        )
        return EventDropped(what, remedy=remedy)

    # --- futures ---

    def _let_go(self) -> None:
        what = f"let go of group {self._objects.group!r}, whose jobs go on"
        self._give_up_all(lambda: RunDetached(what, remedy=_ANEW))

    def _resolve(
        self, name: str, value: Any, error: BaseException | None = None, outcome: JobResult | None = None
    ) -> None:
        with self._changed:
            job = self._open.pop(name, None)
        if job is None:
            return
        job.future.outcome = outcome
        with suppress(InvalidStateError):  # its owner set it by hand
            if error is not None:
                job.future.set_exception(error)
            else:
                job.future.set_result(value)

    def _give_up_all(self, failure: Callable[[], BaseException]) -> None:
        """An exception of its own for each open future."""
        with self._changed:
            names = list(self._open)
        for name in names:
            self._resolve(name, None, failure())


def open_jobs(
    group: str,
    *,
    bucket: str | None,
    prefix: str | None,
    region: str | None,
    profile: str | None,
    session: Any,
    endpoint_url: str | None,
    begin_within_s: float,
    timeout_s: float | None,
) -> Jobs:
    """See LambdaExecutor.attach."""
    check_name("group", group)
    given = {
        "bucket": bucket,
        "prefix": prefix,
        "region": region,
        "endpoint_url": endpoint_url,
        "aws_profile": profile,
    }
    place = settle(given, os.environ)
    if not place.bucket:
        raise SettingsError("jobs need a bucket, and none is named", remedy="give bucket=, or set CLOUDEXEC_BUCKET")
    begin_within_s = seconds("begin_within_s", begin_within_s)
    timeout_s = None if timeout_s is None else seconds("timeout_s", timeout_s)
    clients = Clients(session=session, region=place.region, profile=place.aws_profile, endpoint_url=place.endpoint_url)
    client: Client | None = None
    try:
        endpoints = {"s3": place.endpoint_url} if place.endpoint_url else {}
        client = open_client(account_of(clients.session, region=clients.region, endpoints=endpoints))
        objects = JobObjects(
            client=client,
            bucket=place.bucket,
            prefix=place.prefix or "cloudexec",
            group=group,
            owner=clients.account_id,
        )
        return Jobs(objects, begin_within_s=begin_within_s, timeout_s=timeout_s, close=clients.close)
    except BaseException:
        if client is not None:
            client.close()
        clients.close()
        raise


def _again(error: AwsError) -> AwsError:
    """The same error as another object, for one future."""
    again: AwsError = _caused(type(error), error.what, error, *error.args[1:])
    return again


def _caused(kind: Callable[..., Any], what: str, cause: BaseException, *args: object) -> Any:
    error = kind(what, *args, remedy=getattr(cause, "remedy", None))
    error.__cause__ = cause
    return error
