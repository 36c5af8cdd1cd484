"""foreach loops from R: each sentence of the scripts beside this file is a test. LocalExecutor."""

from __future__ import annotations

import functools
import venv
from pathlib import Path

import pytest

from tests.r.foreach.conftest import HERE, PACKAGE, RunR, sentences, verdicts

pytestmark = pytest.mark.r

SCRIPTS = ("semantics.R", "errors.R", "names.R", "packages.R", "random.R", "life.R")


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python without any package."""
    home = tmp_path_factory.mktemp("bare")
    venv.create(home, with_pip=False, symlinks=True)
    return home / "bin" / "python"


@functools.cache
def said_by(run_r: RunR, script: str, bare_python: Path) -> str:
    return run_r(f"source({str(HERE / 'scripts' / script)!r})", BARE_PYTHON=str(bare_python))


@pytest.mark.parametrize(
    ("script", "sentence"), [(script, sentence) for script in SCRIPTS for sentence in sentences(script)]
)
def test_a_loop(run_r: RunR, bare_python: Path, script: str, sentence: str) -> None:
    said = said_by(run_r, script, bare_python)
    assert verdicts(said).get(sentence, said) == "ok"


def test_the_tests_that_the_package_brings_along_pass(run_r: RunR) -> None:
    said = run_r(f"source({str(PACKAGE / 'tests' / 'pure.R')!r})")
    assert "all of it holds" in said, said
