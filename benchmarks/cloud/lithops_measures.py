"""Lithops on the same bed: `python -m cloud.lithops_measures BED_PYTHON CONCURRENCY MEASURE…` prints JSON lines.

Called by: ecs.py and lambda.py, with the Python of .venv/lithops.   Calls: lithops, through its own interface; bed.py.
Lithops is at its defaults: aws_lambda with aws_s3, results found by listing. Three things are bent: Lambda's host,
which it does not let anybody choose, the record of a deployed runtime, which stands for having deployed one, and the
store's address. The clock of a measurement starts with `map`, when everything is imported and one call has been made.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from typing import Any

from cloud.bed import CREDENTIALS, Bed, Figures, counted, cpu_s, percentiles_ms

BUCKET = "lithops-bench"
ACCOUNT = {"execution_role": "arn:aws:iam::123456789012:role/r", "account_id": "123456789012", "user_id": "AIDAABCD"}


def nap(seconds: float) -> float:
    """Take so long; when that was over. (The bed does so: this body only says what it means.)"""
    time.sleep(seconds)
    return time.time()


def open_executor(endpoint: str) -> Any:
    """A FunctionExecutor that finds everything on the bed."""
    os.environ.update({**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint})
    from botocore.httpsession import URLLib3Session

    send = URLLib3Session.send

    def send_to_bed(self: Any, request: Any) -> Any:
        if "lambda.us-east-1.amazonaws.com" in request.url:
            request.url = endpoint + request.url.split("amazonaws.com", 1)[1]
        return send(self, request)

    URLLib3Session.send = send_to_bed
    import lithops  # type: ignore[import-not-found]  # it has an environment of its own
    from lithops.storage import InternalStorage  # type: ignore[import-not-found]  # as above
    from lithops.version import __version__  # type: ignore[import-not-found]  # as above

    region = {"region": "us-east-1"}
    keys = {"access_key_id": os.environ["AWS_ACCESS_KEY_ID"], "secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"]}
    config = {
        "lithops": {"backend": "aws_lambda", "storage": "aws_s3", "telemetry": False, "log_level": "ERROR"},
        "aws": {**region, **keys},
        "aws_lambda": {**region, **ACCOUNT},
        "aws_s3": {**region, "storage_bucket": BUCKET},
    }
    deployed = {
        "preinstalls": [["pickle", True]],
        "lithops_version": __version__,
        "python_version": "{}.{}".format(*sys.version_info[:2]),
        "runtime_timeout": 180,
        "runtime_name": "bench",
        "runtime_memory": 256,
    }
    InternalStorage.get_runtime_meta = lambda self, key: dict(deployed)
    executor = lithops.FunctionExecutor(config=config, log_level="ERROR")
    executor.get_result(executor.map(nap, [0.0]), show_progressbar=False)
    return executor


def calls(bed: Bed, executor: Any, concurrency: int, n: int, seconds: float) -> Figures:
    """N calls by one `map`, until all results are there; latencies as Lithops has noted them itself."""
    with counted(bed, n, math.ceil(n / concurrency) * seconds) as figures:
        futures = executor.map(nap, [seconds] * n)
        ends = executor.get_result(futures, show_progressbar=False)
    assert len(ends) == n
    late = [future.stats["host_status_done_tstamp"] - end for future, end in zip(futures, ends, strict=True)]
    return figures | percentiles_ms(late)


def latency(executor: Any, n: int) -> Figures:
    """One call after another, nothing else under way; `trip_ms` is the way there and back."""
    late, trips = [], []
    for _ in range(n):
        start = time.perf_counter()
        future = executor.call_async(nap, 0.05)
        end = executor.get_result(future, show_progressbar=False)
        late.append(time.time() - end)
        trips.append(time.perf_counter() - start - 0.05)
    return percentiles_ms(late) | {"trip_ms": percentiles_ms(trips)["p50_ms"]}


def idle(bed: Bed, seconds: float) -> Figures:
    """Requests a second of an executor that has nothing to do."""
    with counted(bed, 1) as figures:
        time.sleep(seconds)
    return {"client_per_s": figures["requests"] / seconds, "worker_per_s": figures["worker_requests"] / seconds}


def main(bed_python: str, concurrency: str, *measures: str) -> None:
    """Measure, print, end. A measure is `calls:N:SECONDS`, `latency:N` or `idle:SECONDS`."""
    bed = Bed(bed_python, "--concurrency", concurrency)
    start, cpu = time.perf_counter(), cpu_s()
    executor = open_executor(bed.endpoint)
    print(json.dumps({"measure": "open", "wall_s": time.perf_counter() - start, "cpu_s": cpu_s() - cpu}), flush=True)
    for measure in measures:
        name, *numbers = measure.split(":")
        if name == "calls":
            figures = calls(bed, executor, int(concurrency), int(numbers[0]), float(numbers[1]))
        elif name == "latency":
            figures = latency(executor, int(numbers[0]))
        else:
            figures = idle(bed, float(numbers[0]))
        print(json.dumps({"measure": measure, **figures}), flush=True)
    bed.close()
    os._exit(0)  # its monitor's threads take long to end


if __name__ == "__main__":
    main(*sys.argv[1:])
