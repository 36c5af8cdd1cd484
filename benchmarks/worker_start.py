"""What a cloud worker costs before its first call, beside one on boto3: `python benchmarks/worker_start.py`.

    --rounds N   medians of so many rounds (7)

Both are real processes that ask a queue for messages, over HTTP on loopback. CPU is what the process has used when its
first ReceiveMessage arrives; wall time runs from its start until then. Memory is resident, one second later. The
supervisor, which the agent has started meanwhile, stands in rows of its own; a worker built on boto3 has none, and
would still have to load what runs calls.

On Lambda (second table): the genuine runtime client, awslambdaric, with our handler, against a Runtime API on loopback,
all on one CPU. A cold start is all from the process's start to the answer of the first call; the aim is 250 ms from the
handler's import to the answer, without libraries of the user's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from typing import Any, Final

from cloudexec.wire.envelope import Kind, Seal, new_key
from cloudexec.wire.invocation import EventHead, InvocationSettings
from cloudexec.wire.mail import KEY_VARIABLE, SETTINGS_VARIABLE, WorkerSettings
from cloudexec.wire.messages import FunctionTraits, PackedCall, PackedFunction, encode_batch
from cloudexec.wire.parts import pack_parts

BOTO3_WORKER: Final = """
import os, cloudpickle, boto3
sqs, s3 = boto3.client("sqs"), boto3.client("s3")
sqs.receive_message(QueueUrl=os.environ["QUEUE"], MaxNumberOfMessages=1, WaitTimeSeconds=20)
"""
BARS: Final = {"CPU to first receive, ms": (100, 55), "memory, MB": (30, 20)}


class _Queue(BaseHTTPRequestHandler):
    """Says yes to everything, and has no messages."""

    protocol_version = "HTTP/1.1"
    asked = threading.Event()
    release = threading.Event()

    def do_POST(self) -> None:
        target = self.headers.get("x-amz-target", "")
        entries = json.loads(self.rfile.read(int(self.headers["content-length"]))).get("Entries", ())
        if target.endswith("ReceiveMessage"):
            _Queue.asked.set()
            _Queue.release.wait(20)
        self._answer(200, json.dumps({"Successful": [{"Id": entry["Id"]} for entry in entries]}).encode())

    def do_GET(self) -> None:
        self._answer(404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")

    def _answer(self, status: int, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # the worker has been killed
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def cpu_ms(pid: int) -> float:
    """What all threads of a process have used so far."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def measure(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """One start of a worker."""
    _Queue.asked.clear()
    _Queue.release.clear()
    began_s = time.perf_counter()
    worker = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        if not _Queue.asked.wait(30):
            raise SystemExit(f"{command} never asked for messages")
        wall_ms = (time.perf_counter() - began_s) * 1000
        found = {"CPU to first receive, ms": cpu_ms(worker.pid), "wall to first receive, ms": wall_ms}
        time.sleep(1.0)
        found["memory, MB"] = memory_mb(worker.pid)
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        for child in map(int, children):
            found |= {"supervisor: CPU, ms": cpu_ms(child), "supervisor: memory, MB": memory_mb(child)}
        return found
    finally:
        worker.kill()
        worker.wait()
        _Queue.release.set()


def commands(url: str, scratch: str) -> dict[str, tuple[list[str], dict[str, str]]]:
    """How each worker is started."""
    queue = f"{url}/123456789012/work"
    settings = WorkerSettings(
        run_id="r20261121-000000-000000",
        region="us-east-1",
        work_queue=queue,
        out_queue=f"{url}/123456789012/out",
        bucket="bucket",
        bucket_owner="123456789012",
        prefix="p/runs/r20261121-000000-000000",
        n_slots=1,
        python_version="{}.{}".format(*sys.version_info[:2]),
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    environment |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": url, "QUEUE": queue, "TMPDIR": scratch}
    ours = environment | {SETTINGS_VARIABLE: settings.to_json(), KEY_VARIABLE: new_key().hex()}
    return {
        "cloudexec": ([sys.executable, "-m", "cloudexec.worker", "--pull"], ours),
        "boto3": ([sys.executable, "-c", BOTO3_WORKER], environment),
        "pass": ([sys.executable, "-c", PASS_WORKER], environment | {"URL": url}),
    }


class RuntimeApi:
    """Lambda's side of a runtime: hands out events, and takes answers."""

    def __init__(self) -> None:
        api = self
        self.answers: list[tuple[float, bytes]] = []  # (perf_counter seconds, body)
        self.asked_s: list[float] = []
        self._events: SimpleQueue[bytes | None] = SimpleQueue()
        self._answered = threading.Semaphore(0)
        self._ready = threading.Semaphore(0)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one piece: else delayed acknowledgements cost 40 ms
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                api.asked_s.append(time.perf_counter())
                api._ready.release()
                event = api._events.get()
                if event is None:
                    self.close_connection = True
                    return
                self.send_response(200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", f"request-{len(api.asked_s)}")
                self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + 30) * 1000)))
                self.send_header(
                    "Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:f"
                )
                self.send_header("Lambda-Runtime-Trace-Id", f"Root=1-{len(api.asked_s)}")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(event)))
                self.end_headers()
                self.wfile.write(event)

            def do_POST(self) -> None:
                api.answers.append((time.perf_counter(), self._body()))
                api._answered.release()
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers["Content-Length"]))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """What Lambda sets for a runtime, as far as awslambdaric and we read it."""
        return {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": "f",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
            "AWS_LAMBDA_LOG_STREAM_NAME": "2026/11/21/[$LATEST]0123456789abcdef",
            "LAMBDA_TASK_ROOT": os.getcwd(),
        }

    def wait_until_ready(self) -> float:
        """When the runtime asked for an event."""
        if not self._ready.acquire(timeout=30):
            raise TimeoutError("the runtime never asked for an event")
        return self.asked_s[-1]

    def invoke(self, event: bytes) -> bytes:
        """The answer."""
        self._events.put(event)
        if not self._answered.acquire(timeout=30):
            raise TimeoutError("the runtime never answered")
        return self.answers[-1][1]

    def close(self) -> None:
        """End it; a runtime that waits for an event hears nothing more."""
        self._events.put(None)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


HANDLER: Final = "cloudexec.worker.awslambda.handler"


def lambda_start(scratch: str) -> dict[str, float]:
    """One cold start of the handler behind awslambdaric, and a warm invocation; ms."""
    key = new_key()
    settings = InvocationSettings("r1", "us-east-1", 1, "{}.{}".format(*sys.version_info[:2]))
    function = pickle.dumps(abs, 5)
    packed = PackedFunction(hashlib.sha256(function).digest(), FunctionTraits(stateless=True), pack_parts((function,)))
    arguments = pack_parts((pickle.dumps(((-1,), {}), 5),))
    sealed = Seal(key).close(Kind.BATCH, encode_batch([PackedCall(1, 1, packed, arguments)]))
    event = EventHead(key, settings).with_batch(sealed)
    api = RuntimeApi()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | api.environment
    command = [sys.executable, "-m", "awslambdaric", HANDLER]
    began_s = time.perf_counter()
    runtime = subprocess.Popen(command, env=environment | {"TMPDIR": scratch}, stderr=subprocess.DEVNULL)
    try:
        ready_s = api.wait_until_ready()
        api.invoke(event)
        first_s = api.answers[-1][0]
        warm = []
        for _ in range(20):
            api.wait_until_ready()
            warm_s = time.perf_counter()
            api.invoke(event)
            warm.append(api.answers[-1][0] - warm_s)
        return {
            "process start to first event asked for": (ready_s - began_s) * 1000,
            "first event to its answer, slot included": (first_s - ready_s) * 1000,
            "cold start in all": (first_s - began_s) * 1000,
            "warm invocation": median(warm) * 1000,
        }
    finally:
        api.close()
        runtime.kill()
        runtime.wait()


def wall_ms(code: str) -> float:
    """A Python process that runs this."""
    began_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"AWS_LAMBDA_RUNTIME_API": ""})
    return (time.perf_counter() - began_s) * 1000


def lambda_table(rounds: int, scratch: str) -> str:
    """Medians on one CPU."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    samples: dict[str, list[float]] = {}
    lambda_start(scratch)
    for _ in range(rounds):
        bare, client = wall_ms("pass"), wall_ms("import awslambdaric.bootstrap")
        found = {"interpreter": bare, "awslambdaric, imported": client - bare} | lambda_start(scratch)
        found["handler's import to first answer"] = found["cold start in all"] - client
        for name, value in found.items():
            samples.setdefault(name, []).append(value)
    lines = [
        "",
        f"Lambda: ms on one CPU, medians of {rounds} rounds; ≤ 250 from the handler's import to the first answer",
    ]
    return "\n".join(lines + [f"{name:44}{median(values):>10.1f}" for name, values in samples.items()])


# An interpreter that does nothing but ask, for what nobody can save.
PASS_WORKER: Final = """
import _socket, os, time
host, port = os.environ["URL"][7:].split(":")
s = _socket.socket(); s.connect((host, int(port)))
s.send(b"POST / HTTP/1.1\\r\\nx-amz-target: ReceiveMessage\\r\\ncontent-length: 2\\r\\n\\r\\n{}"); s.recv(1)
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds: int = parser.parse_args().rounds
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Queue)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    samples: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        kinds = commands(f"http://127.0.0.1:{server.server_port}", scratch)
        for command, environment in kinds.values():
            measure(command, environment)  # caches of compiled modules are warm afterwards
        for _ in range(rounds):
            for name, (command, environment) in kinds.items():
                for measure_name, value in measure(command, environment).items():
                    samples.setdefault(measure_name, {}).setdefault(name, []).append(value)
        server.shutdown()
        print(table(samples, rounds))
        if find_spec("awslambdaric") is None:
            print("\nLambda: not measured; `pip install awslambdaric`, its runtime client")
        else:
            print(lambda_table(rounds, scratch))


def table(samples: dict[str, dict[str, list[float]]], rounds: int) -> str:
    """Medians, ours over boto3's, and the bars."""
    lines = [f"Python {sys.version.split()[0]}, medians of {rounds} rounds", ""]
    lines.append(f"{'':28}{'cloudexec':>10}{'boto3':>10}{'bare':>10}{'boto3/ours':>12}   gate / best")
    for name, by_worker in samples.items():
        figures: dict[str, Any] = {worker: median(values) for worker, values in by_worker.items()}
        cells = "".join(
            f"{figures[who]:>10.1f}" if who in figures else f"{'-':>10}" for who in ("cloudexec", "boto3", "pass")
        )
        times = f"{figures['boto3'] / figures['cloudexec']:>11.1f}x" if "boto3" in figures else f"{'-':>12}"
        bars = "   ≤ {} / ≤ {}".format(*BARS[name]) if name in BARS else ""
        lines.append(f"{name:28}{cells}{times}{bars}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
