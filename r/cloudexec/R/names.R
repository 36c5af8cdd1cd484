# Which names an expression asks its surroundings for, in the order in which it would be evaluated.
# Called by: globals.R.
#
# codetools::findGlobals calls a name local wherever it is assigned; in `x <- x + 1` it would miss the x that must
# travel. Here an assignment counts from where it stands, and what is assigned in a branch does not count after it.

# list(used =, called =): names of variables, and names that occur as functions only.
free_names <- function(expr, bound = character()) {
  used <- called <- character()
  note <- function(name, bound, as_function = FALSE) {
    if (nzchar(name) && !name %in% bound) {
      if (as_function) called <<- c(called, name) else used <<- c(used, name)
    }
  }

  # Returns what is bound afterwards.
  walk <- function(e, bound) {
    if (is.symbol(e)) {
      note(as.character(e), bound)
      return(bound)
    }
    if (is.pairlist(e) || is.expression(e)) return(walk_all(as.list(e), bound))
    if (!is.call(e)) return(bound)
    head <- e[[1L]]
    if (!is.symbol(head)) return(walk_all(as.list(e), bound))
    name <- as.character(head)
    if (name %in% c("::", ":::")) return(bound)
    note(name, bound, as_function = TRUE)
    switch(name,
      "<-" = , "=" = walk_assignment(e, bound),
      "function" = walk_function(e, bound),
      "for" = {
        after <- walk(e[[3L]], bound)
        walk(e[[4L]], c(after, as.character(e[[2L]])))
        after
      },
      "if" = , "while" = , "switch" = , "&&" = , "||" = {
        after <- walk(e[[2L]], bound)
        for (part in seq_along(e)[-(1:2)]) walk_one(e, part, after)
        after
      },
      "$" = , "@" = walk_all(as.list(e)[-c(1L, if (!is.call(e[[3L]])) 3L)], bound),
      walk_all(as.list(e)[-1L], bound)
    )
  }
  walk_one <- function(parts, i, bound) {
    # `x[1, ]` has an empty argument, which must not be looked at.
    if (identical(parts[[i]], quote(expr = ))) bound else walk(parts[[i]], bound)
  }
  walk_all <- function(parts, bound) {
    for (i in seq_along(parts)) bound <- walk_one(parts, i, bound)
    bound
  }
  walk_assignment <- function(e, bound) {
    bound <- walk(e[[3L]], bound)
    target <- e[[2L]]
    if (is.symbol(target) || is.character(target)) return(c(bound, as.character(target)))
    # `names(x)[2] <- v` reads x and calls `names<-`.
    part <- target
    while (is.call(part)) {
      if (is.symbol(part[[1L]])) note(paste0(as.character(part[[1L]]), "<-"), bound, as_function = TRUE)
      part <- part[[2L]]
    }
    walk(target, bound)
    if (is.symbol(part)) c(bound, as.character(part)) else bound
  }
  walk_function <- function(e, bound) {
    formals <- as.list(e[[2L]])
    walk(e[[3L]], walk_all(formals, c(bound, names(formals))))
    bound
  }

  walk(expr, bound)
  list(used = unique(used), called = setdiff(called, used))
}

# The same of a closure.
free_names_of <- function(fn) {
  parts <- c(as.list(formals(fn)), list(body(fn)))
  call <- as.call(c(list(as.name("{")), unname(parts[!vapply(parts, is_empty, NA)])))
  free_names(call, names(formals(fn)))
}

is_empty <- function(part) identical(part, quote(expr = ))
