"""What a cloud worker costs before its first call, beside one on boto3: `python benchmarks/worker_start.py`.

    --rounds N   medians of so many rounds (7)

Both are real processes that ask a queue for messages, over HTTP on loopback. CPU is what the process has used when its
first ReceiveMessage arrives; wall time runs from its start until then. Memory is resident, one second later. The
supervisor, which the agent has started meanwhile, stands in rows of its own; a worker built on boto3 has none, and
would still have to load what runs calls.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any, Final

from cloudexec.wire.envelope import new_key
from cloudexec.wire.mail import KEY_VARIABLE, SETTINGS_VARIABLE, WorkerSettings

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
