# What becomes of errors, warnings and what tasks print.
registerDoCloudexec("local", max_workers = 2, python = python)

mishap <- function(i) if (i == 2) stop("no two") else i
same("errors are removed", function() foreach(i = 1:3, .errorhandling = "remove") %dopar% mishap(i))
check("errors are passed, with their class and text", {
  own <- function(i) stop(structure(class = c("mine", "error", "condition"), list(message = "own", call = NULL, i = i)))
  found <- foreach(i = 1:2, .errorhandling = "pass") %dopar% if (i == 1) i else own(i)
  identical(class(found[[2]]), c("mine", "error", "condition")) && identical(found[[2]]$i, 2L) && identical(found[[1]], 1L)
})
check("an error stops the loop with the text that other backends give, and the condition is kept", {
  found <- tryCatch(foreach(i = 1:3) %dopar% mishap(i), error = identity)
  identical(conditionMessage(found), "task 2 failed - \"no two\"") && inherits(found, "simpleError") &&
    found$task == 2L && identical(conditionMessage(found$parent), "no two")
})
check("a combine function that fails is an error, not a result without it", {
  found <- tryCatch(foreach(i = 1:2, .combine = function(a, b) stop("cannot")) %dopar% i, error = identity)
  inherits(found, "error") && identical(conditionMessage(found), "cannot")
})
check("quit() in a task is an error that names the task, and the others go on", {
  found <- foreach(i = 1:3, .errorhandling = "pass") %dopar% { if (i == 2) quit(status = 7); i }
  identical(found[c(1, 3)], list(1L, 3L)) && inherits(found[[2]], "RCrashed") && inherits(found[[2]], "error") &&
    grepl("^task 2: ", conditionMessage(found[[2]])) && grepl("7", conditionMessage(found[[2]]))
})
check("a package that is missing is named", {
  found <- tryCatch(foreach(i = 1, .packages = "noSuchPackage") %dopar% i, error = identity)
  inherits(found$parent, "RPackageMissing") && grepl("noSuchPackage", conditionMessage(found))
})
check("a time limit ends a task, by name", {
  found <- foreach(i = 1:2, .errorhandling = "pass", .options.cloudexec = list(timeout_s = 2)) %dopar% {
    if (i == 2) Sys.sleep(30)
    i
  }
  identical(found[[1]], 1L) && inherits(found[[2]], "CallTimeout") && inherits(found[[2]], "CloudexecError")
})
check("a task is tried again when asked", {
  mark <- tempfile()
  identical(1L, foreach(i = 1, .combine = c, .options.cloudexec = list(retries = 1)) %dopar% {
    if (!file.exists(mark)) { file.create(mark); stop("first time") }
    1L
  })
})
check("an option that does not exist is refused, with those that do", {
  found <- tryCatch(foreach(i = 1, .options.cloudexec = list(timeout = 1)) %dopar% i, error = identity)
  inherits(found, "SettingsError") && grepl("timeout_s", conditionMessage(found))
})
check("warnings of tasks are warnings here, with their class", {
  caught <- list()
  withCallingHandlers(
    foreach(i = 1:2) %dopar% warning(structure(class = c("odd", "warning", "condition"), list(message = "w", call = NULL))),
    warning = function(w) { caught[[length(caught) + 1L]] <<- w; invokeRestart("muffleWarning") }
  )
  length(caught) == 2 && all(vapply(caught, inherits, NA, "odd"))
})
check("what tasks print is relayed when asked",
  identical(utils::capture.output(foreach(i = 1:2, .options.cloudexec = list(output = TRUE)) %dopar% { cat("hello\n"); i })[1:2],
    c("hello", "hello")))
check("what tasks print is not relayed unless asked",
  !any(grepl("hello", utils::capture.output(invisible(foreach(i = 1:2) %dopar% cat("hello\n"))))))

