"""What is measured of R, one figure to a process: `python r_measures.py MEASURE COLUMN SCALE` prints a line of JSON.

Called by: r.py.   Calls: cloudexec; rpy2, pandas' CSV and Rscript beside it.
SCALE divides rows, trees and calls (1 for real figures). COLUMN is "ours" (isolation="fork"), "session", "process",
"rpy2", "CSV" or "Rscript". Everything is warm unless the figure is called first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import pandas as pd

from cloudexec import LocalExecutor, R

Figures = dict[str, float]

N_ROWS: Final = 1_000_000
TRIPS: Final = {"rpy2": 1}  # seconds each; others are measured three times
ISOLATION: Final = {"ours": "fork"}

TRIVIAL: Final = "function(x) x + 1"
LOO: Final = """function(i, d, trees) {
  forest <- randomForest(mpg ~ ., data = d[-i, ], ntree = trees)
  unname(predict(forest, d[i, , drop = FALSE]))
}"""


# --- a data frame there and back ---


def floats(column: str, scale: int) -> Figures:
    """Five columns of floats."""
    values = np.random.default_rng(1).normal(size=(N_ROWS // scale, 5))
    return _trips(column, pd.DataFrame(values, columns=list("abcde")))


def mixed(column: str, scale: int) -> Figures:
    """Float, integer, text of four levels, truth, and time with a zone."""
    n, chance = N_ROWS // scale, np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "f": chance.normal(size=n),
            "i": chance.integers(0, 1000, n, dtype=np.int32),
            "s": np.array(["north", "south", "east", "west"])[chance.integers(0, 4, n)],
            "b": chance.random(n) < 0.5,
            "t": pd.date_range("2026-01-01", periods=n, freq="s", tz="Europe/Berlin"),
        }
    )
    return _trips(column, frame)


def _trips(column: str, frame: pd.DataFrame) -> Figures:
    trip = {"rpy2": _rpy2, "CSV": _csv}.get(column, _ours)(column)
    trip(frame.head(1000))
    took, back = [], None
    for _ in range(TRIPS.get(column, 3)):
        back = None  # so that each trip finds the same memory in use
        ms, back = _timed(lambda: trip(frame))
        took.append(ms)
    return {"ms": median(took), "is_equal": float(_is_equal(frame, back))}


def _is_equal(frame: pd.DataFrame, back: pd.DataFrame) -> bool:
    """The same names and values; the width of integers, the unit of times and the index may be others."""
    if list(back.columns) != list(frame.columns) or len(back) != len(frame):
        return False
    pairs = ((frame[name].array, back[name].array) for name in frame)
    try:
        return all(bool(np.all(one == other)) for one, other in pairs)
    except TypeError:  # text, where times were
        return False


def _ours(column: str) -> Callable[[pd.DataFrame], Any]:
    return R("function(d) d", isolation=_isolation(column))


def _rpy2(_column: str) -> Callable[[pd.DataFrame], Any]:
    """R in this process: only the conversions of rpy2 are measured, no way to anywhere."""
    import rpy2.robjects as ro
    from rpy2.robjects import pandas2ri
    from rpy2.robjects.conversion import localconverter

    identity = ro.r("function(d) d")

    def trip(frame: pd.DataFrame) -> Any:
        with localconverter(ro.default_converter + pandas2ri.converter):
            return identity(frame)

    return trip


def _csv(_column: str) -> Callable[[pd.DataFrame], Any]:
    """pandas to data.table by files in memory-backed storage, in an R that is warm."""
    folder = tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    there, back = f"{folder}/there.csv", f"{folder}/back.csv"
    copy = R("function(a, b) fwrite(fread(a), b)", packages=["data.table"], isolation="session", returns="none")

    def trip(frame: pd.DataFrame) -> Any:
        frame.to_csv(there, index=False)
        copy(there, back)
        found = pd.read_csv(back)
        Path(there).unlink()
        Path(back).unlink()
        return found

    return trip


# --- calls ---


def trivial(column: str, scale: int) -> Figures:
    """`R(...)(1)`, one after another, on an R that has the call before behind it."""
    if column == "Rscript":
        ms = [_timed(lambda: _script("cat(1 + 1)"))[0] for _ in range(1 + max(3, 10 // scale))]
    else:
        add = R(TRIVIAL, isolation=_isolation(column))
        n_calls = max(3, (10 if column == "process" else 200) // scale)
        ms = [_timed(lambda: add(1))[0] for _ in range(1 + n_calls)]
    return {"first_ms": ms[0], "ms": median(ms[1:])}


def submitted(column: str, scale: int) -> Figures:
    """`executor.submit(...).result()`, one after another."""
    add = R(TRIVIAL, isolation=_isolation(column))
    with LocalExecutor(max_workers=1) as executor:
        executor.submit(add, 0).result()
        ms = [_timed(lambda: executor.submit(add, 1).result())[0] for _ in range(200 // scale)]
    return {"ms": median(ms)}


def mapped(column: str, scale: int) -> Figures:
    """`executor.map` over many, on two slots whose R is there."""
    add, n_calls = R(TRIVIAL, isolation=_isolation(column)), 400 // scale
    with LocalExecutor(max_workers=2) as executor:
        list(executor.map(add, range(8), chunksize=1))
        ms, results = _timed(lambda: list(executor.map(add, range(n_calls))))
    assert results == [number + 1 for number in range(n_calls)]
    return {"ms": ms / n_calls}


def forest(column: str, scale: int) -> Figures:
    """Leave-one-out of a random forest over 32 cars, one lane; what starts is warm, a fresh Rscript cannot be."""
    trees = 500 // scale
    if column == "Rscript":
        code = f"suppressMessages(library(randomForest)); loo <- {LOO}; cat(loo(%d, mtcars, {trees}))"
        ms, found = _timed(lambda: [float(_script(code % number)) for number in range(1, 33)])
    else:
        loo = R(LOO, packages=["randomForest"], isolation=_isolation(column))
        cars, streams = R("mtcars", returns="object")(), R.streams(1)
        loo(1, cars, 10, streams[0])
        ms, found = _timed(lambda: [loo(number, cars, trees, streams[number - 1]) for number in range(1, 33)])
    assert len(found) == 32
    assert all(5 < value < 40 for value in found)
    return {"ms": ms}


def _script(code: str) -> str:
    """What a fresh Rscript prints."""
    return subprocess.run(["Rscript", "--vanilla", "-e", code], check=True, capture_output=True, text=True).stdout


# --- streams ---


def jump(_column: str, scale: int) -> Figures:
    """Stream one million of a seed, from nothing; then its neighbours'."""
    streams = R.streams(42)
    ms = [_timed(lambda k=k: streams[k])[0] for k in range(1_000_000, 1_000_000 + 100 // scale)]
    return {"first_ms": ms[0], "ms": median(ms[1:])}


# --- instruments ---


def _isolation(column: str) -> str:
    return ISOLATION.get(column, column)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds, and what it gave."""
    began = time.perf_counter()
    result = work()
    return (time.perf_counter() - began) * 1e3, result


MEASURES: Final = {each.__name__: each for each in (floats, mixed, trivial, submitted, mapped, forest, jump)}


def main(measure: str, column: str, scale: str) -> None:
    """Measure, print, end."""
    print(json.dumps({"measure": measure, **MEASURES[measure](column, int(scale))}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
