# What all scripts share. check() prints one line that the test reads.
suppressPackageStartupMessages({
  library(foreach)
  library(iterators)
  library(cloudexec)
})
python <- Sys.getenv("CLOUDEXEC_PYTHON")

say <- function(what, verdict) cat(sprintf("CHECK %s :: %s\n", what, gsub("\n", " / ", verdict)))

check <- function(what, holds) {
  holds <- tryCatch(holds, error = function(e) paste("error:", conditionMessage(e)))
  say(what, if (isTRUE(holds)) "ok" else paste(utils::capture.output(print(holds)), collapse = " / "))
}

# The loop gives what it gives sequentially. `loop` is a function, so that it can be run twice.
same <- function(what, loop) {
  registered <- mget(c("fun", "data", "info"), envir = get(".foreachGlobals", asNamespace("foreach")))
  registerDoSEQ()
  expected <- tryCatch(loop(), error = identity)
  do.call(setDoPar, unname(registered))
  found <- tryCatch(loop(), error = identity)
  check(what, if (!inherits(expected, "error") && identical(found, expected)) TRUE else list(found = found, expected = expected))
}
