# What has become of tasks, as the process tells it.
# Called by: dopar.R.   Mirror: outcomes.py of cloudexec.adapters.foreach.

OUTCOME_PARTS <- 9L

# A list of outcomes, by task.
read_outcomes <- function(parts) {
  starts <- seq(1L, by = OUTCOME_PARTS, length.out = length(parts) %/% OUTCOME_PARTS)
  outcomes <- lapply(starts, function(start) read_outcome(parts[start + 0:(OUTCOME_PARTS - 1L)]))
  outcomes[order(vapply(outcomes, function(outcome) outcome$number, 0L))]
}

# list(number, result (a value or an error condition), warnings (conditions), stdout, stderr)
read_outcome <- function(parts) {
  texts <- vapply(parts[-3L], as_text, "")
  number <- as.integer(texts[[1L]])
  outcome <- switch(texts[[2L]],
    value = unserialize(parts[[3L]]),
    condition = list(value = as_error(unserialize(parts[[3L]])), warnings = told_warnings(texts[[6L]])),
    failure = list(
      value = failure(
        sprintf("task %d: %s", number, texts[[3L]]), texts[[4L]], task = number, traceback = lines_of(texts[[5L]])
      ),
      warnings = told_warnings(texts[[6L]])
    )
  )
  list(
    number = number, result = outcome$value, warnings = outcome$warnings, stdout = texts[[7L]], stderr = texts[[8L]],
    traceback = lines_of(texts[[5L]])
  )
}

# foreach goes by the class "error"; a condition that R let end a call is one.
as_error <- function(condition) {
  if (!inherits(condition, "error")) class(condition) <- c(class(condition), "error")
  condition
}

told_warnings <- function(text) lapply(strsplit(text, "\036", fixed = TRUE)[[1L]], simpleWarning)

lines_of <- function(text) strsplit(text, "\n", fixed = TRUE)[[1L]]
