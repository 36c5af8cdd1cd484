"""Least-squares means of many models: fits travel from call to call as RObjects, and need no R in the client.

    python examples/r/many_lsmeans.py [--on local|ecs|lambda]

Needs R with lsmeans (Debian: r-cran-lsmeans). The data ship with R: nlme::Oats (Yates 1935, a split-plot trial).
Called by: people; tests/examples.   Calls: cloudexec.
"""

from __future__ import annotations

import pandas as pd
from beside import arguments, executor_on, plain_r, tell, verdict

from cloudexec import R, RObject

FORMULAS = [
    "yield ~ Variety",
    "yield ~ Variety + Block",
    "yield ~ Variety + nitro",
    "yield ~ Variety * nitro",
    "yield ~ Variety + Block + nitro",
    "log(yield) ~ Variety + Block + nitro",
    "sqrt(yield) ~ Variety * nitro + Block",
    "yield ~ Variety + Block + poly(nitro, 2)",
]
FIT = R("function(data, formula) lm(as.formula(formula), data = data)", returns="object")
MEANS = R(
    """function(fit, formula) {
  means <- as.data.frame(suppressMessages(lsmeans(fit, ~ Variety)))
  cbind(formula = formula, means[c("Variety", "lsmean", "SE", "df")])
}""",
    packages=["lsmeans"],
)
PLAIN = """
suppressMessages(library(lsmeans))
data <- as.data.frame(nlme::Oats)
result <- do.call(rbind, lapply(c(%s), function(formula) {
  fit <- lm(as.formula(formula), data = data)
  means <- as.data.frame(suppressMessages(lsmeans(fit, ~ Variety)))
  cbind(formula = formula, means[c("Variety", "lsmean", "SE", "df")])
}))
"""


def main() -> int:
    """Run both, compare; the exit code."""
    given = arguments(__doc__)
    oats = R('as.data.frame(get(data("Oats", package = "nlme")))')()
    with executor_on(given.on) as executor:
        fits = {formula: executor.submit(FIT, oats, formula) for formula in FORMULAS}
        first: RObject = fits[FORMULAS[0]].result()
        tell("a fit", repr(first).splitlines()[0])
        tables = [executor.submit(MEANS, fits[formula].result(), formula) for formula in FORMULAS]
        table = pd.concat([each.result() for each in tables], ignore_index=True)
    plain, _ = plain_r(PLAIN % ", ".join(f'"{formula}"' for formula in FORMULAS))
    print(table.groupby("Variety", observed=True)["lsmean"].describe()[["count", "min", "max"]].to_string())
    same = table.astype({"Variety": str}).equals(plain.astype({"Variety": str}))
    return verdict(same, f"{len(table)} means of {len(FORMULAS)} models")


if __name__ == "__main__":
    raise SystemExit(main())
