# Random numbers: doRNG's, and ours.
registerDoCloudexec("local", max_workers = 2, python = python)
suppressPackageStartupMessages(library(doRNG))

drawn <- function() { set.seed(7); foreach(i = 1:4, .combine = rbind) %dorng% rnorm(2) }
here <- drawn()
check("%dorng% repeats itself", identical(here, drawn()))
check("%dorng% gives what it gives sequentially", {
  registered <- mget(c("fun", "data", "info"), envir = get(".foreachGlobals", asNamespace("foreach")))
  registerDoSEQ()
  sequential <- drawn()
  do.call(setDoPar, unname(registered))
  identical(here, sequential)
})
check("without a seed tasks draw different numbers, and this R's generator is left alone", {
  set.seed(1)
  before <- .Random.seed
  found <- foreach(i = 1:4, .combine = c) %dopar% runif(1)
  length(unique(found)) == 4 && identical(before, .Random.seed)
})
seeded <- function() foreach(i = 1:4, .options.cloudexec = list(seed = 42)) %dopar% rnorm(2)
check("a seed repeats the numbers", identical(seeded(), seeded()))
check("a seed gives the numbers of future_lapply", {
  expected <- future.apply::future_lapply(1:4, function(i) rnorm(2), future.seed = 42)
  identical(unname(seeded()), expected)
})
