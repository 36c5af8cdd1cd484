"""The whole path with a real image: built here, started by RunTask, pulled from, stopped by StopTask."""

from __future__ import annotations

import platform
import time

import pytest

from tests.images.deeds import say_when_begun, square_and_look_around

pytestmark = [pytest.mark.images, pytest.mark.timeout(240)]
PATIENCE_S = 60


def eventually(condition):
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_calls_run_in_containers_of_the_image_and_nothing_is_left_of_them(aws, new_executor, podman):
    with new_executor(max_workers=2) as cloud:
        found = list(cloud.map(square_and_look_around, range(8)))
    assert [square for square, *_ in found] == [number * number for number in range(8)]
    seen = {(python, uid, *first[1:]) for _, python, uid, first in found}
    assert seen == {(platform.python_version(), 10001, "-m", "cloudexec.worker", "--pull")}
    eventually(lambda: {task.state for task in aws.tasks()} == {"STOPPED"})
    assert {task.exit_code for task in aws.tasks()} == {0}
    assert podman("ps", "--all", "--quiet").stdout == ""
    assert {name.split("/")[1] for name in aws.objects()} == {"summaries"}, "which tell of runs that are over"
    assert [queue.name for queue in aws.queues() if queue.name.startswith("cloudexec-")] == []


def test_a_call_whose_container_is_stopped_runs_to_its_end_in_another_one(aws, new_executor):
    with new_executor(max_workers=1) as cloud:
        future = cloud.submit(say_when_begun, 3.0)
        eventually(lambda: any("begun" in task.log for task in aws.tasks()))
        (first,) = aws.tasks()
        ecs = aws.session().client("ecs")
        ecs.stop_task(cluster=first.facts["clusterArn"], task=first.arn, reason="to see what becomes of the call")
        ecs.close()
        assert future.result(timeout=PATIENCE_S) == "done"
        stopped, second = aws.tasks()
    assert (stopped.arn, stopped.state, stopped.stop_code) == (first.arn, "STOPPED", "UserInitiated")
    assert stopped.exit_code == 0, "it put the call back and left in order, long before it would have been killed"
    assert "begun" in second.log
