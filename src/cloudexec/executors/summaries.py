"""Writes a run's summary into the bucket: when the run begins, while it changes, when it ends.

Called by: pulling.py, awslambda.py.   Calls: observe.summary, transport.s3.
Schedule:  on a thread of its own, one PUT at the beginning, one every WRITE_EVERY_S while something has changed, one
           every BEAT_S if nothing has (the date of the object is a sign of life where a run has no other), one at the
           end. Whatever goes wrong is logged once, and no call and no shutdown waits for it longer than END_WITHIN_S.
Owner:     each PUT asks that the object is still the one that was written last. Who attaches to the run or stops it
           writes, too; from then on the earlier client is silent.
"""

from __future__ import annotations

import getpass
import logging
import os
import platform
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import cloudexec
from cloudexec.backends.pull.control import client_name
from cloudexec.engine.engine import Engine
from cloudexec.errors import AwsError, CloudexecError, NoSuchKey, PreconditionFailed, RunDetached, RunTakenOver
from cloudexec.executors.base import facts_of
from cloudexec.observe.recorder import Recorder
from cloudexec.observe.summary import Client, RunSummary, summary_key
from cloudexec.transport import s3

log = logging.getLogger(__name__)

WRITE_EVERY_S: Final = 30.0
BEAT_S: Final = 300.0
END_WITHIN_S: Final = 10.0


def client_facts(arn: str = "") -> Client:
    """This process, for a summary."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user id without a name
        user = str(os.getuid()) if hasattr(os, "getuid") else ""
    return Client(
        host=socket.gethostname(),
        user=user,
        pid=os.getpid(),
        process=client_name(),
        arn=arn,
        python=platform.python_version(),
        cloudexec=cloudexec.__version__,
    )


class SummaryObject:
    """The object in the bucket. etag: of the version that is known; None: there is none yet."""

    def __init__(self, client: Any, bucket: str, prefix: str, owner: str, run_id: str, etag: str | None = None) -> None:
        self._client = client
        self._bucket, self._owner = bucket, owner
        self._key = summary_key(prefix, run_id)
        self._run_id = run_id
        self._etag = etag
        self.writer = f"{client_name()}/{os.urandom(6).hex()}"

    def write(self, summary: RunSummary) -> bool:
        """False if somebody else has written it since. Errors: AwsError and its kin."""
        put = s3.put_object(
            self._bucket,
            self._key,
            [summary.to_json()],
            owner=self._owner,
            if_match=self._etag,
            if_none_match=self._etag is None,
            content_type="application/json",
        )
        try:
            self._etag = self._client.call(put)
        except (PreconditionFailed, NoSuchKey):
            return False
        return True

    def read(self) -> RunSummary | None:
        """What an earlier client wrote; None if it wrote nothing that can be read. Errors: none."""
        try:
            found = self._client.call(s3.get_object(self._bucket, self._key, owner=self._owner))
            self._etag = found.etag
            return RunSummary.from_json(found.body, self._run_id)
        except NoSuchKey:
            return None
        except CloudexecError as error:
            log.info("run %s: its summary is begun anew: %s", self._run_id, error.what)
            return None


class SummaryKeeper:
    """Keeps one run's summary. Nothing is written before `begin`."""

    def __init__(
        self, recorder: Recorder, object: SummaryObject, engine: Callable[[], Engine], every_s: float = WRITE_EVERY_S
    ) -> None:
        self._recorder = recorder
        self._object = object
        self._engine = engine
        self._every_s = every_s
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_ours = True
        self._has_told = False

    def begin(self) -> None:
        """The run has begun. Returns at once."""
        if self._thread is None:
            name = f"cloudexec-summary-{self._recorder.run_id}"
            self._thread = threading.Thread(target=self._keep, name=name, daemon=True)
            self._thread.start()

    def end(self) -> None:
        """The run is over, or left: write the last word."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(END_WITHIN_S)

    def _keep(self) -> None:
        written, written_s = None, 0.0
        while self._is_ours:
            is_last = self._ending.is_set()
            summary = self._look(is_last=is_last)
            is_news = written is None or summary is None or replace(summary, updated_s=written.updated_s) != written
            is_due = is_news or time.monotonic() > written_s + BEAT_S
            if summary is not None and is_due and self._write(summary):
                written, written_s = summary, time.monotonic()
            if is_last:
                return
            self._ending.wait(self._every_s)

    def _write(self, summary: RunSummary) -> bool:
        try:
            self._is_ours = self._object.write(summary)
        except CloudexecError as error:
            is_told_anyway = isinstance(error, AwsError) and error.code == "NoSuchBucket"  # by the run's own objects
            if not self._has_told:
                self._has_told = True
                log.log(
                    logging.INFO if is_told_anyway else logging.WARNING,
                    "run %s: its summary cannot be written, `cloudexec runs` will not show it as it is (%s); calls are "
                    "not touched by that",
                    summary.run_id,
                    error.what,
                )
            return False
        return True

    def _look(self, *, is_last: bool) -> RunSummary | None:
        """The run as it stands; None if it is another client's by now."""
        engine = self._engine()
        breakdown = engine.breakdown
        if isinstance(breakdown, RunTakenOver):
            return None
        state, reason = "running", ""
        if isinstance(breakdown, RunDetached):
            state = "detached"
        elif is_last and breakdown is not None:
            state, reason = "failed", breakdown.what
        elif is_last:
            state = "stopped" if engine.is_killed else "done"
        facts = facts_of(engine)
        if n_left := engine.counts.get("left", 0):
            facts = facts._replace(failed=facts.failed - n_left, pending=facts.pending + n_left)
        retries = {cause.value: n for cause, n in list(engine.ledger.retries_by.items())}
        return self._recorder.snapshot(
            facts,
            retries,
            n_throttled=getattr(engine.backend, "n_refused", 0),
            state=state,
            reason=reason,
            writer=self._object.writer,
        )
