"""`make demo` shows what it says, with a twentieth of the work, on each stage."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.docs.pages import ROOT

# Named as a test package in pyproject.toml; somebody who installs fewer is told. It is not imported here, which would
# take each process of pytest a second.
if find_spec("sklearn") is None:
    pytest.skip("the demonstration needs scikit-learn: pip install -e '.[test]'", allow_module_level=True)


ENOUGH_S = 170.0  # all stages take 20 s, and a minute beside other tests
pytestmark = pytest.mark.timeout(ENOUGH_S + 10)


def shown(*arguments: str) -> str:
    """What the demonstration prints when it ends well."""
    command = [sys.executable, "-W", "error", "examples/crossval.py", "--quick", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=ENOUGH_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def everywhere() -> str:
    """All stages in sequence, as `make demo` shows them."""
    return shown()


@pytest.mark.slow
def test_on_ecs_the_results_are_those_of_the_loop_and_nothing_is_left_behind(everywhere):
    lines = everywhere.partition("--- 2 of 3 ---")[2].partition("--- 3 of 3 ---")[0]

    assert "identical to the plain loop's, all 12 of them" in lines
    assert "RUNNING" in lines
    assert "InvalidParameterError: The 'C' parameter of SVC must be" in lines
    assert "got SIGTERM" in lines
    assert "identical again, all 6 of them" in lines
    assert "nothing: no task, no queue, no object but the run's summary" in lines


@pytest.mark.slow
def test_all_in_sequence_differ_in_one_line(everywhere):
    assert everywhere.count("identical to the plain loop's, all 12 of them") == 3
    assert re.findall(
        r"^    with (\w+)\(max_workers=.*initializer=use_one_thread\) as executor:$", everywhere, re.M
    ) == [
        "LocalExecutor",
        "ECSExecutor",
        "LambdaExecutor",
    ]
    assert everywhere.count("  left      nothing: ") == 2


@pytest.mark.slow
def test_on_lambda_an_environment_is_killed_and_the_results_are_those_of_the_loop():
    lines = shown("--on", "lambda")

    assert "identical to the plain loop's, all 12 of them" in lines
    assert re.search(r"environ\. +\w{8} (idle|frozen|busy), pid \d+: \d+ invocations?", lines)
    assert "InvalidParameterError: The 'C' parameter of SVC must be" in lines
    assert "got SIGKILL" in lines
    assert "identical again, all 6 of them" in lines
    assert re.search(r"Lambda +\d+ requests, \$0\.\d+ .* Invoke", lines)
    assert re.search(r"\d GB-s in \d+ invocations would cost \$0\.\d+", lines)
    assert "nothing: no object but the run's summary, no invocation" in lines


@pytest.mark.r
@pytest.mark.slow
def test_with_r_there_is_a_part_in_r_that_predicts_what_plain_r_does():
    lines = shown("--on", "local")

    assert "identical to plain R's, all 32 of them" in lines
    assert "NOT IDENTICAL" not in lines
    assert "on ECSExecutor and LambdaExecutor" in lines


@pytest.mark.slow
def test_without_r_a_line_tells_how_to_get_it(monkeypatch):
    monkeypatch.setenv("CLOUDEXEC_RSCRIPT", "/nowhere/Rscript")
    lines = shown("--on", "local")

    assert "R         is not on this machine: apt-get install r-base-core" in lines
    assert "identical to the plain loop's, all 12 of them" in lines
