"""Commands in containers of their own, with ECSExecutor, boto3 and real HTTP, on an AWS that really runs them."""

import json
import logging
import time
from concurrent.futures import CancelledError, wait
from pathlib import Path

import pytest

from cloudexec import Command, ECSExecutor, Retry
from cloudexec.errors import (
    AwsError,
    CallStopped,
    CallTimeout,
    CapacityUnavailable,
    CommandFailed,
    ExecutorClosed,
    ImagePullFailed,
    OutOfMemory,
    SettingsError,
    TaskStopped,
    WorkerStartFailed,
)
from tests.commands.driving import LAST_WORDS, container, python


def once(path, first, then):
    """Code that does one thing on its first attempt, and another one later."""
    return (
        f"import os, time\nif not os.path.exists({str(path)!r}):\n open({str(path)!r}, 'w').close()\n {first}\n{then}"
    )


# --- what commands are for -------------------------------------------------------------------


def test_a_model_image_with_its_configuration_in_the_environment(drive):
    code = "import json, os; print('alpha is', json.loads(os.environ['MODEL_CONFIG'])['alpha'])"
    drive.define(container("model", command=[code]))
    configs = [json.dumps({"alpha": alpha}) for alpha in (0.1, 0.2, 0.3)]
    with drive.executor() as executor:
        futures = [
            executor.submit(Command(env={"MODEL_CONFIG": config}, task_definition="model-definition"))
            for config in configs
        ]
        assert [future.result().log for future in futures] == [f"alpha is {alpha}\n" for alpha in (0.1, 0.2, 0.3)]
    assert not [left for left in drive.aws.leftovers() if not left.startswith("object")]


def test_a_script_with_arguments_in_somebody_elses_image(drive, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys; print(sys.argv[1:])")
    drive.define(container("main", entryPoint=["python"]))
    with drive.executor() as executor:
        result = executor.submit(Command([str(script), "a,b", "c d"], task_definition="model-definition")).result()
    assert result.log == "['a,b', 'c d']\n"
    assert (result.exit_code, result.stop_code) == (0, "EssentialContainerExited")
    assert result.stopped_reason == "Essential container in task exited"
    assert result.created_s < result.started_s <= result.stopped_s <= time.time()
    assert (result.provider, result.attempt) == ("FARGATE", 1)
    assert drive.aws.task(result.task_arn).exit_code == 0


def test_an_image_is_registered_once_and_keeps_its_entry_point(drive):
    with drive.executor(max_workers=4, task_definition=drive.aws.setup["task_definition"]) as executor:
        futures = [executor.submit(Command([f"print({number})"], image="model")) for number in range(4)]
        assert [future.result().log for future in futures] == ["0\n", "1\n", "2\n", "3\n"]
    assert drive.aws.requests()["ecs", "RegisterTaskDefinition"] == 1


def test_environment_of_executor_options_and_command(drive):
    drive.define()
    code = "import os; print(*(os.environ[name] for name in 'ABC'))"
    with drive.executor(env={"A": "executor", "B": "executor", "C": "executor"}) as executor:
        view = executor.with_options(env={"B": "options", "C": "options"})
        assert view.submit(python(code, env={"C": "command"})).result().log == "executor options command\n"


def test_tasks_are_named_after_the_run_and_no_worker_is_taken_for_one(drive):
    drive.define()
    with drive.executor(tags={"team": "a"}, name="nightly") as executor:
        result = executor.submit(python("pass")).result()
        run_id = executor.run.id
    facts = drive.aws.task(result.task_arn).facts
    tags = {tag["key"]: tag["value"] for tag in facts["tags"]}
    assert facts["startedBy"] == f"{run_id}/commands"
    assert (tags["cloudexec:run"], tags["cloudexec:name"], tags["team"]) == (run_id, "nightly", "a")


def test_calls_and_commands_share_an_executor(drive, ecs_settings):
    drive.define()
    with ECSExecutor(max_workers=1, **ecs_settings) as executor:
        call, command = executor.submit(abs, -3), executor.submit(python("print('command')"))
        local = executor.submit(Command(["echo", "in the worker"]))
        failed = executor.submit(python("1 / 0"))
        assert (call.result(), command.result().log) == (3, "command\n")
        assert local.result().log == "in the worker\n"
        assert local.result().task_arn == ""
        assert isinstance(failed.exception(), CommandFailed)
        facts = executor.run
        assert (facts.done, facts.failed, facts.total) == (3, 1, 4)
        assert len({future.call_id for future in (call, command, local, failed)}) == 4


# --- how they end ----------------------------------------------------------------------------


def test_a_failure_carries_exit_code_and_last_lines(drive):
    drive.define()
    with drive.executor() as executor:
        bad = executor.submit(python("print(*range(100), sep='\\n'); raise SystemExit(3)"))
        kept = executor.submit(python("print(*range(100), sep='\\n'); raise SystemExit(3)", check=False, log_lines=2))
    error = bad.exception()
    assert isinstance(error, CommandFailed)
    assert error.exit_code == 3
    assert error.log.splitlines() == [str(number) for number in range(80, 100)]
    assert len(error.result.log.splitlines()) == 100
    assert (kept.result().exit_code, kept.result().log) == (3, "98\n99\n")
    assert bad.attempts == kept.attempts == 1


def test_an_error_is_tried_again_only_on_demand(drive, tmp_path):
    drive.define()
    code = once(tmp_path / "first", "raise SystemExit(1)", "print('second')")
    with drive.executor() as executor:
        result = executor.with_options(retries=1).submit(python(code)).result()
    assert (result.log, result.attempt) == ("second\n", 2)


def test_a_spot_interruption_is_tried_again(drive, tmp_path):
    drive.define()
    code = once(tmp_path / "first", "print('ready', flush=True); time.sleep(60)", "print('second')")
    with drive.executor(spot=True) as executor:
        future = executor.submit(python(code))
        drive.until_runs()
        drive.aws.faults.interrupt(1, warning_s=0)
        result = future.result(20)
    assert (result.log, result.attempt, result.provider) == ("second\n", 2, "FARGATE_SPOT")


def test_spot_interruptions_beyond_the_budget_are_told_with_the_last_lines(drive):
    drive.define()
    with drive.executor(spot=True, retries=Retry(lost=0)) as executor:
        future = executor.submit(python(LAST_WORDS))
        drive.until_runs()
        drive.aws.faults.interrupt(1, warning_s=0)
        error = future.exception(20)
    assert isinstance(error, TaskStopped)
    assert "Your Spot Task was interrupted" in error.what
    assert "ready" in error.what


def test_a_lack_of_memory_is_told_as_one(drive):
    drive.define()
    with drive.executor() as executor:
        future = executor.submit(
            python("import time; print('ready', flush=True); x = b'x' * (600 << 20); time.sleep(9)")
        )
        error = future.exception(30)
    assert isinstance(error, OutOfMemory)
    assert "memory_mib" in error.remedy
    assert "ready" in error.what


def test_a_command_that_is_stopped_by_somebody_is_not_tried_again(drive):
    drive.define()
    with drive.executor() as executor:
        future = executor.submit(python(LAST_WORDS))
        (task,) = drive.until_runs()
        drive.ecs.stop_task(cluster=drive.aws.setup["cluster"], task=task.arn, reason="too dear")
        error = future.exception(20)
    assert isinstance(error, TaskStopped)
    assert "too dear" in error.what
    assert len(drive.aws.tasks()) == 1


def test_another_container_that_ends_the_task_does_not_count_as_the_command(drive):
    drive.define(container("side", command=["import time; time.sleep(0.3)"]), container("main"))
    with drive.executor() as executor:
        future = executor.submit(python("import time; time.sleep(60)", container="main", check=False))
        result = future.result(20)
    assert result.exit_code == 143  # SIGTERM, as the task ended with its other container


def test_future_stop_stops_the_container(drive):
    drive.define()
    with drive.executor() as executor:
        future = executor.submit(python(LAST_WORDS))
        other = executor.submit(python("print('other')"))
        drive.until_runs()
        future.stop()
        error = future.exception(20)
        assert isinstance(error, CallStopped)
        assert "cloudexec: the call was stopped" in error.what
        assert other.result(20).log == "other\n"


def test_timeout_s_counts_from_the_start_of_the_container(drive):
    drive.define()
    with drive.executor() as executor:
        view = executor.with_options(timeout_s=1.5)
        slow = view.submit(python(LAST_WORDS))
        quick = view.submit(python("print('quick')"))
        error = slow.exception(20)
    assert isinstance(error, CallTimeout)
    assert "timeout_s=1.5" in error.what
    assert "ready" in error.what
    assert quick.result().log == "quick\n"


# --- what never starts -----------------------------------------------------------------------


def test_too_long_overrides_are_refused_before_any_request(drive):
    with drive.executor() as executor:
        with pytest.raises(SettingsError, match="8192") as refusal:
            executor.submit(python("pass", env={"SHORT": "x", "MODEL_CONFIG": "x" * 9000}))
        assert "env MODEL_CONFIG (9002)" in refusal.value.what
        assert executor.run.total == 0
    assert not drive.aws.requests()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        pytest.param(
            Command(["a"], task_definition="d", vcpu=1), "only one of vcpu and memory_mib", id="half of a size"
        ),
        pytest.param(
            Command(["a"], image="i", vcpu=3, memory_mib=1), "Fargate has no size", id="a size that there is not"
        ),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_submitted(drive, command, says):
    with drive.executor() as executor, pytest.raises(SettingsError, match=says):
        executor.submit(command)


def test_arguments_belong_into_the_command(drive):
    with drive.executor() as executor, pytest.raises(SettingsError, match="Command's args"):
        executor.submit(python("pass"), "a,b")


def test_an_unknown_container_is_the_failure_of_that_command(drive):
    drive.define(container("main"), container("side", essential=False))
    with drive.executor() as executor:
        bad = executor.submit(python("pass", container="mian"))
        good = executor.submit(python("print('good')", container="main"))
        assert isinstance(bad.exception(20), SettingsError)
        assert "has no container 'mian'; it has main, side" in bad.exception().what
        assert good.result(20).log == "good\n"
    assert drive.aws.requests()["ecs", "RunTask"] == 1


def test_an_unknown_definition_is_the_failure_of_that_command(drive):
    with drive.executor() as executor:
        error = executor.submit(python("pass", task_definition="no-such")).exception(20)
        assert isinstance(error, AwsError)
        drive.define()
        assert executor.submit(python("print('good')")).result(20).log == "good\n"


def test_an_image_that_cannot_be_pulled_is_the_failure_of_that_command(drive):
    drive.define()
    drive.aws.faults.pull_error(times=1)
    with drive.executor(max_workers=1) as executor:
        error = executor.submit(python("pass")).exception(20)
        assert isinstance(error, ImagePullFailed)
        assert "correct its name and tag" in error.remedy
        assert executor.submit(python("print('good')")).result(20).log == "good\n"


def test_no_capacity_until_the_deadline_is_a_named_error(drive):
    drive.define()
    rule = drive.aws.faults.run_task_failures()
    with drive.executor(start_timeout_s=1.5) as executor:
        error = executor.submit(python("pass")).exception(20)
        assert isinstance(error, CapacityUnavailable)
        assert "no task has started within 1.5 s" in error.what
        drive.aws.faults.clear(rule)
        assert executor.submit(python("print('good')")).result(20).log == "good\n"


def test_capacity_that_comes_back_costs_no_retry(drive):
    drive.define()
    drive.aws.faults.run_task_failures(times=1)
    with drive.executor(retries=Retry(lost=0)) as executor:
        future = executor.submit(python("print('good')"))
        assert future.result(20).log == "good\n"
        assert future.attempts == 1


def test_without_spot_capacity_a_command_is_started_on_demand(drive, caplog):
    drive.define()
    drive.aws.faults.run_task_failures(provider="FARGATE_SPOT")
    with caplog.at_level(logging.WARNING), drive.executor(spot=True) as executor:
        assert executor.submit(python("pass")).result(20).provider == "FARGATE"
    assert "no Spot capacity for a command" in caplog.text


def test_a_task_that_never_starts_ends_in_a_named_error_and_is_stopped(drive):
    drive.define()
    drive.aws.faults.never_start(times=1)
    with drive.executor(start_timeout_s=1.5) as executor:
        error = executor.submit(python("pass")).exception(20)
        assert isinstance(error, WorkerStartFailed)
        assert "has not started within 1.5 s" in error.what
    drive.until(lambda: not [task for task in drive.aws.tasks() if task.desired != "STOPPED"])


# --- cancelling and ending -------------------------------------------------------------------


def test_cancel_succeeds_until_a_container_is_asked_for(drive):
    drive.define()
    with drive.executor(max_workers=1) as executor:
        first, second = executor.submit(python(LAST_WORDS)), executor.submit(python("pass"))
        drive.until_runs()
        assert first.running()
        assert not first.cancel()
        assert not second.running()
        assert second.cancel()
        first.stop()
    assert len(drive.aws.tasks()) == 1


def test_a_command_that_waits_for_capacity_can_be_cancelled(drive):
    drive.define()
    drive.aws.faults.run_task_failures()
    with drive.executor() as executor:
        future = executor.submit(python("pass"))
        drive.until(lambda: drive.aws.requests()["ecs", "RunTask"])
        drive.until(future.cancel)
        with pytest.raises(CancelledError):
            future.result()


@pytest.mark.parametrize("how", ["terminate_workers", "on_error", "interrupt"])
def test_the_end_of_the_executor_leaves_nothing_running(drive, how):
    drive.define()
    executor = drive.executor(on_error="kill", max_workers=3)
    futures = [executor.submit(python(LAST_WORDS)) for _ in range(4)]
    drive.until_runs(3)
    if how == "terminate_workers":
        executor.terminate_workers()
        executor.shutdown()
    else:
        kind = KeyboardInterrupt if how == "interrupt" else ValueError
        with pytest.raises(kind), executor:
            raise kind
    assert {type(future.exception()) for future in futures[:3]} == {CallStopped}
    assert futures[3].cancelled()
    assert {task.desired for task in drive.aws.tasks()} == {"STOPPED"}
    with pytest.raises(ExecutorClosed):
        executor.submit(python("pass"))


def test_the_end_finds_tasks_whose_start_was_never_answered(drive):
    drive.define()
    drive.aws.faults.reset("ecs", "RunTask", after=True)
    executor = drive.executor()
    future = executor.submit(python(LAST_WORDS))
    drive.until_runs()
    executor.terminate_workers()
    executor.shutdown()
    assert isinstance(future.exception(), CallStopped)
    assert {task.desired for task in drive.aws.tasks()} == {"STOPPED"}


def test_detach_is_refused_while_commands_are_open(drive, ecs_settings):
    drive.define()
    with ECSExecutor(**ecs_settings) as executor:
        future = executor.submit(python(LAST_WORDS))
        with pytest.raises(SettingsError, match="1 container commands are open"):
            executor.detach()
        future.stop()


# --- trouble on the way ----------------------------------------------------------------------


def test_a_lost_answer_does_not_start_a_second_container(drive):
    drive.define()
    drive.aws.faults.reset("ecs", "RunTask", after=True, times=2)
    with drive.executor() as executor:
        assert executor.submit(python("print('once')")).result(30).log == "once\n"
    assert len(drive.aws.tasks()) == 1


def test_stale_and_refused_looks_are_only_slower(drive):
    drive.define()
    drive.aws.faults.stale_describe(0.5)
    drive.aws.faults.throttle("ecs", "DescribeTasks", times=1)
    with drive.executor() as executor:
        assert executor.submit(python("print('seen')")).result(30).log == "seen\n"


@pytest.mark.parametrize(
    ("logs", "says"),
    [
        pytest.param(None, "does not send one to CloudWatch Logs", id="no log in the definition"),
        pytest.param("deleted", "ResourceNotFound", id="a log group that is gone"),
    ],
)
def test_a_log_that_is_not_there_is_no_failure(drive, tmp_path, logs, says):
    drive.define({"name": "main", "image": "model", "essential": True} if logs is None else container("main"))
    go = tmp_path / "go"
    code = f"import os, time\nprint('ready', flush=True)\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)"
    with drive.executor() as executor:
        future = executor.submit(python(code))
        drive.until_runs()
        if logs:
            drive.aws.session().client("logs").delete_log_group(logGroupName="/ecs/cloudexec")
        Path(go).touch()
        result = future.result(20)
    assert result.exit_code == 0
    assert says in result.log


def test_long_logs_are_read_in_pages(drive):
    drive.define()
    with drive.executor() as executor:
        result = executor.submit(python("for i in range(12_000): print(i)")).result(30)
    assert result.log.splitlines() == [str(number) for number in range(12_000)]


@pytest.mark.slow
def test_many_commands_at_once_keep_to_the_launch_limits_under_throttles(drive):
    drive.define(container("main", entryPoint=["/bin/sh", "-c"]))
    drive.aws.faults.throttle("ecs", "RunTask", rate=0.05, seed=7)
    drive.aws.faults.run_task_failures(rate=0.03, seed=7)
    drive.aws.record_requests()
    with drive.executor(max_workers=120) as executor:
        futures = [executor.submit(python(f"echo {number}")) for number in range(120)]
        wait(futures, timeout=50)
        assert [future.result(0).log for future in futures] == [f"{number}\n" for number in range(120)]
    started = sorted(made["at_s"] for made in drive.aws.recorded_requests() if made["operation"] == "RunTask")
    looks = sorted(made["at_s"] for made in drive.aws.recorded_requests() if made["operation"] == "DescribeTasks")
    assert len(drive.aws.tasks()) == 120
    assert max(sum(at <= other < at + 1.0 for other in started) for at in started) <= 20 + 20 + 5
    assert max(sum(at <= other < at + 5.0 for other in looks) for at in looks) <= 5 + 2  # one a second, some late
