"""Tasks are started as fast as the account allows, slower after a throttle, and never twice."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.backends.ecs.launching import NEVER, Bucket, Launcher, LaunchLimits, Pause
from cloudexec.backends.ecs.target import Capacity

OD, SPOT = Capacity.ON_DEMAND, Capacity.SPOT


def a_launcher(client="me", **limits):
    return Launcher("r20261121-052301-9f3a1c", client, Random(1), LaunchLimits(**limits))


def started(launcher, capacity, seconds, n_wanted=10_000):
    """How many tasks come out from 0 s to then, if everything is answered at once."""
    total, now_s = 0, 0.0
    while now_s <= seconds:
        launch = launcher.next(capacity, n_wanted - total, now_s)
        if launch is None:
            now_s = max(launcher.ready_at(capacity, n_wanted - total, now_s), now_s + 1e-9)
        else:
            total += launch.count
            launcher.answered(launch)
    return total


def test_a_burst_then_the_rate():
    assert started(a_launcher(), OD, 0) == 100
    assert started(a_launcher(), OD, 10) == 300


def test_on_demand_and_spot_have_buckets_of_their_own():
    launcher = a_launcher()
    assert started(launcher, OD, 0) == 100
    assert started(launcher, SPOT, 0) == 100


def test_calls_are_limited_too():
    launcher = a_launcher(calls_burst=3, calls_per_s=1.0, tasks_burst=1000, tasks_per_s=1000.0)
    assert started(launcher, OD, 2) == 50


@pytest.mark.parametrize(("n_wanted", "count"), [(1, 1), (9, 9), (10, 10), (11, 10), (500, 10)])
def test_a_launch_has_at_most_ten_tasks(n_wanted, count):
    assert a_launcher().next(OD, n_wanted, 0.0).count == count


def test_tokens_tell_launches_clients_and_runs_apart_and_stay():
    def tokens(launcher):
        return [launcher.next(OD, 1, 0.0).token for _ in range(3)]

    mine = tokens(a_launcher())
    assert mine == tokens(a_launcher())
    assert len({*mine, *tokens(a_launcher("another")), *tokens(a_launcher("x" * 80))}) == 9
    assert all(len(token) <= 64 and token.isprintable() for token in tokens(a_launcher("x" * 80)))


def test_a_throttle_halves_the_rate_and_answers_bring_it_back():
    launcher = a_launcher()
    launch = launcher.next(OD, 10, 0.0)
    launcher.throttled(launch, 0.0)
    assert launcher.next(OD, 10, 0.4) is None  # a pause of a half to one second
    ready_s = launcher.ready_at(OD, 10, 0.4)
    assert 1.0 <= ready_s <= 2.0  # ten tokens at 10 a second
    for _ in range(10):
        launcher.answered(launch)
    assert started(launcher, OD, 100) > 1900


def test_throttles_of_calls_that_were_sent_together_count_once():
    together, alone = a_launcher(), a_launcher()
    for _ in range(10):
        together.throttled(together.next(OD, 1, 0.0), 0.0)
    alone.throttled(alone.next(OD, 1, 0.0), 0.0)
    assert together.ready_at(OD, 1, 0.0) == pytest.approx(alone.ready_at(OD, 1, 0.0), abs=0.01)


def test_throttles_in_a_row_make_longer_pauses_up_to_a_minute():
    launcher, now_s, pauses = a_launcher(), 0.0, []
    for _ in range(12):
        launcher.throttled(launcher.next(OD, 1, now_s), now_s)
        pauses.append(launcher.ready_at(OD, 1, now_s) - now_s)
        now_s += pauses[-1]
    assert pauses[0] <= 1.0 < pauses[4]
    assert 30.0 <= pauses[-1] <= 65.0


def test_what_was_not_answered_is_repeated_under_its_token():
    launcher = a_launcher()
    launch = launcher.next(OD, 7, 0.0)
    launcher.unanswered(launch, 0.0)
    assert launcher.n_unanswered == 7
    assert launcher.repeat(0.0) is None
    assert launcher.repeat(launcher.repeat_at(0.0)) == launch
    assert (launcher.n_unanswered, launcher.repeat_at(5.0)) == (0, NEVER)


def test_no_room_for_one_kind_does_not_hold_up_the_other():
    launcher = a_launcher()
    launcher.no_capacity(SPOT, 0.0)
    assert launcher.next(SPOT, 1, 0.5) is None
    assert launcher.next(OD, 1, 0.5) is not None
    assert 1.0 <= launcher.ready_at(SPOT, 1, 0.5) <= 2.0


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 10)), max_size=50))
def test_a_bucket_never_gives_more_than_burst_and_rate(steps):
    bucket, now_s, taken = Bucket(20, 5.0), 0.0, 0
    for wait_s, count in steps:
        now_s += wait_s
        if bucket.ready_at(count, now_s) <= now_s:
            bucket.spend(count, now_s)
            taken += count
        assert taken <= 20 + 5.0 * now_s + 1e-3


@given(st.integers(1, 20), st.floats(0, 1e6))
def test_a_bucket_is_ready_when_it_says(count, now_s):
    bucket = Bucket(20, 5.0)
    bucket.ready_at(1, now_s)
    bucket.spend(20, now_s)
    at_s = bucket.ready_at(count, now_s)
    assert bucket.ready_at(count, at_s) <= at_s


def test_clients_that_fail_together_do_not_come_back_together():
    pauses = [Pause(Random(seed)) for seed in range(100)]
    for pause in pauses:
        pause.failed(0.0)
    times = sorted(pause.until_s for pause in pauses)
    assert 0.5 <= times[0] < 0.6
    assert 0.9 < times[-1] <= 1.0
