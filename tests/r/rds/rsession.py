"""One R for all tests of a module: a line of R goes in, `TRUE` or what it is instead comes out."""

from __future__ import annotations

import os
import subprocess

LOOP = r"""
input <- file("stdin", "r")
same <- function(path, expected) {
  found <- readRDS(path)
  if (identical(found, expected)) return(TRUE)
  paste(c("R read", deparse(found), "instead of", deparse(expected)), collapse = " ")
}
write <- function(path, value) { saveRDS(value, path, version = 2, compress = FALSE); TRUE }
while (length(line <- readLines(input, 1, encoding = "UTF-8"))) {
  answer <- tryCatch(eval(parse(text = line, encoding = "UTF-8")), error = conditionMessage)
  cat(gsub("\n", " ", format(answer)), "\n", sep = "")
  flush(stdout())
}
"""


class RSession:
    """A running Rscript. Its time zone is UTC, its language C.UTF-8."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["Rscript", "--vanilla", "-e", LOOP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8"},
        )

    def __call__(self, source: str) -> str:
        """What a line of R says."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert "\n" not in source
        self._process.stdin.write(source + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().rstrip("\n")

    def close(self) -> None:
        """End of input ends the loop."""
        self._process.communicate(timeout=20)
        assert self._process.returncode == 0
