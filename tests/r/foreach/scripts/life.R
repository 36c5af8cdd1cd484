# How a session begins and ends, and what is said when it cannot.
attempt <- function(...) tryCatch(registerDoCloudexec(...), error = identity)

check("a Python that is not there", {
  found <- attempt(python = "/no/such/python3")
  inherits(found, "PythonMissing") && grepl("/no/such/python3", conditionMessage(found)) &&
    grepl("python =", conditionMessage(found))
})
check("no Python at all", inherits(attempt(python = ""), "PythonMissing"))
check("a Python without cloudexec", {
  bare <- Sys.getenv("BARE_PYTHON")
  found <- attempt(python = bare)
  inherits(found, "PythonMissing") && grepl(paste(bare, "-m pip install cloudexec"), conditionMessage(found), fixed = TRUE)
})
check("something that is no Python", {
  found <- attempt(python = "/bin/false")
  inherits(found, "ProcessLost") && grepl("exit status 1", conditionMessage(found))
})
check("settings that are wrong are told in the executor's words", {
  found <- attempt("local", max_workers = 0, python = python)
  inherits(found, "SettingsError") && grepl("max_workers=0 .* Remedy: ", conditionMessage(found))
})
check("a setting that does not exist, with those that do", {
  found <- attempt("local", max_worker = 1, python = python)
  inherits(found, "SettingsError") && grepl("max_worker'.*max_workers", conditionMessage(found))
})
check("an executor that does not exist", grepl("\"ecs\"", conditionMessage(attempt("sky", python = python))))
check("settings need names", grepl("must have names", conditionMessage(attempt("local", 2, python = python))))
check("what failed has registered nothing", !identical(getDoParName(), "doCloudexec"))

registerDoCloudexec("local", max_workers = 1, python = python)
first <- get("current", asNamespace("cloudexec"))$session
registerDoCloudexec("local", max_workers = 1, python = python)
check("registering again ends the session before", is.null(first$connection))
check("a fork is told to register for itself", {
  found <- parallel::mccollect(parallel::mcparallel(tryCatch(foreach(i = 1) %dopar% i, error = conditionMessage)))[[1]]
  grepl("fork", found)
})
check("the session goes on after the fork has ended", identical(foreach(i = 1:2, .combine = c) %dopar% i, 1:2))
check("a process that dies in the middle is missed at once, with its exit status", {
  session <- get("current", asNamespace("cloudexec"))$session
  began <- proc.time()[["elapsed"]]
  pid <- session$process$pid
  found <- tryCatch(foreach(i = 1) %dopar% { tools::pskill(pid, 9L); Sys.sleep(50) }, error = identity)
  inherits(found, "ProcessLost") && grepl("registerDoCloudexec() again", conditionMessage(found), fixed = TRUE) &&
    grepl("exit status 137", conditionMessage(found)) && proc.time()[["elapsed"]] - began < 20
})
check("a loop in a session that is lost says what to do", {
  found <- tryCatch(foreach(i = 1) %dopar% i, error = conditionMessage)
  grepl("registerDoCloudexec() again", found, fixed = TRUE)
})
check("after that one registers again", {
  registerDoCloudexec("local", max_workers = 1, python = python)
  identical(foreach(i = 1, .combine = c) %dopar% i, 1)
})
