# Starts `python -m cloudexec.adapters.foreach` and learns where it listens.
# Called by: session.R.

START_TIMEOUT_S <- 60

# list(home, python, port, token, pid). The directory is this session's own; it goes when R ends.
start_process <- function(python) {
  python <- found_python(python)
  home <- tempfile("cloudexec-")
  dir.create(home, mode = "0700")
  command <- sprintf(
    "%s -m cloudexec.adapters.foreach --home %s --pid %d </dev/null >%s 2>&1; echo $? >%s",
    shQuote(python), shQuote(home), Sys.getpid(), shQuote(file.path(home, "log")), shQuote(file.path(home, "ended"))
  )
  system2("/bin/sh", c("-c", shQuote(command)), stdout = FALSE, stderr = FALSE, wait = FALSE)
  process <- list(home = home, python = python)
  c(process, wait_for_door(process))
}

found_python <- function(python) {
  found <- if (length(python) == 1L && !is.na(python)) Sys.which(python) else ""
  if (nzchar(found)) return(unname(found))
  stop(failure(
    sprintf(
      "there is no Python: %s. Remedy: install Python 3.10 or newer, or name it with python = \"/path/to/python3\"",
      if (length(python) == 1L && !is.na(python) && nzchar(python)) python else "python3 was not found"
    ),
    "PythonMissing"
  ))
}

wait_for_door <- function(process) {
  door <- file.path(process$home, "door")
  until <- proc.time()[["elapsed"]] + START_TIMEOUT_S
  while (!file.exists(door)) {
    if (file.exists(file.path(process$home, "ended"))) stop_not_started(process)
    if (proc.time()[["elapsed"]] > until) stop_not_started(process)
    Sys.sleep(0.01)
  }
  lines <- readLines(door)
  unlink(door)
  list(port = as.integer(lines[[1L]]), token = lines[[2L]], pid = as.integer(lines[[3L]]))
}

stop_not_started <- function(process) {
  last <- log_of(process)
  if (any(grepl("No module named '?cloudexec", last))) {
    stop(failure(
      sprintf(
        "cloudexec is not installed for %s. Remedy: %s -m pip install cloudexec, or name another with python =",
        process$python, process$python
      ),
      "PythonMissing"
    ))
  }
  stop(failure(sprintf("%s did not start cloudexec%s", process$python, how_it_ended(process)), "ProcessLost"))
}

# ", exit status 1; its last words: ...", as far as it is known.
how_it_ended <- function(process) {
  ended <- file.path(process$home, "ended")
  until <- proc.time()[["elapsed"]] + 1 # the shell writes it just after the process has gone
  while (!file.exists(ended) && proc.time()[["elapsed"]] < until) Sys.sleep(0.02)
  status <- if (file.exists(ended)) paste(", exit status", readLines(ended, n = 1L)) else ""
  last <- utils::tail(log_of(process), 5L)
  paste0(status, if (length(last)) paste0("; its last words: ", paste(last, collapse = "\n")))
}

log_of <- function(process) {
  path <- file.path(process$home, "log")
  if (file.exists(path)) readLines(path, warn = FALSE) else character()
}
