# A foreach loop as people have it, on an executor: one line before the loop is another one.
#
#     Rscript examples/r/foreach.R [local|ecs|lambda]
#
# Needs the R package of this project (R CMD INSTALL r/cloudexec), foreach and doRNG, and a Python with cloudexec, which
# the variable CLOUDEXEC_PYTHON may name. "ecs" and "lambda" look for an account, as ECSExecutor and LambdaExecutor do.
# Called by: people; tests/examples.   Calls: cloudexec.

suppressPackageStartupMessages({
  library(foreach)
  library(doRNG)
  library(cloudexec)
})
given <- c(commandArgs(trailingOnly = TRUE), "local")[[1L]]
python <- Sys.getenv("CLOUDEXEC_PYTHON", Sys.which("python3"))

# Leave-one-out: what each car would be given by a line through the others.
leave_one_out <- function() {
  foreach(i = seq_len(nrow(mtcars)), .combine = c) %dopar%
    unname(predict(lm(mpg ~ wt + hp, data = mtcars[-i, ]), mtcars[i, ]))
}

# Random numbers are doRNG's; so they are the same on any backend.
bootstrap <- function() {
  foreach(i = 1:50, .combine = rbind, .options.RNG = 42) %dorng%
    coef(lm(mpg ~ wt, data = mtcars[sample(nrow(mtcars), replace = TRUE), ]))
}

registerDoSEQ()
plain <- list(leave_one_out(), bootstrap())

registerDoCloudexec(given, max_workers = 2, python = python)
cat(sprintf("  %-12s%s, %d workers\n", "backend", getDoParName(), getDoParWorkers()))
found <- list(leave_one_out(), bootstrap())
unregisterDoCloudexec()

error <- sqrt(mean((found[[1L]] - mtcars$mpg)^2))
cat(sprintf("  %-12s%.3f miles per gallon, root mean square\n", "error", error))
same <- identical(found, plain)
cat(sprintf("  %-12s%d predictions, 50 bootstraps: %s\n", "check", length(found[[1L]]),
  if (same) "identical to plain R" else "NOT IDENTICAL to plain R"))
quit(status = if (same) 0L else 1L)
