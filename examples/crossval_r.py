"""The demonstration's part in R: leave-one-out cross-validation of a random forest, one call of R for each car.

Called by: crossval.py.   Calls: cloudexec; Rscript, for the same loop in plain R.
The data ship with R: mtcars (Henderson and Velleman 1981). Without the package randomForest it is a linear model. More
of it, on ECS and Lambda as well: examples/r/loo_forest.py.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from itertools import repeat
from pathlib import Path

from stages import say, tell

from cloudexec import LocalExecutor, R, RObject, errors

FOREST = """function(i, d, trees) {
  model <- randomForest(mpg ~ ., data = d[-i, ], ntree = trees)
  unname(predict(model, d[i, , drop = FALSE]))
}"""
LINE = """function(i, d, trees) {
  model <- lm(mpg ~ wt + hp, data = d[-i, ])
  unname(predict(model, d[i, , drop = FALSE]))
}"""
# What somebody without any executor writes; each fit has a stream of random numbers of its own.
PLAIN = """
for (name in c(%(packages)s)) suppressMessages(library(name, character.only = TRUE))
loo <- %(code)s
RNGkind("L'Ecuyer-CMRG"); set.seed(1); state <- .Random.seed
result <- numeric(nrow(mtcars))
for (i in seq_len(nrow(mtcars))) {
  .Random.seed <- parallel::nextRNGSubStream(state)
  result[i] <- loo(i, mtcars, %(trees)d)
  state <- parallel::nextRNGStream(state)
}
saveRDS(result, "result.rds", version = 2)
"""


def show_r(n_workers: int, is_quick: bool) -> bool:
    """Run it, if there is R; whether all is as it should be."""
    say("\n  --- and calls of R " + "-" * 56 + "\n")
    try:
        found = R.check(packages=["randomForest"])
    except errors.RMissing:
        tell("R", "is not on this machine: apt-get install r-base-core r-cran-randomforest, then once more")
        return True
    has_forest = found["packages"]["randomForest"] is not None
    code, packages, what = (FOREST, ["randomForest"], "a random forest") if has_forest else (LINE, [], "a linear model")
    trees = 50 if is_quick else 3000
    tell("here", f"R {found['r']}" + (f", randomForest {found['packages']['randomForest']}" if has_forest else ""))
    size = f", {trees:,} trees" if has_forest else ""
    tell("calls", f"32 cars, {what} for each from the 31 others: leave-one-out{size}")
    for line in code.splitlines():
        say(f"  | {line}")
    loo, cars = R(code, packages=packages), R("mtcars", returns="object")()
    with LocalExecutor(max_workers=n_workers) as executor:
        list(executor.map(loo, [1] * n_workers, repeat(cars), repeat(1), R.streams(0), chunksize=1))  # starts R
        began = time.perf_counter()
        predicted = list(executor.map(loo, range(1, 33), repeat(cars), repeat(trees), R.streams(1)))
        executor_s = time.perf_counter() - began
    plain, plain_s = plain_loop(code, packages, trees)
    same = predicted == plain
    told = "identical" if same else "NOT IDENTICAL"
    tell("cars", f"{told} to plain R's, all {len(predicted)} of them, random numbers and all")
    tell("time", f"{executor_s:.2f} s with max_workers={n_workers}, R being up; {plain_s:.2f} s in a new R")
    tell("elsewhere", "the same line on ECSExecutor and LambdaExecutor, whose image has R (docker/r.Dockerfile):")
    tell("", "python examples/r/loo_forest.py --on ecs (or lambda; needs pandas) runs it in the pocket AWS")
    return same


def plain_loop(code: str, packages: list[str], trees: int) -> tuple[list[float], float]:
    """The predictions of plain R, and the seconds that Rscript took."""
    names = ", ".join(f'"{name}"' for name in packages)
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "plain.R").write_text(PLAIN % {"packages": names, "code": code, "trees": trees})
        began = time.perf_counter()
        subprocess.run(["Rscript", "--vanilla", "plain.R"], check=True, cwd=directory)
        took_s = time.perf_counter() - began
        return list(RObject.load(Path(directory, "result.rds")).to_python()), took_s
