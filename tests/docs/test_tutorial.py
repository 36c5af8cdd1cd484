"""The tutorial, done as it says: its files saved, its commands run one after the other, in an account without anything.

The account is the pocket AWS that the page itself starts. A block that cannot run carries `snippet: skip because …`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from cloudexec.testing.pocket.settings import ACCESS_KEYS
from tests.docs.pages import ORDER, ROOT, fences

PAGE = ROOT / "docs" / "tutorial.md"
TITLE = re.compile(r'\btitle="([\w.]+)"')
STEP_LIMIT_S = 60
# One person does all of it here; the account's records tell the rights apart that each command needs.
PRINCIPALS = {"cloudexec up": "setup", "cloudexec down": "setup", "cloudexec doctor": "doctor"}
LIMIT_S = 180


@dataclass(frozen=True, kw_only=True)
class Step:
    """A block of the page: a file to save under its title, or, without one, commands to run."""

    line: int
    text: str
    title: str = ""


def steps() -> list[Step]:
    """What the page tells to do, in order."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    found = []
    for fence in fences(lines):
        text = "\n".join(lines[fence.first : fence.last - 1]) + "\n"
        order = ORDER.match(lines[fence.first - 2])
        if title := TITLE.search(lines[fence.first - 1]):
            found.append(Step(line=fence.first, text=text, title=title[1]))
        elif fence.language == "sh" and not (order and order["verb"] == "skip"):
            found.append(Step(line=fence.first, text=text))
    return found


@pytest.fixture
def account() -> Iterator[dict[str, str]]:
    """The environment variables that `python -m cloudexec.testing --empty` tells."""
    command = [sys.executable, "-m", "cloudexec.testing", "--empty", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        yield json.loads(served.stdout.readline())["env"]
        served.terminate()


def stacks(account: dict[str, str]) -> list[str]:
    client = boto3.client(
        "cloudformation",
        endpoint_url=account["AWS_ENDPOINT_URL"],
        region_name=account["AWS_REGION"],
        aws_access_key_id=ACCESS_KEYS["tester"],
        aws_secret_access_key=account["AWS_SECRET_ACCESS_KEY"],
    )
    return [stack["StackName"] for stack in client.describe_stacks()["Stacks"]]


def access_key(step: Step) -> str:
    """Whose command it is."""
    who = next((who for start, who in PRINCIPALS.items() if step.text.startswith(start)), "client")
    return ACCESS_KEYS[who]


@pytest.mark.containers
@pytest.mark.timeout(LIMIT_S)
def test_the_tutorial_leads_from_an_empty_account_to_results_and_out_again(account, tmp_path):
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {"PATH": path, "HOME": str(home), "PYTHONWARNINGS": "error", **account}
    assert stacks(account) == []

    said: dict[str, str] = {}
    for step in steps():
        if step.title:
            (work / step.title).write_text(step.text, encoding="utf-8")
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", step.text],
            env={**environment, "AWS_ACCESS_KEY_ID": access_key(step)},
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STEP_LIMIT_S,
            check=False,
        )
        told = done.stdout + done.stderr
        assert done.returncode == 0, f"docs/tutorial.md:{step.line}: {step.text}{told}"
        said[step.text.splitlines()[0]] = told
        if step.text.startswith("cloudexec up"):
            assert stacks(account) == ["cloudexec"]

    assert "squaring 5" in said["cloudexec runs"]  # by `cloudexec logs last` in the same block
    assert "pi is about 3.1" in said["python first.py"]
    assert sorted(re.findall(r"/\d+ (\d+) on", said["python second.py"]), key=int) == ["0", "1", "4", "9", "16", "25"]
    runs = said["cloudexec runs"]
    assert "first" in runs
    assert "second" in runs
    assert stacks(account) == []
