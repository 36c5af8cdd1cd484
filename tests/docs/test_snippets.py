"""Every python and pycon block of README.md and docs/ runs.

The blocks of a page run in order in one child process, in an empty directory; each block is a
test of its own. CONTRIBUTING.md tells how a block is skipped or expected to raise. A page that runs R says so:
without R its blocks are skipped, and in CI they fail.
"""

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT, Snippet, documentation, needs_r, snippets

RUN_PAGE = Path(__file__).with_name("run_page.py")
PAGE_LIMIT_S = 120


def blocks(page: Path) -> Iterator[Any]:
    """The blocks of a page, each a parameter of the test."""
    text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()
    marks = [pytest.mark.r] if needs_r(text) else []
    for snippet in snippets(text):
        yield pytest.param(page, snippet, id=f"{name}:{snippet.line}", marks=marks)


BLOCKS = [block for page in documentation() for block in blocks(page)]


@functools.cache
def problems_of(page: Path) -> tuple[dict[int, str], str]:
    """What went wrong in each block that ran, by line, and what the page printed."""
    with tempfile.TemporaryDirectory() as empty:
        report = Path(empty, "report.jsonl")
        command = [sys.executable, "-W", "error", str(RUN_PAGE), str(page), str(report)]
        work = Path(empty, "work")
        work.mkdir()
        try:
            done = subprocess.run(
                command,
                cwd=work,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PAGE_LIMIT_S,
                check=False,
            )
            printed = f"{done.stdout}{done.stderr}(exit code {done.returncode})"
            crashed = done.returncode != 0
        except subprocess.TimeoutExpired as late:
            printed = f"the page took longer than {PAGE_LIMIT_S} s\n{late.stdout or ''}{late.stderr or ''}"
            crashed = True
        lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
        problems = {row["line"]: row["problem"] for row in map(json.loads, lines)}
        if crashed and problems and not any(problems.values()):
            problems[max(problems)] = "the page ended badly after this block"
        return problems, printed


@pytest.mark.timeout(PAGE_LIMIT_S + 30)
@pytest.mark.parametrize(("page", "snippet"), BLOCKS)
def test_snippet_runs(page: Path, snippet: Snippet):
    if snippet.skipped_because:
        pytest.skip(snippet.skipped_because)
    problems, printed = problems_of(page)
    place = f"{page.relative_to(ROOT)}:{snippet.line}"
    if snippet.line not in problems:
        pytest.fail(f"{place}: not reached or not finished\n{printed}", pytrace=False)
    if problems[snippet.line]:
        pytest.fail(f"{place}:\n{problems[snippet.line]}\n{printed}", pytrace=False)
