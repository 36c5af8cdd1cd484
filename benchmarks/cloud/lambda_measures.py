"""LambdaExecutor on the bed: `python -m cloud.lambda_measures CONCURRENCY MEASURE…` prints a line of JSON for each.

Called by: lambda.py.   Calls: LambdaExecutor, through its own interface; bed.py.
One process has one emulator and one executor, which has made one call before the first clock starts; connections are
opened by the measure that needs them first. Each measure calls a function of its own, so that nothing is known of how
long its calls take.
"""

from __future__ import annotations

import json
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from cloud.bed import CREDENTIALS, Bed, Figures, counted, cpu_s, requests_between, trip_ms
from cloud.measures import nap_function

FUNCTION: Final = "bench"


class Ours:
    """An executor that has made a call."""

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self.bed = Bed(sys.executable, "--concurrency", str(concurrency))
        os.environ.update(CREDENTIALS)
        start, cpu = time.perf_counter(), cpu_s()
        from cloudexec import LambdaExecutor

        self.executor = LambdaExecutor(
            FUNCTION,
            max_workers=concurrency,
            bucket="bench-bucket",
            region="us-east-1",
            endpoint_url=self.bed.endpoint,
        )
        self.executor.submit(nap_function("first"), 0.0).result()
        self.opened = {"wall_s": time.perf_counter() - start, "cpu_s": cpu_s() - cpu}

    def close(self) -> None:
        """End executor and emulator."""
        self.executor.shutdown(cancel_futures=True)
        self.bed.close()


def calls(ours: Ours, n: int, seconds: float, name: str = "calls") -> Figures:
    """N calls, one `submit` each, until all results are there."""
    nap = nap_function(f"{name} {n} {seconds}")
    submit = ours.executor.submit
    with told(ours, n, seconds) as figures:
        for future in [submit(nap, seconds) for _ in range(n)]:
            future.result()
    return figures


def again(ours: Ours, n: int, seconds: float) -> Figures:
    """The same when there are connections from the time before."""
    return calls(ours, n, seconds, "again")


def mapped(ours: Ours, n: int, seconds: float) -> Figures:
    """The same by `map`, which makes no futures."""
    with told(ours, n, seconds) as figures:
        for _ in ours.executor.map(nap_function(f"mapped {n} {seconds}"), [seconds] * n):
            pass
    return figures


def latency(ours: Ours, n: int) -> Figures:
    """One no-op after another, nothing else under way, each behind an Invoke that costs nothing but itself.

    bare_ms: the median of those; beyond_ms: how much longer ours takes.
    """
    nap = nap_function("latency")
    bare = BareInvoke(ours.bed.endpoint)
    bare_s, trips_s = [], []
    for _ in range(n):
        bare_s.append(timed(bare.invoke))
        trips_s.append(timed(lambda: ours.executor.submit(nap, 0.0).result()))
    bare.close()
    bare_ms, figures = trip_ms(bare_s)["trip_ms"], trip_ms(trips_s)
    return {**figures, "bare_ms": bare_ms, "beyond_ms": figures["trip_ms"] - bare_ms}


class BareInvoke:
    """An Invoke as cheap as it can be: ready bytes on a socket, and what comes back. It is the bed's own latency."""

    def __init__(self, endpoint: str) -> None:
        at = urlsplit(endpoint)
        assert at.hostname is not None
        assert at.port is not None
        body = b'{"sleep": 0.0}'
        head = f"POST /2015-03-31/functions/{FUNCTION}/invocations HTTP/1.1\r\nHost: bed\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self._socket = socket.create_connection((at.hostname, at.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def invoke(self) -> None:
        """There and back."""
        self._socket.sendall(self._request)
        answer = self._socket.recv(65536)
        if not answer.startswith(b"HTTP/1.1 200") or not answer.endswith(b"}"):
            raise ValueError(f"the bed has answered {answer[:200]!r}")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def timed(act: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


@contextmanager
def told(ours: Ours, n: int, seconds: float) -> Iterator[Figures]:
    """See `counted`; what was asked for is told for people, besides."""
    before = ours.bed.state()
    with counted(ours.bed, n, math.ceil(n / ours.concurrency) * seconds) as figures:
        yield figures
    after = ours.bed.state()
    print(json.dumps({"calls": n, **requests_between(before, after), **after["lambda"]}), file=sys.stderr)


MEASURES: Final[dict[str, Callable[..., Figures]]] = {
    measure.__name__: measure for measure in (calls, again, mapped, latency)
}


def main(concurrency: str, *measures: str) -> None:
    """Measure, print, end. A measure is its name and numbers, e.g. `calls:1000:1.0`."""
    ours = Ours(int(concurrency))
    print(json.dumps({"measure": "open", **ours.opened}), flush=True)
    for measure in measures:
        name, *numbers = measure.split(":")
        arguments: list[Any] = [float(number) if "." in number else int(number) for number in numbers]
        print(json.dumps({"measure": measure, **MEASURES[name](ours, *arguments)}), flush=True)
    ours.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
