"""Who asked what: client, setup, tester, task and function are told apart, and written down where somebody wants it."""

from __future__ import annotations

import json
import os

import pytest

from cloudexec.errors import SettingsError
from cloudexec.testing import PocketAWS

ASK = "import boto3; boto3.client('{}').{}()"


def principals(aws, operation):
    return {record["principal"] for record in aws.recorded_requests() if record["operation"] == operation}


@pytest.mark.parametrize("who", ["client", "setup", "doctor", "tester"])
def test_a_session_signs_in_the_name_of_whom_it_is_asked_for(pocket, who):
    pocket.record_requests()
    pocket.session(who).client("sqs").list_queues()
    assert principals(pocket, "ListQueues") == {who}
    assert pocket.env_of(who).keys() == pocket.env.keys()


def test_a_session_is_the_testers_and_the_environment_is_the_clients(pocket):
    import boto3

    pocket.record_requests()
    pocket.session().client("sqs").list_queues()
    boto3.client("s3").list_buckets()
    assert principals(pocket, "ListQueues") == {"tester"}
    assert principals(pocket, "ListBuckets") == {"client"}


def test_tasks_and_functions_have_names_of_their_own(pocket, drive, functions):
    pocket.record_requests()
    task = drive.run("python", "-c", ASK.format("s3", "list_buckets"))
    drive.until(task, "STOPPED")
    pocket.make_function(
        "asks",
        handler="asks.now",
        files={"asks.py": f"def now(event, context):\n    {ASK.format('sqs', 'list_queues')}\n"},
        timeout=20,
    )
    drive.client("lambda").invoke(FunctionName="asks")
    assert principals(pocket, "ListBuckets") == {"task"}
    assert principals(pocket, "ListQueues") == {"function"}


def test_nobody_else_can_be_asked_for(pocket):
    with pytest.raises(SettingsError, match="nobody is called 'root'"):
        pocket.env_of("root")


def test_a_server_writes_down_what_everybody_has_asked_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUDEXEC_POCKET_RECORD", str(tmp_path))
    with PocketAWS() as aws:
        aws.session("setup").client("sqs").list_queues()
        aws.reset()  # it counts anew, and forgets nothing of this
        aws.session("setup").client("sqs").list_queues()
        with aws.activated():
            assert os.environ["CLOUDEXEC_POCKET_RECORD"] == str(tmp_path)
        aws.session("client").client("s3").head_bucket(Bucket=aws.setup["bucket"])
    (written,) = tmp_path.iterdir()
    assert json.loads(written.read_text()) == {"setup": {"sqs:ListQueues": 2}, "client": {"s3:HeadBucket": 1}}
