# What must travel with a loop's expression so that it finds its names in another R.
# Called by: dopar.R.   Calls: names.R.
#
# Where a name is found decides how it travels:
#   a frame between the loop and top level   into `env`, a copy of the frames with only what is used
#   the global environment                   into `globals`; the task puts it into its own global environment
#   an attached package                      not; the package is attached there
#   a namespace, or a closure's own frame    not; R's serialization knows namespaces and carries frames

BASE_PACKAGES <- c("base", "stats", "graphics", "grDevices", "utils", "datasets", "methods", "Autoloads")

# list(env, globals, packages). env: NULL where the loop stands at top level. tasks: what the loop iterates over; functions
# in there ask for names, too.
find_globals <- function(expr, envir, export = character(), skip = character(), tasks = list()) {
  frames <- frames_of(envir)
  found <- new_findings(envir, frames)
  asked <- free_names(expr)
  asked <- lapply(asked, setdiff, y = c(skip, "..."))
  visit(found, asked, envir)
  for (name in setdiff(export, skip)) take_exported(found, name, envir)
  for (task in tasks) scan_value(found, task)
  list(env = found$env, globals = as.list(found$globals, all.names = TRUE), packages = unique(found$packages))
}

# Environments from the loop outwards to top level, which is not among them.
frames_of <- function(envir) {
  frames <- list()
  while (!is_top(envir)) {
    frames[[length(frames) + 1L]] <- envir
    envir <- parent.env(envir)
  }
  frames
}

is_top <- function(env) {
  identical(env, globalenv()) || identical(env, baseenv()) || identical(env, emptyenv()) || isNamespace(env) ||
    is_attached(env)
}

is_attached <- function(env) !is.null(attr(env, "name")) && attr(env, "name") %in% search()

new_findings <- function(envir, frames) {
  top <- if (length(frames)) parent.env(frames[[length(frames)]]) else envir
  found <- new.env(parent = emptyenv())
  found$frames <- frames
  found$globals <- new.env(parent = emptyenv())
  found$packages <- character()
  found$visited <- list()
  found$holders <- list() # of what is in env, by name
  if (length(frames) || !identical(top, globalenv())) found$env <- new_env(top, dots_of(envir, frames))
  found
}

# An environment that has `...` where the loop's function had it.
new_env <- function(parent, dots) {
  carry <- function(...) {
    list(...) # a promise that has its value travels without its environment
    function() NULL
  }
  env <- if (length(dots)) environment(do.call(carry, dots, quote = TRUE)) else new.env()
  parent.env(env) <- parent
  env
}

dots_of <- function(envir, frames) {
  for (frame in frames) {
    if (exists("...", envir = frame, inherits = FALSE)) {
      return(tryCatch(eval(quote(list(...)), frame), error = function(e) list()))
    }
  }
  list()
}

# Find names, as seen from an environment.
visit <- function(found, asked, from) {
  for (name in asked$used) take(found, name, holder_of(name, from, "any"))
  for (name in asked$called) take(found, name, holder_of(name, from, "function"))
}

holder_of <- function(name, from, mode) {
  while (!identical(from, emptyenv())) {
    if (tryCatch(exists(name, envir = from, mode = mode, inherits = FALSE), error = function(e) TRUE)) return(from)
    from <- parent.env(from)
  }
  NULL
}

take <- function(found, name, holder) {
  if (is.null(holder) || identical(holder, baseenv()) || isNamespace(holder)) return(invisible())
  if (is_attached(holder) && !identical(holder, globalenv())) {
    if (startsWith(attr(holder, "name"), "package:")) {
      package <- sub("package:", "", attr(holder, "name"), fixed = TRUE)
      if (!package %in% BASE_PACKAGES) found$packages <- c(found$packages, package)
      return(invisible())
    }
    if (attr(holder, "name") %in% BASE_PACKAGES) return(invisible())
  }
  is_frame <- is_one_of(holder, found$frames)
  is_global <- identical(holder, globalenv()) || is_attached(holder)
  if (is_frame && exists(name, envir = found$env, inherits = FALSE)) return(invisible())
  if (is_global && exists(name, envir = found$globals, inherits = FALSE)) return(invisible())
  # An argument that was not given has no value to take; whoever reads it there is told by R.
  value <- tryCatch(list(get(name, envir = holder, inherits = FALSE)), error = function(e) NULL)
  if (is.null(value)) return(invisible())
  value <- value[[1L]]
  if (is_frame) {
    found$holders[[name]] <- holder
    assign(name, rehomed(found, value), envir = found$env)
  } else if (is_global) {
    assign(name, value, envir = found$globals)
  }
  scan_value(found, value)
}

take_exported <- function(found, name, envir) {
  if (!exists(name, envir = envir, inherits = TRUE)) stop(sprintf("unable to find variable \"%s\"", name), call. = FALSE)
  holder <- holder_of(name, envir, "any")
  take(found, name, holder)
  if (!is_one_of(holder, found$frames) && !identical(holder, globalenv())) {
    # Somebody wants it although it would be found there, perhaps from another version of a package.
    value <- get(name, envir = holder, inherits = FALSE)
    assign(name, value, envir = if (is.null(found$env)) found$globals else found$env)
    scan_value(found, value)
  }
}

# A function of one of the loop's frames would bring the whole frame along; `env` has what it needs of it. Not where an
# inner frame has another variable of a name that the function means.
rehomed <- function(found, value) {
  if (!is_closure(value) || !is_one_of(environment(value), found$frames)) return(value)
  asked <- free_names_of(value)
  inner <- found$frames[[1L]]
  same <- function(name, mode) {
    meant <- holder_of(name, environment(value), mode)
    identical(meant, holder_of(name, inner, mode))
  }
  fits <- all(vapply(asked$used, same, NA, mode = "any"), vapply(asked$called, same, NA, mode = "function"))
  if (fits) environment(value) <- found$env
  value
}

# Functions, also in plain lists, ask for names of their own.
scan_value <- function(found, value) {
  if (is_closure(value)) {
    home <- environment(value)
    if (isNamespace(topenv(home)) || is_one_of(value, found$visited)) return(invisible())
    found$visited[[length(found$visited) + 1L]] <- value
    visit_function(found, free_names_of(value), home)
  } else if (is.list(value) && !is.object(value)) {
    for (each in value) if (is_closure(each) || (is.list(each) && !is.object(each))) scan_value(found, each)
  }
}

visit_function <- function(found, asked, home) {
  for (mode in c("any", "function")) {
    for (name in asked[[if (mode == "any") "used" else "called"]]) {
      holder <- holder_of(name, home, mode)
      if (is_own_frame(holder, found)) {
        value <- tryCatch(get(name, envir = holder, inherits = FALSE), error = function(e) NULL)
        scan_value(found, value) # it travels with the closure; what it asks for may not
      } else {
        take(found, name, holder)
      }
    }
  }
}

is_own_frame <- function(holder, found) !is.null(holder) && !is_top(holder) && !is_one_of(holder, found$frames)

is_closure <- function(value) typeof(value) == "closure"

is_one_of <- function(value, list) {
  for (each in list) if (identical(value, each)) return(TRUE)
  FALSE
}
