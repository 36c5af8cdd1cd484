# Where a loop's names come from, and that they get there.
registerDoCloudexec("local", max_workers = 2, python = python)

scale <- 10
helper <- function(x) x * scale
through <- function(x) helper(x) + 1
same("a variable of top level", function() foreach(i = 1:2, .combine = c) %dopar% (i * scale))
same("a function of top level, and what it asks for", function() foreach(i = 1:2, .combine = c) %dopar% through(i))
make <- function(k) { own <- k * 2; function(x) helper(x) + own }
made <- make(3)
same("a closure with data of its own, and what it asks for at top level", function() {
  foreach(i = 1:2, .combine = c) %dopar% made(i)
})
same("local variables and functions of a function", function() {
  base <- 100
  inner <- function(x) x + base
  outer <- function(x) inner(x) * 2
  foreach(i = 1:2, .combine = c) %dopar% outer(i)
})
same("what a function's caller's frame has", function() {
  far <- 5
  (function() { near <- 1; foreach(i = 1:2, .combine = c) %dopar% (i + near + far) })()
})
same("an inner variable hides an outer one, and the outer function still sees its own", function() {
  v <- "outer"
  see <- function() v
  (function() { v <- "inner"; foreach(i = 1, .combine = c) %dopar% c(v, see()) })()
})
check("a variable that the task changes is there, and each task changes its own", {
  count <- 5
  identical(foreach(i = 1:2, .combine = c) %dopar% { count <- count + i; count }, c(6, 7))
})
same("the dots of a function", function() {
  (function(...) foreach(i = 1:2, .combine = c) %dopar% sum(i, ...))(10, 20)
})
same("a list of functions", function() {
  fs <- list(function(x) helper(x), sqrt)
  foreach(f = fs, .combine = c) %dopar% f(16)
})
tools <- list(add = function(x) helper(x) + 0.5)
same("functions that are only in a list at top level", function() foreach(i = 1, .combine = c) %dopar% tools$add(i))
same("a name that only .export knows", function() {
  hidden <- 42
  foreach(i = 1, .combine = c, .export = "hidden") %dopar% get("hid" |> paste0("den"))
})
check("what .export names must exist", {
  found <- tryCatch(foreach(i = 1, .export = "nowhere") %dopar% i, error = identity)
  grepl("unable to find variable \"nowhere\"", conditionMessage(found), fixed = TRUE)
})
check("what .noexport names stays here", {
  kept <- 1
  found <- tryCatch(foreach(i = 1, .noexport = "kept") %dopar% kept, error = identity)
  grepl("kept", conditionMessage(found))
})
check("what nobody asks for stays here", {
  size <- (function() {
    large <- rnorm(1e6)
    uses <- function(x) x + 1
    length(serialize(cloudexec:::find_globals(quote(uses(i)), environment(), skip = "i"), NULL))
  })()
  size < 20000
})
check("what a task does to top level stays there", {
  invisible(foreach(i = 1:3) %dopar% { assign("scale", 1, globalenv()); options(digits = 3); NULL })
  seen <- foreach(i = 1:3, .combine = c) %dopar% exists("left_over")
  invisible(foreach(i = 1:3) %dopar% assign("left_over", 1, globalenv()))
  scale == 10 && !any(seen) && !any(foreach(i = 1:3, .combine = c) %dopar% exists("left_over"))
})
