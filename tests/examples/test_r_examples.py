"""Each R example finds what plain R finds on the same machine; one of them also on ECS and Lambda in the pocket AWS."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT

# Most of the time goes into starts: of R, and of workers. A busy machine takes ten times as long as an idle one.
LIMIT_S = 110
pytestmark = [pytest.mark.r, pytest.mark.timeout(LIMIT_S + 10)]

EXAMPLES = ROOT / "examples" / "r"
IDENTICAL = "identical to plain R"


def shown(*command: str | Path, **env: str) -> str:
    """What an example prints when it ends well."""
    words = [str(word) for word in command]
    settings: dict[str, Any] = {"cwd": ROOT, "env": {**os.environ, **env}, "timeout": LIMIT_S}
    done = subprocess.run(words, capture_output=True, text=True, check=False, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def example(name: str, *arguments: str) -> str:
    return shown(sys.executable, "-W", "error", EXAMPLES / name, *arguments)


def verdicts(lines: str) -> list[str]:
    """The lines that compare."""
    return [line for line in lines.splitlines() if line.startswith("  check ")]


@pytest.mark.parametrize(
    ("name", "arguments", "packages"),
    [
        pytest.param("loo_forest.py", ["--trees", "20"], ["randomForest"], id="leave-one-out"),
        pytest.param("many_lsmeans.py", [], ["lsmeans"], id="fits travel from call to call"),
        pytest.param("bootstrap.py", ["--n", "20"], ["future.apply"], id="bootstrap"),
        pytest.param("run_script.py", [], ["jsonlite"], id="script, as calls and as containers"),
    ],
)
def test_on_this_machine_an_example_finds_what_plain_r_finds(name, arguments, packages):
    need(packages)
    found = verdicts(example(name, "--on", "local", *arguments))
    assert found
    assert all(IDENTICAL in line and "NOT" not in line for line in found)


@pytest.mark.parametrize("kind", ["ecs", "lambda"])
def test_on_a_cloud_a_forest_predicts_what_it_predicts_in_plain_r(kind):
    need(["randomForest"])
    assert [IDENTICAL in line for line in verdicts(example("loo_forest.py", "--on", kind, "--trees", "20"))] == [True]


def test_from_r_a_foreach_loop_finds_what_it_finds_sequentially(tmp_path):
    need(["foreach", "doRNG"])
    r = shutil.which("R")
    assert r is not None
    install = [
        r,
        "CMD",
        "INSTALL",
        "--no-docs",
        "--no-test-load",
        f"--library={tmp_path}",
        str(ROOT / "r" / "cloudexec"),
    ]
    subprocess.run(install, check=True, capture_output=True)
    found = shown("Rscript", EXAMPLES / "foreach.R", R_LIBS=str(tmp_path), CLOUDEXEC_PYTHON=sys.executable)
    assert [IDENTICAL in line for line in verdicts(found)] == [True]
    assert "doCloudexec, 2 workers" in found


def need(packages: list[str]) -> None:
    """Packages of R's that an example needs; without them it is skipped, in CI it fails."""
    code = "cat(setdiff(commandArgs(TRUE), rownames(installed.packages())))"
    command = ["Rscript", "--vanilla", "-e", code, *packages]
    missing = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    if missing:
        why = f"R lacks {', '.join(missing)}: scripts/r.sh installs it on Debian"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
