"""The pages of the reference that follow from the code are those that the code makes now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cloudexec.backends import aws_config
from tests.docs.pages import ROOT

REFERENCE = ROOT / "docs" / "reference"


def reference(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "reference.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_settings_and_commands_are_those_of_the_code():
    done = reference("--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_page_is_noticed_and_written_anew(tmp_path: Path):
    assert reference(tmp_path).returncode == 0
    page = tmp_path / "command-line.md"
    fresh = page.read_text(encoding="utf-8")
    page.write_text(fresh.replace("Ctrl-C", "Ctrl-D"), encoding="utf-8")

    stale = reference("--check", tmp_path)
    assert (stale.returncode, stale.stderr) == (1, "stale: command-line.md; run python scripts/reference.py\n")
    assert reference(tmp_path).returncode == 0
    assert page.read_text(encoding="utf-8") == fresh


def test_every_key_has_a_row_and_names_its_variable_only_if_it_is_read():
    rows = [line for line in (REFERENCE / "settings.md").read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
    assert len(rows) == len(aws_config.KEYS)
    for row, key in zip(rows, aws_config.KEYS, strict=True):
        assert row.startswith(f"| `{key}` |")
    assert "| `aws_profile` | – |" in "\n".join(rows)  # boto3's own variable is AWS_PROFILE
