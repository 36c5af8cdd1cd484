"""A task's way from RunTask to STOPPED, as boto3 sees it."""

import os
import time

import pytest
from botocore.exceptions import ClientError

from tests.pocket.driving import FARGATE, SPOT, code_of, python


def test_a_task_really_runs_its_command(drive):
    arn = drive.run(*python("print(6 * 7)"))
    task = drive.until(arn, "STOPPED")
    assert drive.aws.task(arn).log == "42\n"
    assert task["containers"][0]["exitCode"] == 0
    assert (task["stopCode"], task["stoppedReason"]) == (
        "EssentialContainerExited",
        "Essential container in task exited",
    )


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        pytest.param("raise SystemExit(3)", 3, id="its own exit code"),
        pytest.param("1 / 0", 1, id="an exception"),
        pytest.param("import os; os.kill(os.getpid(), 9)", 137, id="SIGKILL: 128 + 9, as Docker has it"),
        pytest.param("import os; os.abort()", 134, id="SIGABRT: 128 + 6"),
    ],
)
def test_the_exit_code_arrives(drive, code, exit_code):
    task = drive.until(drive.run(*python(code)), "STOPPED")
    assert task["containers"][0]["exitCode"] == exit_code
    assert "reason" not in task["containers"][0]


def test_a_task_passes_through_its_states_in_order_with_a_time_for_each(drive):
    arn = drive.run(*python("print('there'); import time; time.sleep(60)"))
    assert drive.describe(arn)["lastStatus"] in ("PROVISIONING", "PENDING", "ACTIVATING", "RUNNING")
    running = drive.until(arn, "RUNNING")
    assert running["desiredStatus"] == "RUNNING"
    assert running["containers"][0]["lastStatus"] == "RUNNING"
    drive.until_logged(arn, "there")
    drive.stop(arn, reason="enough")
    stopped = drive.until(arn, "STOPPED")
    order = (
        "createdAt",
        "pullStartedAt",
        "pullStoppedAt",
        "startedAt",
        "stoppingAt",
        "executionStoppedAt",
        "stoppedAt",
    )
    times = [stopped[name] for name in order]
    assert times == sorted(times)
    assert stopped["version"] > running["version"]
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("UserInitiated", "enough")


def test_a_task_tells_what_it_was_asked_for(drive):
    tags = [{"key": "cloudexec:run", "value": "r1"}]
    arn = drive.run(*python("pass"), startedBy="run/r1", tags=tags, group="a-group")
    task = drive.describe(arn)
    assert (task["startedBy"], task["group"], task["tags"]) == ("run/r1", "a-group", tags)
    assert (task["cpu"], task["memory"], task["launchType"]) == ("1024", "2048", "FARGATE")
    assert task["overrides"]["containerOverrides"][0]["command"] == python("pass")


def test_stop_task_sends_sigterm_and_the_handlers_exit_code_is_kept(drive):
    code = """
import signal, sys
def leave(*args): print('leaving'); sys.exit(7)
signal.signal(signal.SIGTERM, leave)
print('ready')
signal.pause()
"""
    arn = drive.run(*python(code))
    drive.until_logged(arn, "ready")
    assert drive.stop(arn)["desiredStatus"] == "STOPPED"
    assert drive.until(arn, "STOPPED")["containers"][0]["exitCode"] == 7
    assert drive.aws.task(arn).log == "ready\nleaving\n"


def test_who_ignores_sigterm_is_killed_after_stop_timeout(drive):
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready')\nwhile 1: signal.pause()"
    arn = drive.run(*python(code))
    drive.until_logged(arn, "ready")
    began = time.monotonic()
    drive.stop(arn)
    task = drive.until(arn, "STOPPED")
    assert time.monotonic() - began >= 1.5  # 30 s at the scale of these tests
    assert task["containers"][0]["exitCode"] == 137


def test_sigterm_reaches_the_main_process_alone(drive):
    code = """
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, '-uc', '''
import signal, time
signal.signal(signal.SIGTERM, lambda *a: print('the child heard it'))
print('child ready')
while 1: signal.pause()
'''])
signal.signal(signal.SIGTERM, lambda *a: sys.exit(5))
child.wait()
"""
    arn = drive.run(*python(code))
    drive.until_logged(arn, "child ready")
    drive.stop(arn)
    drive.until(arn, "STOPPED")
    assert drive.aws.task(arn).log == "child ready\n"


def test_when_the_main_process_ends_all_others_end_even_in_sessions_of_their_own(drive):
    code = """
import subprocess, sys
for new_session in (False, True):
    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=new_session)
    print(child.pid)
"""
    arn = drive.run(*python(code))
    drive.until(arn, "STOPPED")
    pids = [int(word) for word in drive.aws.task(arn).log.split()]
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_task_that_is_stopped_before_it_started_has_run_nothing(drive):
    drive.aws.faults.never_start(times=1)
    arn = drive.run(*python("print('no')"))
    drive.until(arn, "PENDING")
    drive.stop(arn)
    task = drive.until(arn, "STOPPED")
    assert "exitCode" not in task["containers"][0]
    assert "startedAt" not in task
    assert drive.aws.task(arn).log == ""


def test_a_command_that_is_not_there_fails_to_start_with_a_reason(drive):
    task = drive.until(drive.run("no-such-program"), "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart"
    assert "CannotStartContainerError" in task["stoppedReason"]
    assert "no-such-program" in task["stoppedReason"]


def test_a_client_token_starts_its_tasks_once(drive):
    wanted = drive.request(python("print('once')"), clientToken="a-token", count=2)
    first, second = drive.ecs.run_task(**wanted), drive.ecs.run_task(**wanted)
    arns = [[task["taskArn"] for task in reply["tasks"]] for reply in (first, second)]
    assert arns[0] == arns[1]
    assert len(drive.aws.tasks()) == 2


def test_a_client_token_with_other_parameters_is_a_conflict_that_names_the_tasks(drive):
    arn = drive.run(*python("pass"), clientToken="a-token")
    with pytest.raises(ClientError) as error:
        drive.run(*python("print('other')"), clientToken="a-token")
    assert code_of(error) == "ConflictException"
    assert error.value.response["resourceIds"] == [arn]


def test_many_tasks_of_one_request_run_at_the_same_time(drive):
    reply = drive.ecs.run_task(**drive.request(python("print('x')"), count=10))
    arns = [task["taskArn"] for task in reply["tasks"]]
    assert len(set(arns)) == 10
    assert [drive.until(arn, "STOPPED")["containers"][0]["exitCode"] for arn in arns] == [0] * 10


def test_list_tasks_filters_by_who_started_them_and_by_desired_state(drive):
    living = [drive.run("sleep", "60", startedBy="mine") for _ in range(3)]
    others = drive.run("sleep", "60", startedBy="theirs")
    done = drive.run("true", startedBy="mine")
    drive.until(done, "STOPPED")

    def listed(**filters):
        pages = drive.ecs.get_paginator("list_tasks").paginate(cluster="cloudexec", **filters)
        return {arn for page in pages for arn in page["taskArns"]}

    assert listed(startedBy="mine") == set(living)
    assert listed(startedBy="mine", PaginationConfig={"PageSize": 2}) == set(living)
    assert listed(family="cloudexec-worker") == {*living, others}
    assert listed(startedBy="mine", desiredStatus="STOPPED") == {done}
    assert listed(desiredStatus="PENDING") == set()
    with pytest.raises(ClientError):
        listed(startedBy="mine", family="cloudexec-worker")


def test_tags_of_a_task_can_be_read_added_and_removed(drive):
    arn = drive.run("sleep", "60", tags=[{"key": "a", "value": "1"}])
    drive.ecs.tag_resource(resourceArn=arn, tags=[{"key": "b", "value": "2"}])
    drive.ecs.untag_resource(resourceArn=arn, tagKeys=["a"])
    tags = drive.ecs.list_tags_for_resource(resourceArn=arn)["tags"]
    assert tags == drive.describe(arn)["tags"] == [{"key": "b", "value": "2"}]


def test_describe_clusters_counts_what_runs(drive):
    drive.until(drive.run("sleep", "60"), "RUNNING")
    cluster = drive.ecs.describe_clusters(clusters=["cloudexec"])["clusters"][0]
    assert (cluster["runningTasksCount"], cluster["pendingTasksCount"]) == (1, 0)


def test_a_task_says_which_capacity_provider_it_runs_on(drive):
    strategy = [
        {"capacityProvider": "FARGATE", "base": 1, "weight": 0},
        {"capacityProvider": "FARGATE_SPOT", "weight": 1},
    ]
    reply = drive.ecs.run_task(**drive.request(["true"], capacity={"capacityProviderStrategy": strategy}, count=3))
    names = [task["capacityProviderName"] for task in reply["tasks"]]
    assert names == ["FARGATE", "FARGATE_SPOT", "FARGATE_SPOT"]
    assert {task["launchType"] for task in reply["tasks"]} == {"FARGATE"}
    default = drive.ecs.run_task(**drive.request(["true"], capacity={}))["tasks"][0]
    assert default["capacityProviderName"] == "FARGATE"
    assert "capacityProviderName" not in drive.describe(drive.run("true", capacity=FARGATE))
    assert drive.describe(drive.run("true", capacity=SPOT))["capacityProviderName"] == "FARGATE_SPOT"
