"""LocalExecutor beside ProcessPoolExecutor, loky and joblib, in one table: `python benchmarks/local.py`.

    --rounds N   medians of so many rounds (5)          --only WORD   rows whose name or measure has WORD in it
    --quick      one round with a tenth of the calls    --json FILE   every single figure, too

Called by: scripts/bench.sh.   Calls: measures.py, in a fresh process for each figure.
Within a round every peer has its turn at one measure before the next begins, and each round another peer goes
first: what else the machine does meanwhile meets all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

PEERS: Final = ("ours", "ProcessPool", "loky", "joblib")
LIMIT_S: Final = 180.0  # for one measurement; far more than any takes, unless it hangs
_MEASURES: Final = Path(__file__).with_name("measures.py")

Key = tuple[str, str]  # measure, peer
Samples = dict[Key, list[dict[str, float]]]


# --- bars ---


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure of ours must not exceed: a number, or so many times ProcessPoolExecutor's figure."""

    most: float
    times_pool: bool = False

    def holds(self, ours: float, pool: float | None) -> bool | None:
        """None when there is nothing to compare with."""
        if not self.times_pool:
            return ours <= self.most
        return None if pool is None else ours <= self.most * pool

    def __str__(self) -> str:
        return f"≤ {self.most:g}× Pool" if self.times_pool else f"≤ {self.most:,g}"


def at_most(most: float) -> Bar:
    """An absolute bar."""
    return Bar(most)


def of_pool(times: float) -> Bar:
    """A bar relative to ProcessPoolExecutor in the same run."""
    return Bar(times, times_pool=True)


# --- rows ---


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a figure of a measure, and the bars that it has to stay under.

    `gate` must hold; `best` is what we are after. Without bars the row is there to explain another one.
    """

    figure: str
    unit: str
    measure: str
    key: str
    gate: Bar | None = None
    best: Bar | None = None
    peers: tuple[str, ...] = PEERS


_FUTURES: Final = ("ours", "ProcessPool", "loky")
_OURS: Final = ("ours",)
_CLOUDPICKLE: Final = ("ours", "loky", "joblib")


def _shared_rows(measure: str, how: str, peers: tuple[str, ...]) -> list[Row]:
    once = at_most(1.01)
    return [
        Row(f"100 MB array in 200 calls, {how}", "s", measure, "s", at_most(1.5), at_most(0.25), peers),
        Row("  times written to the store", "", measure, "stored_times", once, once, _OURS),
        Row("  reductions of an object around it", "", measure, "reductions", peers=peers),
        Row("  client's peak beyond array", "MB", measure, "client_mb", at_most(50), at_most(50), peers),
        Row("  same with interpreter and numpy", "MB", measure, "process_mb", peers=peers),
    ]


ROWS: Final = [
    Row("10,000 no-op calls, map", "µs/call", "map_noop", "wall_us", at_most(50), at_most(12)),
    Row("  CPU of the client", "µs/call", "map_noop", "cpu_us"),
    Row("10,000 no-op, submit + as_completed", "µs/call", "submit_noop", "wall_us", at_most(80), at_most(35)),
    Row("  CPU of the client", "µs/call", "submit_noop", "cpu_us"),
    Row("one warm call, p50", "µs", "latency", "p50_us", of_pool(2), of_pool(1)),
    Row("one warm call, p99", "µs", "latency", "p99_us", of_pool(2), of_pool(1)),
    Row("1,000 × 100 KB array, submit", "µs/call", "arguments_submit", "wall_us", of_pool(1), of_pool(0.5)),
    Row("  CPU of the client", "µs/call", "arguments_submit", "cpu_us"),
    Row("1,000 × 100 KB array, map", "µs/call", "arguments_map", "wall_us", of_pool(1), of_pool(0.5)),
    *_shared_rows("shared_map", "map", PEERS),
    *_shared_rows("shared_submit", "submit", PEERS),
    *_shared_rows("shared_closure_map", "closure, map", _CLOUDPICKLE),
    *_shared_rows("shared_closure_submit", "closure, submit", _CLOUDPICKLE),
    Row("64 results of 10 MB", "µs/call", "results", "wall_us", of_pool(1), of_pool(0.5)),
    Row("  CPU of the client", "µs/call", "results", "cpu_us"),
    Row("uneven calls: makespan", "s", "uneven", "makespan_s"),
    Row("  over that of one-call batches", "×", "uneven", "makespan_ratio", at_most(1.05), at_most(1.02), _OURS),
    Row("  messages over one-call batches", "×", "uneven", "messages_ratio", at_most(0.5), at_most(0.5), _OURS),
    Row("cold: import, over bare Python", "ms", "cold", "import_ms", at_most(60), at_most(35)),
    Row("  import of the executor", "ms", "cold", "import_pool_ms", at_most(60), at_most(35)),
    Row("cold: first result, over bare Python", "ms", "cold", "first_ms", at_most(200), at_most(90)),
    Row("  of a function of __main__", "ms", "cold", "first_main_ms", at_most(200), at_most(90)),
    Row("  boto3 or botocore imported", "", "cold", "boto", at_most(0), at_most(0), _OURS),
    Row("100,000 pending futures", "bytes/call", "pending", "bytes", at_most(3000), at_most(2000), _FUTURES),
    Row("  submit", "µs/call", "pending", "wall_us", at_most(60), at_most(20), _FUTURES),
]


# --- measuring ---


def measure(rows: Iterable[Row], rounds: int, scale: int) -> tuple[Samples, list[str]]:
    """All samples by measure and peer, and what went wrong."""
    peers_of: dict[str, tuple[str, ...]] = {}
    for row in rows:
        peers_of.setdefault(row.measure, row.peers)  # a measure's first row has all its peers
    samples: Samples = {}
    problems: list[str] = []
    for number in range(rounds):
        for name, peers in peers_of.items():
            first = number % len(peers)
            for peer in peers[first:] + peers[:first]:
                show(f"round {number + 1} of {rounds}: {name} by {peer}")
                sample = measure_once(name, peer, number, scale)
                if isinstance(sample, str):
                    problems.append(f"{name} by {peer}, round {number + 1}: {sample}")
                else:
                    samples.setdefault((name, peer), []).append(sample)
    show("")
    return samples, problems


def measure_once(name: str, peer: str, number: int, scale: int) -> dict[str, float] | str:
    """The figures of one fresh process, or why there are none."""
    command = [sys.executable, str(_MEASURES), name, peer, str(number), str(scale)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"nothing within {LIMIT_S:g} s"
    finally:
        kill_session(process)
    if process.returncode:
        return (errors.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


def kill_session(process: subprocess.Popen[str]) -> None:
    """End it with all that it may have left running."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.communicate()


def show(text: str) -> None:
    """One line of progress, overwritten by the next, for people only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


# --- the table ---

_HEAD: Final = ("figure", "unit", *PEERS, "ours/Pool", "gate", "", "best", "")


def lines(rows: Iterable[Row], samples: Samples) -> list[tuple[str, ...]]:
    """The cells of the table, its head first."""
    return [_HEAD, *(cells(row, samples) for row in rows)]


def cells(row: Row, samples: Samples) -> tuple[str, ...]:
    """One line."""
    values = {peer: value_of(row, samples, peer) for peer in PEERS}
    ours, pool = values["ours"], values["ProcessPool"]
    shown = [_show_value(row, samples, peer, value) for peer, value in values.items()]
    ratio = f"{ours / pool:.2f}" if ours is not None and pool else ""
    return (row.figure, row.unit, *shown, ratio, *_verdict(row.gate, ours, pool), *_verdict(row.best, ours, pool))


def value_of(row: Row, samples: Samples, peer: str, summary: Callable[[list[float]], float] = median) -> float | None:
    """A figure's median over the rounds; None where the row does not show this peer or nothing was measured."""
    values = [sample[row.key] for sample in samples.get((row.measure, peer), ()) if row.key in sample]
    return summary(values) if values and peer in row.peers else None


def _show_value(row: Row, samples: Samples, peer: str, value: float | None) -> str:
    if value is None:
        return "-"
    guessed = row.key == "s" and any(sample.get("extrapolated") for sample in samples[row.measure, peer])
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{'~' if guessed else ''}{value:,.{digits}f}"


def _verdict(bar: Bar | None, ours: float | None, pool: float | None) -> tuple[str, str]:
    if bar is None:
        return "", ""
    holds = None if ours is None else bar.holds(ours, pool)
    return str(bar), "?" if holds is None else "yes" if holds else "NO"


def aligned(table: list[tuple[str, ...]]) -> str:
    """Cells as text; texts to the left, numbers to the right."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    n_numbers = 2 + len(PEERS) + 1
    rows = []
    for line in table:
        padded = (
            cell.rjust(width) if 2 <= column < n_numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        rows.append("  ".join(padded).rstrip())
    return "\n".join(rows)


def summary_of(table: list[tuple[str, ...]]) -> str:
    """The closing line: how many bars were held."""
    gates, bests = ([line[column] for line in table[1:] if line[column]] for column in (-3, -1))
    return f"gates held: {gates.count('yes')} of {len(gates)}; best held: {bests.count('yes')} of {len(bests)}"


def machine() -> str:
    """What the figures belong to."""
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, load {load}"


# --- entry ---


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 when a measurement failed (a bar that is missed is a finding, not a failure)."""
    options = _parse(arguments)
    word = options.only.lower()
    measures = {row.measure for row in ROWS if word in row.figure.lower() or word in row.measure}
    rows = [row for row in ROWS if row.measure in measures]
    start = time.time()
    rounds, scale = (1, 10) if options.quick else (options.rounds, 1)
    print(f"{machine()}; 2 workers; medians of {rounds} rounds; ~ extrapolated from fewer calls")
    if options.quick:
        print("--quick: a tenth of the calls (and of the sizes), so the bars are out of their element")
    samples, problems = measure(rows, rounds, scale)
    table = lines(rows, samples)
    print(aligned(table))
    for problem in problems:
        print(f"failed: {problem}")
    print(f"{summary_of(table)}; {time.time() - start:.0f} s; {machine()}")
    if options.json:
        found = [{"measure": key[0], "peer": key[1], "rounds": values} for key, values in samples.items()]
        facts = {"machine": machine(), "started": start, "scale": scale, "samples": found, "problems": problems}
        Path(options.json).write_text(json.dumps(facts, indent=1) + "\n")
    return 1 if problems else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="LocalExecutor beside ProcessPoolExecutor, loky and joblib.")
    parser.add_argument("--rounds", type=int, default=5, help="medians of so many rounds (default: 5)")
    parser.add_argument("--only", default="", metavar="WORD", help="rows whose name or measure has WORD in it")
    parser.add_argument("--quick", action="store_true", help="one round with a tenth of the calls")
    parser.add_argument("--json", metavar="FILE", help="write every single figure to FILE")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
