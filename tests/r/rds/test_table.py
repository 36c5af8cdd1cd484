"""The conversion tables of the documentation come from the rows that are tested here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "conversions.py"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False, timeout=50)


def test_a_page_is_written_once_and_then_fresh(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- conversions: begin -->\nold\n<!-- conversions: end -->\nafter\n")
    assert run("--check", page).returncode == 1
    assert run(page).returncode == 0
    assert run("--check", page).returncode == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| `None` | `NULL` | the same |" in text
    assert "old" not in text


def test_a_page_without_a_place_says_so(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    done = run(page)
    assert done.returncode == 2
    assert "no place" in done.stderr
