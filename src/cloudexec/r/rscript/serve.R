# A resident R: takes the names of requests from a pipe, and forks for each, or runs them itself.
#
# Started by: launching.py.   Calls: harness.R.
# In:   lines "fork N" or "run N" from CLOUDEXEC_R_CONTROL; its end is ours: whoever asked us is gone.
# Out:  lines on CLOUDEXEC_R_STATUS: "ready PID TEMPDIR" | "absent PACKAGE..." | "broken TEXT", then for each call
#       "started N PID", perhaps "quit N STATUS", and "done N". Requests and replies are N.in and N.out in CLOUDEXEC_R_SCRATCH.
# Both pipes are opened anew for each line, so that closeAllConnections() of a snippet's closes nothing that we need.

local({
  settings <- Sys.getenv(c("CONTROL", "STATUS", "SCRATCH", "PACKAGES", "HARNESS"))
  settings <- Sys.getenv(paste0("CLOUDEXEC_R_", names(settings)))
  names(settings) <- sub("CLOUDEXEC_R_", "", names(settings))
  Sys.unsetenv(paste0("CLOUDEXEC_R_", names(settings)))
  serve <- new.env(parent = baseenv())
  sys.source(settings[["HARNESS"]], serve)
  serve$settings <- settings
  serve$packages <- strsplit(settings[["PACKAGES"]], " ", fixed = TRUE)[[1L]]

  local(envir = serve, {
    mcfork <- parallel:::mcfork
    mcexit <- parallel:::mcexit
    forget_child <- parallel:::rmChild
    call_number <- ""
    in_child <- FALSE

    say <- function(...) {
      pipe <- fifo(paste0("/dev/fd/", settings[["STATUS"]]), "wb", blocking = TRUE)
      on.exit(close(pipe))
      writeLines(enc2utf8(paste(...)), pipe, useBytes = TRUE)
    }

    hear <- function() {
      pipe <- fifo(paste0("/dev/fd/", settings[["CONTROL"]]), "rb", blocking = TRUE)
      on.exit(close(pipe))
      readLines(pipe, 1L, warn = FALSE)
    }

    path <- function(number, end) file.path(settings[["SCRATCH"]], paste0(number, end))

    # The end of a forked child. Left by itself, mcexit waits for its parent's permission; cat flushes what C code printed.
    leave <- function(status) {
      cat("")
      tools::pskill(Sys.getpid(), tools::SIGUSR1)
      mcexit(as.integer(status))
    }

    # R's own quit() would remove the temporary directory of its parent.
    quit_here <- function(save = "default", status = 0, runLast = TRUE) {
      say("quit", call_number, as.integer(status))
      if (!in_child) original_quit("no", status, runLast)
      if (runLast && exists(".Last", envir = globalenv(), inherits = FALSE)) get(".Last", envir = globalenv())()
      leave(status)
    }
    original_quit <- base::quit

    run_in_child <- function(number) {
      in_child <<- TRUE
      compiler::enableJIT(3L)   # mcfork has switched it off in our parent
      allowInterrupts({
        say("started", number, Sys.getpid())
        answer(path(number, ".in"), path(number, ".out"))
        say("done", number)
      })
      leave(0L)
    }

    # Forked processes share what is loaded here; what they load themselves, each loads anew.
    warm <- function(namespaces) for (name in namespaces) eapply(asNamespace(name), function(x) NULL, all.names = TRUE)

    load_packages <- function() {
      absent <- packages[!vapply(packages, function(p) nzchar(system.file(package = p)), NA)]
      if (length(absent)) return(paste(c("absent", absent), collapse = " "))
      tryCatch({
        attach_packages(packages)
        warm(setdiff(loadedNamespaces(), c("base", "methods", "datasets", "utils", "grDevices", "graphics", "stats")))
        ""
      }, packageNotFoundError = function(e) paste("absent", e$package),
         error = function(e) paste("broken", gsub("\n", " ", conditionMessage(e))))
    }

    # Processes that a call left running; only what a system without /proc keeps is out of reach.
    kill_family <- function(pid) {
      lists <- Sys.glob(paste0("/proc/", pid, "/task/*/children"))
      found <- unlist(lapply(lists, function(f) scan(f, 0L, quiet = TRUE)))
      for (child in found) {
        kill_family(child)
        tools::pskill(child, tools::SIGKILL)
      }
    }

    main <- function() {
      if (!l10n_info()$`UTF-8`) for (name in c("C.utf8", "en_US.UTF-8")) suppressWarnings(Sys.setlocale("LC_ALL", name))
      options(device = function(...) grDevices::pdf(NULL), menu.graphics = FALSE)
      watch_seeds()
      for (name in c("quit", "q")) replace_in_base(name, quit_here)
      problem <- load_packages()
      if (nzchar(problem)) return(say(problem))
      suppressWarnings(rm(".Random.seed", envir = globalenv()))
      say("ready", Sys.getpid(), tempdir())
      suppressInterrupts(listen())
      kill_family(Sys.getpid())
      unlink(settings[["SCRATCH"]], recursive = TRUE)
    }

    suppressInterrupts <- base::suspendInterrupts   # Ctrl-C reaches the whole group; Python decides what follows

    listen <- function() {
      child <- NULL
      is_warm <- FALSE
      while (length(line <- hear())) {
        words <- strsplit(line, " ", fixed = TRUE)[[1L]]
        call_number <<- words[2L]
        if (words[1L] == "run") {
          say("started", call_number, Sys.getpid())
          allowInterrupts(answer(path(call_number, ".in"), path(call_number, ".out"), words[3L] == "kept"))
          say("done", call_number)
          next
        }
        if (!is.null(child)) forget_child(child)
        child <- mcfork(FALSE)
        if (inherits(child, "masterProcess")) run_in_child(call_number)   # it never comes back
        if (!is_warm) {   # while the first child works
          warm(c("base", "methods", "stats", "utils", "compiler"))
          is_warm <- TRUE
        }
      }
    }
  })
  serve$main()
})
