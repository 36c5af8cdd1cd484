"""`cloudexec down`: everything goes that the stack and its runs have made, and nothing else."""

from __future__ import annotations

import json
import socket

import pytest

from cloudexec import ECSExecutor
from cloudexec.infra.runs.signs import SUMMARY_SILENT_S
from cloudexec.observe.summary import Client, RunSummary, summary_key
from tests.infra.stack.scene import ACCOUNT, BUCKET, OTHER_PYTHON, REGION, SMALL, Scene, up

READS_MINE = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::mine/*"}],
    }
)
BIG = ("--only", "ecs", "--python", OTHER_PYTHON)


def test_the_account_is_as_it_was_whatever_lies_in_the_stack(scene: Scene):
    before = scene.inventory()
    up(scene, *BIG, "--network", "new", "--builds")
    found, s3 = scene.resources(), scene.client("s3")
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for n in range(3):
        s3.put_object(Bucket=BUCKET, Key="cloudexec/runs/r-1/blobs/x", Body=b"1" * n)
    s3.put_object(Bucket=BUCKET, Key="holiday.jpg", Body=b"1")
    s3.delete_object(Bucket=BUCKET, Key="holiday.jpg")  # a mark, and a version
    sqs = scene.client("sqs")
    sqs.create_queue(QueueName="cloudexec-r-1-work", tags={"cloudexec:run": "r-1"})
    role = scene.client("iam").get_role(RoleName=found["TaskRole"])["Role"]["Arn"]
    container = {"name": "worker", "image": "mine:1", "memory": 512}
    scene.client("ecs").register_task_definition(
        family="cloudexec-worker-0123456789abcdef", taskRoleArn=role, containerDefinitions=[container]
    )

    asked = scene.run("down")
    assert asked.code == 3
    for words in (
        "3 objects of the kind 'runs'",
        "2 objects of the kind 'other objects'",
        "1 queues of runs",
        "1 task definitions of image=",
        f"Remove stack 'cloudexec' from account {ACCOUNT}, us-east-1? Repeat with --yes to do it.",
        "Nothing was removed.",
    ):
        assert words in asked.text
    assert scene.status() == "UPDATE_COMPLETE"
    assert scene.config.exists()

    said = scene.run("down", "--yes")
    assert said.code == 0, said.err
    assert scene.inventory() == before
    assert scene.client("ecs").list_task_definitions(status="INACTIVE")["taskDefinitionArns"] == []
    assert scene.status() == ""
    assert not scene.config.exists()
    again = scene.run("down", "--yes")
    assert (again.code, "nothing to remove" in again.text) == (0, True)


def test_neighbours_of_similar_names_stay(scene: Scene):
    up(scene, *BIG)
    up(scene, "--stack", "cloudexec-2", *SMALL)
    s3, sqs, ecs = scene.client("s3"), scene.client("sqs"), scene.client("ecs")
    s3.create_bucket(Bucket=f"{BUCKET}-backup")
    s3.put_object(Bucket=f"{BUCKET}-backup", Key="cloudexec/runs/r-1/run", Body=b"1")
    s3.put_object(Bucket=BUCKET, Key="cloudexec/runs/r-1/run", Body=b"1")
    # Of a run in another stack; with a name like ours and no tag; with the tag of another run.
    sqs.create_queue(QueueName="cloudexec-r-9-work", tags={"cloudexec:run": "r-9"})
    sqs.create_queue(QueueName="cloudexec-r-1-out")
    sqs.create_queue(QueueName="cloudexec-r-1-work", tags={"cloudexec:run": "r-2"})
    container = {"name": "worker", "image": "mine:1", "memory": 512}
    for family in ("cloudexec-worker-0123456789abcdef", "cloudexec-mine"):
        ecs.register_task_definition(family=family, containerDefinitions=[container])
    ecs.create_cluster(clusterName="cloudexec-mine")
    scene.client("logs").create_log_group(logGroupName="/cloudexec/cloudexec-mine")
    own = set(scene.resources().values())

    before = scene.inventory()
    assert scene.run("down", "--yes").code == 0
    gone = {each.partition(" ")[2] for each in before - scene.inventory()}
    assert gone - own == {f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/cloudexec"}  # its id in the stack is its name
    assert scene.status("cloudexec-2") == "UPDATE_COMPLETE"
    assert len(s3.list_objects_v2(Bucket=f"{BUCKET}-backup")["Contents"]) == 1


def test_it_refuses_while_a_run_is_alive(scene: Scene):
    up(scene, "--only", "ecs")  # of this Python: something runs
    with scene.as_shell("client"):
        quick = {"control_every_s": 0.2, "tell_after_s": 0.05, "beat_every_s": 1.0, "visibility_s": 10.0}
        executor = ECSExecutor(max_workers=1, tuning=quick)
        assert executor.submit(pow, 2, 5).result() == 32
        run_id = executor.run.id
    said = scene.run("down", "--yes")
    assert said.code == 3
    assert f"run {run_id} has workers in cluster" in said.text
    assert "`cloudexec stop RUN`; --force ends them all" in said.text
    assert scene.config.exists()

    scene.aws.faults.throttle("ecs", "StopTask", times=1)  # nobody but us would repeat it
    forced = scene.run("down", "--yes", "--force")
    assert forced.code == 0, forced.err
    assert len(scene.aws.faults.fired("throttle")) == 1
    assert "Stopping 1 workers" in forced.text
    assert [queue.name for queue in scene.aws.queues()] == []
    assert [task.state for task in scene.aws.tasks()] == ["STOPPED"]
    executor.shutdown(wait=False, cancel_futures=True)


def test_a_fresh_heartbeat_is_a_run_and_an_old_summary_is_none(scene: Scene):
    up(scene, *SMALL)
    s3 = scene.client("s3")
    write_summary(scene, "r-1", state="done")
    s3.put_object(Bucket=BUCKET, Key="cloudexec/runs/r-2/control", Body=b"x")
    said = scene.run("down", "--yes")
    assert said.code == 3
    assert "1 runs are alive: run r-2 has a client: its heartbeat is fresh" in said.text
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    s3.delete_object(Bucket=BUCKET, Key="cloudexec/runs/r-2/control")  # a mark that is fresh, too
    assert scene.run("down", "--yes").code == 0


def test_a_run_on_lambda_is_alive_while_its_client_writes_its_summary(scene: Scene):
    up(scene, *SMALL)
    ended = f"{socket.gethostname()}/{2**22 + 1}/1"  # Linux has no process of such a number
    write_summary(scene, "r-1")
    write_summary(scene, "r-2", state="done")
    write_summary(scene, "r-3", client=Client(process=ended))
    write_summary(scene, "r-4", prefix="ours")
    scene.client("s3").put_object(Bucket=BUCKET, Key="cloudexec/summaries/r-5.json", Body=b"{}")
    said = scene.run("down", "--yes")
    assert said.code == 3
    for words in ("3 runs", "run r-1 has a client: it wrote its summary", "run r-4 has", "run r-5 may have a client"):
        assert words in said.text

    # Eleven minutes later, by the clock of S3; what is so old is not even read.
    scene.aws.faults.clock(SUMMARY_SILENT_S + 1, service="s3")
    scene.aws.forget_requests()
    assert scene.run("down", "--yes").code == 0
    assert scene.aws.requests().get(("s3", "GetObject"), 0) == 0


def write_summary(
    scene: Scene, run_id: str, *, state: str = "running", client: Client | None = None, prefix: str = "cloudexec"
) -> None:
    """That of a run on Lambda, written now."""
    times = {"begun_s": 1.7e9, "updated_s": 1.7e9}  # nobody goes by what a client's clock says
    said = RunSummary(run_id=run_id, backend="lambda", state=state, client=client or Client(), **times)
    scene.client("s3").put_object(Bucket=BUCKET, Key=summary_key(prefix, run_id), Body=said.to_json())


def test_a_strangers_task_in_the_cluster_is_not_stopped(scene: Scene):
    up(scene, "--only", "ecs", "--python", OTHER_PYTHON)
    ecs, found = scene.client("ecs"), scene.resources()
    stubborn = ["sh", "-c", "trap '' TERM; sleep 60"]
    container = {"name": "sleep", "image": "x", "memory": 512, "command": stubborn, "stopTimeout": 10}
    ecs.register_task_definition(
        family="theirs",
        containerDefinitions=[container],
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
    )
    subnet = scene.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    network = {"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": [found["SecurityGroup"]]}}
    started = ecs.run_task(
        cluster="cloudexec", taskDefinition="theirs", launchType="FARGATE", networkConfiguration=network
    )
    scene.aws.faults.throttle("ecs", "ListTasks", times=1)
    said = scene.run("down", "--yes", "--force")
    assert (said.code, "was not started by cloudexec" in said.text) == (2, True)
    assert [task.desired for task in scene.aws.tasks()] == ["RUNNING"]
    assert scene.status() == "UPDATE_COMPLETE"

    # Told to stop by its owner it takes a while, and is waited for: a cluster with tasks that stop is not removed.
    ecs.stop_task(cluster="cloudexec", task=started["tasks"][0]["taskArn"])
    assert [task.state for task in scene.aws.tasks()] != ["STOPPED"]
    assert scene.run("down", "--yes").code == 0
    assert [task.state for task in scene.aws.tasks()] == ["STOPPED"]


def test_what_cannot_be_removed_is_named_and_the_rest_can_be_repeated(scene: Scene):
    before = scene.inventory()
    up(scene, *SMALL)
    policy = scene.resources()["ClientPolicy"]
    attached = "Cannot delete a policy attached to entities. (Service: Iam, Status Code: 409, Request ID: 0a)"
    rule = scene.aws.faults.fail_resource("ClientPolicy", on="delete", reason=attached, times=None)
    said = scene.run("down", "--yes")
    assert said.code == 1
    assert "stack 'cloudexec' is not removed: ClientPolicy (AWS::IAM::ManagedPolicy)" in said.text
    assert f"aws iam list-entities-for-policy --policy-arn {policy}" in said.text
    assert scene.status() == "DELETE_FAILED"
    scene.aws.faults.clear(rule)
    assert scene.run("down", "--yes").code == 0
    assert scene.inventory() == before


def test_what_iam_holds_is_told_before_anything_is_touched(scene: Scene):
    before = scene.inventory()
    up(scene, *SMALL)
    iam, found = scene.client("iam"), scene.resources()
    iam.create_user(UserName="alice")
    iam.attach_user_policy(UserName="alice", PolicyArn=found["ClientPolicy"])
    iam.put_role_policy(RoleName=found["FunctionRole"], PolicyName="my-data", PolicyDocument=READS_MINE)
    iam.attach_role_policy(RoleName=found["FunctionRole"], PolicyArn=found["ClientPolicy"])
    said = scene.run("down", "--yes")
    assert said.code == 2
    detached = f"detach-role-policy --role-name {found['FunctionRole']} --policy-arn {found['ClientPolicy']}"
    for words in (
        "ClientPolicy is attached to user alice",
        f"aws iam detach-user-policy --user-name alice --policy-arn {found['ClientPolicy']}",
        f"aws iam delete-role-policy --role-name {found['FunctionRole']} --policy-name my-data",
    ):
        assert words in said.text
    assert said.text.count(detached) == 1  # seen from both sides, said once
    assert (scene.status(), len(scene.aws.objects(BUCKET))) == ("UPDATE_COMPLETE", 2)

    iam.detach_user_policy(UserName="alice", PolicyArn=found["ClientPolicy"])
    iam.detach_role_policy(RoleName=found["FunctionRole"], PolicyArn=found["ClientPolicy"])
    iam.delete_role_policy(RoleName=found["FunctionRole"], PolicyName="my-data")
    assert scene.run("down", "--yes").code == 0
    iam.delete_user(UserName="alice")
    assert scene.inventory() == before


def test_the_bucket_can_be_kept(scene: Scene):
    before = scene.inventory()
    up(scene, *SMALL)
    said = scene.run("down", "--yes", "--keep-bucket")
    assert said.code == 0, said.err
    assert f"Kept: bucket {BUCKET} with 2 objects" in said.text
    assert f"aws s3 rb s3://{BUCKET} --force" in said.text
    assert scene.inventory() - before == {f"bucket {BUCKET}"}
    assert len(scene.aws.objects(BUCKET)) == 2
    assert f"has a bucket '{BUCKET}' already" in scene.run("up", "--yes", *SMALL).text


@pytest.mark.parametrize("state", ["CREATE_FAILED", "REVIEW_IN_PROGRESS"])
def test_half_a_stack_goes_too(scene: Scene, state: str):
    before = scene.inventory()
    client = scene.client("cloudformation")
    text = json.dumps(json.loads(scene.run("up", "--print", "--format", "json", *SMALL).out))
    more = {
        "StackName": "cloudexec",
        "TemplateBody": text,
        "Capabilities": ["CAPABILITY_IAM"],
        "Parameters": [{"ParameterKey": "BucketName", "ParameterValue": BUCKET}],
        "Tags": [{"Key": "cloudexec:stack", "Value": "cloudexec"}],
    }
    if state == "CREATE_FAILED":
        scene.aws.faults.fail_resource("FunctionRole")
        client.create_stack(**more, OnFailure="DO_NOTHING")
        waiter = client.get_waiter("stack_create_complete")
        with pytest.raises(Exception, match="CREATE_FAILED"):
            waiter.wait(StackName="cloudexec", WaiterConfig={"Delay": 0.1})
    else:
        client.create_change_set(**more, ChangeSetName="x", ChangeSetType="CREATE")
    assert scene.status() == state
    said = scene.run("down", "--yes")
    assert said.code == 0, said.err
    assert scene.status() == ""
    assert scene.inventory() == before
