# The backend: what foreach calls for `%dopar%`.
# Called by: foreach.   Calls: globals.R, session.R, outcomes.R, json.R.

CHUNK_TASKS <- 500L # tasks are sent while later ones are still being packed
CHUNK_BYTES <- 4e6

do_cloudexec <- function(obj, expr, envir, data) {
  if (!inherits(obj, "foreach")) stop("obj must be a foreach object")
  session <- data$session
  options <- loop_options(obj, data)
  it <- iter(obj)
  tasks <- as.list(it)
  common <- common_of(obj, expr, envir, tasks)
  loop <- begin_loop(session, common, options)
  on.exit(drop_loop(session, loop))
  submit(session, loop, tasks)
  failed <- collect(session, loop, length(tasks), makeAccum(it), obj$errorHandling, options$output)
  if (!is.null(failed)) stop(task_error(failed, expr))
  getResult(it)
}

# list(python = for the process, output = whether to relay what tasks print)
loop_options <- function(obj, data) {
  options <- as.list(obj$options$cloudexec)
  output <- if (is.null(options$output)) data$output else options$output
  if (!is.logical(output) || length(output) != 1L || is.na(output)) stop("output must be TRUE or FALSE", call. = FALSE)
  options$output <- NULL
  list(python = to_json(options, ".options.cloudexec"), output = output)
}

# What all tasks share, as it travels.
common_of <- function(obj, expr, envir, tasks) {
  found <- find_globals(expr, envir, export = unique(obj$export), skip = c(obj$noexport, obj$argnames), tasks = tasks)
  packages <- unique(c(found$packages, obj$packages))
  bytes <- serialize(list(expr = expr, env = found$env, globals = found$globals), NULL, xdr = TRUE, version = 2L)
  if (obj$verbose) {
    local <- if (is.null(found$env)) character() else ls(found$env)
    cat("exporting from local environments:", local, "\n")
    cat("exporting from the global environment:", names(found$globals), "\n")
    cat("attaching:", packages, "\n")
    cat(sprintf("all tasks share %s bytes\n", format(length(bytes), big.mark = ",")))
  }
  list(bytes = bytes, packages = packages)
}

begin_loop <- function(session, common, options) {
  ask(session, "LOOP", common$bytes, paste(common$packages, collapse = "\n"), options$python)
  sprintf("%.0f", session$number) # a loop has the number of its request
}

drop_loop <- function(session, loop) {
  # A second Ctrl-C waits for this: it takes milliseconds, and afterwards nothing runs on.
  if (!is.null(session$connection)) suspendInterrupts(ask(session, "DROP", loop))
}

submit <- function(session, loop, tasks) {
  chunk <- list()
  size <- 0
  first <- 1L
  for (number in seq_along(tasks)) {
    bytes <- serialize(tasks[[number]], NULL, xdr = TRUE, version = 2L)
    chunk[[length(chunk) + 1L]] <- bytes
    size <- size + length(bytes)
    if (length(chunk) >= CHUNK_TASKS || size >= CHUNK_BYTES || number == length(tasks)) {
      do.call(tell, c(list(session, "TASK", loop, first), chunk))
      chunk <- list()
      size <- 0
      first <- number + 1L
    }
  }
}

# Hand results to foreach as they come. With .errorhandling = "stop" the first error ends it: its outcome.
collect <- function(session, loop, n_tasks, accumulate, on_error, output) {
  n_seen <- 0L
  while (n_seen < n_tasks) {
    outcomes <- read_outcomes(ask(session, "NEXT", loop))
    if (!length(outcomes)) stop("cloudexec knows nothing of the tasks that are left; please report it", call. = FALSE)
    for (outcome in outcomes) {
      relay(outcome, output)
      if (on_error == "stop" && inherits(outcome$result, "error")) return(outcome)
      accumulate(list(outcome$result), outcome$number)
    }
    n_seen <- n_seen + length(outcomes)
  }
  NULL
}

# The text is the one that other backends give; what they lose is in `parent`.
task_error <- function(outcome, expr) {
  structure(
    class = c("cloudexec_task_error", "simpleError", "error", "condition"),
    list(
      message = sprintf("task %d failed - \"%s\"", outcome$number, conditionMessage(outcome$result)),
      call = expr, task = outcome$number, parent = outcome$result, traceback = outcome$traceback
    )
  )
}

relay <- function(outcome, output) {
  if (output) {
    cat(outcome$stdout)
    cat(outcome$stderr, file = stderr())
  }
  for (each in outcome$warnings) warning(each)
}
