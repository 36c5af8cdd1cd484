"""One measurement of one peer, in a process of its own: `python measures.py MEASURE PEER ROUND SCALE` prints JSON.

Called by: local.py.   Calls: peers.py, tasks.py.
Each measure returns its figures by name. SCALE divides the number of calls (1 for real figures).
CPU time is that of the client's process alone.   Linux: memory is read from /proc/self.
"""

from __future__ import annotations

import gc
import glob
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from statistics import median
from typing import Any, Final

import numpy as np
import tasks
from peers import OPEN, FuturesPeer, Peer

Figures = dict[str, float]

KB: Final = 1_000
MB: Final = 1_000_000
SHARED_BYTES: Final = 100 * MB
SHARED_CALLS: Final = 200
REPICKLING_CALLS: Final = 10  # of peers that pickle the array for each call: a quarter of a second each
UNEVEN_TOTAL_S: Final = 10.0
COLD_REPEATS: Final = 5


# --- many small calls ---


def map_noop(peer: Peer, _round: int, scale: int) -> Figures:
    """10,000 no-op calls by `map`, with defaults."""
    n = 10_000 // scale
    with timed(n) as figures:
        results = peer.map(tasks.noop, range(n))
    assert results == list(range(n))
    return figures


def submit_noop(peer: Peer, _round: int, scale: int) -> Figures:
    """10,000 no-op calls by `submit`, results by `as_completed`."""
    n = 10_000 // scale
    with timed(n) as figures:
        results = peer.in_order_of_completion(tasks.noop, [(i,) for i in range(n)])
    assert sorted(results) == list(range(n))
    return figures


def latency(peer: Peer, _round: int, scale: int) -> Figures:
    """One call at a time, on a warm executor that has nothing else to do."""
    took_us = []
    for i in range(1_000 // scale):
        start = time.perf_counter()
        peer.call(tasks.noop, i)
        took_us.append((time.perf_counter() - start) * 1e6)
    took_us.sort()
    return {"p50_us": median(took_us), "p99_us": took_us[len(took_us) * 99 // 100], "min_us": took_us[0]}


# --- large arguments and results ---


def arguments_submit(peer: Peer, _round: int, scale: int) -> Figures:
    """1,000 calls with an array of 100 KB each, by `submit`."""
    arrays = [random_array(100 * KB, seed) for seed in range(1_000 // scale)]
    with timed(len(arrays)) as figures:
        results = peer.submit_all(tasks.length, [(array,) for array in arrays])
    assert results == [100 * KB] * len(arrays)
    return figures


def arguments_map(peer: Peer, _round: int, scale: int) -> Figures:
    """The same by `map`."""
    arrays = [random_array(100 * KB, seed) for seed in range(1_000 // scale)]
    with timed(len(arrays)) as figures:
        results = peer.map(tasks.length, arrays)
    assert results == [100 * KB] * len(arrays)
    return figures


def results(peer: Peer, _round: int, scale: int) -> Figures:
    """64 results of 10 MB, all kept."""
    n = 64 // min(scale, 8)
    with timed(n) as figures:
        arrays = peer.submit_all(tasks.large, [(i,) for i in range(n)])
    assert [(len(array), array[-1]) for array in arrays] == [(10 * MB, i & 127) for i in range(n)]
    return figures


def shared_map(peer: Peer, _round: int, scale: int) -> Figures:
    """One array of 100 MB in 200 calls: `map(pick, repeat(array), range(200))`."""
    return _shared(peer, scale, lambda data, n: peer.map(tasks.pick, repeat(data, n), range(n)))


def shared_submit(peer: Peer, _round: int, scale: int) -> Figures:
    """The same, one `submit` a call."""
    return _shared(peer, scale, lambda data, n: peer.submit_all(tasks.pick, [(data, i) for i in range(n)]))


def shared_closure_map(peer: Peer, _round: int, scale: int) -> Figures:
    """The same array, closed over by the function that is mapped."""
    return _shared(peer, scale, lambda data, n: peer.map(closing_over(data), range(n)))


def shared_closure_submit(peer: Peer, _round: int, scale: int) -> Figures:
    """The same array, closed over by the function that is submitted."""

    def run(data: Any, n: int) -> list[Any]:
        return peer.submit_all(closing_over(data), [(i,) for i in range(n)])

    return _shared(peer, scale, run)


def closing_over(data: Any) -> Callable[[int], int]:
    """A function that carries `data` along."""
    return lambda index: int(data[index])


def _shared(peer: Peer, scale: int, run: Callable[[Any, int], list[Any]]) -> Figures:
    """Seconds for 200 calls; then the same with an object that counts how often it is pickled.

    client_mb: peak of the client's memory during the calls, above what it held with the array made and the executor
    warm. process_mb: peak of the whole client, interpreter and numpy included, without the array.
    """
    repickling = isinstance(peer, FuturesPeer) and type(peer.executor).__name__ != "LocalExecutor"
    n = REPICKLING_CALLS if repickling else SHARED_CALLS // min(scale, 4)
    array = random_array(SHARED_BYTES // scale, 0)
    gc.collect()
    before = reset_peak_memory()
    with timed(n) as timing:
        picked = run(array, n)
    peak = memory("VmHWM")
    assert picked == [int(value) for value in array[:n]]
    figures = {
        "s": timing["wall_us"] * SHARED_CALLS / 1e6,
        "cpu_s": timing["cpu_us"] * SHARED_CALLS / 1e6,
        "extrapolated": float(n < SHARED_CALLS),
        "client_mb": (peak - before) / MB,
        "process_mb": (peak - array.nbytes) / MB,
        "anonymous_mb": (memory("RssAnon") - array.nbytes) / MB,
        "stored_times": bytes_in_store() / array.nbytes,
    }
    assert run(tasks.Counted(array), n) == picked
    figures["reductions"] = tasks.Counted.reductions * SHARED_CALLS / n
    return figures


def bytes_in_store() -> int:
    """What our executor has written for its workers; it keeps the last blobs for a while."""
    folders = (f"{base}/cloudexec-{os.getpid()}-*/**" for base in ("/dev/shm", tempfile.gettempdir()))
    paths = {path for folder in folders for path in glob.glob(folder, recursive=True)}
    return sum(os.path.getsize(path) for path in paths if os.path.isfile(path))


# --- uneven calls ---


def uneven(peer: Peer, round: int, scale: int) -> Figures:
    """Calls of 1 ms to 1 s (Pareto), 10 s in all; ours also in one-call batches, first or last in turn."""
    naps_s = pareto_naps(round, UNEVEN_TOTAL_S / scale)
    if not isinstance(peer, FuturesPeer) or type(peer.executor).__name__ != "LocalExecutor":
        return _uneven(peer, naps_s, {})
    for way in ("adaptive", "one") if round % 2 else ("one", "adaptive"):
        if way == "one":
            one = _uneven(peer, naps_s, {"chunksize": 1})
        else:
            adaptive = _uneven(peer, naps_s, {})
    return adaptive | {
        "one_makespan_s": one["makespan_s"],
        "makespan_ratio": adaptive["makespan_s"] / one["makespan_s"],
        "messages_ratio": adaptive["messages"] / one["messages"],
    }


def _uneven(peer: Peer, naps_s: list[float], options: dict[str, int]) -> Figures:
    before = messages(peer)
    start = time.perf_counter()
    peer.map(tasks.sleep, naps_s, **options)
    figures = {"makespan_s": time.perf_counter() - start, "messages": float(messages(peer) - before)}
    return figures | {"ideal_s": sum(naps_s) / 2, "calls": float(len(naps_s))}


def pareto_naps(seed: int, total_s: float) -> list[float]:
    """Seconds from 1 ms to 1 s, Pareto with index 1, evenly spread quantiles in random order."""
    n = 1
    while sum(naps_s := [0.001 / (1 - (i + 0.5) / n * 0.999) for i in range(n)]) < total_s:
        n += 10
    random.Random(seed).shuffle(naps_s)
    return naps_s


def messages(peer: Peer) -> int:
    """How many batches our executor has sent."""
    core = getattr(getattr(peer, "executor", None), "_core", None)
    return int(core.engine.ledger.placed_batches) if core is not None else 0


# --- many open calls ---


def pending(peer: Peer, _round: int, scale: int) -> Figures:
    """100,000 futures that wait for busy workers: bytes each, and how long a `submit` takes."""
    assert isinstance(peer, FuturesPeer)
    n = 100_000 // scale
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "over")
        busy = [peer.submit(tasks.wait_for, path) for _ in range(2)]
        time.sleep(0.3)
        numbers = list(range(n))  # arguments do not count
        gc.collect()
        before = memory("VmRSS")
        with timed(n) as figures:
            futures = [peer.submit(tasks.noop, number) for number in numbers]
        time.sleep(1.0)  # what the background thread does with them counts too
        gc.collect()
        figures["bytes"] = (memory("VmRSS") - before) / n
        for future in reversed(futures):
            future.cancel()
        with open(path, "w"):
            pass
        for future in busy:
            future.result()
    return figures


# --- cold starts ---

_NOW: Final = "import time; print(time.monotonic_ns())"
_FOREIGN: Final = "import sys; print(int('boto3' in sys.modules or 'botocore' in sys.modules))"
_IMPORTS: Final = {
    "ours": ("import cloudexec", "from cloudexec import LocalExecutor as Pool"),
    "ProcessPool": ("import concurrent.futures", "from concurrent.futures import ProcessPoolExecutor as Pool"),
    "loky": ("import loky", "from loky import get_reusable_executor as Pool"),
    "joblib": ("import joblib", "from joblib import Parallel, delayed"),
}
_FIRST: Final = "if __name__ == '__main__':\n    assert Pool(max_workers=2).submit({fn}, -7).result() == 7"
_FIRST_JOBLIB: Final = "if __name__ == '__main__':\n    assert Parallel(n_jobs=2)([delayed({fn})(-7)]) == [7]"
_OWN: Final = "def own(value):\n    return -value"


def cold(name: str, _round: int, _scale: int) -> Figures:
    """Fresh interpreters: milliseconds over a bare one until imported, and until the first result is there.

    The first result is that of a builtin; `first_main_ms` that of a function of `__main__`.
    """
    module, pool = _IMPORTS[name]
    first = _FIRST_JOBLIB if name == "joblib" else _FIRST
    scripts = {
        "bare": "",
        "import_ms": module,
        "import_pool_ms": pool,
        "first_ms": f"{pool}\n{first.format(fn='abs')}",
        "first_main_ms": f"{pool}\n{_OWN}\n{first.format(fn='own')}",
    }
    took: dict[str, list[float]] = {key: [] for key in scripts}
    foreign = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for repeat_number in range(1 + COLD_REPEATS):
            for key, script in scripts.items():
                milliseconds, has_foreign = start_cold(script, folder)
                foreign = max(foreign, has_foreign)
                if repeat_number:  # the first one compiled what it imported
                    took[key].append(milliseconds)
    bare = median(took.pop("bare"))
    return {key: median(values) - bare for key, values in took.items()} | {"bare_ms": bare, "boto": foreign}


def start_cold(script: str, folder: str) -> tuple[float, float]:
    """Milliseconds from the start of an interpreter to the end of `script`; 1 if it then has boto3 or botocore.

    Compiled modules are kept in `folder`, whatever this process was told about keeping them.
    """
    path = os.path.join(folder, "cold.py")
    with open(path, "w") as file:
        file.write(f"{script}\n{_NOW}\n{_FOREIGN}\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = os.path.join(folder, "compiled")
    start = time.monotonic_ns()
    output = subprocess.run([sys.executable, path], check=True, capture_output=True, text=True, env=environment).stdout
    now, foreign = output.split()[-2:]
    return (int(now) - start) / 1e6, float(foreign)


# --- instruments ---


@contextmanager
def timed(n_calls: int) -> Iterator[Figures]:
    """Puts wall and CPU microseconds a call into the dictionary that it gives."""
    figures: Figures = {}
    wall, cpu = time.perf_counter(), time.process_time()
    yield figures
    figures["wall_us"] = (time.perf_counter() - wall) / n_calls * 1e6
    figures["cpu_us"] = (time.process_time() - cpu) / n_calls * 1e6


def memory(field: str) -> int:
    """Bytes, from /proc/self/status."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field + ":"))


def reset_peak_memory() -> int:
    """Let the peak (VmHWM) start again from the memory in use, which is returned."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return memory("VmRSS")


def random_array(size: int, seed: int) -> tasks.Array:
    """Bytes that do not compress and do not repeat."""
    return np.random.default_rng(seed).integers(0, 255, size, dtype=np.uint8)


MEASURES: Final[dict[str, Callable[[Peer, int, int], Figures]]] = {
    measure.__name__: measure
    for measure in (
        map_noop,
        submit_noop,
        latency,
        arguments_submit,
        arguments_map,
        shared_map,
        shared_submit,
        shared_closure_map,
        shared_closure_submit,
        results,
        uneven,
        pending,
    )
}


def warm_up(peer: Peer) -> None:
    """Have both workers up, and whatever is imported late."""
    for i in range(3):
        assert peer.call(tasks.noop, i) == i
    peer.submit_all(tasks.sleep, [(0.05,)] * 4)
    time.sleep(0.2)


def main(measure: str, name: str, round: str, scale: str) -> None:
    """Measure, print, end."""
    if measure == "cold":
        print(json.dumps(cold(name, int(round), int(scale))))
        return
    peer = OPEN[name]()
    if measure != "pending":  # there, nothing must be known of how long calls take
        warm_up(peer)
    figures = MEASURES[measure](peer, int(round), int(scale))
    print(json.dumps(figures), flush=True)
    peer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
