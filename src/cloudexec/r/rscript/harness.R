# Runs one call of R code and tells what came of it. Functions only: whoever sources this file calls answer().
#
# Called by: serve.R (the rscript engine), the rpy2 engine.   Calls: base, utils, methods; nothing of the user's but the code.
# Source it into an environment whose parent is baseenv(), so that the user's variables cannot get in the way.
#
#   request file -> perform: prepare, evaluate (handlers listen), wrap the value -> reply file
#
# docs/decisions/0008 has the fields of request and reply.

OPAQUE <- "cloudexec_rds"
KEPT_ATTRIBUTES <- c("names", "dim", "dimnames", "levels", "class", "tzone", "units", "cloudexec_naive")
# What cloudexec.r.rds reads; anything with another class travels as it is.
PLAIN_CLASSES <- c("", "AsIs", "factor", "ordered/factor", "Date", "IDate/Date", "POSIXct/POSIXt", "difftime",
                   "hms/difftime", "integer64")
FRAME_CLASSES <- c("data.frame", "tbl_df", "tbl", "data.table", "grouped_df", "rowwise_df", "spec_tbl_df")
OUR_NAMESPACES <- c("base", "methods", "datasets", "utils", "grDevices", "graphics", "stats", "compiler", "parallel", "tools")
HEAD_LINES <- 12L
BULKY_BYTES <- 2e7        # printing such an object may take long, its structure will do
MOST_WARNINGS <- 1000L
MOST_FRAMES <- 40L        # at each end of the stack: infinite recursion leaves thousands
MOST_CONDITION_BYTES <- 4e6
OUR_EVAL <- quote(eval(parsed[[i]], frame))   # R blames these for what stands at the top of the code
OUR_INVOKE <- quote(eval(made, holder))
POINTER <- "external pointer|NULL pointer|null pointer|invalid pointer|invalid connection"

memory <- new.env(parent = emptyenv())   # what is remembered between calls
memory$n_namespaces <- -1L
memory$seeded <- FALSE

# --- one call ---------------------------------------------------------------------------------------

# Read a request, run it, write the reply. is_kept: this process runs other calls later, and must not be changed.
answer <- function(request_path, reply_path, is_kept = FALSE) {
  reply <- tryCatch(perform(read_rds(request_path), is_kept), error = function(e) failure(e))
  tryCatch(write_rds(reply, reply_path), error = function(e) write_rds(failure(e), reply_path))
}

perform <- function(request, is_kept) {
  state <- new.env(parent = emptyenv())
  state$warnings <- list()
  if (is_kept) {
    before <- surroundings(names(request$env))
    on.exit(put_back(before))
  }
  on_warning <- function(w) note_warning(w, state)
  on_error <- function(e) {   # as little as possible: after a stack overflow there is no room for more
    state$calls <- sys.calls()
    state$parents <- sys.parents()
    state$here <- sys.nframe()
    if (state$here < 200L) state$functions <- lapply(seq_len(state$here), sys.function)
  }
  on_failure <- function(e) {
    if (inherits(e, "cloudexec_conversion")) return(list(status = "conversion", message = e$message, path = e$path))
    describe_stack(state)
    if (inherits(e, "packageNotFoundError")) failure(e, state, status = "package", packages = e$package)
    else failure(e, state, request = request)
  }
  listening <- function() withCallingHandlers(attempt(request, state, is_kept), warning = on_warning, error = on_error)
  reply <- tryCatch(listening(), error = on_failure)
  reply$warnings <- state$warnings
  reply$used_rng <- isTRUE(state$used_rng)
  reply
}

attempt <- function(request, state, is_kept) {
  state$name <- request$name
  if (length(request$env)) do.call(Sys.setenv, as.list(request$env))
  if (length(request$unset)) Sys.unsetenv(as.character(unlist(request$unset)))
  if (nzchar(request$dir)) try(setwd(request$dir), silent = TRUE)   # it may be gone, or closed to us: R goes on where it is
  attach_packages(as.character(unlist(request$packages)))
  args <- c(unname(lapply(as.list(request$args), unwrap)), lapply(as.list(request$kwargs), unwrap))
  frame <- if (is_kept) new.env(parent = globalenv()) else globalenv()
  seed_before <- start_generator(request$seed)
  if (!is.null(memory$jit)) compiler::enableJIT(memory$jit)
  value <- if (request$kind == "call") call_named(request$code, args, state) else run_code(request$code, args, frame, state)
  if (!is.null(memory$jit)) compiler::enableJIT(0L)
  state$used_rng <- is.null(request$seed) && !memory$seeded && !identical(seed_before, current_seed())
  if (request$returns == "none") value <- NULL
  list(status = "value", value = wrap(value, "value", request$returns))
}

attach_packages <- function(packages) {
  for (package in packages) {
    if (!paste0("package:", package) %in% search()) {
      suppressPackageStartupMessages(library(package, character.only = TRUE, warn.conflicts = FALSE))
    }
  }
}

# --- the user's code --------------------------------------------------------------------------------

run_code <- function(code, args, frame, state) {
  parsed <- parse_code(code, state)
  refs <- attr(parsed, "srcref")
  last <- length(parsed)
  is_function <- last > 0L && is.call(parsed[[last]]) && identical(parsed[[last]][[1L]], as.name("function"))
  if (!is_function) bind(args, frame)
  value <- NULL
  for (i in seq_len(last)) {
    state$line <- refs[[i]][1L]
    state$current <- parsed[[i]]
    state$base <- sys.nframe() + 2L   # eval() makes two frames
    value <- eval(parsed[[i]], frame)
  }
  if (!is.function(value)) {
    if (any(!nzchar(argument_names(args)))) {
      stop("this code is a script, not a function: give its arguments by name, they become its variables", call. = FALSE)
    }
    return(value)
  }
  call_function(value, args, frame, state)
}

bind <- function(args, frame) {
  for (name in setdiff(argument_names(args), "")) assign(name, args[[name]], envir = frame)
}

parse_code <- function(code, state) {
  lines <- strsplit(code, "\r?\n")[[1L]]
  state$srcfile <- srcfilecopy(state$name, lines, isFile = FALSE)
  tryCatch(parse(text = lines, srcfile = state$srcfile, keep.source = TRUE), error = function(e) {
    place <- regmatches(conditionMessage(e), regexec(":([0-9]+):[0-9]+: ", conditionMessage(e)))[[1L]]
    if (length(place) == 2L) {
      state$lines <- as.integer(place[2L])
      state$frames <- trimws(lines[min(state$lines, length(lines))])
    }
    state$is_parse_error <- TRUE
    e["call"] <- list(NULL)   # it is ours
    stop(e)
  })
}

call_named <- function(name, args, state) {
  invoke(parse(text = name, keep.source = FALSE)[[1L]], args, new.env(parent = globalenv()), state)
}

call_function <- function(f, args, frame, state) {
  holder <- new.env(parent = frame)
  name <- "snippet"
  while (name %in% argument_names(args)) name <- paste0(name, "_")
  assign(name, f, envir = holder)
  invoke(as.name(name), args, new.env(parent = holder), state)
}

# The call has names in it, not values: match.call() and tracebacks stay short, and lm(data = df) does not keep a copy.
invoke <- function(head, args, holder, state) {
  named <- argument_names(args)
  symbols <- named
  symbols[!nzchar(named)] <- make.unique(c(named[nzchar(named)], paste0("arg", which(!nzchar(named)))))[
    sum(nzchar(named)) + seq_len(sum(!nzchar(named)))]
  for (i in seq_along(args)) assign(symbols[i], args[[i]], envir = holder)
  wanted <- lapply(symbols, as.name)
  names(wanted) <- if (any(nzchar(named))) named
  state$base <- sys.nframe() + 2L
  made <- as.call(c(list(head), wanted))
  state$current <- made
  eval(made, holder)
}

argument_names <- function(args) if (is.null(names(args))) character(length(args)) else names(args)

# --- random numbers ---------------------------------------------------------------------------------

current_seed <- function() get0(".Random.seed", envir = globalenv(), inherits = FALSE)

start_generator <- function(seed) {
  memory$seeded <- FALSE
  if (!is.null(seed)) assign(".Random.seed", as.integer(unlist(seed)), envir = globalenv())
  current_seed()
}

# A call that sets a seed itself can be repeated, so it deserves no warning. Called once in a process.
watch_seeds <- function() {
  original <- base::set.seed
  replace_in_base("set.seed", function(seed, kind = NULL, normal.kind = NULL, sample.kind = NULL) {
    if (!is.null(seed)) memory$seeded <- TRUE
    original(seed, kind, normal.kind, sample.kind)
  })
}

replace_in_base <- function(name, value) {
  base <- baseenv()
  unlock <- get("unlockBinding", base)
  unlock(name, base)
  assign(name, value, envir = base)
  lockBinding(name, base)
}

# --- what goes wrong --------------------------------------------------------------------------------

note_warning <- function(w, state) {
  level <- getOption("warn", 0L)
  if (level >= 2L) return()   # R makes an error of it
  if (level >= 0L && length(state$warnings) < MOST_WARNINGS) {
    noted <- list(message = utf8(conditionMessage(w)), call = one_line(conditionCall(w)))
    state$warnings[[length(state$warnings) + 1L]] <- noted
  }
  tryInvokeRestart("muffleWarning")
}

# Frames of the code, outermost first, without those of ours around them.
describe_stack <- function(state) {
  if (isTRUE(state$is_parse_error) || is.null(state$base)) return()
  state$frames <- one_line(state$current)   # all that is known after a stack overflow
  state$lines <- if (is.null(state$line)) 0L else state$line
  calls <- state$calls
  if (is.null(calls)) return()
  end <- state$here - 1L
  ours <- vapply(calls[seq_len(end)], function(call) {
    is.name(call[[1L]]) && as.character(call[[1L]]) %in% c(".handleSimpleError", ".signalSimpleWarning")
  }, NA)
  if (any(ours)) end <- min(which(ours)) - 1L
  shown <- seq_len(end)[seq_len(end) > state$base]
  if (!length(shown)) return()
  left_out <- length(shown) - 2L * MOST_FRAMES
  if (left_out > 0L) shown <- c(utils::head(shown, MOST_FRAMES), NA, utils::tail(shown, MOST_FRAMES))
  state$frames <- vapply(shown, function(i) if (is.na(i)) paste("...", left_out, "calls left out ...") else one_line(calls[[i]]), "")
  state$lines <- vapply(shown, function(i) if (is.na(i)) 0L else line_of(calls[[i]], state$parents[i], state), 0L)
}

# The line of the snippet where a call stands; 0 if nobody knows. R knows it for statements inside braces.
line_of <- function(call, parent, state) {
  ref <- attr(call, "srcref")
  if (is.null(ref) && parent <= state$base) {
    return(if (is.null(state$line)) 0L else state$line)
  }
  if (is.null(ref)) {
    if (is.null(state$functions)) return(0L)
    ref <- attr(state$functions[[parent]], "srcref")
    if (is.null(ref) || ref[1L] != ref[3L]) return(0L)
  }
  if (identical(attr(ref, "srcfile"), state$srcfile)) ref[1L] else 0L
}

failure <- function(e, state = new.env(), status = "error", packages = NULL, request = NULL) {
  message <- utf8(tryCatch(conditionMessage(e), error = function(e2) "the condition has no message"))
  if (!is.null(request) && grepl(POINTER, message)) {
    culprit <- dead_argument(request)
    if (nzchar(culprit)) {
      what <- paste0("an external pointer came here dead, it is valid only in the process that made it (", message, ")")
      return(list(status = "conversion", message = what, path = culprit))
    }
  }
  list(status = status, packages = as.character(packages),
       error = list(message = message, classes = as.character(class(e)), call = one_line(conditionCall(e)),
                    frames = utf8(as.character(state$frames)), lines = as.integer(state$lines), condition = condition(e)),
       session = session())
}

condition <- function(e) {
  bare <- function() opaque(structure(class = class(e), list(message = conditionMessage(e), call = NULL)), "condition")
  tryCatch({
    made <- opaque(e, "condition")
    if (length(made) > MOST_CONDITION_BYTES) bare() else made
  }, error = function(e2) tryCatch(bare(), error = function(e3) NULL))
}

one_line <- function(call) {
  if (is.null(call) || identical(call, OUR_EVAL) || identical(call, OUR_INVOKE)) return("")
  text <- tryCatch(deparse(call, width.cutoff = 120L, nlines = 2L), error = function(e) "")
  text <- utf8(text)
  if (length(text) > 1L || nchar(text[1L]) > 160L) paste(substr(text[1L], 1L, 150L), "...") else text
}

# --- values: what is plain data goes as it is, the rest as its own bytes ----------------------------------

wrap <- function(x, path, returns) {
  if (is.null(x)) return(NULL)
  if (returns == "object") return(opaque(x, path, may_die = TRUE))
  made <- plain(x, path, returns)
  if (!is.null(made)) return(made)
  if (returns == "plain") refuse(paste0("an object of class ", paste(class(x), collapse = "/"), " is no plain data"), path)
  opaque(x, path)
}

# NULL for what is no plain data.
plain <- function(x, path, returns) {
  if (isS4(x)) return(NULL)
  kind <- typeof(x)
  if (kind %in% c("logical", "integer", "double", "complex", "character", "raw")) return(plain_vector(x))
  if (kind == "pairlist") x <- as.list(x)
  if (!is.list(x)) return(NULL)
  if (inherits(x, "data.frame")) return(plain_frame(x, path, returns))
  if (!is.null(dim(x)) || !paste(oldClass(x), collapse = "/") %in% c("", "AsIs")) return(NULL)
  plain_list(x, path, returns)
}

plain_vector <- function(x) {
  if (!paste(oldClass(x), collapse = "/") %in% PLAIN_CLASSES) return(NULL)
  given <- attributes(x)
  if (is.character(x)) x <- enc2utf8(x)
  if (is.null(given)) return(x)
  kept <- lapply(given[names(given) %in% KEPT_ATTRIBUTES], utf8)
  if (!identical(kept, given)) {
    attributes(x) <- NULL   # one by one, dimensions first, R would check them against each other
    attributes(x) <- kept
  }
  x
}

plain_list <- function(x, path, returns) {
  names <- names(x)
  if (!is.null(names)) {
    if (!any(nzchar(names))) names <- NULL
    else if (anyNA(names) || !all(nzchar(names)) || anyDuplicated(names)) return(NULL)
  }
  places <- if (is.null(names)) seq_along(x) - 1L else paste0("'", names, "'")
  x <- unclass(x)
  made <- lapply(seq_along(x), function(i) wrap(x[[i]], paste0(path, "[", places[i], "]"), returns))
  names(made) <- if (!is.null(names)) utf8(names)
  made
}

plain_frame <- function(x, path, returns) {
  if (!all(oldClass(x) %in% FRAME_CLASSES)) return(NULL)
  rows <- attr(x, "row.names")
  columns <- unclass(x)
  labels <- names(columns)
  made <- lapply(seq_along(columns), function(i) {
    place <- paste0(path, "['", labels[i], "']")
    column <- columns[[i]]
    if (length(dim(column)) > 1L || is.data.frame(column)) NULL else plain(column, place, returns)
  })
  if (any(vapply(made, is.null, NA))) return(NULL)
  names(made) <- utf8(labels)
  attr(made, "row.names") <- if (is.character(rows)) utf8(rows) else rows
  class(made) <- "data.frame"
  made
}

utf8 <- function(x) {
  if (is.character(x)) enc2utf8(x) else if (is.list(x)) { x[] <- lapply(x, utf8); x } else x
}

opaque <- function(x, path, may_die = FALSE) {
  found <- is_mark <- FALSE
  harmless <- DEAD
  bytes <- serialize(x, NULL, xdr = TRUE, version = 2L, refhook = function(ref) {
    is_pointer <- typeof(ref) == "externalptr"
    # A data.table has a pointer to R's NULL, in which there is one to the table itself: both may die.
    is_inside <- is_mark
    is_mark <<- is_pointer && !is_inside && address(ref) == address_of_null()
    if (is_pointer && !is_inside && !is_mark && !address(ref) %in% harmless) found <<- TRUE
    if (typeof(ref) == "environment") harmless <<- c(harmless, replaceable(ref))
    NULL
  })
  if (found && !may_die) {
    refuse(paste0("an object of class ", paste(class(x), collapse = "/"), " holds an external pointer or a connection, ",
                  "which is dead in any other process; return what it stands for (or, if it can do without, ",
                  'the object as it is: returns = "object")'), path)
  }
  structure(bytes, class = OPAQUE, r_class = as.character(class(x)), r_size = as.numeric(utils::object.size(x)),
            r_head = head_of(x, length(bytes)), r_session = session())
}

DEAD <- c("<pointer: (nil)>", "<pointer: 0x0>")   # dead already, it can do no more harm

# Pointers in a reference object (setRefClass) that may die: the mark of its class, with which nothing is done but
# comparing, and lme4's, which makes them anew where it finds them dead.
replaceable <- function(env) {
  definition <- get0(".refClassDef", env, inherits = FALSE)
  if (is.null(definition)) return(NULL)
  found <- list(attr(definition, "versionKey"))
  if (identical(attr(attr(definition, "className"), "package"), "lme4")) found[[2L]] <- get0(".->Ptr", env, inherits = FALSE)
  vapply(Filter(function(each) typeof(each) == "externalptr", found), address, "")
}

address <- function(pointer) utils::capture.output(print.default(pointer))[1L]

address_of_null <- function() address(eval(quote(.Internal(address(NULL))), baseenv()))

# The first argument with a pointer in it, as Python calls it.
dead_argument <- function(request) {
  holds <- function(x) {
    found <- FALSE
    serialize(x, NULL, version = 2L, refhook = function(ref) { if (typeof(ref) == "externalptr") found <<- TRUE; NULL })
    found
  }
  place <- function(args, name) {
    for (i in seq_along(args)) if (holds(unwrap(args[[i]]))) return(name(i))
    ""
  }
  args <- as.list(request$args)
  named <- as.list(request$kwargs)
  first <- place(args, function(i) paste0("args[", i - 1L, "]"))
  if (nzchar(first)) first else place(named, function(i) paste0("kwargs['", names(named)[i], "']"))
}

refuse <- function(what, path) {
  stop(structure(class = c("cloudexec_conversion", "error", "condition"), list(message = what, call = NULL, path = path)))
}

unwrap <- function(x) {
  if (is.raw(x) && inherits(x, OPAQUE)) {
    attributes(x) <- NULL
    return(unserialize(x))
  }
  if (is.list(x)) {
    given <- attributes(x)
    x <- lapply(unclass(x), unwrap)
    attributes(x) <- given
  }
  x
}

# How it prints, in short. Printing may run any method, so it has half a second, and may fail.
head_of <- function(x, n_bytes) {
  saved <- options(max.print = 200L, width = 100L)
  on.exit({ setTimeLimit(); options(saved) })
  lines <- tryCatch({
    setTimeLimit(elapsed = 0.5, transient = TRUE)
    shown <- if (n_bytes > BULKY_BYTES) quote(utils::str(x, max.level = 1L, list.len = 8L, vec.len = 2L, give.attr = FALSE))
      else if (isS4(x)) quote(methods::show(x)) else quote(print(x))
    suppressWarnings(suppressMessages(utils::capture.output(eval(shown))))
  }, error = function(e) character())
  while (length(lines) && !nzchar(lines[1L])) lines <- lines[-1L]
  utf8(substr(utils::head(lines, HEAD_LINES), 1L, 200L))
}

# R's version, and those of the packages that are loaded.
session <- function() {
  loaded <- loadedNamespaces()
  if (length(loaded) != memory$n_namespaces) {
    others <- sort(setdiff(loaded, OUR_NAMESPACES))
    versions <- vapply(others, function(p) paste(p, getNamespaceVersion(p)), "")
    memory$session <- paste(c(R.version.string, versions), collapse = "; ")
    memory$n_namespaces <- length(loaded)
  }
  memory$session
}

# --- files ------------------------------------------------------------------------------------------

read_rds <- function(path) {
  source <- file(path, "rb")
  on.exit(close(source))
  unserialize(source)
}

write_rds <- function(value, path) {
  target <- file(path, "wb")
  on.exit(close(target))
  serialize(value, target, xdr = TRUE, version = 2L)
  invisible()
}

# --- a process that runs other calls later ------------------------------------------------------------

surroundings <- function(names) {
  list(directory = tryCatch(getwd(), error = function(e) NULL), warn = getOption("warn"), seed = current_seed(),
       sinks = sink.number(), env = Sys.getenv(names, unset = NA, names = TRUE), devices = grDevices::dev.list())
}

put_back <- function(before) {
  while (sink.number() > before$sinks) sink()
  if (sink.number(type = "message") != 2L) sink(type = "message")
  if (!is.null(before$directory)) setwd(before$directory)
  options(warn = before$warn)
  for (device in setdiff(grDevices::dev.list(), before$devices)) grDevices::dev.off(device)
  absent <- names(before$env)[is.na(before$env)]
  if (length(absent)) Sys.unsetenv(absent)
  present <- before$env[!is.na(before$env)]
  if (length(present)) do.call(Sys.setenv, as.list(present))
  if (!is.null(before$seed)) assign(".Random.seed", before$seed, envir = globalenv())
  else if (!is.null(current_seed())) {
    RNGkind("default", "default", "default")
    rm(".Random.seed", envir = globalenv())
  }
}
