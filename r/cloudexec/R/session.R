# One Python process and the connection to it.
# Called by: register.R, dopar.R.   Calls: process.R, frames.R.
#
# Every request has a number, which its answer repeats. After Ctrl-C an answer may arrive that nobody waits for: it is
# read and dropped. Interrupts are let in only between frames, so that the stream stays in step.

open_session <- function(python) {
  process <- start_process(python)
  session <- new.env(parent = emptyenv())
  session$process <- process
  session$pid <- Sys.getpid()
  session$number <- 0
  session$connection <- connect(process)
  reg.finalizer(session, close_session, onexit = TRUE)
  session
}

connect <- function(process) {
  connection <- socketConnection(
    "127.0.0.1", process$port, open = "r+b", blocking = TRUE, timeout = 3600, options = "no-delay"
  )
  write_frame(connection, "HELO", list(process$token))
  connection
}

# Idempotent. What runs is stopped, by the process, when it sees the end.
close_session <- function(session) {
  connection <- session$connection
  session$connection <- NULL
  if (is.null(connection) || session$pid != Sys.getpid()) return(invisible())
  try(suspendInterrupts(write_frame(connection, "QUIT", list())), silent = TRUE)
  try(close(connection), silent = TRUE)
  invisible()
}

# Send a request; its number.
tell <- function(session, kind, ...) {
  if (is.null(session$connection)) stop("this cloudexec session is closed; call registerDoCloudexec() again", call. = FALSE)
  if (session$pid != Sys.getpid()) {
    stop("this R is a fork of the one that called registerDoCloudexec(); call it here, too", call. = FALSE)
  }
  session$number <- session$number + 1
  number <- sprintf("%.0f", session$number)
  tryCatch(
    suspendInterrupts(write_frame(session$connection, kind, list(number, ...))),
    error = function(e) stop_lost(session)
  )
  number
}

# Send a request and wait for its answer: the parts after the number.
ask <- function(session, kind, ...) {
  number <- tell(session, kind, ...)
  repeat {
    answer <- next_frame(session)
    if (identical(as_text(answer$parts[[1L]]), number)) break
  }
  if (answer$kind == "FAIL") stop(failure(as_text(answer$parts[[2L]]), as_text(answer$parts[[3L]])))
  answer$parts[-1L]
}

next_frame <- function(session) {
  while (!socketSelect(list(session$connection), timeout = 1)) NULL # Ctrl-C comes in here
  tryCatch(suspendInterrupts(read_frame(session$connection)), error = function(e) stop_lost(session))
}

stop_lost <- function(session) {
  close_session(session)
  stop(failure(
    paste0(
      "the Python process behind registerDoCloudexec() has ended", how_it_ended(session$process),
      ". Remedy: call registerDoCloudexec() again, and run the loop again"
    ),
    "ProcessLost"
  ))
}

# An error condition of cloudexec's, with its Python classes.
failure <- function(message, classes, ...) {
  own <- if (nzchar(classes)) strsplit(classes, "\n", fixed = TRUE)[[1L]] else character()
  structure(
    class = unique(c(own, "CloudexecError", "error", "condition")),
    list(message = message, call = NULL, ...)
  )
}
