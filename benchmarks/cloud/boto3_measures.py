"""boto3 by hand on the same bed: `python -m cloud.boto3_measures THREADS CONCURRENCY MEASURE…` prints JSON lines.

Called by: lambda.py.   Calls: boto3; bed.py.
A client that all threads share, a pool of threads, and an `invoke` for each call: what people write when they need
Lambda today. The function is theirs, too: JSON in, JSON out.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cloud.bed import CREDENTIALS, Bed, Figures, counted, cpu_s, trip_ms


class ByHand:
    """A client and its threads; they start when they are needed, and stay."""

    def __init__(self, endpoint: str, n_threads: int) -> None:
        import boto3
        from botocore.config import Config

        config = Config(max_pool_connections=n_threads)  # many forget it, and then connect anew for most calls
        self._client: Any = boto3.client("lambda", region_name="us-east-1", endpoint_url=endpoint, config=config)
        self.pool = ThreadPoolExecutor(n_threads)
        self.invoke(0.0)

    def invoke(self, seconds: float) -> float:
        """One call, waited for; when it has ended."""
        reply = self._client.invoke(FunctionName="bench", Payload=json.dumps({"sleep": seconds}))
        return float(json.loads(reply["Payload"].read())["end"])


def calls(bed: Bed, by_hand: ByHand, concurrency: int, n: int, seconds: float) -> Figures:
    """N calls, one `submit` each, until all results are there."""
    with counted(bed, n, math.ceil(n / concurrency) * seconds) as figures:
        for future in [by_hand.pool.submit(by_hand.invoke, seconds) for _ in range(n)]:
            future.result()
    return figures


def latency(by_hand: ByHand, n: int) -> Figures:
    """One no-op after another, nothing else under way."""
    trips = []
    for _ in range(n):
        start = time.perf_counter()
        by_hand.pool.submit(by_hand.invoke, 0.0).result()
        trips.append(time.perf_counter() - start)
    return trip_ms(trips)


def main(n_threads: str, concurrency: str, *measures: str) -> None:
    """Measure, print, end. A measure is `calls:N:SECONDS` or `latency:N`."""
    os.environ.update(CREDENTIALS)
    bed = Bed(sys.executable, "--concurrency", concurrency)
    start, cpu = time.perf_counter(), cpu_s()
    by_hand = ByHand(bed.endpoint, int(n_threads))
    print(json.dumps({"measure": "open", "wall_s": time.perf_counter() - start, "cpu_s": cpu_s() - cpu}), flush=True)
    for measure in measures:
        name, *numbers = measure.split(":")
        if name == "calls":
            figures = calls(bed, by_hand, int(concurrency), int(numbers[0]), float(numbers[1]))
        else:
            figures = latency(by_hand, int(numbers[0]))
        print(json.dumps({"measure": measure, **figures}), flush=True)
    by_hand.pool.shutdown()
    bed.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
