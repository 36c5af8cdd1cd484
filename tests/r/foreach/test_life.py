"""Ctrl-C in R, an R that is killed, and a loop on ECS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.r.foreach.conftest import HERE, RunR, verdicts
from tests.specs.executors import EXECUTORS

pytestmark = pytest.mark.r

SLEEPERS = """
registerDoCloudexec("local", max_workers = 2, python = python)
marks <- Sys.getenv("MARKS")
tryCatch(
  foreach(i = 1:4) %dopar% { writeLines(as.character(Sys.getpid()), file.path(marks, paste0(i))); Sys.sleep(50) },
  interrupt = function(e) cat("interrupted\\n")
)
cat("then", foreach(i = 1:2, .combine = c) %dopar% i, "\\n")
"""


def start_r(code: str, library: Path, **env: str) -> subprocess.Popen[str]:
    code = f"source({str(HERE / 'scripts' / 'prelude.R')!r})\n{code}"
    return subprocess.Popen(
        ["Rscript", "--no-init-file", "-e", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "R_LIBS": str(library), "CLOUDEXEC_PYTHON": sys.executable, **env},
    )


def wait_until(holds: Callable[[], object], timeout_s: float = 30.0) -> None:
    until_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def pids_in(marks: Path) -> list[int]:
    return [int(text) for path in marks.iterdir() if (text := path.read_text().strip())]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_ctrl_c_in_a_loop_stops_its_tasks_and_the_session_goes_on(r_library: Path, tmp_path: Path) -> None:
    with start_r(SLEEPERS, r_library, MARKS=str(tmp_path)) as r:
        wait_until(lambda: len(pids_in(tmp_path)) == 2)
        r.send_signal(signal.SIGINT)
        wait_until(lambda: all(map(is_gone, pids_in(tmp_path))))
        said, _ = r.communicate(timeout=40)
    assert said.split("\n")[:2] == ["interrupted", "then 1 2 "]
    assert len(list(tmp_path.iterdir())) == 2  # what waited never began


def test_nothing_runs_on_when_r_is_killed(r_library: Path, tmp_path: Path) -> None:
    with start_r(SLEEPERS, r_library, MARKS=str(tmp_path)) as r:
        wait_until(lambda: len(pids_in(tmp_path)) == 2)
        r.kill()
        wait_until(lambda: all(map(is_gone, pids_in(tmp_path))))


def test_a_loop_on_ecs_gives_what_it_gives_sequentially(run_r: RunR) -> None:
    ecs = next(kind for kind in EXECUTORS if kind.name == "ecs")
    settings = ", ".join(f"{name} = {as_r(value)}" for name, value in {**ecs.settings, "max_workers": 2}.items())
    said = run_r(f"""
registerDoCloudexec("ecs", {settings}, python = python)
shared <- cars
same("on ECS", function() {{
  foreach(i = 1:4, .combine = rbind) %dopar% coef(lm(dist ~ speed, shared[-i, ]))
}})
""")
    assert verdicts(said).get("on ECS", said) == "ok"


def as_r(value: object) -> str:
    """A setting as the R user would write it."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, dict):
        return f"list({', '.join(f'`{name}` = {as_r(each)}' for name, each in value.items())})"
    if isinstance(value, (list, tuple)):
        return f"c({', '.join(map(as_r, value))})"
    return repr(value)
