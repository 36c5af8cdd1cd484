"""Whatever the service does, a fleet keeps its limits, tells every end once, and leaves nothing behind."""

from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudexec.backends.ecs.fleet import GRACE_S
from cloudexec.backends.ecs.launching import LaunchLimits
from cloudexec.backends.ecs.target import Capacity, EcsTarget, Fallback
from cloudexec.backends.pull.fleet import WorkerEnded
from tests.backends.ecs.scene import Scene

chances = st.sampled_from([0.0, 0.1, 0.4])
small = st.sampled_from([0.0, 0.05, 0.2])
weathers = st.fixed_dictionaries(
    {
        "throttle": chances,
        "lose_before": small,
        "lose_after": small,
        "fault": small,
        "read_error": chances,
        "stop_error": chances,
        "no_spot": st.sampled_from([0.0, 0.3, 1.0]),
        "no_on_demand": chances,
        "dies_early": small,
        "dies_later": chances,
        "silent": small,
        "leaves": chances,
        "known_after_s": st.sampled_from([0.0, 3.0, 45.0]),
    }
)
targets = st.builds(
    EcsTarget,
    cluster=st.just("c"),
    task_definition=st.just("td"),
    subnets=st.just(("subnet-1",)),
    spot=st.just(True),
    on_demand_base=st.integers(0, 5),
    fallback=st.sampled_from(Fallback),
) | st.just(EcsTarget(cluster="c", task_definition="td", subnets=("subnet-1",)))
wants = st.lists(st.tuples(st.integers(0, 60), st.sampled_from([0.3, 20.0, 120.0])), min_size=1, max_size=5)


def most_in_window(times, width_s):
    """The largest number of events in any half-open window."""
    return max((bisect_left(times, start + width_s) - index for index, start in enumerate(times)), default=0)


def is_within(times, burst, per_s):
    """Whether a bucket that was full would have let them all pass."""
    level, last = burst, times[0] if times else 0.0
    for at in times:
        level = min(burst, level + (at - last) * per_s) - 1
        last = at
        if level < -1e-3:
            return False
    return True


def check_limits(scene):
    limits = scene.limits
    assert most_in_window(scene.reads, 1.0 - 1e-9) <= 2
    assert is_within(scene.calls, limits.calls_burst, limits.calls_per_s)
    assert is_within(scene.stops, 20, 20.0)
    for capacity in Capacity:
        starts = [at for at, kind in scene.starts if kind is capacity]
        assert is_within(starts, limits.tasks_burst, limits.tasks_per_s)
    ambiguous = sum(scene.by_token[token][0] for token in scene.lost_tokens)
    assert scene.most_alive <= scene.most_wanted + ambiguous


def check_ends(scene):
    """Every worker that was heard and ended without a farewell is told of once, and no other one."""
    told = [news.worker for news in scene.news if isinstance(news, WorkerEnded)]
    assert len(told) == len(set(told))
    stopped = [machine for machine in scene.machines.values() if machine.status == "STOPPED"]
    died = {m.worker for m in stopped if m.said_hello and not m.left and m.arn in scene.shown}
    assert set(told) == died  # those whose names were never told, because answers were lost, fall silent instead


@given(target=targets, weather=weathers, wants=wants, seed=st.integers(0, 2**32))
@settings(max_examples=30)
def test_a_fleet_keeps_its_limits_and_leaves_nothing_behind(target, weather, wants, seed):
    scene = Scene(target, seed=seed, limits=LaunchLimits(tasks_burst=20), **weather)
    for n_workers, seconds in wants:
        scene.want(n_workers)
        scene.run(seconds)
    scene.run(60)
    scene.stop_all()
    scene.run(900)
    assert scene.fleet.is_over
    assert [machine.arn for machine in scene.running] == []
    assert scene.fleet.n_workers == 0
    assert scene.fleet.next_deadline == float("inf") or scene.fleet.next_deadline > scene.now_s
    check_limits(scene)
    check_ends(scene)


@given(target=targets, weather=weathers, seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_whoever_wants_workers_gets_them_or_is_told_why_not(target, weather, seed):
    scene = Scene(target, seed=seed, **{**weather, "dies_later": 0.0, "leaves": 0.0})
    scene.want(30)
    n_before, n_up = -1, 0
    while n_up > n_before:  # as long as somebody comes, nobody gives up
        scene.run(300 + 60 + GRACE_S)  # a task may have been started just before the deadline
        n_before, n_up = n_up, sum(machine.said_hello for machine in scene.machines.values())
    assert n_up >= 30 or scene.not_started()
    assert all(end.detail and end.remedy for end in scene.not_started())


@given(seed=st.integers(0, 2**32))
@settings(max_examples=1)
def test_reads_stay_below_two_a_second_with_a_thousand_workers(seed):
    scene = Scene(seed=seed, dies_later=0.01, limits=LaunchLimits(tasks_burst=1000, calls_burst=100, calls_per_s=100))
    scene.want(1000)
    scene.run(120)
    assert len(scene.running) >= 900
    check_limits(scene)
    n_reads = len(scene.reads)
    scene.run(60)
    assert len(scene.reads) - n_reads <= 66  # one look a second, and what was under way


@pytest.mark.parametrize("seed", range(3))
def test_in_fair_weather_a_fleet_starts_as_fast_as_is_allowed(seed):
    scene = Scene(seed=seed, start_s=(5.0, 5.0), latency_s=(0.15, 0.15))
    scene.want(300)
    scene.run(11.5)
    assert len(scene.machines) == 300  # 100 at once, then 20 a second
    assert len(scene.calls) == 30
    scene.run(10)
    assert sum(machine.said_hello for machine in scene.machines.values()) == 300
    assert scene.news == scene.notices == []
