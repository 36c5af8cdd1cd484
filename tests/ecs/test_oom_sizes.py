"""A call that runs out of memory is run again in a larger container, if the executor says in which."""

from __future__ import annotations

import json
import os
import time
from urllib.request import urlopen

import pytest

from cloudexec import ECSExecutor, Retry, errors
from cloudexec.backends.ecs.discovery import settle
from cloudexec.backends.ecs.requests import PARENT_TAG
from cloudexec.backends.ecs.sizes import Size
from cloudexec.backends.pull.home import RUN_TAG
from tests.contract.events import SOON, Gate, eventually
from tests.ecs.test_attach import start_client
from tests.specs.executors import CLIENT_TIMEOUT_S

MIB = 1 << 20
SMALL = {"vcpu": 0.25, "memory_mib": 512}
MUCH = 540  # MiB, more than a small container has, less than a medium one
TOO_MUCH = 1100
MEDIUM, LARGE = (0.5, 1024), (1, 2048)


def container_mib():
    """What the container has in which this runs, as the task's metadata say."""
    with urlopen(os.environ["ECS_CONTAINER_METADATA_URI_V4"] + "/task") as answer:
        return json.load(answer)["Limits"]["Memory"]


def take(mib, result=None):
    """Needs so much memory; where there is less, until somebody notices."""
    held = b"x" * (mib * MIB)
    if mib > container_mib():
        time.sleep(2 * SOON)
    return len(held) // MIB if result is None else result


def take_and_wait(mib, gate):
    """Needs much memory; where there is enough, it comes to the gate."""
    take(mib)
    return gate("passed")


def fail_after(mib, text):
    take(mib)
    raise ValueError(text)


@pytest.fixture
def growing(new_executor):
    """An executor of small containers with one larger size."""
    return new_executor(**SMALL, oom_sizes=[MEDIUM])


def tags_of(task):
    return {tag["key"]: tag["value"] for tag in task.facts.get("tags", ())}


def runs_of(aws, run_id):
    """A run, and those in which its calls were tried again."""
    tags = [tags_of(task) for task in aws.tasks()]
    return {run_id} | {each[RUN_TAG] for each in tags if each.get(PARENT_TAG) == run_id}


# --- without ---------------------------------------------------------------------------------


def test_without_larger_sizes_it_fails_and_the_remedy_names_them(new_executor):
    executor = new_executor(1, **SMALL)
    error = executor.submit(take, MUCH).exception(SOON)
    assert isinstance(error, errors.OutOfMemory)
    assert "oom_sizes" in error.remedy
    assert executor.submit(take, 1).result(SOON) == 1


# --- with ------------------------------------------------------------------------------------


def test_it_is_run_again_in_a_larger_container(growing, aws):
    small, big = growing.submit(take, 1), growing.submit(take, MUCH)
    assert (small.result(SOON), big.result(SOON)) == (1, MUCH)
    assert big.attempts == 2
    assert big.stats.worker.rpartition(".")[0] != small.stats.worker.rpartition(".")[0]
    assert big.stats.peak_rss > MUCH * MIB
    assert big.call_id.startswith(growing.run.id)
    (task,) = [task for task in aws.tasks() if tags_of(task).get(PARENT_TAG) == growing.run.id]
    assert (task.facts["cpu"], task.facts["memory"]) == ("512", "1024")
    assert growing.run[1:6] == (0, 0, 2, 0, 0), "each call counts once"


def test_a_map_keeps_its_order(growing):
    assert list(growing.map(take, [1, MUCH, 2, 3])) == [1, MUCH, 2, 3]


def test_arguments_and_results_that_lie_in_the_bucket_are_found_from_there(growing):
    payload = os.urandom(2 * MIB)
    assert growing.submit(take, MUCH, payload).result(SOON) == payload


def test_what_it_raises_there_is_its_error(growing):
    error = growing.submit(fail_after, MUCH, "enough memory, and yet").exception(SOON)
    assert isinstance(error, ValueError)
    assert str(error) == "enough memory, and yet"


def test_in_the_last_size_it_fails_and_all_sizes_are_named(new_executor):
    executor = new_executor(1, **SMALL, oom_sizes=[MEDIUM])
    future = executor.with_options(name="greedy").submit(take, TOO_MUCH)
    error = future.exception(SOON)
    assert isinstance(error, errors.OutOfMemory)
    assert "0.25 vCPU and 512 MiB; 0.5 vCPU and 1024 MiB" in str(error)
    assert f"{future.call_id}#2 (greedy)" in str(error)
    assert future.attempts == 2


def test_sizes_are_tried_one_after_the_other_and_retries_count_in_the_last(new_executor):
    executor = new_executor(1, **SMALL, oom_sizes=[MEDIUM, LARGE], retries=Retry(oom=1))
    future = executor.submit(take, TOO_MUCH)
    assert future.result(SOON) == TOO_MUCH
    assert future.attempts == 3


# --- from outside ----------------------------------------------------------------------------


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


def test_a_call_that_runs_there_is_stopped(growing, gate):
    future = growing.submit(take_and_wait, MUCH, gate)
    gate.wait_for(1)
    eventually(future.running)
    assert growing.run.running == 1
    assert not future.cancel()
    future.stop()
    assert isinstance(future.exception(SOON), errors.CallStopped)


def test_a_call_that_waits_there_is_cancelled(new_executor, aws):
    executor = new_executor(1, **SMALL, oom_sizes=[MEDIUM])
    executor.submit(take, 1).result(SOON)
    aws.faults.never_start()
    future = executor.submit(take, MUCH)
    eventually(lambda: executor._core.engine.n_lent)
    assert future.cancel()
    assert future.cancelled()
    assert executor.run.cancelled == 1
    executor.shutdown(wait=True)


def test_shutdown_waits_for_it_and_nothing_is_left_behind(new_executor, aws):
    with new_executor(1, **SMALL, oom_sizes=[MEDIUM]) as executor:
        future = executor.submit(take, MUCH)
    assert future.result(0) == MUCH
    runs = runs_of(aws, executor.run.id)
    assert len(runs) == 2
    assert not [queue.name for queue in aws.queues() if any(run in queue.name for run in runs)]
    assert not [key for key in aws.objects() if any(f"runs/{run}" in key for run in runs)]
    eventually(lambda: all(task.state == "STOPPED" for task in aws.tasks() if task.facts["startedBy"] in runs))


def test_terminating_workers_ends_those_of_all_sizes(growing, gate):
    future = growing.submit(take_and_wait, MUCH, gate)
    gate.wait_for(1)
    growing.terminate_workers()
    assert isinstance(future.exception(SOON), errors.CallStopped)
    growing.shutdown(wait=True)


def test_detaching_is_refused_while_a_call_runs_there(growing, gate):
    future = growing.submit(take_and_wait, MUCH, gate)
    gate.wait_for(1)
    with pytest.raises(errors.SettingsError, match="larger"):
        growing.detach()
    gate.open()
    assert future.result(SOON) == "passed"
    growing.detach()


def test_who_attaches_has_the_same_sizes(growing):
    big = growing.submit(take, MUCH)
    assert big.result(SOON) == MUCH
    run_id = growing.detach()
    with ECSExecutor.attach(run_id) as second:
        assert [future.result(SOON) for future in second.futures] == [MUCH]
        assert second.submit(take, MUCH).result(SOON) == MUCH


@pytest.mark.timeout(90)  # two clients start, and four containers
def test_what_a_killed_client_was_trying_again_is_tried_again_by_who_attaches(settings, gate, tmp_path):
    code = f"""
        from tests.contract.events import Gate
        from tests.ecs.test_oom_sizes import MUCH, take_and_wait
        import pathlib
        ex.submit(take_and_wait, MUCH, Gate(pathlib.Path({str(tmp_path / "gate")!r})))
        print(ex.run.id, flush=True)
        time.sleep(60)
    """
    settings = {**settings, **SMALL, "oom_sizes": [MEDIUM], "client_timeout_s": CLIENT_TIMEOUT_S}
    client = start_client(settings, code)
    run_id = client.stdout.readline().strip()
    gate.wait_for(1)
    client.kill()
    client.communicate()
    with ECSExecutor.attach(run_id) as executor:
        gate.wait_for(2)
        gate.open()
        assert [future.result(SOON) for future in executor.futures] == ["passed"]


# --- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "what"),
    [
        pytest.param([(0.25, 512)], "not larger than 0.25 vCPU and 512 MiB", id="the executor's own"),
        pytest.param([(1, 4096), (1, 2048)], "not larger than 1 vCPU and 4096 MiB", id="smaller than the one before"),
        pytest.param([(1, 1024)], "Fargate has no size", id="not for rent"),
        pytest.param([(0.5, 1024, 3)], r"list of \(vcpu, memory_mib\)", id="not a pair"),
        pytest.param(2048, r"list of \(vcpu, memory_mib\)", id="not a list"),
    ],
)
def test_sizes_that_cannot_be_are_refused_at_once(settings, sizes, what):
    with pytest.raises(errors.SettingsError, match=what):
        ECSExecutor(**{**settings, **SMALL, "oom_sizes": sizes})


def test_the_environment_can_name_them(monkeypatch):
    monkeypatch.setenv("CLOUDEXEC_OOM_SIZES", "0.5:1024,1:2048")
    place = settle({**SMALL, "image": "worker:1"}, os.environ)
    assert place.target.oom_sizes == (Size(0.5, 1024), Size(1, 2048))
