"""Leave-one-out cross-validation of a random forest: one call for each of 32 cars, as plain R has it bit for bit.

    python examples/r/loo_forest.py [--on local|ecs|lambda] [--trees 500]

Needs R with randomForest (Debian: r-cran-randomforest). The data ship with R: mtcars (Henderson and Velleman 1981).
Called by: people; tests/examples.   Calls: cloudexec.
"""

from __future__ import annotations

import time
from itertools import repeat

import numpy as np
from beside import arguments, executor_on, plain_r, tell, verdict

from cloudexec import R

SEED = 1
LOO = """function(i, d, trees) {
  forest <- randomForest(mpg ~ ., data = d[-i, ], ntree = trees)
  unname(predict(forest, d[i, , drop = FALSE]))
}"""
# The same loop in plain R, each fit with the generator of its own that parallel::nextRNGStream gives.
PLAIN = """
suppressMessages(library(randomForest))
loo <- %s
RNGkind("L'Ecuyer-CMRG"); set.seed(%d); state <- .Random.seed
result <- numeric(nrow(mtcars))
for (i in seq_len(nrow(mtcars))) {
  .Random.seed <- parallel::nextRNGSubStream(state)
  result[i] <- loo(i, mtcars, %d)
  state <- parallel::nextRNGStream(state)
}
"""


def main() -> int:
    """Run both, compare; the exit code."""
    given = arguments(__doc__, trees=500)
    cars = R("mtcars")()
    loo = R(LOO, packages=["randomForest"])
    numbers = range(1, len(cars) + 1)
    with executor_on(given.on) as executor:
        list(executor.map(loo, [1] * executor.max_workers, repeat(cars), repeat(10), R.streams(0)))  # starts R
        began = time.perf_counter()
        predicted = list(executor.map(loo, numbers, repeat(cars), repeat(given.trees), R.streams(SEED)))
        took_s = time.perf_counter() - began
    plain, plain_s = plain_r(PLAIN % (LOO, SEED, given.trees))
    error = float(np.sqrt(np.mean((np.array(predicted) - cars["mpg"].to_numpy()) ** 2)))
    tell(
        "calls",
        f"{len(predicted)} fits of {given.trees} trees in {took_s:.2f} s; one after another in R {plain_s:.2f} s",
    )
    tell("error", f"{error:.3f} miles per gallon, root mean square")
    return verdict(predicted == list(plain), "all predictions")


if __name__ == "__main__":
    raise SystemExit(main())
