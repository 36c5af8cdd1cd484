"""What a container finds around it: environment, credentials, metadata, logs, memory, neighbours."""

import json
import os
import sys
import time

import pytest

from tests.pocket.driving import python

SHOW = "import json, os; print(json.dumps({'env': dict(os.environ), 'cwd': os.getcwd()}))"


def seen_by(drive, *command, **more):
    """What a task that prints one line of JSON has printed."""
    arn = drive.run(*command, **more)
    task = drive.until(arn, "STOPPED")
    log = drive.aws.task(arn).log
    assert task["containers"][0]["exitCode"] == 0, log
    return json.loads(log)


def test_a_container_has_a_clean_environment_and_a_directory_of_its_own(drive, monkeypatch):
    monkeypatch.setenv("A_SECRET_OF_THE_USER", "x")
    seen = seen_by(drive, *python(SHOW), environment={"OF_THE_OVERRIDE": "y"})
    assert "A_SECRET_OF_THE_USER" not in seen["env"]
    assert "AWS_ACCESS_KEY_ID" not in seen["env"]
    assert seen["env"]["OF_THE_OVERRIDE"] == "y"
    assert seen["env"]["AWS_ENDPOINT_URL"] == drive.aws.endpoint_url
    assert seen["env"]["AWS_REGION"] == "us-east-1"
    assert seen["env"]["HOME"] == seen["cwd"] != os.getcwd()


def test_the_directory_of_a_task_is_gone_when_it_has_stopped(drive):
    cwd = seen_by(drive, *python(SHOW))["cwd"]
    deadline = time.monotonic() + 5
    while os.path.exists(cwd):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_python_is_the_interpreter_of_the_pocket_with_cloudexec_and_boto3(drive):
    code = "import boto3, cloudexec, json, sys; print(json.dumps(sys.version_info[:3]))"
    assert seen_by(drive, *python(code)) == list(sys.version_info[:3])


def test_the_environment_of_the_definition_is_overridden_by_that_of_the_request(drive):
    environment = [{"name": "A", "value": "definition"}, {"name": "B", "value": "definition"}]
    definition = drive.register({"name": "worker", "environment": environment})
    seen = seen_by(drive, *python(SHOW), taskDefinition=definition, environment={"B": "request"})
    assert (seen["env"]["A"], seen["env"]["B"]) == ("definition", "request")


def test_boto3_in_a_task_finds_its_credentials_by_itself(drive):
    code = f"""
import boto3, json
session = boto3.Session()
keys = session.get_credentials()
session.client('s3').put_object(Bucket={drive.setup["bucket"]!r}, Key='from-the-task', Body=b'x')
print(json.dumps([keys.method, keys.access_key, bool(keys.token)]))
"""
    method, access_key, has_token = seen_by(drive, *python(code))
    assert (method, access_key[:4], has_token) == ("container-role", "ASIA", True)
    assert drive.aws.objects() == {"from-the-task": 1}


def test_a_task_without_a_role_has_no_credentials(drive):
    definition = drive.register({"name": "worker"})
    seen = seen_by(drive, *python(SHOW), taskDefinition=definition)
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" not in seen["env"]


def test_the_metadata_endpoint_tells_a_task_about_itself(drive):
    code = """
import os, urllib.request
print(urllib.request.urlopen(os.environ['ECS_CONTAINER_METADATA_URI_V4'] + '%s').read().decode())
"""
    arn = drive.run(*python(code % "/task"))
    drive.until(arn, "STOPPED")
    told = json.loads(drive.aws.task(arn).log)
    assert told["TaskARN"] == arn
    assert (told["Family"], told["Revision"], told["LaunchType"]) == ("cloudexec-worker", "1", "FARGATE")
    assert (told["AvailabilityZone"], told["Limits"]) == ("us-east-1a", {"CPU": 1.0, "Memory": 2048})
    assert told["Cluster"].endswith(":cluster/cloudexec")
    assert [container["Name"] for container in told["Containers"]] == ["worker"]
    assert seen_by(drive, *python(code % ""))["Name"] == "worker"


def test_lines_arrive_in_cloudwatch_logs(drive):
    arn = drive.run(*python("import sys; print('one'); print('two', file=sys.stderr)"))
    drive.until(arn, "STOPPED")
    stream = f"cloudexec/worker/{arn.rpartition('/')[2]}"
    events = drive.client("logs").get_log_events(logGroupName="/ecs/cloudexec", logStreamName=stream)["events"]
    assert [event["message"] for event in events] == ["one", "two"]


LOGS = {"awslogs-group": "/nobody/made/it", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "p"}


@pytest.mark.parametrize("creates", [False, True])
def test_a_log_group_that_is_not_there(drive, creates):
    options = {**LOGS, **({"awslogs-create-group": "true"} if creates else {})}
    container = {"name": "worker", "logConfiguration": {"logDriver": "awslogs", "options": options}}
    definition = drive.register(container, executionRoleArn="arn:aws:iam::123456789012:role/x")
    task = drive.until(drive.run("true", taskDefinition=definition), "STOPPED")
    if creates:
        assert task["containers"][0]["exitCode"] == 0
    else:
        assert task["stopCode"] == "TaskFailedToStart"
        assert task["stoppedReason"].startswith("ResourceInitializationError")


def test_what_grows_above_its_memory_is_killed_and_the_reason_says_so(drive):
    definition = drive.register({"name": "worker", "memory": 128})
    arn = drive.run(*python("x = b'x' * 300_000_000; import time; time.sleep(60)"), taskDefinition=definition)
    container = drive.until(arn, "STOPPED")["containers"][0]
    assert container["exitCode"] == 137
    assert container["reason"] == "OutOfMemoryError: container killed due to memory usage"


def test_out_of_memory_kills_the_biggest_process_and_the_others_go_on(drive):
    code = """
import subprocess, sys
child = subprocess.run([sys.executable, '-c', "x = b'x' * 300_000_000; import time; time.sleep(60)"])
print(child.returncode)
"""
    definition = drive.register({"name": "worker", "memory": 128})
    arn = drive.run(*python(code), taskDefinition=definition)
    container = drive.until(arn, "STOPPED")["containers"][0]
    assert drive.aws.task(arn).log == "-9\n"
    assert container["exitCode"] == 0


def test_what_memory_has_killed_is_counted_as_the_kernel_counts(drive):
    code = """
import os, subprocess, sys
for _ in range(2):
    subprocess.run([sys.executable, '-c', "x = b'x' * 300_000_000; import time; time.sleep(60)"])
    print(open(os.environ["CLOUDEXEC_MEMORY_EVENTS"]).read(), end="")
"""
    arn = drive.run(*python(code), taskDefinition=drive.register({"name": "worker", "memory": 128}))
    drive.until(arn, "STOPPED")
    assert drive.aws.task(arn).log == "oom_kill 1\noom_kill 2\n"


def test_a_side_container_may_end_first_and_ends_with_the_essential_one(drive):
    sleeper = {"name": "sleeper", "essential": False, "command": ["sleep", "60"]}
    quick = {"name": "quick", "essential": False, "command": python("raise SystemExit(4)")}
    definition = drive.register({"name": "worker"}, sleeper, quick)
    arn = drive.run(*python("import time; time.sleep(0.5)"), taskDefinition=definition)
    task = drive.until(arn, "STOPPED")
    assert task["stopCode"] == "EssentialContainerExited"
    codes = {container["name"]: container["exitCode"] for container in task["containers"]}
    assert codes == {"worker": 0, "sleeper": 143, "quick": 4}


def test_an_image_has_the_entrypoint_that_was_given_for_it(drive):
    definition = drive.register({"name": "worker", "entryPoint": ["echo", "from the definition:"]})
    arn = drive.run("hello", taskDefinition=definition)
    drive.until(arn, "STOPPED")
    assert drive.aws.task(arn).log == "from the definition: hello\n"
