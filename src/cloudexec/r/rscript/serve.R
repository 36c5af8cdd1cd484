# A resident R: takes the names of requests from a pipe, and forks for each, or runs them itself. Functions only.
#
# Called by: start.R.   Calls: harness.R, in whose environment it lives.
# In:   lines "fork N", "run N kept" or "run N once" from the pipe CONTROL; its end is ours: whoever asked us is gone.
# Out:  lines on the pipe STATUS: "ready PID TEMPDIR" | "absent PACKAGE..." | "broken TEXT", then for each call
#       "started N PID", perhaps "quit N CODE", and "done N". Requests and replies are N.in and N.out in SCRATCH.
# Both pipes are opened anew for each line, so that closeAllConnections() of a snippet's closes nothing that we need.

mcfork <- parallel:::mcfork
mcexit <- parallel:::mcexit
closeFD <- parallel:::closeFD
forget_child <- parallel:::rmChild
pskill <- tools::pskill   # loaded here, once: a child that loads a namespace takes longer than all the rest
SIGUSR1 <- tools::SIGUSR1
SIGKILL <- tools::SIGKILL
DESCRIPTORS <- if (file.exists("/proc/self/fd")) "/proc/self/fd/" else "/dev/fd/"
call_number <- ""
in_child <- FALSE

say <- function(...) {
  pipe <- fifo(paste0(DESCRIPTORS, settings[["STATUS"]]), "wb", blocking = TRUE)
  on.exit(close(pipe))
  writeLines(enc2utf8(paste(...)), pipe, useBytes = TRUE)
}

hear <- function() {
  pipe <- fifo(paste0(DESCRIPTORS, settings[["CONTROL"]]), "rb", blocking = TRUE)
  on.exit(close(pipe))
  readLines(pipe, 1L, warn = FALSE)
}

path <- function(number, end) file.path(settings[["SCRATCH"]], paste0(number, end))

# The end of a forked child. Left by itself, mcexit waits for its parent's permission.
leave <- function(status) {
  pskill(Sys.getpid(), SIGUSR1)
  mcexit(as.integer(status))
}

# R's own quit() would remove the temporary directory of its parent.
quit_here <- function(save = "default", status = 0, runLast = TRUE) {
  say("quit", call_number, as.integer(status))
  if (!in_child) original_quit("no", status, runLast)
  if (runLast && exists(".Last", envir = globalenv(), inherits = FALSE)) get(".Last", envir = globalenv())()
  cat("")
  leave(status)
}
original_quit <- base::quit

run_in_child <- function(number) {
  in_child <<- TRUE
  closeFD(0L)   # mcfork has put a pipe there that never ends; what is opened next takes its place
  input <- file("/dev/null", "rb")
  memory$jit <- 3L   # for the user's code; mcfork has switched it off, and for ours it does not pay
  allowInterrupts({
    say("started", number, Sys.getpid())
    answer(path(number, ".in"), path(number, ".out"))
    cat("")   # flushes what C code printed; leaving does not
    say("done", number)
  })
  leave(0L)
}

# Forked processes share what is loaded here; what they load themselves, each loads anew. Not R's own packages: little of
# them is used, and the memory that they take makes each fork slower.
warm <- function(namespaces) for (name in namespaces) eapply(asNamespace(name), function(x) NULL, all.names = TRUE)

load_packages <- function() {
  packages <- strsplit(settings[["PACKAGES"]], " ", fixed = TRUE)[[1L]]
  absent <- packages[!vapply(packages, function(p) nzchar(system.file(package = p)), NA)]
  if (length(absent)) return(paste(c("absent", absent), collapse = " "))
  tryCatch({
    attach_packages(packages)
    if (nzchar(settings[["WARM"]])) warm(setdiff(loadedNamespaces(), setdiff(OUR_NAMESPACES, "compiler")))
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
    pskill(child, SIGKILL)
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
  suspendInterrupts(listen())   # Ctrl-C reaches the whole group; Python decides what follows
  kill_family(Sys.getpid())
  unlink(settings[["SCRATCH"]], recursive = TRUE)
}

# One that came meanwhile would wait here for the first forked child, and end that in its place.
forget_interrupts <- function() tryCatch(allowInterrupts(Sys.sleep(0)), interrupt = function(e) NULL)

listen <- function() {
  child <- NULL
  while (length(line <- hear())) {
    forget_interrupts()
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
  }
}
