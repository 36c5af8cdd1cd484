"""Who is looked at, when: at most two reads a second, everybody in turn, the urgent ones each second."""

from itertools import pairwise
from random import Random

import pytest

from cloudexec.backends.ecs.launching import NEVER
from cloudexec.backends.ecs.watching import Watch


def looks(watch, from_s, to_s):
    """(time, tasks) of every look in this time, answered at once."""
    seen = []
    while watch.next_at_s <= to_s:
        now_s = max(from_s, watch.next_at_s)
        if arns := watch.look(now_s):
            seen.append((now_s, arns))
            watch.looked()
        elif watch.page(now_s) is not None:
            seen.append((now_s, "list"))
            watch.listed("", now_s)
    return seen


def a_watch(urgent=0, calm=0, now_s=0.0):
    watch = Watch(Random(1))
    for number in range(urgent):
        watch.soon(f"u{number}", now_s)
    for number in range(calm):
        watch.calmly(f"c{number}", now_s)
    return watch


def test_nobody_is_looked_at_when_nobody_is_there():
    assert a_watch().next_at_s == NEVER


@pytest.mark.parametrize(
    ("urgent", "calm", "n_looks"),
    [
        pytest.param(0, 5, 6, id="a few, every ten seconds"),
        pytest.param(0, 500, 26, id="five looks each ten seconds, from the tenth on"),
        pytest.param(0, 10_000, 51, id="ten thousand, once a second"),
        pytest.param(1, 0, 60, id="one that starts, every second"),
        pytest.param(1, 5000, 60, id="the two together"),
    ],
)
def test_looks_in_a_minute(urgent, calm, n_looks):
    assert len(looks(a_watch(urgent, calm), 0.0, 60.0)) == n_looks


def test_a_shorter_round_has_calm_ones_looked_at_more_often():
    watch = Watch(Random(1), round_s=2.0)
    watch.calmly("c0", 0.0)
    assert len(looks(watch, 0.0, 60.0)) == 30


def test_in_a_fleet_of_ten_thousand_everybody_has_a_turn_within_a_hundred_seconds_of_the_first():
    seen = [arn for _, arns in looks(a_watch(0, 10_000), 0.0, 110.0) for arn in arns]
    assert len(set(seen[:10_000])) == 10_000


def test_many_urgent_ones_leave_room_for_the_others():
    seen = looks(a_watch(300, 40), 0.0, 10.0)
    assert {len(arns) for _, arns in seen} == {100}
    names = {arn for _, arns in seen for arn in arns}
    assert len(names) == 340


def test_a_list_comes_between_the_looks():
    watch = a_watch(1)
    watch.list_from(3.0)
    seen = looks(watch, 0.0, 5.0)
    times = [at for at, _ in seen]
    assert [what for _, what in seen].count("list") == 1
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(times))


def test_pages_follow_each_other_once_a_second():
    watch = a_watch()
    watch.list_from(0.0)
    assert watch.page(0.0) == ""
    watch.listed("more", 0.2)
    assert watch.next_at_s == 1.0
    assert watch.page(1.0) == "more"
    watch.listed("", 1.2)
    assert not watch.is_listing


def test_nobody_is_asked_again_before_the_answer():
    watch = a_watch(1)
    assert watch.look(1.0) == ["u0"]
    assert watch.next_at_s == NEVER


def test_failures_make_pauses_and_the_list_begins_anew():
    watch = a_watch(1)
    watch.list_from(0.0)
    assert watch.page(0.0) == ""
    watch.list_failed(0.1)
    assert watch.is_listing
    assert watch.next_at_s > 0.5
    now_s, pauses = 10.0, []
    for _ in range(8):
        now_s = max(now_s, watch.next_at_s)
        if watch.look(now_s):
            watch.look_failed(now_s)
        else:
            assert watch.page(now_s) == ""
            watch.list_failed(now_s)
        pauses.append(watch.next_at_s - now_s)
    assert 15.0 <= max(pauses) <= 30.0


def test_a_silent_worker_is_looked_at_within_a_second():
    watch = a_watch(0, 250)
    looks(watch, 0.0, 31.0)
    watch.soon("c7", 31.0)
    at_s, arns = looks(watch, 31.0, 32.5)[0]
    assert at_s <= 32.0
    assert arns[0] == "c7"


def test_who_is_over_is_not_looked_at():
    watch = a_watch(1, 1)
    watch.forget("u0")
    watch.forget("c0")
    assert watch.next_at_s == NEVER
