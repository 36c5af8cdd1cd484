# Packages that a loop uses.
registerDoCloudexec("local", max_workers = 2, python = python)

suppressPackageStartupMessages(library(survival))
same("a package that is attached here is attached there", function() {
  foreach(i = 1:2, .combine = c) %dopar% (unname(coef(coxph(Surv(time, status) ~ age, data = lung))) * i)
})
same(".packages are attached", function() {
  foreach(i = 1:2, .combine = c, .packages = "MASS") %dopar% fractions(i / 4)
})
same("a loop in a package's function sees the package", function() {
  f <- function() foreach::foreach(i = 1:2, .combine = c) %dopar% as_text(as_bytes(i))
  environment(f) <- asNamespace("cloudexec")
  assign("%dopar%", foreach::`%dopar%`, globalenv())
  f()
})
same("models come back whole", function() {
  fit <- foreach(d = list(cars[1:25, ], cars[26:50, ])) %dopar% unclass(summary(lm(dist ~ speed, d)))$coefficients
  fit
})
suppressPackageStartupMessages(library(randomForest))
check("combine functions of packages work on what comes back", {
  forest <- foreach(n = c(5, 6), .combine = randomForest::combine) %dopar% randomForest(Species ~ ., iris, ntree = n)
  inherits(forest, "randomForest") && forest$ntree == 11
})
