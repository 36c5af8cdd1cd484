"""A run's own queues and objects: their names, their making, their removal.

Called by: backend.py, executors (attach).   Calls: transport for objects, `ask` for making queues.
Everything is named after the run and carries its tag; what does not is never touched.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from cloudexec.errors import AwsError, CloudexecError, NoSuchKey, RunMissing, SignatureError, WireError
from cloudexec.transport import s3
from cloudexec.transport.account import Client
from cloudexec.wire.envelope import Kind, Seal

log = logging.getLogger(__name__)

RUN_TAG: Final = "cloudexec:run"
HOME_TAG: Final = "cloudexec:home"  # of queues: BUCKET/PREFIX of their run
_RETENTION_S: Final = 4 * 86_400  # of messages: how long a run whose client is gone can still be attached to
_KEYS_AT_ONCE: Final = 1000

Ask = Callable[[str, str, Mapping[str, Any]], Mapping[str, Any]]  # service, operation, request; AwsError and its kin


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What another client must know to attach; it lies in the bucket and holds no secret. It is signed: it names the
    task definition that gets the run's key, and the initializer that workers unpickle.

    worker: what the workers' settings were made from. fleet: whatever the service's fleet wants to know again.
    """

    run_id: str
    backend: str
    work_queue: str
    out_queue: str
    python_version: str
    n_slots: int
    max_workers: int
    start_timeout_s: float
    name: str
    worker: Mapping[str, Any] = field(default_factory=dict)
    fleet: Mapping[str, Any] = field(default_factory=dict)


class Home:
    """Where the messages and objects of one run lie. `ask` makes requests of the control plane."""

    def __init__(
        self,
        run_id: str,
        *,
        bucket: str,
        prefix: str,
        owner: str,
        client: Client,
        ask: Ask,
        tags: Mapping[str, str],
    ) -> None:
        self.run_id = run_id
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/runs/{run_id}".lstrip("/")
        self.owner = owner
        self.client = client
        self._ask = ask
        self._tags = {RUN_TAG: run_id, HOME_TAG: f"{bucket}/{prefix.strip('/')}", **tags}

    def key(self, name: str) -> str:
        """The key of an object of this run."""
        return f"{self.prefix}/{name}"

    # --- queues ---

    def make_queues(self, visibility_s: float) -> tuple[str, str]:
        """Make the work and the out queue; their URLs. Errors: AwsError and its kin."""
        work = self._make_queue("work", visibility_s)
        try:
            return work, self._make_queue("out", 60)
        except BaseException:
            self.remove_queues(work)
            raise

    def _make_queue(self, which: str, visibility_s: float) -> str:
        attributes = {
            "VisibilityTimeout": str(int(visibility_s)),
            "MessageRetentionPeriod": str(_RETENTION_S),
            "MaximumMessageSize": str(1 << 20),
            "SqsManagedSseEnabled": "true",
        }
        request = {"QueueName": f"cloudexec-{self.run_id}-{which}", "Attributes": attributes, "tags": self._tags}
        reply = self._ask("sqs", "create_queue", request)
        return str(reply["QueueUrl"])

    def remove_queues(self, *urls: str) -> None:
        """Remove queues of this run; those that are gone already are no error."""
        for url in urls:
            try:
                self._ask("sqs", "delete_queue", {"QueueUrl": url})
            except CloudexecError as error:  # the run is over, and its tag stays on the queue
                if getattr(error, "code", "") != "QueueDoesNotExist":
                    log.warning("queue %s of run %s could not be removed: %s", url, self.run_id, error)

    # --- objects ---

    def write_record(self, record: RunRecord, seal: Seal) -> None:
        """Write what another client must know."""
        sealed = seal.close(Kind.RECORD, json.dumps(asdict(record)).encode())
        self.client.call(s3.put_object(self.bucket, self.key("run"), [sealed], owner=self.owner))

    def read_record(self, seal: Seal) -> RunRecord:
        """What an earlier client wrote. Errors: RunMissing, SignatureError, WireError."""
        try:
            found = self.client.call(s3.get_object(self.bucket, self.key("run"), owner=self.owner))
        except NoSuchKey:
            raise RunMissing(f"there is no run {self.run_id} in s3://{self.bucket}/{self.prefix}") from None
        kind, body = seal.open(found.body)
        if kind is not Kind.RECORD:
            raise SignatureError(f"the record of run {self.run_id} is a {kind.name} message")
        try:
            return RunRecord(**json.loads(bytes(body)))
        except (ValueError, TypeError) as error:
            raise WireError(f"the record of run {self.run_id} is of another version of cloudexec: {error}") from None

    def journal_entries(self) -> list[memoryview]:
        """The sealed entries of the run's journal, in their order."""
        keys: list[str] = []
        while True:
            after = keys[-1] if keys else ""
            page = self.client.call(
                s3.list_objects(self.bucket, self.key("journal/"), owner=self.owner, start_after=after)
            )
            keys += [entry.key for entry in page.objects]
            if not page.is_truncated:
                break
        return [self.client.call(s3.get_object(self.bucket, key, owner=self.owner)).body for key in sorted(keys)]

    def remove_objects(self) -> None:
        """Remove every object of this run."""
        while True:
            page = self.client.call(s3.list_objects(self.bucket, self.prefix + "/", owner=self.owner))
            keys = [entry.key for entry in page.objects]
            if keys:
                failures = self.client.call(s3.delete_objects(self.bucket, keys, owner=self.owner))
                if failures:
                    log.warning("run %s: %d objects could not be removed: %s", self.run_id, len(failures), failures[0])
                    return
            if not page.is_truncated:
                return

    def tidy(self, *urls: str) -> None:
        """Remove queues and objects; what goes wrong is logged, because the run's results are there already."""
        self.remove_queues(*[url for url in urls if url])
        try:
            self.remove_objects()
        except (AwsError, CloudexecError) as error:
            if getattr(error, "code", "") == "NoSuchBucket":
                what = "there is no bucket %s: nothing of run %s was stored there. Correct bucket=, or create it: %s"
                log.warning(what, self.bucket, self.run_id, error.what)
                return
            what = "objects of run %s could not be removed from s3://%s, if it has any: %s"
            log.warning(what, self.run_id, self.bucket, error)
