"""Runs seen from outside, by the program: real runs in the pocket AWS, on ECS and on Lambda."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from cloudexec import ECSExecutor, LambdaExecutor, errors
from cloudexec.cli.main import run as run_program
from cloudexec.cli.runs import home_of
from cloudexec.executors import runkeys
from cloudexec.infra.runs.logs import Wanted, follow
from cloudexec.testing import PocketAWS
from tests.ecs.scene import SOON, double, eventually, wait_at, wait_for_calls
from tests.specs.executors import QUICK, pocket

LAMBDA_QUICK = {"control_after_s": 0.2, "control_every_s": 0.2}


@pytest.fixture(scope="module")
def aws() -> Iterator[PocketAWS]:
    found = pocket()
    found.faults.clear()
    yield found
    found.faults.clear()


@pytest.fixture(scope="module")
def settings(aws: PocketAWS) -> dict[str, dict[str, Any]]:
    """By backend: what an executor needs to run here."""
    return {
        "ecs": {**aws.ecs_setup(), "assign_public_ip": True, "tuning": QUICK},
        "lambda": {**aws.lambda_setup(), "tuning": LAMBDA_QUICK},
    }


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs one command; (exit code, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run_program(list(words))
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def told(program: Callable[..., Any]) -> Callable[..., Any]:
    """Runs one command with --json; what it says."""

    def run(*words: str) -> Any:
        code, out, err = program(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    return run


def executor_on(backend: str, settings: dict[str, dict[str, Any]], **changes: Any) -> Any:
    kind = {"ecs": ECSExecutor, "lambda": LambdaExecutor}[backend]
    return kind(**{"max_workers": 2, **settings[backend], **changes})


def say(x: int) -> int:
    print(f"out of {x}")
    print(f"err of {x}", file=sys.stderr)
    if x == 3:
        raise ValueError("three\nis too many")
    return x


def print_much(n_lines: int) -> None:
    print("\n".join(f"line {n}" for n in range(n_lines)))


def start_client(backend: str, settings: dict[str, dict[str, Any]], code: str) -> subprocess.Popen[str]:
    """A client in a process of its own, with an executor called `ex`; it prints the run's id first."""
    name = {"ecs": "ECSExecutor", "lambda": "LambdaExecutor"}[backend]
    script = f"from cloudexec import {name}\nimport sys, time\nsys.path.insert(0, '.')\n"
    script += f"ex = {name}(**{ {'max_workers': 1, **settings[backend]}!r})\n" + dedent(code)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())


@pytest.fixture(scope="module", params=["ecs", "lambda"])
def a_run(request: pytest.FixtureRequest, settings: dict[str, dict[str, Any]]) -> tuple[str, str]:
    """(backend, id) of a run of five calls that is over; one has failed."""
    with executor_on(request.param, settings, name="five") as executor:
        futures = [executor.submit(say, x) for x in range(5)]
        assert [future.exception(SOON) is None for future in futures] == [True, True, True, False, True]
        return request.param, executor.run.id


# --- what a run leaves to look at ----------------------------------------------------------------


def test_a_run_that_is_over_is_listed_with_its_counts(told, a_run):
    backend, run_id = a_run
    (entry,) = [one for one in told("runs")["runs"] if one["run"] == run_id]
    summary = entry["summary"]
    assert (entry["state"], summary["backend"], summary["name"]) == ("done", backend, "five")
    assert {name: summary["counts"][name] for name in ("done", "failed", "pending", "running")} == {
        "done": 4,
        "failed": 1,
        "pending": 0,
        "running": 0,
    }
    assert entry["usd"] > 0


def test_show_tells_everything_that_the_summary_holds(told, program, a_run, aws):
    backend, run_id = a_run
    summary = told("show", run_id)["summary"]
    (failure,) = summary["failures"]
    assert (failure["call"], failure["type"], failure["message"]) == (4, "ValueError", "three")
    assert sum(summary["durations"]["counts"]) == 5
    assert summary["sums"]["run_s"] > 0
    assert summary["client"]["arn"].startswith("arn:aws:")
    if backend == "ecs":
        assert {worker["id"] for worker in summary["workers"]} >= {failure["worker"]}
        assert all(worker["stopped_s"] >= worker["started_s"] > 0 for worker in summary["workers"])
        assert {worker["capacity"] for worker in summary["workers"]} == {"on-demand"}
    else:
        assert summary["invocations"]["n"] >= 1
        assert summary["invocations"]["billed_s"] > 0
    aws.forget_requests()
    code, out, _ = program("show", run_id[:-2])
    assert aws.requests()["s3", "ListObjectsV2"] == 1, "what a beginning was looked for with is all that is listed"
    assert code == 0
    assert "ValueError" in out
    assert "4 done, 1 failed" in out


def test_logs_prints_what_one_call_has_printed_and_no_other(program, a_run):
    _, run_id = a_run
    eventually(lambda: "out of 1" in program("logs", run_id, "2")[1])
    _, out, _ = program("logs", f"{run_id}/2")
    assert [line.split(" ", 1)[1] for line in out.splitlines()] == ["2 out| out of 1", "2 err| err of 1"]


def test_logs_prints_all_lines_of_a_run_in_their_order(program, a_run):
    _, run_id = a_run
    eventually(lambda: program("logs", run_id, "--raw")[1].count(" out| ") == 5)
    _, out, _ = program("logs", run_id, "--raw")
    lines = out.splitlines()
    assert all(line.startswith(run_id) for line in lines)
    assert f"{run_id}/4 err| err of 3" in lines
    times = [json.loads(line)["at_s"] for line in program("logs", run_id, "--json")[1].splitlines()]
    assert times == sorted(times)


def test_logs_of_a_worker_or_since_a_moment_are_a_part_of_them(program, told, a_run):
    _, run_id = a_run
    eventually(lambda: program("logs", run_id, "--raw")[1].count(" out| ") == 5)
    streams = {json.loads(line)["stream"] for line in program("logs", run_id, "--json")[1].splitlines()}
    worker = sorted(streams)[0].rpartition("/")[2].rpartition("]")[2]
    of_one = program("logs", run_id, "--worker", worker, "--json")[1].splitlines()
    assert {json.loads(line)["stream"] for line in of_one} == {sorted(streams)[0]}
    assert program("logs", run_id, "--since", "0s")[1] == ""


def test_cost_names_each_item_and_what_is_assumed(program, told, a_run):
    backend, run_id = a_run
    cost = told("cost", run_id)
    items = {item["what"]: item for item in cost["items"]}
    assert cost["usd"] == pytest.approx(sum(item["usd"] for item in cost["items"]))
    assert ("Fargate, on-demand" if backend == "ecs" else "Lambda compute") in items
    assert all(item["assumed"] for item in cost["items"] if item["what"] not in ("public IPv4 addresses",))
    assert "list prices of us-east-1" in program("cost", run_id)[1]


def test_an_unknown_run_is_answered_with_those_that_look_like_it(program, a_run):
    _, run_id = a_run
    code, _, err = program("show", run_id[:-1] + ("0" if run_id[-1] != "0" else "1"))
    assert code == 1
    assert run_id in err
    code, _, err = program("show", "r1999")
    assert code == 1
    assert "there is no run" in err


def test_a_stack_that_is_named_is_meant_whatever_bucket_is_set(program, a_run):
    code, _, err = program("runs", "--stack", "nobodys")
    assert code == 2
    assert "stack 'nobodys' cannot be read" in err
    assert "cloudexec up --stack nobodys" in err


def test_a_call_that_the_run_does_not_have_is_not_waited_for(program, a_run):
    _, run_id = a_run
    code, out, err = program("logs", run_id, "99")
    assert (code, out) == (0, "")
    assert "has no call 99" in err


@pytest.mark.parametrize("number", ["0", "²", "x", ""])
def test_what_is_no_number_of_a_call_is_wrong_usage(program, number):
    code, out, err = program("logs", f"r20261121-120000-abcdef/{number}")
    assert (code, out) == (2, "")
    assert "give RUN/CALL" in err


def test_a_summary_that_cannot_be_read_is_shown_with_the_reason(program, told, aws, settings):
    run_id = "r20200101-120000-abcdef"
    where = {"Bucket": settings["ecs"]["bucket"], "Key": f"cloudexec/summaries/{run_id}.json"}
    s3 = aws.session().client("s3")
    s3.put_object(**where, Body=b"{}")
    shown = told("show", run_id)
    assert (shown["state"], shown["summary"], shown["usd"]) == ("unreadable", None, None)
    assert "is damaged" in shown["trouble"]
    code, _, err = program("show", run_id)
    assert code == 1
    assert "is damaged" in err
    code, _, err = program("stop", run_id, "--yes")
    assert code == 1
    assert f"stop {run_id} --force" in err
    s3.delete_object(**where)


# --- what calls print ----------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["ecs", "lambda"])
def test_without_log_output_nothing_of_a_call_is_in_the_log(program, settings, backend):
    with executor_on(backend, settings, log_output=False) as executor:
        assert executor.submit(say, 1).result(SOON) == 1
        run_id = executor.run.id
    eventually(lambda: "cloudexec worker: " in program("logs", run_id, "--raw")[1])
    code, out, err = program("logs", run_id, "1")
    assert (code, out) == (0, "")
    assert "log_output=False" in err


def test_of_a_call_that_prints_much_the_log_has_begin_and_end(program, settings):
    with executor_on("ecs", settings) as executor:
        future = executor.submit(print_much, 20_000)
        future.result(SOON)
        assert future.stdout.count("\n") == 20_000
        run_id = executor.run.id
    eventually(lambda: "line 19999" in program("logs", run_id, "1")[1])
    lines = [line.split("out| ")[1] for line in program("logs", run_id, "1")[1].splitlines()]
    assert lines[:2] == ["line 0", "line 1"]
    assert any("bytes left out" in line for line in lines)
    assert sum(len(line) + 1 for line in lines) < 66_000


def test_the_last_words_of_a_call_that_dies_are_in_the_log_under_its_id(program, settings):
    def die():
        print("my last words", file=sys.stderr, flush=True)
        os._exit(7)

    with executor_on("ecs", settings) as executor:
        assert isinstance(executor.submit(die).exception(SOON), errors.CallCrashed)
        run_id = executor.run.id
    eventually(lambda: "my last words" in program("logs", run_id, "1")[1])


def test_logs_follows_a_run_until_it_is_over(program, settings, tmp_path):
    gate = tmp_path / "gate"
    with home_of("", "", None, None, None, None) as home, executor_on("ecs", settings, max_workers=1) as executor:
        executor.submit(say, 1).result(SOON)
        executor.submit(wait_at, str(gate), 0)
        wait_for_calls(gate, 1)
        summary = home.read(executor.run.id)
        lines = (one.text.partition("/")[2] for one in follow(home, summary, Wanted(), over_every_s=0.1, late_s=0.1))
        assert "1 out| out of 1" in lines
        executor.submit(say, 2)
        gate.touch()
        assert "3 out| out of 2" in lines
        executor.shutdown()
        rest = list(lines)
    assert not any("out of" in line for line in rest), "each line comes once"


# --- ends ----------------------------------------------------------------------------------------


def killed_client(backend: str, settings: dict[str, dict[str, Any]], **changes: Any) -> str:
    """The run of a client that was killed while a call ran."""
    code = """
        from tests.ecs.scene import double
        assert ex.submit(double, 1).result() == 2
        ex.submit(time.sleep, 60)
        time.sleep(1.2)  # the journal is written once a second
        print(ex.run.id, flush=True)
        time.sleep(60)
    """
    client = start_client(backend, {backend: {**settings[backend], **changes}}, code)
    assert client.stdout is not None
    run_id = client.stdout.readline().strip()
    client.kill()
    client.wait()
    client.stdout.close()
    assert run_id
    return run_id


def tasks_of(aws: PocketAWS, run_id: str) -> list[Any]:
    return [task for task in aws.tasks() if task.facts.get("startedBy") == run_id and task.state != "STOPPED"]


def test_a_run_whose_client_was_killed_is_silent_then_abandoned_and_stopped_in_order(program, told, settings, aws):
    run_id = killed_client("ecs", settings)
    assert told("show", run_id)["state"] == "silent"
    for task in tasks_of(aws, run_id):
        aws.session().client("ecs").stop_task(cluster=settings["ecs"]["cluster"], task=task.arn)
    eventually(lambda: not tasks_of(aws, run_id))
    assert told("show", run_id)["state"] == "abandoned"
    code, _, err = program("stop", run_id)
    assert code == 3
    assert "--yes" in err
    # The key says where the run was; options say more than it.
    runkeys.save(replace(runkeys.load(run_id), endpoint_url="http://127.0.0.1:9"))
    assert told("stop", run_id, "--yes", "--endpoint-url", aws.endpoint_url) == {"run": run_id, "how": "in order"}
    assert told("stop", run_id) == {"run": run_id, "how": "over", "state": "stopped"}
    shown = told("show", run_id)
    assert (shown["state"], shown["summary"]["counts"]["done"]) == ("stopped", 1)
    assert not [queue for queue in aws.queues() if run_id in queue.name]
    assert not [key for key in aws.objects() if f"runs/{run_id}" in key]
    assert run_id not in runkeys.known()


@pytest.mark.parametrize("backend", ["ecs", "lambda"])
def test_a_living_client_whose_run_is_stopped_by_force_gets_a_named_error(
    program, told, settings, aws, backend, tmp_path
):
    # A client that shall be taken for dead after 4 s shows itself, and sees what happens, once a second.
    executor = executor_on(backend, settings, max_workers=1, client_timeout_s=4.0)
    try:
        running = executor.submit(wait_at, str(tmp_path / "gate"), 0)
        waiting = executor.submit(double, 1)
        run_id = executor.run.id
        eventually(lambda: f"cloudexec/runs/{run_id}/control" in aws.objects())
        said = told("stop", run_id, "--force", "--yes")
        assert said["had_control"]
        if backend == "ecs":
            assert len(said["queues"]) == 2
            assert len(said["tasks"]) == 1
        for future in (running, waiting):
            assert isinstance(future.exception(SOON), errors.RunTakenOver)
        assert told("show", run_id)["state"] == "stopped", "the client says no more"
    finally:
        executor.terminate_workers()
        executor.shutdown()
    assert told("show", run_id)["state"] == "stopped"
    if backend == "ecs":
        eventually(lambda: not tasks_of(aws, run_id))
        assert not [queue for queue in aws.queues() if run_id in queue.name]


def test_a_run_that_nothing_is_known_of_can_be_stopped_by_its_id(told, program, aws, settings):
    run_id = killed_client("ecs", settings)
    key = f"cloudexec/summaries/{run_id}.json"
    aws.session().client("s3").delete_object(Bucket=settings["ecs"]["bucket"], Key=key)
    assert program("stop", run_id, "--yes")[0] == 1, "without --force somebody must know it"
    said = told("stop", run_id, "--force", "--yes", "--cluster", settings["ecs"]["cluster"])
    assert (len(said["queues"]), len(said["tasks"])) == (2, 1)
    assert program("clean", "--run", run_id, "--yes")[0] == 0
    assert not [key for key in aws.objects() if run_id in key]


def test_clean_removes_what_a_dead_run_has_left_and_nothing_else(told, program, settings, aws, tmp_path):
    run_id = killed_client("ecs", settings)
    sqs, s3 = aws.session().client("sqs"), aws.session().client("s3")
    bucket = settings["ecs"]["bucket"]
    twin = run_id[:-6] + "ffffff"
    foreign = [
        sqs.create_queue(QueueName=f"cloudexec-{twin}-work")["QueueUrl"],  # no tag
        sqs.create_queue(QueueName=f"cloudexec-{run_id}-work-copy", tags={"cloudexec:run": run_id})["QueueUrl"],
        sqs.create_queue(QueueName=f"cloudexec-{run_id[:-6]}eeeeee-out", tags={"cloudexec:run": run_id})["QueueUrl"],
        sqs.create_queue(
            QueueName=f"cloudexec-{run_id[:-6]}dddddd-out",
            tags={"cloudexec:run": run_id[:-6] + "dddddd", "cloudexec:home": "another-bucket/cloudexec"},
        )["QueueUrl"],
    ]
    strangers = [f"cloudexec/runs/{run_id}-mine", f"cloudexec/runs/notes/{run_id}", f"other/runs/{run_id}/x"]
    for key in strangers:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    with executor_on("ecs", settings, max_workers=1) as alive:
        running = alive.submit(wait_at, str(tmp_path / "gate"), 0)
        wait_for_calls(tmp_path / "gate", 1)
        dry = told("clean", "--older-than", "0s")
        by_run = {one["run"]: one for one in dry["runs"]}
        assert not dry["removed"]
        assert by_run[run_id]["kept"] == ""
        assert (len(by_run[run_id]["queues"]), len(by_run[run_id]["tasks"])) == (2, 1)
        assert "was there" in by_run[alive.run.id]["kept"]
        assert [queue for queue in aws.queues() if run_id in queue.name], "a dry run removes nothing"
        assert told("clean", "--older-than", "0s", "--summaries", "--yes")["removed"]
        (tmp_path / "gate").touch()
        assert running.result(SOON) == 0, "a run that is alive goes on"
    left = [queue.name for queue in aws.queues() if run_id[:-6] in queue.name]
    assert sorted(left) == sorted(url.rpartition("/")[2] for url in foreign)
    assert sorted(key for key in aws.objects() if run_id in key) == sorted(strangers)
    eventually(lambda: not tasks_of(aws, run_id))
    assert run_id not in runkeys.known()
    for url in foreign:
        sqs.delete_queue(QueueUrl=url)
    for key in strangers:
        s3.delete_object(Bucket=bucket, Key=key)


def test_by_default_clean_leaves_the_remains_of_the_last_week(told, settings, aws):
    run_id = killed_client("lambda", settings, client_timeout_s=4.0)
    assert run_id not in {one["run"] for one in told("clean")["runs"]}
    (one,) = told("clean", "--run", run_id)["runs"]
    assert one["kept"] == ""
    assert one["n_objects"] >= 1
    assert told("clean", "--run", run_id, "--yes")["removed"]
    assert not [key for key in aws.objects() if f"runs/{run_id}/" in key]


# --- people ----------------------------------------------------------------------------------------


def test_two_people_see_each_others_runs_and_whose_they_are(program, told, settings):
    client = start_client("ecs", settings, "print(ex.submit(abs, -1).result(), ex.run.id); ex.shutdown()")
    os.environ["LOGNAME"], before = "other", os.environ.get("LOGNAME")
    try:
        other = start_client("ecs", settings, "print(ex.submit(abs, -1).result(), ex.run.id); ex.shutdown()")
    finally:
        os.environ.pop("LOGNAME") if before is None else os.environ.update(LOGNAME=before)
    ids = []
    for each in (client, other):
        assert each.stdout is not None
        with each:
            ids.append(each.stdout.read().split()[1])
    users = {one["run"]: one["summary"]["client"]["user"] for one in told("runs")["runs"]}
    assert users[ids[1]] == "other"
    assert users[ids[0]] != "other"
    assert "other@" in program("runs")[1]


def test_who_attaches_to_a_run_goes_on_with_its_summary(told, settings):
    first = executor_on("ecs", settings, max_workers=1, name="long")
    future = first.submit(double, 4)
    assert future.result(SOON) == 8
    failed = first.submit(say, 3)
    assert isinstance(failed.exception(SOON), ValueError)
    run_id = first.detach()
    before = told("show", run_id)
    assert before["state"] == "detached"
    assert {name: before["summary"]["counts"][name] for name in ("done", "failed", "pending")} == {
        "done": 1,
        "failed": 1,
        "pending": 0,
    }
    with ECSExecutor.attach(run_id) as second:
        assert second.submit(double, 5).result(SOON) == 10
    after = told("show", run_id)["summary"]
    assert (after["name"], after["state"], after["begun_s"]) == ("long", "done", before["summary"]["begun_s"])
    assert (after["counts"]["done"], after["counts"]["failed"]) == (2, 1)
    assert [failure["call"] for failure in after["failures"]] == [2]
    assert {worker["id"] for worker in before["summary"]["workers"]} <= {worker["id"] for worker in after["workers"]}
