"""A client of pulling workers, small enough to be read: sends sealed batches, reads reports, starts the real worker.

Called by: conftest.py and the tests here. Everything goes over HTTP to a server on loopback; nothing is patched.
"""

from __future__ import annotations

import os
import signal
import subprocess
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
from cloudexec.store.memory import address_of
from cloudexec.store.s3 import S3Store
from cloudexec.transport.account import Account
from cloudexec.transport.credentials import fixed
from cloudexec.transport.sync import SyncClient
from cloudexec.wire.control import DownCause
from cloudexec.wire.envelope import Kind, Seal, new_key
from cloudexec.wire.mail import (
    KEY_VARIABLE,
    SETTINGS_VARIABLE,
    Control,
    LaneStop,
    Report,
    WorkerSettings,
    decode_report,
    encode_control,
    from_text,
    to_text,
)
from cloudexec.wire.messages import Batch, Outcome, PackedCall, Verdict, decode_batch, encode_batch

REPOSITORY = Path(__file__).parents[3]
OWNER = "123456789012"
SOON_S = 30.0  # only what hangs takes longer
QUICK: dict[str, Any] = {"control_every_s": 0.2, "tell_after_s": 0.3, "beat_every_s": 1.0, "idle_s": 60.0}


class Worker:
    """A worker's process, and what it has logged."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                env=environment,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """All that it has written to stderr."""
        return self._log.read_text(errors="replace")

    @property
    def supervisor(self) -> int:
        """Its child's process id."""
        return self.children()[0]

    def children(self) -> list[int]:
        """Process ids of its children."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def terminate(self) -> None:
        """As ECS does when it stops a task."""
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Its exit code; waits for it."""
        return self.process.wait(SOON_S)


class Customer:
    """One run: a bucket, two queues, a key, any number of workers."""

    def __init__(self, url: str, clients: dict[str, Any], directory: Path) -> None:
        name = uuid.uuid4().hex
        self.url, self._sqs, self._s3, self._directory = url, clients["sqs"], clients["s3"], directory
        self.bucket = f"bucket-{name}"
        self._s3.create_bucket(Bucket=self.bucket)
        self.work_queue, self.out_queue = (
            self._sqs.create_queue(QueueName=f"cloudexec-{name}-{kind}")["QueueUrl"] for kind in ("work", "out")
        )
        self.key = new_key()
        self.seal = Seal(self.key)
        self.prefix = f"p/runs/r{name}"
        account = Account("us-east-1", fixed("test", "test"), endpoints={"s3": url, "sqs": url}, owner=OWNER)
        self._client = SyncClient(account)
        self.store = S3Store(self._client, self.bucket, self.prefix, OWNER)
        self._packer = Packer(BlobBook(self.store, address_of), 1 << 17)
        self.workers: list[Worker] = []
        self.reports: list[Report] = []
        self._number = 0

    # --- to workers ---

    def start(self, *, env: dict[str, str] | None = None, code: str = "", **settings: Any) -> Worker:
        """Start a worker; `settings` replace those of WorkerSettings."""
        fields = {"n_slots": 1, "python_version": "{}.{}".format(*sys.version_info[:2]), **QUICK, **settings}
        text = WorkerSettings(
            run_id=self.prefix.rpartition("/")[2],
            region="us-east-1",
            work_queue=self.work_queue,
            out_queue=self.out_queue,
            bucket=self.bucket,
            bucket_owner=OWNER,
            prefix=self.prefix,
            **fields,
        ).to_json()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_ENDPOINT_URL": self.url}
        environment |= {SETTINGS_VARIABLE: text, KEY_VARIABLE: self.key.hex(), "TMPDIR": os.fspath(self._directory)}
        command = [sys.executable, *(["-c", code] if code else ["-m", "cloudexec.worker", "--pull"])]
        log = self._directory / f"worker-{len(self.workers)}.log"
        self.workers.append(Worker(command, environment | (env or {}), log))
        return self.workers[-1]

    def call(self, function: Callable[..., Any], *args: Any, attempt: int = 1, timeout_s: float = 0.0) -> PackedCall:
        """A call with the next number."""
        self._number += 1
        packed, _ = self._packer.pack_function(function)
        arguments = self._packer.pack_arguments(args, {})
        return PackedCall(self._number, attempt, packed, arguments.packed, timeout_s, None, arguments.pickler)

    def initializer(self, function: Callable[..., Any], *args: Any) -> str:
        """Lay down an initializer; the name of its blob."""
        packed, _ = self._packer.pack_initializer(function, args)
        return self.store.put_blob(memoryview(packed)).name

    def send(self, *calls: PackedCall, seal: Seal | None = None) -> list[int]:
        """Put one batch into the work queue; the calls' numbers."""
        text = to_text(seal or self.seal, Kind.BATCH, encode_batch(calls))
        self._sqs.send_message(QueueUrl=self.work_queue, MessageBody=text)
        return [call.number for call in calls]

    def send_text(self, text: str) -> None:
        """Put anything into the work queue."""
        self._sqs.send_message(QueueUrl=self.work_queue, MessageBody=text)

    def lose_once(self) -> None:
        """Take the message that waits and let it come again, as a worker that dies does."""
        reply = self._sqs.receive_message(QueueUrl=self.work_queue, VisibilityTimeout=0)
        assert len(reply["Messages"]) == 1

    def control(self, *, seal: Seal | None = None, **fields: Any) -> None:
        """Write the control object."""
        body = encode_control(Control(**{"number": 1, "client": "c", **fields}))
        content = (seal or self.seal).close(Kind.CONTROL, body)
        self._s3.put_object(Bucket=self.bucket, Key=f"{self.prefix}/control", Body=content)

    def limit_reports(self, most_bytes: int) -> None:
        """Have the out queue refuse longer messages."""
        self._sqs.set_queue_attributes(QueueUrl=self.out_queue, Attributes={"MaximumMessageSize": str(most_bytes)})

    # --- from workers ---

    def read(self) -> None:
        """Take in the reports that are there."""
        reply = self._sqs.receive_message(QueueUrl=self.out_queue, MaxNumberOfMessages=10, WaitTimeSeconds=0)
        for message in reply.get("Messages", ()):
            self.reports.append(decode_report(from_text(self.seal, Kind.REPORT, message["Body"])))
            self._sqs.delete_message(QueueUrl=self.out_queue, ReceiptHandle=message["ReceiptHandle"])

    def until(self, condition: Callable[[], Any]) -> Any:
        """Read reports until a condition holds; what it returned."""
        deadline = time.monotonic() + SOON_S
        while not (found := condition()):
            assert time.monotonic() < deadline, self.told()
            self.read()
            time.sleep(0.01)
        return found

    def outcomes(self) -> dict[int, Outcome]:
        """The first outcome of each call so far."""
        found: dict[int, Outcome] = {}
        for report in self.reports:
            for _, outcome in report.outcomes:
                found.setdefault(outcome.number, outcome)
        return found

    def values(self, *numbers: int) -> list[Any]:
        """Results of these calls; waits for them. What a call raised is among them as an exception."""
        self.until(lambda: set(numbers) <= self.outcomes().keys())
        return [self.value(self.outcomes()[number]) for number in numbers]

    def value(self, outcome: Outcome) -> Any:
        """What came of a call."""
        fetch = lambda ref: self.store.get(ref.name)  # noqa: E731 - shorter
        return load(outcome.value, fetch) if outcome.verdict is Verdict.RETURNED else load_failure(outcome.value, fetch)

    def all_outcomes(self) -> list[int]:
        """Numbers of all outcomes, twins included."""
        return [outcome.number for report in self.reports for _, outcome in report.outcomes]

    def lanes_up(self) -> list[str]:
        """Lanes that have been reported."""
        return [start.lane for report in self.reports for start in report.up]

    def lanes_down(self, but: str = DownCause.RETIRED) -> list[LaneStop]:
        """Ends of lanes, save those that have retired."""
        return [stop for report in self.reports for stop in report.down if stop.why != but]

    def leaving(self) -> str:
        """Why a worker has left; empty if none has."""
        return next((report.leaving for report in self.reports if report.leaving), "")

    def n_messages(self) -> tuple[int, int]:
        """Messages in the work queue: (visible, taken)."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._sqs.get_queue_attributes(QueueUrl=self.work_queue, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    def waiting_batches(self) -> list[Batch]:
        """Take out what lies in the work queue now."""
        reply = self._sqs.receive_message(QueueUrl=self.work_queue, MaxNumberOfMessages=10, WaitTimeSeconds=0)
        texts = [message["Body"] for message in reply.get("Messages", ())]
        return [decode_batch(from_text(self.seal, Kind.BATCH, text)) for text in texts]

    def told(self) -> str:
        """For the message of a test that fails."""
        logs = "\n".join(worker.log for worker in self.workers)
        return f"reports: {self.reports}\nlogs:\n{logs}"

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()
        self._client.close()
