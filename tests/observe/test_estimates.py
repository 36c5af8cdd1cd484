"""Costs and times: cases that were computed by hand, and what must hold for all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.errors import SettingsError
from cloudexec.observe.estimates import (
    FargateShape,
    LambdaShape,
    Ramp,
    Work,
    calls_a_batch,
    on_fargate,
    on_lambda,
)
from cloudexec.observe.prices import US_EAST_1

BARE = LambdaShape(memory_mib=2048, cold_s=0, init_s=0, invoke_s=0, concurrency=2000)
ROUGH = pytest.approx
WORKS = st.builds(Work, n_calls=st.integers(1, 200_000), call_s=st.floats(0.001, 800))


# --- Lambda ----------------------------------------------------------------------------------


def test_a_thousand_calls_on_800_environments_take_two_rounds_and_a_cold_start():
    found = on_lambda(Work(n_calls=1000, call_s=10))

    assert found.makespan_s == ROUGH(1.0 + 2 * 10.02, abs=1e-3)
    assert (found.n_places, found.n_requests) == (800, 1000)
    gb_s = (1000 * 10 + 800 * 0.5) * 1769 / 1024
    assert found.compute_usd == ROUGH(gb_s * 0.0000166667)
    assert found.requests_usd == ROUGH(0.0002)
    assert found.logs_usd == ROUGH(1000 * 400 / 2**30 * 0.50)
    assert found.usd == ROUGH(0.299444 + 0.0002 + 0.000186, abs=1e-5)


def test_two_gigabytes_for_10000_seconds_cost_a_third_of_a_dollar():
    found = on_lambda(Work(n_calls=10_000, call_s=1), BARE)
    assert found.compute_usd + found.requests_usd == ROUGH(0.3353, abs=1e-4)
    assert on_lambda(Work(n_calls=10_000, call_s=1), replace(BARE, arch="arm64")).compute_usd == ROUGH(0.2667, abs=1e-4)


@pytest.mark.parametrize(
    ("n_calls", "makespan_s"),
    [
        pytest.param(1000, 2, id="the burst takes all"),
        pytest.param(1100, 3, id="the hundred of second 1 end in second 3"),
        pytest.param(1101, 4, id="one too many: the burst's second round"),
        pytest.param(2200, 4, id="burst twice, seconds 1 and 2 once"),
        pytest.param(2201, 5, id="now second 1 ends its second round"),
    ],
)
def test_above_a_thousand_environments_the_ramp_counts(n_calls, makespan_s):
    assert on_lambda(Work(n_calls=n_calls, call_s=2), BARE).makespan_s == ROUGH(makespan_s, abs=1e-3)


@pytest.mark.parametrize(
    ("work", "shape", "expected"),
    [
        pytest.param(Work(n_calls=10_000, call_s=0.001), LambdaShape(), 13, id="1 ms: a fair share of all"),
        pytest.param(Work(n_calls=10**6, call_s=0.001), LambdaShape(), 500, id="1 ms: half a second of work"),
        pytest.param(Work(n_calls=100, call_s=0.001), LambdaShape(), 1, id="few calls go singly"),
        pytest.param(Work(n_calls=10_000, call_s=10), LambdaShape(), 1, id="long calls go singly"),
        pytest.param(Work(n_calls=10_000, call_s=10), LambdaShape(slots=4), 4, id="but one for each slot"),
        pytest.param(Work(n_calls=3, call_s=10), LambdaShape(slots=4), 3, id="unless there are fewer calls"),
    ],
)
def test_so_many_calls_share_an_invocation(work, shape, expected):
    assert calls_a_batch(work, shape) == expected


def test_slots_share_an_environment_and_its_bill():
    one = on_lambda(Work(n_calls=400, call_s=10), replace(BARE, memory_mib=1769))
    four = on_lambda(Work(n_calls=400, call_s=10), replace(BARE, memory_mib=4 * 1769, slots=4))
    assert (four.n_requests, four.makespan_s) == (100, one.makespan_s)
    assert four.compute_usd == ROUGH(one.compute_usd)


def test_calls_above_five_minutes_pay_for_their_objects():
    found = on_lambda(Work(n_calls=10, call_s=600), BARE)
    assert found.requests_usd == ROUGH(10 * (0.2e-6 + 42 * 5e-6 + 0.4e-6))


@pytest.mark.parametrize("call_s", [900, 899.5, 10_000])
def test_a_call_that_outlasts_every_function_is_refused(call_s):
    with pytest.raises(SettingsError, match="does not fit"):
        on_lambda(Work(n_calls=1, call_s=call_s))


# --- Fargate ---------------------------------------------------------------------------------


def test_ten_thousand_seconds_in_a_hundred_tasks_cost_18_cents():
    found = on_fargate(Work(n_calls=10_000, call_s=1), FargateShape(max_tasks=100))
    assert found.makespan_s == ROUGH(130, abs=1e-3)  # 30 s of start, a hundred rounds
    assert found.compute_usd == ROUGH(100 * 130 / 3600 * (0.04048 + 2 * 0.004445), rel=1e-5)
    assert found.compute_usd == ROUGH(0.178, abs=1e-3)
    assert found.requests_usd == ROUGH(10_000 * (1.32 + 1 / 15) * 0.4e-6)


def test_spot_is_cheaper_by_the_discount():
    work = Work(n_calls=100, call_s=60)
    plain, spot = on_fargate(work), on_fargate(work, FargateShape(spot=True))
    assert spot.compute_usd == ROUGH(plain.compute_usd * 0.33)
    assert spot.makespan_s == plain.makespan_s


def test_a_task_is_billed_for_a_minute_at_least():
    found = on_fargate(Work(n_calls=10, call_s=1))
    assert (found.n_places, found.makespan_s) == (1, ROUGH(40, abs=1e-3))
    assert found.compute_usd == ROUGH(60 / 3600 * 0.04937)


@pytest.mark.parametrize(
    ("work", "tasks"),
    [
        pytest.param(Work(n_calls=100, call_s=1), 2, id="a minute's work for each slot"),
        pytest.param(Work(n_calls=120, call_s=1), 2, id="exactly"),
        pytest.param(Work(n_calls=100, call_s=60), 100, id="long calls: a task for each"),
        pytest.param(Work(n_calls=10_000, call_s=60), 800, id="never more than allowed"),
    ],
)
def test_the_pool_is_as_large_as_the_work_fills(work, tasks):
    assert FargateShape().n_tasks(work) == tasks


def test_tasks_start_a_hundred_at_once_and_then_twenty_a_second():
    found = on_fargate(Work(n_calls=130, call_s=60))
    assert found.makespan_s == ROUGH(2 + 30 + 60, abs=1e-3)
    billed_s = 100 * 92 + 20 * 91 + 10 * 90
    assert found.compute_usd == ROUGH(billed_s / 3600 * 0.04937, rel=1e-5)


# --- both ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_places", "waves"),
    [
        (5, [(0.0, 5)]),
        (10, [(0.0, 10)]),
        (13, [(0.0, 10), (1.0, 3)]),
        (21, [(0.0, 10), (1.0, 5), (2.0, 5), (3.0, 1)]),
    ],
)
def test_places_start_in_waves(n_places, waves):
    assert Ramp(burst=10, per_s=5).waves(n_places) == waves


@given(work=WORKS, concurrency=st.integers(1, 5000), slots=st.integers(1, 6))
def test_lambda_never_beats_its_own_work(work, concurrency, slots):
    shape = LambdaShape(concurrency=concurrency, slots=slots)
    found = on_lambda(work, shape)
    ideal_s = work.n_calls * work.call_s / (concurrency * slots)
    assert found.makespan_s >= max(ideal_s, work.call_s) * (1 - 1e-6)
    assert 1 <= found.n_places <= min(concurrency, found.n_requests)
    gb_s = work.n_calls * work.call_s / slots * 1769 / 1024
    assert found.compute_usd >= gb_s * US_EAST_1.lambda_gb_s["x86_64"] * (1 - 1e-6)


@given(work=WORKS, max_tasks=st.integers(1, 2000), slots=st.integers(1, 16))
def test_fargate_never_beats_its_own_work(work, max_tasks, slots):
    shape = FargateShape(max_tasks=max_tasks, slots=slots)
    found = on_fargate(work, shape)
    assert found.makespan_s >= (shape.start_s + work.call_s) * (1 - 1e-6)
    assert found.compute_usd >= work.n_calls * work.call_s / slots / 3600 * 0.04937 * (1 - 1e-5)
    assert found.compute_usd >= found.n_places * 60 / 3600 * 0.04937 * (1 - 1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Work(n_calls=0, call_s=1),
        lambda: Work(n_calls=1, call_s=0),
        lambda: LambdaShape(memory_mib=64),
        lambda: LambdaShape(arch="riscv"),
        lambda: LambdaShape(slots=0),
        lambda: FargateShape(arch="x86"),
        lambda: FargateShape(max_tasks=0),
    ],
)
def test_what_is_no_work_or_no_shape_is_refused(wrong):
    with pytest.raises(SettingsError):
        wrong()
