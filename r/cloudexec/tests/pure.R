# What needs no Python: names that an expression asks for, settings as JSON, frames.
ns <- asNamespace("cloudexec")
asked <- function(expr) ns$free_names(expr)$used

stopifnot(
  # an assignment counts from where it stands
  identical(asked(quote({ x <- x + 1; x })), "x"),
  identical(asked(quote({ x <- 1; x })), character()),
  identical(asked(quote({ if (a) x <- 1; x })), c("a", "x")),
  identical(asked(quote({ for (i in n) k <- i; k })), c("n", "k")),
  identical(asked(quote(names(x)[2] <- v)), c("v", "x")),
  "names<-" %in% ns$free_names(quote(names(x)[2] <- v))$called,
  # functions have names of their own
  identical(asked(quote(function(a, b = q) a + b + w)), c("q", "w")),
  identical(asked(quote({ f <- function(x) y; y <- 1 })), "y"),
  # what is no variable
  identical(asked(quote(d$col + e@slot + p::q)), c("d", "e")),
  identical(asked(quote(m[1, ])), "m"),
  identical(ns$free_names(quote(f(f)))$called, character()),
  identical(ns$free_names(quote(f(1)))$called, "f"),
  identical(ns$free_names_of(function(a, b = k) a + z)$used, c("k", "z"))
)

json <- function(...) ns$to_json(list(...))
stopifnot(
  identical(json(), "[]"),
  identical(json(a = 1, b = 2L, c = 0.1, d = 1e5), "{\"a\":1,\"b\":2,\"c\":0.1,\"d\":100000}"),
  identical(json(a = TRUE, b = NULL, c = 1:2), "{\"a\":true,\"b\":null,\"c\":[1,2]}"),
  identical(json(a = I("x"), b = list("x"), c = c(K = "v")), "{\"a\":[\"x\"],\"b\":[\"x\"],\"c\":{\"K\":\"v\"}}"),
  identical(json(a = "q\"\\\n\u00e9"), "{\"a\":\"q\\u0022\\u005c\\u000a\u00e9\"}"),
  identical(json(a = ""), "{\"a\":\"\"}"),
  grepl("settings$a cannot", tryCatch(json(a = NA), error = conditionMessage), fixed = TRUE),
  grepl("settings$a cannot", tryCatch(json(a = mean), error = conditionMessage), fixed = TRUE)
)

file <- tempfile()
out <- file(file, "wb")
large <- as.raw(rep(1:200, 1000))
ns$write_frame(out, "TASK", list("7", raw(), "\u00e9", large))
ns$write_frame(out, "QUIT", list())
close(out)
back <- file(file, "rb")
first <- ns$read_frame(back)
stopifnot(
  first$kind == "TASK",
  identical(first$parts[c(2, 4)], list(raw(), large)),
  identical(ns$as_text(first$parts[[3]]), "\u00e9"),
  identical(ns$read_frame(back), list(kind = "QUIT", parts = list())),
  identical(tryCatch(ns$read_frame(back), error = conditionMessage), "the connection ended")
)
close(back)
cat("all of it holds\n")
