# What foreach promises, against the same loops run sequentially.
registerDoCloudexec("local", max_workers = 2, python = python)

check("the backend has a name, a version and workers",
  identical(list(getDoParName(), getDoParWorkers(), getDoParRegistered()), list("doCloudexec", 2L, TRUE)) &&
    identical(getDoParVersion(), as.character(packageVersion("cloudexec"))))

same("results are a list in order", function() foreach(i = 1:3) %dopar% i^2)
same("results are combined", function() foreach(i = 1:3, .combine = "+") %dopar% i)
same("rows are bound", function() foreach(i = 1:3, .combine = rbind) %dopar% data.frame(i = i, s = letters[i]))
same("an own function combines two at a time", function() {
  foreach(i = 1:4, .combine = function(a, b) paste0("(", a, b, ")")) %dopar% i
})
same("an own function combines many at once", function() {
  foreach(i = 1:5, .combine = function(...) sum(...) * 2, .multicombine = TRUE, .maxcombine = 3) %dopar% i
})
same("combining starts from .init", function() foreach(i = 1:3, .combine = c, .init = 100) %dopar% i)
same("the result passes through .final", function() foreach(i = 1:3, .combine = c, .final = rev) %dopar% i)
same("no task at all gives what .init is", function() foreach(i = integer(), .combine = c, .init = 7) %dopar% i)
same("no task at all gives an empty list", function() foreach(i = integer()) %dopar% i)
same("NULL is a result", function() foreach(i = 1:2) %dopar% NULL)
same("two iterators go side by side", function() foreach(a = 1:3, b = c("x", "y", "z")) %dopar% paste(a, b))
same("iterators are read", function() {
  foreach(row = iter(matrix(1:6, 3), by = "row"), .combine = c) %dopar% sum(row)
})
same("an argument without a name is only counted", function() foreach(1:2, i = 3:5) %dopar% i)
same("loops nest", function() {
  foreach(a = 1:2, .combine = cbind) %:% foreach(b = 1:3, .combine = c) %dopar% (10 * a + b)
})
same("when() filters", function() {
  foreach(a = 1:3, .combine = c) %:% when(a %% 2 == 1) %dopar% a
})
same("a task returns early", function() foreach(i = 1:2) %dopar% { if (i == 1) return("one"); "two" })
same("times() repeats", function() times(2) %dopar% "again")
check("without .inorder all results are there",
  identical(sort(foreach(i = 1:4, .combine = c, .inorder = FALSE) %dopar% i), 1:4))
check("more tasks than fit into one message", identical(
  foreach(i = 1:3, .combine = c) %dopar% length(serialize(i, NULL)), rep(length(serialize(1L, NULL)), 3)))
same("large arguments and results pass whole", function() {
  foreach(x = list(1:1e6 + 0, 2:1e6 + 0)) %dopar% (x * 2)
})
same("large common data", function() {
  shared <- 1:1e6 + 0.5
  foreach(i = 1:3, .combine = c) %dopar% (sum(shared) + i)
})
same("text keeps its letters", function() foreach(s = c("\u00e9\u00df\u20ac", "\U1F600")) %dopar% paste0(s, "!"))
check(".verbose tells what travels", any(grepl("shared_thing", utils::capture.output({
  shared_thing <- 1
  foreach(i = 1:2, .verbose = TRUE) %dopar% (i + shared_thing)
}))))

# --- life -------------------------------------------------------------------------------------------

check("another backend may take its place and give it back", {
  same_session <- foreach(i = 1:2, .combine = c) %dopar% i
  identical(same_session, 1:2)
})
unregisterDoCloudexec()
check("after unregistering loops run here", identical(getDoParName(), "doSEQ") &&
  identical(foreach(i = 1, .combine = c) %dopar% Sys.getpid(), Sys.getpid()))
