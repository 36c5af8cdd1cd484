"""foreach loops from R: each sentence of the scripts beside this file is a test. LocalExecutor."""

from __future__ import annotations

import functools

import pytest

from tests.r.foreach.conftest import HERE, RunR, sentences, verdicts

pytestmark = pytest.mark.r

SCRIPTS = ("semantics.R", "errors.R", "names.R", "random.R")


@functools.cache
def said_by(run_r: RunR, script: str) -> str:
    return run_r(f"source({str(HERE / 'scripts' / script)!r})")


@pytest.mark.parametrize(
    ("script", "sentence"), [(script, sentence) for script in SCRIPTS for sentence in sentences(script)]
)
def test_a_loop(run_r: RunR, script: str, sentence: str) -> None:
    said = said_by(run_r, script)
    assert verdicts(said).get(sentence, said) == "ok"
