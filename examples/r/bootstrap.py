"""A bootstrap of regression coefficients: the numbers of R's future_lapply(future.seed = 42), whatever runs where.

    python examples/r/bootstrap.py [--on local|ecs|lambda] [--n 200]

Needs R with future.apply (Debian: r-cran-future.apply) for the comparison only. Data: mtcars.
Called by: people; tests/examples.   Calls: cloudexec.
"""

from __future__ import annotations

from itertools import repeat

import numpy as np
from beside import arguments, executor_on, plain_r, tell, verdict

from cloudexec import R

BOOT = "function(i, d) coef(lm(mpg ~ wt + hp, data = d[sample(nrow(d), replace = TRUE), ]))"
PLAIN = """
boot <- %s
result <- do.call(rbind, future.apply::future_lapply(seq_len(%d), boot, d = mtcars, future.seed = 42L))
"""


def main() -> int:
    """Run both, compare; the exit code."""
    given = arguments(__doc__, n=200)
    boot = R(BOOT)
    cars = R("mtcars")()
    with executor_on(given.on) as executor:
        coefficients = np.array(list(executor.map(boot, range(1, given.n + 1), repeat(cars), R.streams(42))))
    plain, _ = plain_r(PLAIN % (BOOT, given.n))
    low, high = np.percentile(coefficients, [2.5, 97.5], axis=0)
    for name, a, b in zip(("intercept", "wt", "hp"), low, high, strict=True):
        tell(name, f"95 % between {a:.3f} and {b:.3f}")
    return verdict(np.array_equal(coefficients, np.asarray(plain)), f"{given.n} x 3 coefficients")


if __name__ == "__main__":
    raise SystemExit(main())
