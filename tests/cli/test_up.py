"""What `cloudexec up` is told wrongly ends in a sentence, before anything is asked of AWS."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudexec.cli.main import run
from cloudexec.cli.up import read_packages


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param(["numpy 'pandas<3'", "six"], ("numpy", "pandas<3", "six"), id="as a shell would"),
        pytest.param([""], (), id="no word at all"),
    ],
)
def test_packages_are_words(given: list[str], words: tuple[str, ...]):
    assert read_packages(given) == words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--packages", "numpy 'x"], "cannot be taken apart: No closing quotation", id="half a quotation"),
        pytest.param(["--packages", "numpy\\"], "cannot be taken apart: No escaped character", id="a last backslash"),
        pytest.param(["--requirements", "latin1.txt"], "latin1.txt is not UTF-8", id="another encoding"),
        pytest.param(["--parameters", "latin1.txt"], "latin1.txt does not hold parameters", id="parameters, too"),
    ],
)
def test_what_cannot_be_read_ends_with_code_2_and_a_remedy(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin1.txt").write_bytes("# Wälder\n".encode("latin1"))
    assert run(["up", "--print", *words]) == 2
    shown = capsys.readouterr()
    assert (shown.out, said in shown.err, "what to do:" in shown.err) == ("", True, True), shown.err
