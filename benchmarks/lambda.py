"""LambdaExecutor on an emulated AWS, beside Lithops and boto3 on the same bed: `python benchmarks/lambda.py`.

    --rounds N   medians of so many rounds (3)        --only WORD      columns whose name has WORD in it
    --quick      one round without the long rows      --json FILE      every single figure, too
    --urgent     ahead of everything else on the machine (Linux, root): for one that is not idle
    --lithops PYTHON   an interpreter that has Lithops (cloud/lithops_env.sh makes one); without it, no such column

Called by: scripts/bench_lambda.sh.   Calls: cloud/{lambda,boto3,lithops}_measures.py, in fresh processes.
Client, engine, transport and every byte on the wire are real; so is HTTP. Lambda answers 20 ms later than the call
takes, and runs a thousand at a time: README.md says what that leaves out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ecs import Row, Samples, aligned, figures_of, shown, value_of, verdict
from local import at_most, machine, show

CONCURRENCY: Final = 1000
OURS: Final = "ours"
LITHOPS: Final = "Lithops"
BOTO3: Final = "boto3, 64 threads"
BOTO3_WIDE: Final = "1,000 threads"
_THREADS: Final = {BOTO3: 64, BOTO3_WIDE: 1000}


# --- rows ---

_TEN: Final = "calls:10000:1.0"
_ONE: Final = "calls:1000:1.0"
_NOOPS: Final = "calls:1000:0.0"
_SMALL: Final = "calls:10000:0.001"
_MAPPED: Final = "mapped:10000:0.001"
_LATENCY: Final = "latency:40"
_LITHOPS_LATENCY: Final = "latency:5"  # a second each


def _long_calls(measure: str, over: Row) -> list[Row]:
    return [
        over,
        Row("  CPU of the client", "ms/call", measure, "cpu_ms", at_most(0.2), at_most(0.1)),
        Row("  requests, both sides", "$/10,000", measure, "dollars", at_most(0.0025)),
        Row("  requests of the client", "/call", measure, "requests"),
        Row("  memory of the client, peak", "MB", measure, "peak_mb", at_most(150)),
        Row("  environments at once, most", "", measure, "most_busy"),
        Row("  invocations refused", "/call", measure, "refused"),
        Row("  CPU of the emulator", "CPUs", measure, "bed_cpu"),
    ]


ROWS: Final = [
    *_long_calls(_TEN, Row("10,000 calls of 1 s: over ideal", "s", _TEN, "over_s", at_most(2), at_most(0.7))),
    *_long_calls(_ONE, Row("1,000 calls of 1 s: over ideal", "s", _ONE, "over_s")),
    Row("1,000 no-ops: until the last result", "s", _NOOPS, "wall_s", at_most(0.6), at_most(0.3)),
    Row("  again, with the connections there", "s", "again:1000:0.0", "wall_s"),
    Row("  CPU of the client", "ms/call", _NOOPS, "cpu_ms"),
    Row("  requests, both sides", "$/10,000", _NOOPS, "dollars"),
    Row("  CPU of the emulator", "CPUs", _NOOPS, "bed_cpu"),
    Row("10,000 calls of 1 ms, submit: wall", "ms/call", _SMALL, "wall_ms", at_most(0.05)),
    Row("  CPU of the client", "ms/call", _SMALL, "cpu_ms", at_most(0.05)),
    Row("  requests, both sides", "$/10,000", _SMALL, "dollars"),
    Row("  CPU of the emulator", "CPUs", _SMALL, "bed_cpu"),
    Row("10,000 calls of 1 ms, map: wall", "ms/call", _MAPPED, "wall_ms", at_most(0.05)),
    Row("  CPU of the client", "ms/call", _MAPPED, "cpu_ms", at_most(0.05)),
    Row("one warm call beyond Invoke, p50", "ms", _LATENCY, "beyond_ms", at_most(3)),
    Row("  there and back, p50", "ms", _LATENCY, "trip_ms"),
    Row("  p99", "ms", _LATENCY, "trip_p99_ms"),
    Row("open: until the first result", "s", "open", "wall_s"),
    Row("  CPU of the client", "s", "open", "cpu_s"),
]


def measures_of(column: str, quick: bool) -> list[str]:
    """What is measured in a column, in this order: bursts before there are connections, what disturbs others last."""
    if column == OURS:
        return [_LATENCY, _NOOPS, "again:1000:0.0", _ONE, _SMALL, _MAPPED, _TEN]
    if column == LITHOPS:
        return [_LITHOPS_LATENCY, _NOOPS, _ONE] + ([] if quick else [_SMALL, _TEN])
    if quick:
        return [_LATENCY, _NOOPS, _ONE] + ([_TEN] if column == BOTO3_WIDE else [])
    return [_LATENCY, _NOOPS, _ONE, _SMALL, _TEN]


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
            figures, problem = figures_of(_command(column, measures_of(column, quick), lithops), urgent)
            for name, sample in figures.items():
                known = _LATENCY if name == _LITHOPS_LATENCY else name
                samples.setdefault((column, known), []).append(sample)
            if problem:
                problems.append(f"{column}, round {number + 1}: {problem}")
    show("")
    return samples, problems


def _command(column: str, measures: list[str], lithops: str | None) -> list[str]:
    """What measures a column, in a process of its own."""
    concurrency = str(CONCURRENCY)
    if column == LITHOPS:
        return [str(lithops), "-m", "cloud.lithops_measures", sys.executable, concurrency, *measures]
    if column == OURS:
        return [sys.executable, "-m", "cloud.lambda_measures", concurrency, *measures]
    return [sys.executable, "-m", "cloud.boto3_measures", str(_THREADS[column]), concurrency, *measures]


# --- the table ---


def lines(rows: Iterable[Row], columns: list[str], samples: Samples) -> list[tuple[str, ...]]:
    """The cells of the table, its head first; rows without any figure are left out."""
    table = [("figure", "unit", *columns, "Lithops/ours", "boto3/ours", "gate", "", "best", "")]
    for row in rows:
        values = {column: value_of(row, samples, column) for column in columns}
        if any(value is not None for value in values.values()):
            table.append(_cells(row, values))
    return table


def _cells(row: Row, values: dict[str, float | None]) -> tuple[str, ...]:
    ours = values.get(OURS)
    bars = [verdict(bar, [] if ours is None else [ours]) for bar in (row.gate, row.best)]
    ratios = (_times(values.get(peer), ours) for peer in (LITHOPS, BOTO3))
    return (row.figure, row.unit, *map(shown, values.values()), *ratios, *bars[0], *bars[1])


def _times(theirs: float | None, ours: float | None) -> str:
    return f"{theirs / ours:,.1f}" if theirs is not None and ours else ""


# --- entry ---


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 when a measurement failed (a bar that is missed is a finding, not a failure)."""
    options = _parse(arguments)
    columns = [OURS, *([LITHOPS] if options.lithops else []), BOTO3, BOTO3_WIDE]
    columns = [column for column in columns if options.only.lower() in column.lower()]
    rounds = 1 if options.quick else options.rounds
    start = time.time()
    print(f"{machine()}; {CONCURRENCY:,} environments; medians of {rounds} rounds")
    print("emulated AWS on loopback: Invoke 20 ms + run time, S3 20 ms; environments are warm and simulated")
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
    parser = argparse.ArgumentParser(description="LambdaExecutor on an emulated AWS, beside Lithops and boto3")
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many rounds (3)")
    parser.add_argument("--only", default="", metavar="WORD", help="columns whose name has WORD in it")
    parser.add_argument("--quick", action="store_true", help="one round without the long rows")
    parser.add_argument("--urgent", action="store_true", help="ahead of everything else on the machine (root)")
    parser.add_argument("--lithops", metavar="PYTHON", help="an interpreter that has Lithops")
    parser.add_argument("--json", metavar="FILE", help="write every single figure")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
