"""The server process: it starts, is alone in what it changes, and leaves nothing behind however it ends."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

import cloudexec
from cloudexec.errors import CloudexecError, SettingsError
from cloudexec.testing import PocketAWS
from tests.pocket.driving import Driver, python

SOURCES = str(Path(cloudexec.__file__).resolve().parents[1])


def is_alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until_dead(pids, within_s=15.0):
    """Wait until none of these processes runs."""
    deadline = time.monotonic() + within_s
    while alive := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < deadline, f"{alive} are still alive"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def other():
    """A pocket AWS of this module's own, with settings that differ; its tests stop none of its parts."""
    began = time.monotonic()
    images = {"greeter": ["echo", "hello"]}
    with PocketAWS(missing_for_s=0.5, keep_stopped_s=0.5, images=images, region="eu-central-1") as aws:
        print(f"the pocket AWS started in {time.monotonic() - began:.2f} s")
        yield aws


def test_a_new_task_is_missing_for_a_while_and_a_stopped_one_after_a_while(other):
    drive = Driver(other)
    arn = drive.run(*python("import time; time.sleep(1)"))

    def reasons():
        reply = drive.ecs.describe_tasks(cluster="cloudexec", tasks=[arn])
        return [failure["reason"] for failure in reply["failures"]]

    assert reasons() == ["MISSING"]
    assert drive.ecs.list_tasks(cluster="cloudexec")["taskArns"] == []
    time.sleep(0.6)
    drive.until(arn, "STOPPED")
    time.sleep(0.6)
    assert reasons() == ["MISSING"]
    with pytest.raises(ClientError, match="not found"):
        drive.stop(arn)


def test_an_image_has_the_entrypoint_it_was_given(other):
    drive = Driver(other)
    definition = drive.register({"name": "worker", "image": "greeter"})
    arn = drive.run("you", taskDefinition=definition)
    drive.until_logged(arn, "hello you")


def test_another_region_has_everything_ready_too(other):
    setup = other.ecs_setup()
    assert (setup["region"], setup["bucket"]) == ("eu-central-1", "cloudexec-123456789012-eu-central-1")
    assert other.session().client("s3").get_bucket_location(Bucket=setup["bucket"])["LocationConstraint"] == (
        "eu-central-1"
    )


def test_two_pockets_know_nothing_of_each_other(other, pocket):
    pocket.session().client("sqs").create_queue(QueueName="mine")
    assert [queue.name for queue in pocket.queues()] == ["mine"]
    assert other.queues() == []


def test_activate_points_boto3_at_it_and_gives_everything_back(other, monkeypatch):
    import boto3

    monkeypatch.setenv("AWS_PROFILE", "of-the-user")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9")
    with other.activated():
        assert "AWS_PROFILE" not in os.environ
        assert boto3.client("sqs").list_queues()["ResponseMetadata"]["HTTPStatusCode"] == 200
        with other.activated():
            pass
        assert os.environ["AWS_ENDPOINT_URL"] == other.endpoint_url
    assert os.environ["AWS_PROFILE"] == "of-the-user"
    assert os.environ["AWS_ENDPOINT_URL_SQS"] == "http://127.0.0.1:9"


def test_after_a_reset_it_is_as_at_the_start(drive):
    before = drive.aws.setup
    drive.run("sleep", "60")
    drive.queue()
    drive.s3.put_object(Bucket=drive.setup["bucket"], Key="k", Body=b"x")
    drive.aws.faults.throttle()
    assert len(drive.aws.leftovers()) == 3
    drive.aws.reset()
    assert drive.aws.leftovers() == []
    assert drive.aws.tasks() == []
    assert drive.aws.faults.fired() == []
    assert drive.aws.setup == before
    drive.run("true")


def test_requests_are_counted_and_their_headers_kept_on_demand(drive):
    drive.aws.record_requests()
    bucket = drive.setup["bucket"]
    drive.s3.put_object(Bucket=bucket, Key="k", Body=b"x", ExpectedBucketOwner="123456789012")
    drive.s3.get_object(Bucket=bucket, Key="k", ExpectedBucketOwner="123456789012")["Body"].read()
    drive.s3.list_objects_v2(Bucket=bucket)
    counts = {operation: n for (service, operation), n in drive.aws.requests().items() if service == "s3"}
    assert counts == {"PutObject": 1, "GetObject": 1, "ListObjectsV2": 1}
    owners = [record["headers"].get("x-amz-expected-bucket-owner") for record in drive.aws.recorded_requests()]
    assert owners == ["123456789012", "123456789012", None]
    drive.aws.record_requests(False)
    drive.aws.forget_requests()
    assert sum(drive.aws.requests().values()) == 0


def test_concurrent_writes_of_one_key_all_succeed(drive):
    from concurrent.futures import ThreadPoolExecutor

    def put(number):
        drive.s3.put_object(Bucket=drive.setup["bucket"], Key="one-key", Body=b"x" * number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(1, 65)))
    assert drive.aws.objects()["one-key"] in range(1, 65)


def test_a_connection_serves_many_requests_and_answers_expect_100(drive):
    host, _, port = drive.aws.endpoint_url.removeprefix("http://").partition(":")
    signature = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    headers = {"Host": "x", "Content-Length": 3, "Expect": "100-continue", "Authorization": signature}
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    head = f"PUT /{drive.setup['bucket']}/k HTTP/1.1\r\n{''.join(lines)}\r\n"
    with socket.create_connection((host, int(port)), 10) as raw, raw.makefile("rb") as answers:
        for body in (b"one", b"two"):
            raw.sendall(head.encode())
            assert answers.readline() == b"HTTP/1.1 100 Continue\r\n"
            assert answers.readline() == b"\r\n"
            raw.sendall(body)
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            headers = http.client.parse_headers(answers)
            answers.read(int(headers["Content-Length"]))
    assert drive.aws.objects() == {"k": 3}


STACK = {
    "Resources": {
        "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "of-the-stack"}},
        "Cluster": {"Type": "AWS::ECS::Cluster", "Properties": {"ClusterName": "of-the-stack"}},
        "Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "of-the-stack"}},
    }
}


def test_a_request_whose_client_dies_in_the_middle_was_never_asked(pocket):
    pocket.forget_requests()
    host, port = pocket.endpoint_url.removeprefix("http://").split(":")
    signed = "Authorization: AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/cloudformation/aws4_request, S=, S=\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"POST / HTTP/1.1\r\nHost: x\r\n{signed}Content-Length: 90\r\n\r\nAct".encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert pocket.requests().total() == 0


def test_what_a_cloudformation_stack_makes_can_be_used(drive):
    stacks = drive.client("cloudformation")
    stacks.create_stack(StackName="a-stack", TemplateBody=json.dumps(STACK))
    stacks.get_waiter("stack_create_complete").wait(StackName="a-stack", WaiterConfig={"Delay": 0.05})
    names = {r["LogicalResourceId"] for r in stacks.describe_stack_resources(StackName="a-stack")["StackResources"]}
    assert names == {"Queue", "Cluster", "Bucket"}
    url = drive.sqs.get_queue_url(QueueName="of-the-stack")["QueueUrl"]
    drive.sqs.send_message(QueueUrl=url, MessageBody="x")
    drive.run("true", cluster="of-the-stack")
    drive.s3.put_object(Bucket="of-the-stack", Key="k", Body=b"")


# --- ends ------------------------------------------------------------------------------------

BUSY = """
import sys, time
from cloudexec.testing import PocketAWS
from tests.pocket.driving import Driver, python
aws = PocketAWS().start()
drive = Driver(aws)
code = '''
import subprocess, sys, time
print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True).pid)
time.sleep(600)
'''
arn = drive.run(*python(code))
drive.until_logged(arn, '\\n')
task = aws.task(arn)
print(aws.pid, task.pid, task.log.strip(), task.env['HOME'], flush=True)
"""


def busy_program(rest):
    """A program with a pocket AWS and a task in it; it goes on with `rest` after it has told their pids and home."""
    program = subprocess.Popen([sys.executable, "-c", BUSY + rest], stdout=subprocess.PIPE, text=True, env=with_paths())
    words = program.stdout.readline().split()
    return program, [int(word) for word in words[:3]], Path(words[3])


def with_paths():
    """An environment in which cloudexec and these tests can be imported."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([SOURCES, os.getcwd()])}


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("aws.close()", id="it is closed"),
        pytest.param("sys.exit()", id="nobody closes it, the program ends"),
        pytest.param("import os; os.kill(os.getpid(), 9)", id="the program is killed"),
        pytest.param("import os; os.kill(aws.pid, 9); time.sleep(600)", id="the server itself is killed"),
    ],
)
def test_nothing_is_left_when(rest):
    program, pids, home = busy_program(rest)
    with program:
        until_dead(pids)
        if home.exists():  # the warden removes it last
            deadline = time.monotonic() + 10
            while home.exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
        program.kill()


def test_a_port_that_is_taken_is_said(other):
    port = int(other.endpoint_url.rpartition(":")[2])
    with pytest.raises(CloudexecError, match=r"did not start.*Address already in use"):
        PocketAWS(port=port).start()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"containers": "docker"}, "docker"),
        ({"stop_scale": -1}, "stop_scale"),
        ({"images": {"a": "echo"}}, "images"),
        ({"no_such_setting": 1}, "no_such_setting"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, word):
    with pytest.raises(SettingsError, match=word):
        PocketAWS(**changes)


def test_without_moto_the_remedy_is_named():
    bare = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
    if sys.prefix == sys.base_prefix or not bare.exists():
        pytest.skip("needs a Python without packages, the one below a virtual environment")
    code = "from cloudexec.testing import PocketAWS; PocketAWS().start()"
    done = subprocess.run([bare, "-c", code], env={"PYTHONPATH": SOURCES}, capture_output=True, text=True, check=False)
    assert "pip install 'cloudexec[testing]'" in done.stderr


# --- for a shell, for pytest -----------------------------------------------------------------


def test_the_command_serves_a_shell_until_ctrl_c():
    command = [sys.executable, "-m", "cloudexec.testing"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=with_paths()) as served:
        lines = []
        while not (lines and "Ctrl-C" in lines[-1]):
            lines.append(served.stdout.readline())
            assert lines[-1]
        exports = "".join(lines)
        code = 'import boto3; print(boto3.client("ecs").list_clusters()["clusterArns"])'
        ask = f"{exports}\n{sys.executable} -c '{code}'"
        told = subprocess.run(["sh", "-c", ask], capture_output=True, text=True, check=True).stdout
        assert told == "['arn:aws:ecs:us-east-1:123456789012:cluster/cloudexec']\n"
        code = "from cloudexec import ECSExecutor as E\nwith E() as executor: print(executor.submit(abs, -3).result())"
        ask = f"{exports}\n{sys.executable} -c '{code}'"
        told = subprocess.run(["sh", "-c", ask], capture_output=True, text=True, check=True).stdout
        assert told == "3\n"
        served.send_signal(signal.SIGINT)
        assert served.wait(15) == 0


def test_the_command_speaks_json_to_programs():
    command = [sys.executable, "-m", "cloudexec.testing", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=with_paths()) as served:
        told = json.loads(served.stdout.readline())
        assert told["env"]["AWS_ENDPOINT_URL"] == told["setup"]["endpoint_url"]
        assert told["setup"]["cluster"] == "cloudexec"
        served.terminate()
        assert served.wait(15) == 0


def test_the_command_gives_an_empty_account_a_configuration_file_of_its_own():
    command = [sys.executable, "-m", "cloudexec.testing", "--empty", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=with_paths()) as served:
        env = json.loads(served.stdout.readline())["env"]
        config = Path(env["CLOUDEXEC_CONFIG"])
        assert config.read_text() == ""
        assert [name for name in env if name.startswith("CLOUDEXEC_")] == ["CLOUDEXEC_CONFIG"]
        served.terminate()
        assert served.wait(15) == 0
    assert not config.exists()


SUITE = """
import sys

def test_costs_nothing_when_unused():
    assert "moto" not in sys.modules
    assert "cloudexec.testing.pocket" not in sys.modules

def test_ecs(pocket, ecs_settings):
    import boto3
    task = boto3.client("ecs").run_task(
        cluster=ecs_settings["cluster"],
        taskDefinition=ecs_settings["task_definition"],
        launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": {"subnets": ecs_settings["subnets"]}},
    )["tasks"][0]
    assert pocket.tasks()[0].arn == task["taskArn"]

def test_the_next_test_finds_it_empty(pocket):
    assert pocket.tasks() == []
"""


def test_a_users_suite_gets_the_fixtures_from_the_plugin(tmp_path):
    (tmp_path / "test_theirs.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_theirs.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_a_region_that_is_none_has_no_host(pocket):
    client = pocket.session().client("ecs", region_name="us-esat-1", config=Config(retries={"total_max_attempts": 1}))
    with pytest.raises(ConnectionClosedError):
        client.list_clusters()
