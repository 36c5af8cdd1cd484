"""Runs R scripts that check the R package: each `check("sentence", TRUE or FALSE)` in a script is a test of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PACKAGE = HERE.parents[2] / "r" / "cloudexec"
_CHECK = re.compile(r'^\s*(?:check|same)\("([^"]+)"', re.MULTILINE)

RunR = Callable[..., str]


@pytest.fixture(scope="session")
def r_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of R packages with ours in it."""
    if shutil.which("R") is None:
        pytest.skip("there is no R")
    library = tmp_path_factory.mktemp("r-library")
    command = ["R", "CMD", "INSTALL", "--no-docs", "--no-test-load", f"--library={library}", str(PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


@pytest.fixture(scope="session")
def run_r(r_library: Path) -> RunR:
    """Run R code after the prelude; what it printed, on both streams."""

    def run(code: str, **env: str) -> str:
        code = f"source({str(HERE / 'scripts' / 'prelude.R')!r})\n{code}"
        done = subprocess.run(
            ["Rscript", "--no-init-file", "-e", code],
            capture_output=True,
            text=True,
            check=False,
            timeout=55,
            env={**os.environ, "R_LIBS": str(r_library), "CLOUDEXEC_PYTHON": sys.executable, **env},
        )
        return f"{done.stdout}\n{done.stderr}\n" + (f"R ended with {done.returncode}\n" if done.returncode else "")

    return run


def sentences(script: str) -> list[str]:
    """What a script checks, in words."""
    return _CHECK.findall((HERE / "scripts" / script).read_text())


def verdicts(output: str) -> dict[str, str]:
    """Sentence -> what R found: "ok", or what it found instead."""
    lines = (line.removeprefix("CHECK ").partition(" :: ") for line in output.splitlines() if line.startswith("CHECK "))
    return {sentence: verdict for sentence, _, verdict in lines}
