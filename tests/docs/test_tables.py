"""The computed tables of the documentation are those that the code computes now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "lambda.md"


def tables(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "tables.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_pages_have_the_tables_that_are_computed_now():
    done = tables("--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_table_is_noticed_and_written_anew(tmp_path: Path):
    text = PAGE.read_text(encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(text.replace("| 10,000 | 1 s |", "| 10,000 | 2 s |"), encoding="utf-8")

    stale = tables("--check", page)
    assert (stale.returncode, "stale" in stale.stderr) == (1, True)
    assert tables(page).returncode == 0
    assert page.read_text(encoding="utf-8") == text


def test_a_page_without_a_table_or_with_an_unknown_one_is_refused(tmp_path: Path):
    page = tmp_path / "page.md"
    for text in ("nothing\n", "<!-- table: weather -->\n<!-- end of table -->\n"):
        page.write_text(text, encoding="utf-8")
        assert tables("--check", page).returncode == 2


def test_the_page_on_r_has_the_conversions_that_are_tested_now():
    pytest.importorskip("pandas")
    command = [sys.executable, str(ROOT / "scripts" / "conversions.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_page_on_permissions_has_the_rows_that_are_granted_now(tmp_path: Path):
    command = [sys.executable, str(ROOT / "scripts" / "permissions.py"), "--tables", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")

    text = (ROOT / "docs" / "permissions.md").read_text(encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(text.replace("`s3:PutObject`", "`s3:*`"), encoding="utf-8")
    stale = subprocess.run([*command, "--page", str(page)], capture_output=True, text=True, timeout=30, check=False)
    assert (stale.returncode, "stale" in stale.stderr) == (1, True)
