# The door: which executor `%dopar%` runs on from now on.
# Called by: users.   Calls: session.R, json.R, foreach.

# See man/registerDoCloudexec.Rd.
registerDoCloudexec <- function(executor = "local", ..., python = Sys.which("python3"), output = FALSE) {
  settings <- list(...)
  if (length(settings) && (is.null(names(settings)) || !all(nzchar(names(settings))))) {
    stop("settings of the executor must have names, for example max_workers = 4", call. = FALSE)
  }
  if (!is.character(executor) || length(executor) != 1L) stop("executor must be one text, such as \"local\"", call. = FALSE)
  if (!is.logical(output) || length(output) != 1L || is.na(output)) stop("output must be TRUE or FALSE", call. = FALSE)
  settings <- to_json(settings)
  session <- open_session(python)
  opened <- tryCatch(ask(session, "OPEN", executor, settings), error = function(e) {
    close_session(session)
    stop(e)
  })
  unregisterDoCloudexec()
  data <- list(session = session, output = output, workers = as.integer(as_text(opened[[1L]])), run = as_text(opened[[2L]]))
  current$session <- session
  setDoPar(do_cloudexec, data, info)
  invisible(data$run)
}

# See man/registerDoCloudexec.Rd.
unregisterDoCloudexec <- function() {
  if (identical(getDoParName(), "doCloudexec")) registerDoSEQ()
  if (!is.null(current$session)) close_session(current$session)
  current$session <- NULL
  invisible()
}

current <- new.env(parent = emptyenv()) # the session that is registered, or was before another backend was

info <- function(data, item) {
  switch(item,
    workers = data$workers,
    name = "doCloudexec",
    version = utils::packageDescription("cloudexec", fields = "Version"),
    NULL
  )
}
