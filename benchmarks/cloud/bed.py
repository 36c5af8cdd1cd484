"""The emulator's process, as those who measure see it; and what a stretch of work has cost.

Called by: measures.py, {lambda,boto3,lithops}_measures.py.   Calls: emulator.py, in a process of its own.
Standard library only: it is also used where cloudexec is not installed.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

Figures = dict[str, float]

CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",  # the one in AWS's own documentation
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
_BENCHMARKS: Final = Path(__file__).parents[1]


class Bed:
    """A fresh emulator; ends with this process at the latest, because its standard input ends then."""

    def __init__(self, python: str = sys.executable, *options: str) -> None:
        command = [python, "-m", "cloud.emulator", *options]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_BENCHMARKS
        )
        assert self._process.stdout is not None
        self.endpoint: str = json.loads(self._process.stdout.readline())["endpoint"]

    def state(self) -> dict[str, Any]:
        """What it has counted; asking is not counted."""
        with urllib.request.urlopen(f"{self.endpoint}/_bed") as reply:
            state: dict[str, Any] = json.loads(reply.read())
        return state

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


@contextmanager
def counted(bed: Bed, n_calls: int, ideal_s: float = 0.0) -> Iterator[Figures]:
    """Puts what the body costs into the dictionary that it gives.

    wall_s, and wall_ms a call; over_s and over_percent: beyond `ideal_s`; cpu_ms: of this process, a call; peak_mb: of
    its memory, with interpreter and imports; requests: of the client, a call; worker_requests; dollars: of both for
    10,000 calls; bed_cpu: how busy the emulator was, 1 for a whole CPU; refused: invocations for want of environments,
    a call; most_busy: environments at once, the most so far.
    """
    figures: Figures = {}
    forget_peak()
    before, cpu, start = bed.state(), cpu_s(), time.perf_counter()
    yield figures
    wall_s, cpu = time.perf_counter() - start, cpu_s() - cpu
    after = bed.state()
    sides = requests_by_side(before, after)
    dollars = sum(after["dollars"].values()) - sum(before["dollars"].values())
    figures |= {
        "wall_s": wall_s,
        "wall_ms": wall_s / n_calls * 1e3,
        "over_s": wall_s - ideal_s,
        "over_percent": (wall_s / ideal_s - 1.0) * 100 if ideal_s else math.nan,
        "cpu_ms": cpu / n_calls * 1e3,
        "peak_mb": peak_mb(),
        "requests": sides["client"] / n_calls,
        "worker_requests": sides["worker"] / n_calls,
        "dollars": dollars / n_calls * 10_000,
        "bed_cpu": (after["cpu_s"] - before["cpu_s"]) / wall_s,
        "refused": (after["lambda"]["throttled"] - before["lambda"]["throttled"]) / n_calls,
        "most_busy": after["lambda"]["most_busy"],
    }


def requests_by_side(before: dict[str, Any], after: dict[str, Any]) -> Counter[str]:
    """How many requests each side has made between two looks."""
    sides: Counter[str] = Counter()
    for name, n in after["requests"].items():
        sides[name.partition(" ")[0]] += n - before["requests"].get(name, 0)
    return sides


def requests_between(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """The same by side, service and operation, the most frequent first."""
    found = {name: n - before["requests"].get(name, 0) for name, n in after["requests"].items()}
    return dict(sorted(((name, n) for name, n in found.items() if n), key=lambda item: -item[1]))


def cpu_s() -> float:
    """CPU seconds of this process so far, all threads, children not included."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def forget_peak() -> None:
    """The peak of this process's memory starts again from what is in use. Linux; elsewhere nothing happens."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def peak_mb() -> float:
    """The most resident memory since `forget_peak`, in millions of bytes; NaN where the system does not tell."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 / 1e6 if found else math.nan


def percentiles_ms(seconds: list[float]) -> Figures:
    """p50_ms and p99_ms."""
    ordered = sorted(seconds)
    return {"p50_ms": ordered[len(ordered) // 2] * 1e3, "p99_ms": ordered[len(ordered) * 99 // 100] * 1e3}


def trip_ms(seconds: list[float]) -> Figures:
    """trip_ms and trip_p99_ms: of calls there and back, the median and the slow end."""
    found = percentiles_ms(seconds)
    return {"trip_ms": found["p50_ms"], "trip_p99_ms": found["p99_ms"]}
