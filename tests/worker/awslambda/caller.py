"""A client of the Lambda worker, small enough to be read: makes payloads, calls the handler, reads answers.

Called by: conftest.py and the tests here.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloudexec.serialization.blobs import BlobBook
from cloudexec.serialization.failures import load_failure
from cloudexec.serialization.loading import load
from cloudexec.serialization.packer import Packer
from cloudexec.store.directory import DirectoryStore
from cloudexec.store.memory import address_of
from cloudexec.store.s3 import S3Store
from cloudexec.transport.account import Account
from cloudexec.transport.credentials import fixed
from cloudexec.transport.sync import SyncClient
from cloudexec.wire.envelope import Kind, Seal, new_key
from cloudexec.wire.invocation import Answer, EventHead, InvocationSettings, decode_answer, open_report
from cloudexec.wire.mail import Control, Report, decode_report, encode_control
from cloudexec.wire.messages import Outcome, PackedCall, Verdict, encode_batch
from cloudexec.worker.awslambda.caches import Caches
from cloudexec.worker.awslambda.entry import handle
from cloudexec.worker.awslambda.environment import Environment

OWNER = "123456789012"
ARN = f"arn:aws:lambda:us-east-1:{OWNER}:function:worker"


class Context:
    """What awslambdaric hands to a handler beside the event."""

    memory_limit_in_mb = "1769"
    log_stream_name = "2026/11/21/[$LATEST]0123456789abcdef0123456789abcdef"
    invoked_function_arn = ARN

    def __init__(self, seconds: float = 60.0, request_id: str = "") -> None:
        self.aws_request_id = request_id or str(uuid.uuid4())
        self._until_s = time.time() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._until_s - time.time()) * 1000))


class Caller:
    """One run, and one environment that it invokes. `url`, `s3`: where its bucket lies; without, it has none."""

    def __init__(self, directory: Path, url: str = "", s3: Any = None) -> None:
        self.directory = directory
        self.key = new_key()
        self.environment = Environment(Caches(str(directory / "cache")))
        self._s3 = s3
        self._number = 0
        name = uuid.uuid4().hex
        self.bucket, self.prefix = (f"bucket-{name}", f"p/runs/r{name}") if s3 is not None else ("", "")
        self._client: SyncClient | None = None
        self.store: Any = DirectoryStore([directory / "blobs"])
        inline_bytes = 1 << 30
        if s3 is not None:
            s3.create_bucket(Bucket=self.bucket)
            account = Account("us-east-1", fixed("test", "test"), endpoints={"s3": url}, owner=OWNER)
            self._client = SyncClient(account)
            self.store = S3Store(self._client, self.bucket, self.prefix, OWNER)
            inline_bytes = 1 << 17
        self._packer = Packer(BlobBook(self.store, address_of), inline_bytes)
        self.settings = InvocationSettings(
            run_id=f"r{name}",
            region="us-east-1",
            n_slots=1,
            python_version="{}.{}".format(*sys.version_info[:2]),
            bucket=self.bucket,
            owner=OWNER if self.bucket else "",
            prefix=self.prefix,
        )

    @property
    def seal(self) -> Seal:
        """With the run's key."""
        return Seal(self.key)

    def another_run(self) -> None:
        """The same client has a new run from now on; its environment stays."""
        self.key = new_key()
        self.settings = self.settings._replace(run_id=f"r{uuid.uuid4().hex}")

    # --- to the worker ---

    def call(
        self, function: Callable[..., Any], *args: Any, attempt: int = 1, timeout_s: float = 0.0, **env: str
    ) -> PackedCall:
        """A call with the next number."""
        self._number += 1
        packed, _ = self._packer.pack_function(function)
        arguments = self._packer.pack_arguments(args, {})
        return PackedCall(self._number, attempt, packed, arguments.packed, timeout_s, env or None, arguments.pickler)

    def initializer(self, function: Callable[..., Any], *args: Any) -> bytes:
        """Packed as settings and blobs hold it."""
        return self._packer.pack_initializer(function, args)[0]

    def event(
        self, *calls: PackedCall, seal: Seal | None = None, name: str = "", early: str = "", **settings: Any
    ) -> dict[str, Any]:
        """A payload, as the handler gets it; `settings` replace the run's."""
        sealed = (seal or self.seal).close(Kind.BATCH, encode_batch(calls))
        return self.event_around(sealed, name=name, early=early, **settings)

    def event_around(self, sealed: bytes, name: str = "", early: str = "", **settings: Any) -> dict[str, Any]:
        """A payload with any bytes in the batch's place."""
        head = EventHead(self.key, self.settings._replace(**settings))
        return dict(json.loads(head.with_batch(sealed, name, early)))

    def event_stored(self, *calls: PackedCall, **settings: Any) -> dict[str, Any]:
        """A payload that names a batch in the bucket."""
        self.store.put("batches/1", [self.seal.close(Kind.BATCH, encode_batch(calls))])
        return dict(json.loads(EventHead(self.key, self.settings._replace(**settings)).with_stored("batches/1")))

    def event_to_try(self, name: str, **settings: Any) -> dict[str, Any]:
        """A payload that asks whether events could write their claims."""
        return dict(json.loads(EventHead(self.key, self.settings._replace(**settings)).with_probe(name)))

    def invoke(self, event: dict[str, Any], seconds: float = 60.0, request_id: str = "") -> dict[str, Any]:
        """The handler's answer, through JSON as on Lambda."""
        answer = handle(event, Context(seconds, request_id), self.environment)
        return dict(json.loads(json.dumps(answer)))

    def control(self, *, seal: Seal | None = None, **fields: Any) -> None:
        """Write the control object."""
        body = encode_control(Control(**{"number": 1, "client": "c", **fields}))
        self.store.put("control", [(seal or self.seal).close(Kind.CONTROL, body)])

    # --- from the worker ---

    def run(self, *calls: PackedCall, seconds: float = 60.0, **settings: Any) -> Report:
        """Invoke with these calls; the report. Each call must stand in it exactly once."""
        report = self.report_in(self.invoke(self.event(*calls, **settings), seconds))
        ends = [outcome.number for _, outcome in report.outcomes if outcome.number]
        ends += [stop.running_call for stop in report.down]
        ends += [number for number, _ in report.requeued]
        assert sorted(ends) == sorted(call.number for call in calls)
        return report

    def answer_in(self, answer: dict[str, Any]) -> Answer:
        """As a client reads it."""
        return decode_answer(json.dumps(answer).encode())

    def report_in(self, answer: dict[str, Any]) -> Report:
        """The report that an answer holds or names."""
        found = self.answer_in(answer)
        assert not found.refused_error, answer
        sealed = self.store.get(found.stored) if found.stored else found.report
        return decode_report(open_report(self.seal, sealed))

    def values(self, report: Report) -> dict[int, Any]:
        """Results by call; what a call raised is among them as an exception."""
        return {outcome.number: self.value(outcome) for _, outcome in report.outcomes}

    def value(self, outcome: Outcome) -> Any:
        """What came of a call."""
        fetch = lambda ref: self.store.get(ref.name)  # noqa: E731 - shorter
        return load(outcome.value, fetch) if outcome.verdict is Verdict.RETURNED else load_failure(outcome.value, fetch)

    def objects(self, prefix: str = "") -> list[str]:
        """Keys in the bucket."""
        reply = self._s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [found["Key"] for found in reply.get("Contents", ())]

    def read(self, key: str) -> bytes:
        """An object of the bucket."""
        return bytes(self._s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def write(self, key: str, content: bytes) -> None:
        """Put an object into the bucket."""
        self._s3.put_object(Bucket=self.bucket, Key=key, Body=content)

    def close(self) -> None:
        """End the environment."""
        self.environment.close()
        if self._client is not None:
            self._client.close()
