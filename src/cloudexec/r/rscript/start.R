# What Rscript runs: the functions of harness.R and serve.R, out of the user's sight, and then main().
# Calls are short here and there, because R shows them when it crashes.
.cloudexec <- new.env(parent = baseenv())
.names <- c("CONTROL", "STATUS", "SCRATCH", "PACKAGES", "HERE", "WARM")
.cloudexec$settings <- structure(Sys.getenv(paste0("CLOUDEXEC_R_", .names)), names = .names)
Sys.unsetenv(paste0("CLOUDEXEC_R_", .names))
for (.file in c("harness.R", "serve.R")) sys.source(file.path(.cloudexec$settings[["HERE"]], .file), .cloudexec)
with(list(main = .cloudexec$main), { rm(.cloudexec, .file, .names, envir = globalenv()); main() })
