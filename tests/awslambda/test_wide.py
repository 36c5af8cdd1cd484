"""How many calls run at once, and where: slots of an environment, several functions, what the account says."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cloudexec import LambdaExecutor
from tests.awslambda.scene import SOON, busy_in, double, most_at_once, span, wait_at, wait_for_calls
from tests.faults.scene import in_one_go

TWO_VCPUS = 3538
HELD_S = 0.3  # so long calls are looked at that must not begin


def name_of_function(seconds=0.0):
    time.sleep(seconds)
    return os.environ["AWS_LAMBDA_FUNCTION_NAME"]


def squares(function, n, throttle_timeout_s):
    """A call with an executor of its own, as wide as its function allows."""
    with LambdaExecutor(function, throttle_timeout_s=throttle_timeout_s) as inner:
        return sum(inner.map(pow, range(n), [2] * n))


# --- slots --------------------------------------------------------------------------------------


def test_an_environment_with_two_vcpus_has_two_slots_and_runs_a_batch_s_calls_at_once(
    new_executor, new_function, aws, tmp_path
):
    name, gate = new_function(memory=TWO_VCPUS, reserved=1), tmp_path / "gate"
    executor = new_executor(None, function=name)
    # In one message: what comes a moment later has an invocation of its own, for which there is no room here.
    futures = in_one_go(executor, *[lambda x=x: executor.submit(wait_at, str(gate), x) for x in range(2)])
    wait_for_calls(gate, 2)
    assert executor.max_workers == 2
    assert len(busy_in(aws, name)) == 1
    gate.touch()
    assert [future.result(SOON) for future in futures] == [0, 1]


@pytest.mark.parametrize(("max_workers", "slots"), [(4, 2), (3, 2), (1, 2), (3, 1)])
def test_no_more_than_max_workers_run_at_once_however_they_share_environments(
    new_executor, new_function, tmp_path, max_workers, slots
):
    gate = tmp_path / "gate"
    executor = new_executor(max_workers, function=new_function(memory=TWO_VCPUS), slots=slots)
    futures = [executor.submit(wait_at, str(gate), x) for x in range(2 * max_workers)]
    wait_for_calls(gate, max_workers)
    time.sleep(HELD_S)
    assert len(list(Path(tmp_path).glob("gate.*"))) == max_workers
    gate.touch()
    assert [future.result(SOON) for future in futures] == list(range(2 * max_workers))


def test_slots_of_an_environment_work_side_by_side_through_many_batches(new_executor, new_function, tmp_path):
    diary = tmp_path / "diary"
    executor = new_executor(4, function=new_function(memory=TWO_VCPUS), slots=2)
    futures = [executor.submit(span, str(diary), 0.05) for _ in range(60)]
    assert [future.result(SOON) for future in futures] == [None] * 60
    assert 2 <= most_at_once(diary) <= 4


# --- functions ----------------------------------------------------------------------------------


def test_shards_share_the_calls(new_executor, new_function, aws, tmp_path):
    names, gate = [new_function(reserved=1) for _ in range(3)], tmp_path / "gate"
    executor = new_executor(None, function=names[0], shards=names[1:])
    futures = [executor.submit(wait_at, str(gate), x) for x in range(3)]
    wait_for_calls(gate, 3)
    assert executor.max_workers == 3
    assert [len(busy_in(aws, name)) for name in names] == [1, 1, 1]
    gate.touch()
    assert [future.result(SOON) for future in futures] == [0, 1, 2]
    others = [executor.submit(name_of_function, 0.05) for _ in range(30)]
    assert {future.result(SOON) for future in others} == set(names)


# --- what is taken if nobody says how much ------------------------------------------------------


def test_max_workers_is_what_is_reserved_for_the_function_times_its_slots(new_executor, new_function):
    executor = new_executor(None, function=new_function(reserved=5), slots=3)
    assert executor.submit(double, 4).result(SOON) == 8
    assert executor.max_workers == 15


def test_max_workers_is_four_fifths_of_what_the_account_has_not_reserved(new_executor, new_function):
    """Others live there, too. The account has 30."""
    new_function(reserved=5)
    executor = new_executor(None, function=new_function())
    assert executor.submit(double, 4).result(SOON) == 8
    assert executor.max_workers == 20


def test_where_limits_may_not_be_read_max_workers_is_a_hundred_environments(new_executor, new_function, aws):
    aws.faults.error("AccessDeniedException", "no", status=403, service="lambda", operation="GetFunctionConcurrency")
    executor = new_executor(None, function=new_function(memory=TWO_VCPUS))
    assert executor.submit(double, 4).result(SOON) == 8
    assert executor.max_workers == 200


# --- executors inside calls ---------------------------------------------------------------------


def test_a_call_s_own_executor_gets_along_with_what_its_call_has_left(new_executor, new_function):
    """Of three invocations the outer call holds one; the inner executor would have all three."""
    name = new_function(reserved=3)
    executor = new_executor(1, function=name)
    assert executor.submit(squares, name, 20, 10.0).result(SOON) == sum(x * x for x in range(20))


def test_two_calls_whose_executors_share_the_last_free_invocation_both_end(new_executor, new_function):
    """Each is refused again and again, and each gets its turn: what waits longest is not given up for that."""
    name = new_function(reserved=3)
    executor = new_executor(2, function=name)
    futures = [executor.submit(squares, name, 20, 10.0) for _ in range(2)]
    assert [future.result(SOON) for future in futures] == [sum(x * x for x in range(20))] * 2
