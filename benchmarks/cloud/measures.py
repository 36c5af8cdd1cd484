"""Our executor on the bed: `python -m cloud.measures WORKERSxSLOTS MEASURE…` prints a line of JSON for each measure.

Called by: ecs.py.   Calls: ECSExecutor, through its own interface; bed.py.
One process has one emulator, one executor and one fleet, which is up before the first clock starts. Each measure calls
a function of its own, so that nothing is known of how long its calls take.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from cloud.bed import CREDENTIALS, Bed, Figures, counted, cpu_s, percentiles_ms, requests_between, requests_by_side

WARM_WITHIN_S: Final = 240.0
SETTLE_S: Final = 1.5  # until what follows the last result, journal and deletes, is over


def nap_function(name: str) -> Callable[[float], float]:
    """A function that takes so long and returns when that was over. The simulated workers do just that; its body
    only says what it means. `name` makes it another function for whoever keeps figures by function."""

    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return time.time() if name else 0.0

    return nap


class Ours:
    """An executor with its fleet up."""

    def __init__(self, n_workers: int, n_slots: int) -> None:
        self.n_slots = n_workers * n_slots
        self.bed = Bed(sys.executable)
        os.environ.update(CREDENTIALS)
        start, cpu = time.perf_counter(), cpu_s()
        from cloudexec import ECSExecutor

        self.executor = ECSExecutor(
            "bench",
            max_workers=self.n_slots,
            slots=n_slots,
            task_definition="bench-worker:1",
            bucket="bench-bucket",
            subnets=["subnet-aaaaaaaa"],
            endpoint_url=self.bed.endpoint,
        )
        self.submit_all(nap_function("first"), 1, 0.0)[0].result()
        self.opened = {"wall_s": time.perf_counter() - start, "cpu_s": cpu_s() - cpu}
        self._warm_up()
        self.opened["warm_s"] = time.perf_counter() - start

    def submit_all(self, nap: Callable[[float], float], n: int, seconds: float) -> list[Future[float]]:
        """N calls, one `submit` each."""
        submit = self.executor.submit
        return [submit(nap, seconds) for _ in range(n)]

    def close(self) -> None:
        """End fleet and emulator."""
        self.executor.shutdown(cancel_futures=True)
        self.bed.close()

    def _warm_up(self) -> None:
        """Have all slots up, and known to the client."""
        nap = nap_function("warm")
        deadline = time.monotonic() + WARM_WITHIN_S
        while self.bed.state()["fleet"]["slots"] < self.n_slots:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{self.bed.state()['fleet']} after {WARM_WITHIN_S:g} s, wanted {self.n_slots} slots"
                )
            for future in self.submit_all(nap, self.n_slots, 1.0):
                future.result()
        time.sleep(SETTLE_S)


def calls(ours: Ours, n: int, seconds: float) -> Figures:
    """N calls by `submit`, until all results are there."""
    nap = nap_function(f"calls {n} {seconds}")
    before = ours.bed.state()
    with counted(ours.bed, n, math.ceil(n / ours.n_slots) * seconds) as figures:
        for future in ours.submit_all(nap, n, seconds):
            future.result()
    time.sleep(SETTLE_S)
    after = ours.bed.state()
    sides = requests_by_side(before, after)  # again, with what comes after the last result
    figures["requests"], figures["worker_requests"] = sides["client"] / n, sides["worker"] / n
    figures["dollars"] = (sum(after["dollars"].values()) - sum(before["dollars"].values())) / n * 10_000
    print(json.dumps({"calls": n, **requests_between(before, after)}), file=sys.stderr)
    return figures


def mapped(ours: Ours, n: int, seconds: float) -> Figures:
    """The same by `map`, which makes no futures."""
    with counted(ours.bed, n, math.ceil(n / ours.n_slots) * seconds) as figures:
        for _ in ours.executor.map(nap_function(f"mapped {n} {seconds}"), [seconds] * n):
            pass
    time.sleep(SETTLE_S)
    return figures


def burst(ours: Ours, n: int, seconds: float) -> Figures:
    """N calls at once: from the end of each on its worker to the callback of its future."""
    late: list[float] = []
    over = threading.Event()

    def note(future: Future[float]) -> None:
        late.append(time.time() - future.result())
        if len(late) == n:
            over.set()

    for future in ours.submit_all(nap_function(f"burst {n} {seconds}"), n, seconds):
        future.add_done_callback(note)
    over.wait()
    time.sleep(SETTLE_S)
    return percentiles_ms(late)


def latency(ours: Ours, n: int) -> Figures:
    """One call after another, nothing else under way; `trip_ms` is the way there and back."""
    nap = nap_function("latency")
    late, trips = [], []
    for _ in range(n):
        start = time.perf_counter()
        end = ours.executor.submit(nap, 0.05).result()
        late.append(time.time() - end)
        trips.append(time.perf_counter() - start - 0.05)
    return percentiles_ms(late) | {"trip_ms": percentiles_ms(trips)["p50_ms"]}


def idle(ours: Ours, seconds: float) -> Figures:
    """Requests a second of both sides while there is nothing to do."""
    time.sleep(2.0)
    before, cpu = ours.bed.state(), cpu_s()
    time.sleep(seconds)
    after, cpu = ours.bed.state(), cpu_s() - cpu
    sides = requests_by_side(before, after)
    print(json.dumps({"idle": seconds, **requests_between(before, after)}), file=sys.stderr)
    return {
        "client_per_s": sides["client"] / seconds,
        "worker_per_s": sides["worker"] / seconds,
        "cpu_percent": cpu / seconds * 100,
    }


MEASURES: Final[dict[str, Callable[..., Figures]]] = {
    measure.__name__: measure for measure in (calls, mapped, burst, latency, idle)
}


def main(shape: str, *measures: str) -> None:
    """Measure, print, end. A measure is its name and numbers, e.g. `calls:1000:1.0`."""
    n_workers, n_slots = map(int, shape.split("x"))
    ours = Ours(n_workers, n_slots)
    print(json.dumps({"measure": "open", **ours.opened}), flush=True)
    for measure in measures:
        name, *numbers = measure.split(":")
        arguments: list[Any] = [float(number) if "." in number else int(number) for number in numbers]
        print(json.dumps({"measure": measure, **MEASURES[name](ours, *arguments)}), flush=True)
    ours.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
