# What a worker's R does for one task of a foreach.
#
# common: list(expr, env, globals) - the same for all tasks. env is NULL where the loop stood at top level.
# args:   the iteration's variables, by name.
# The call has an R of its own (isolation "fork"), therefore its global environment may be filled. Errors are not
# caught: retries are for the executor to decide, and the engine sends the condition and R's stack. The result is bytes,
# not an object: nobody looks at it on the way, and what other backends let pass (a model with a dead pointer) passes.
function(common, args) {
  where <- if (is.null(common$env)) globalenv() else common$env
  list2env(common$globals, envir = globalenv())
  list2env(args, envir = where)
  warned <- list()
  value <- withCallingHandlers(
    eval(common$expr, where),
    warning = function(w) warned[[length(warned) + 1L]] <<- w
  )
  serialize(list(value = value, warnings = warned), NULL, xdr = TRUE, version = 2L)
}
