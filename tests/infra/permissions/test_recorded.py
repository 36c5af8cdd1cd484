"""scripts/permissions.py: what was asked must be granted, and what is granted must have been asked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from cloudexec.infra.permissions.grants import GRANTS, Who

SCRIPT = Path(__file__).parents[3] / "scripts" / "permissions.py"


def check(folder, *words):
    command = [sys.executable, str(SCRIPT), "--check", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout


@pytest.fixture
def everything():
    """Everybody has asked once for each right of theirs."""
    asked = defaultdict(dict)
    for grant in GRANTS:
        if grant.who in (Who.CLIENT, Who.TASK, Who.FUNCTION, Who.SETUP):
            asked[grant.who.value].update(dict.fromkeys(grant.needed, 1))
    return asked


def write(folder, **asked):
    (folder / f"pocket-{len(list(folder.iterdir()))}.json").write_text(json.dumps(asked))


def test_who_asks_for_what_is_granted_is_content(tmp_path, everything):
    write(tmp_path, **everything)
    status, said = check(tmp_path)
    assert (status, said.splitlines()[0][:42]) == (0, "rights: 0 of them differ from what was ask")


@pytest.mark.parametrize(
    ("principal", "operation", "action"),
    [
        pytest.param("client", "ecs:CreateCluster", "ecs:CreateCluster", id="set-up's"),
        pytest.param("task", "sqs:DeleteQueue", "sqs:DeleteQueue", id="the client's"),
        pytest.param("function", "s3:DeleteObjects", "s3:DeleteObject", id="under another name"),
        pytest.param("setup", "lambda:Invoke", "lambda:InvokeFunction", id="set-up runs nothing"),
    ],
)
def test_an_action_without_a_row_is_told(tmp_path, everything, principal, operation, action):
    write(tmp_path, **everything)
    write(tmp_path, **{principal: {operation: 3}})
    status, said = check(tmp_path)
    assert status == 1
    assert f"{principal} asks {operation} (3 times), and has no row with {action}\n" in said


def test_a_right_that_nobody_needed_is_told_unless_only_some_tests_have_run(tmp_path, everything):
    del everything["client"]["ecs:StopTask"]
    write(tmp_path, **everything)
    status, said = check(tmp_path)
    assert status == 1
    assert "client may ecs:StopTask (to watch and stop them), and has never asked for it\n" in said
    assert check(tmp_path, "--some")[0] == 0


def test_a_doctor_has_the_rights_of_client_and_setup_and_testers_have_all(tmp_path, everything):
    write(tmp_path, **everything)
    write(tmp_path, doctor={"ecs:RunTask": 1, "servicequotas:GetServiceQuota": 1, "sts:GetCallerIdentity": 9})
    write(tmp_path, tester={"dynamodb:Scan": 1}, other={"s3:CreateBucket": 2})
    assert check(tmp_path)[0] == 0


def test_functions_may_invoke_functions_for_executors_inside_calls_as_their_owner_has_allowed(tmp_path, everything):
    write(tmp_path, **everything)
    write(tmp_path, function={"lambda:Invoke": 1, "lambda:GetFunctionConfiguration": 1})
    assert check(tmp_path)[0] == 0
    write(tmp_path, task={"lambda:Invoke": 1})
    assert check(tmp_path)[0] == 1


def test_records_of_nothing_are_no_proof(tmp_path):
    assert check(tmp_path, "--some")[0] == 1
