"""R calls beside rpy2, CSV files and fresh Rscripts, in one table: `python benchmarks/r.py`.

    --rounds N   medians of so many rounds (5)          --only WORD   rows whose name or measure has WORD in it
    --quick      one round, smaller                     --json FILE   every single figure, too

Called by: scripts/bench_r.sh.   Calls: r_measures.py, in a fresh process for each figure.
Needs pandas, R with data.table and randomForest, and rpy2 for its column. Within a round every column has its turn at
one measure before the next begins, and each round another one goes first: what else the machine does meets all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Final

from ecs import figures_of, shown
from local import machine, show

OURS: Final = "ours"  # isolation="fork", the default
COLUMNS: Final = (OURS, "session", "process", "rpy2", "CSV", "Rscript")
_MEASURES: Final = Path(__file__).with_name("r_measures.py")

Samples = dict[tuple[str, str], list[dict[str, float]]]  # by measure and column


# --- rows ---


@dataclass(frozen=True, slots=True)
class Bar:
    """What ours must hold: at most a number, or so many times faster than a peer in the same run."""

    number: float
    faster_than: str = ""

    def holds(self, ours: float, peer: float | None) -> bool | None:
        """None when there is nothing to compare with."""
        if not self.faster_than:
            return ours <= self.number
        return None if peer is None else peer >= self.number * ours

    def __str__(self) -> str:
        return f"≥ {self.number:g}× {self.faster_than}" if self.faster_than else f"≤ {self.number:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. columns: who is measured; peer: whose figure over ours the table shows."""

    figure: str
    unit: str
    measure: str
    columns: tuple[str, ...]
    gate: Bar | None = None
    peer: str = ""
    key: str = "ms"


_FRAMES: Final = (OURS, "session", "rpy2", "CSV")
_CALLS: Final = (OURS, "session", "process", "Rscript")
_POOLED: Final = (OURS, "session")

ROWS: Final = [
    Row("1e6 × 5 floats, there and back", "ms", "floats", _FRAMES, Bar(20, "rpy2"), "rpy2"),
    Row("  equal when it is back", "", "floats", _FRAMES, key="is_equal"),
    Row("1e6 × 5 mixed, there and back", "ms", "mixed", _FRAMES, peer="rpy2"),
    Row("  equal when it is back", "", "mixed", _FRAMES, key="is_equal"),
    Row("trivial call, direct, p50", "ms", "trivial", _CALLS, Bar(8), "Rscript"),
    Row("  the first one", "ms", "trivial", _CALLS, key="first_ms"),
    Row("trivial call, LocalExecutor.submit, p50", "ms", "submitted", _POOLED, Bar(8)),
    Row("trivial call, LocalExecutor.map, 2 slots", "ms/call", "mapped", _POOLED, Bar(8)),
    Row("32 fits of 500 trees, one after another", "ms", "forest", _CALLS, Bar(4, "Rscript"), "Rscript"),
    Row("R.streams(42)[1_000_000]", "ms", "jump", (OURS,), Bar(1)),
    Row("  the first one", "ms", "jump", (OURS,), key="first_ms"),
]


# --- measuring ---


def measure(rows: Iterable[Row], left_out: set[str], rounds: int, scale: int) -> tuple[Samples, list[str]]:
    """All samples by measure and column, and what went wrong."""
    columns_of = {row.measure: [column for column in row.columns if column not in left_out] for row in rows}
    samples: Samples = {}
    problems: list[str] = []
    for number in range(rounds):
        for name, columns in columns_of.items():
            first = number % len(columns)
            for column in columns[first:] + columns[:first]:
                show(f"round {number + 1} of {rounds}: {name} by {column}")
                command = [sys.executable, str(_MEASURES), name, column, str(scale)]
                figures, problem = figures_of(command, urgent=False)
                if name in figures:
                    samples.setdefault((name, column), []).append(figures[name])
                if problem:
                    problems.append(f"{name} by {column}, round {number + 1}: {problem}")
    show("")
    return samples, problems


# --- the table ---


def lines(rows: Iterable[Row], samples: Samples) -> list[tuple[str, ...]]:
    """The cells of the table, its head first."""
    return [("figure", "unit", *COLUMNS, "peer/ours", "gate", ""), *(_cells(row, samples) for row in rows)]


def _cells(row: Row, samples: Samples) -> tuple[str, ...]:
    values = {column: _value(row, samples, column) for column in COLUMNS}
    ours, peer = values[OURS], values.get(row.peer)
    ratio = f"{peer / ours:,.1f}" if ours and peer is not None else ""
    told = ["yes" if value else "NO" for value in values.values() if value is not None]
    is_yes_or_no = row.key == "is_equal"
    cells = [shown(value) for value in values.values()]
    if is_yes_or_no:
        words = iter(told)
        cells = ["-" if value is None else next(words) for value in values.values()]
    return (row.figure, row.unit, *cells, ratio, *_verdict(row.gate, ours, peer))


def _value(row: Row, samples: Samples, column: str) -> float | None:
    """The median over the rounds; of what is yes or no, yes only if always."""
    found = [sample[row.key] for sample in samples.get((row.measure, column), ()) if row.key in sample]
    if column not in row.columns or not found:
        return None
    return min(found) if row.key == "is_equal" else median(found)


def _verdict(bar: Bar | None, ours: float | None, peer: float | None) -> tuple[str, str]:
    if bar is None:
        return "", ""
    holds = None if ours is None else bar.holds(ours, peer)
    return str(bar), "?" if holds is None else "yes" if holds else "NO"


def aligned(table: list[tuple[str, ...]]) -> str:
    """Cells as text; texts to the left, numbers to the right."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    n_numbers = 2 + len(COLUMNS) + 1
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
    word = options.only.lower()
    measures = {row.measure for row in ROWS if word in row.figure.lower() or word in row.measure}
    rows = [row for row in ROWS if row.measure in measures]
    left_out = set() if find_spec("rpy2") else {"rpy2"}
    rounds, scale = (1, 10) if options.quick else (options.rounds, 1)
    start = time.time()
    print(f"{machine()}; medians of {rounds} rounds")
    if left_out:
        print("without rpy2, which is not installed here: scripts/r.sh rpy2 ENV installs it")
    if options.quick:
        print("--quick: a tenth of rows, trees and calls, so the bars are out of their element")
    samples, problems = measure(rows, left_out, rounds, scale)
    table = lines(rows, samples)
    print(aligned(table))
    for problem in problems:
        print(f"failed: {problem}")
    gates = [line[-1] for line in table[1:] if line[-1]]
    print(f"gates held: {gates.count('yes')} of {len(gates)}; {time.time() - start:.0f} s; {machine()}")
    if options.json:
        found = [{"measure": key[0], "column": key[1], "rounds": values} for key, values in samples.items()]
        facts = {"machine": machine(), "started": start, "scale": scale, "samples": found, "problems": problems}
        Path(options.json).write_text(json.dumps(facts, indent=1) + "\n")
    return 1 if problems else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="R calls beside rpy2, CSV files and fresh Rscripts.")
    parser.add_argument("--rounds", type=int, default=5, help="medians of so many rounds (default: 5)")
    parser.add_argument("--only", default="", metavar="WORD", help="rows whose name or measure has WORD in it")
    parser.add_argument("--quick", action="store_true", help="one round with a tenth of rows, trees and calls")
    parser.add_argument("--json", metavar="FILE", help="write every single figure to FILE")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
