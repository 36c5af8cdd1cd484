"""ECSExecutor on an emulated AWS with a simulated fleet, beside Lithops on the same bed: `python benchmarks/ecs.py`.

    --rounds N   medians of so many rounds (3)        --only WORD      columns whose name has WORD in it
    --quick      one round without the long rows      --json FILE      every single figure, too
    --urgent     ahead of everything else on the machine (Linux, root): for one that is not idle
    --lithops PYTHON   an interpreter that has Lithops (cloud/lithops_env.sh makes one); without it, no such column

Called by: scripts/bench_ecs.sh.   Calls: cloud/measures.py and cloud/lithops_measures.py, in fresh processes.
Client, engine, transport and every byte on the wire are real; so is HTTP. Services and workers are simulated, with
latencies as they are inside a Region: README.md says what that leaves out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from local import Bar, at_most, kill_session, machine, show

LIMIT_S: Final = 900.0  # for one process with all its measures
CONCURRENCY: Final = 1000
WIDE: Final = "125 x 8"
NARROW: Final = "1,000 x 1"
LITHOPS: Final = "Lithops"
_SHAPES: Final = {WIDE: "125x8", NARROW: "1000x1"}
_URGENT: Final = -15
_HERE: Final = Path(__file__).parent

Key = tuple[str, str]  # column, measure
Samples = dict[Key, list[dict[str, float]]]


# --- rows ---


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a figure of a measure; `gate` must hold, `best` is what we are after."""

    figure: str
    unit: str
    measure: str
    key: str
    gate: Bar | None = None
    best: Bar | None = None


def _calls(n: int, over: Row | None = None) -> list[Row]:
    measure = f"calls:{n}:1.0"
    return [
        over or Row(f"{n:,} calls of 1 s: over ideal", "s", measure, "over_s"),
        Row("  requests of the client", "/call", measure, "requests", at_most(0.35)),
        Row("  requests of workers", "/call", measure, "worker_requests"),
        Row("  CPU of the client", "ms/call", measure, "cpu_ms", at_most(0.2), at_most(0.05)),
        Row("  requests, both sides", "$/10,000", measure, "dollars"),
        Row("  CPU of the emulator", "CPUs", measure, "bed_cpu"),
    ]


_TEN: Final = "calls:10000:1.0"
_HUNDRED: Final = "calls:100000:1.0"
_SMALL: Final = "calls:10000:0.001"
_BURST: Final = "burst:1000:1.0"
ROWS: Final = [
    *_calls(1_000),
    *_calls(10_000, Row("10,000 calls of 1 s: over ideal", "s", _TEN, "over_s", at_most(2), at_most(0.4))),
    *_calls(100_000, Row("100,000 calls of 1 s: over ideal", "%", _HUNDRED, "over_percent", at_most(2))),
    Row("10,000 calls of 1 ms: requests", "$/10,000", _SMALL, "dollars", at_most(0.012), at_most(0.0055)),
    Row("  requests of the client", "/call", _SMALL, "requests"),
    Row("  from first submit to last result", "s", _SMALL, "wall_s"),
    Row("  CPU of the client", "ms/call", _SMALL, "cpu_ms"),
    Row("result latency, alone: p50", "ms", "latency:40", "p50_ms", None, at_most(35)),
    Row("  p99", "ms", "latency:40", "p99_ms", None, at_most(60)),
    Row("  there and back, p50", "ms", "latency:40", "trip_ms"),
    Row("result latency, 1,000 at once: p50", "ms", _BURST, "p50_ms", at_most(60)),
    Row("  p99", "ms", _BURST, "p99_ms", at_most(250)),
    Row("idle: requests of the client", "/s", "idle:30", "client_per_s", at_most(1)),
    Row("  requests of workers", "/s", "idle:30", "worker_per_s"),
    Row("  CPU of the client", "%", "idle:30", "cpu_percent"),
    Row("open: until the first result", "s", "open", "wall_s"),
    Row("  CPU of the client", "s", "open", "cpu_s"),
]


def measures_of(column: str, quick: bool) -> list[str]:
    """What is measured in a column, in this order: what disturbs others comes last."""
    if column == LITHOPS:  # its latencies at once are those of its 1,000 calls
        return ["latency:10", "calls:1000:1.0"] + ([] if quick else [_SMALL, _TEN, "idle:30"])
    if quick:
        return ["latency:40", _BURST, "calls:1000:1.0", _SMALL, _TEN, "idle:30"]
    long = [_HUNDRED] if column == WIDE else []
    return ["latency:40", _BURST, "calls:1000:1.0", _SMALL, _TEN, *long, "idle:30"]


# --- measuring ---


def measure(
    columns: list[str], rounds: int, *, quick: bool, lithops: str | None, urgent: bool
) -> tuple[Samples, list[str]]:
    """All samples by column and measure, and what went wrong."""
    samples: Samples = {}
    problems: list[str] = []
    for number in range(rounds):
        first = number % len(columns)
        for column in columns[first:] + columns[:first]:
            show(f"round {number + 1} of {rounds}: {column}")
            figures, problem = measure_once(column, measures_of(column, quick), lithops, urgent)
            for name, sample in figures.items():
                samples.setdefault((column, name), []).append(sample)
            if problem:
                problems.append(f"{column}, round {number + 1}: {problem}")
    show("")
    return samples, problems


def measure_once(
    column: str, measures: list[str], lithops: str | None, urgent: bool
) -> tuple[dict[str, dict[str, float]], str]:
    """The figures of one fresh process by measure, and why some are missing."""
    if column == LITHOPS:
        command = [str(lithops), "-m", "cloud.lithops_measures", sys.executable, str(CONCURRENCY), *measures]
    else:
        command = [sys.executable, "-m", "cloud.measures", _SHAPES[column], *measures]
    figures, problem = figures_of(command, urgent)
    if column == LITHOPS and "calls:1000:1.0" in figures:
        figures[_BURST] = figures["calls:1000:1.0"]
    return figures, problem


def figures_of(command: list[str], urgent: bool) -> tuple[dict[str, dict[str, float]], str]:
    """What a process has printed, by measure, and how it failed."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=_HERE, start_new_session=True
    )
    if urgent:
        put_first(process.pid)
    problem = ""
    try:
        output, errors = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        problem = f"not over within {LIMIT_S:g} s"
    finally:
        kill_session(process)
    if problem:
        return {}, problem
    if process.returncode:
        problem = (errors.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    lines = (json.loads(line) for line in output.splitlines() if line.startswith("{"))
    return {line.pop("measure"): line for line in lines}, problem


def put_first(pid: int) -> None:
    """Let a process that leads a session, and what it starts, run before others. Errors: OSError."""
    os.setpriority(os.PRIO_PROCESS, pid, _URGENT)
    group = Path(f"/proc/{pid}/autogroup")
    if group.exists():  # then only the niceness of whole sessions counts
        group.write_text(str(_URGENT))


# --- the table ---


def lines(rows: Iterable[Row], columns: list[str], samples: Samples) -> list[tuple[str, ...]]:
    """The cells of the table, its head first; rows without any figure are left out."""
    table = [("figure", "unit", *columns, "Lithops/ours", "gate", "", "best", "")]
    for row in rows:
        values = [value_of(row, samples, column) for column in columns]
        if any(value is not None for value in values):
            table.append(_cells(row, dict(zip(columns, values, strict=True))))
    return table


def value_of(row: Row, samples: Samples, column: str) -> float | None:
    """A figure's median over the rounds; None if it was not measured."""
    values = [sample[row.key] for sample in samples.get((column, row.measure), ()) if row.key in sample]
    return median(values) if values else None


def _cells(row: Row, values: dict[str, float | None]) -> tuple[str, ...]:
    ours = [value for column, value in values.items() if column != LITHOPS and value is not None]
    theirs = values.get(LITHOPS)
    ratio = f"{theirs / ours[0]:,.1f}" if theirs is not None and ours and ours[0] else ""
    return (
        row.figure,
        row.unit,
        *map(shown, values.values()),
        ratio,
        *verdict(row.gate, ours),
        *verdict(row.best, ours),
    )


def shown(value: float | None) -> str:
    """A figure, with as many digits as say something."""
    if value is None:
        return "-"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or not size else 4
    return f"{value:,.{digits}f}"


def verdict(bar: Bar | None, ours: list[float]) -> tuple[str, str]:
    """A bar holds if it holds in every column of ours."""
    if bar is None:
        return "", ""
    if not ours:
        return str(bar), "?"
    return str(bar), "yes" if all(bar.holds(value, None) for value in ours) else "NO"


def aligned(table: list[tuple[str, ...]]) -> str:
    """Cells as text; texts to the left, numbers to the right."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    n_numbers = len(table[0]) - 4
    padded = (
        [
            cell.rjust(width) if 2 <= column < n_numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in table
    )
    return "\n".join("  ".join(line).rstrip() for line in padded)


# --- entry ---


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 when a measurement failed (a bar that is missed is a finding, not a failure)."""
    options = _parse(arguments)
    columns = [WIDE] if options.quick else [WIDE, NARROW]
    columns += [LITHOPS] if options.lithops else []
    columns = [column for column in columns if options.only.lower() in column.lower()]
    rounds = 1 if options.quick else options.rounds
    start = time.time()
    print(f"{machine()}; {CONCURRENCY:,} slots as workers x slots; medians of {rounds} rounds")
    print("emulated AWS on loopback: S3 20 ms, SQS 15 ms, RunTask 150 ms; workers are simulated")
    samples, problems = measure(columns, rounds, quick=options.quick, lithops=options.lithops, urgent=options.urgent)
    table = lines(ROWS, columns, samples)
    print(aligned(table))
    for problem in problems:
        print(f"failed: {problem}")
    gates, bests = ([line[column] for line in table[1:] if line[column]] for column in (-3, -1))
    held = f"gates held: {gates.count('yes')} of {len(gates)}; best held: {bests.count('yes')} of {len(bests)}"
    print(f"{held}; {time.time() - start:.0f} s; {machine()}")
    if options.json:
        named = {f"{column}: {name}": figures for (column, name), figures in samples.items()}
        Path(options.json).write_text(json.dumps(named, indent=1))
    return 1 if problems else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="ECSExecutor on an emulated AWS, beside Lithops")
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many rounds (3)")
    parser.add_argument("--only", default="", metavar="WORD", help="columns whose name has WORD in it")
    parser.add_argument("--quick", action="store_true", help="one round without the long rows")
    parser.add_argument("--urgent", action="store_true", help="ahead of everything else on the machine (root)")
    parser.add_argument("--lithops", metavar="PYTHON", help="an interpreter that has Lithops")
    parser.add_argument("--json", metavar="FILE", help="write every single figure")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
