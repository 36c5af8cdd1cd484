"""Which tasks are started, watched and stopped for commands: faults by hand, then any weather. Time is simulated."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudexec.backends.ecs.commands.jobs import Why
from cloudexec.backends.ecs.stops import StopKind
from cloudexec.backends.ecs.target import Capacity
from tests.commands.scene import DENIED, FAULT, LOST, SPOT, THROTTLE, Scene


def test_each_job_has_a_task_of_its_own_and_ends_with_it():
    scene = Scene()
    scene.add(5)
    scene.run(60)
    assert scene.kinds() == dict.fromkeys(range(1, 6), StopKind.EXITED)
    assert len(scene.tasks) == len(scene.by_token) == 5
    assert scene.containers.next_deadline >= scene.now_s + 200  # only deadlines that nobody needs any more


def test_without_jobs_nothing_is_asked():
    scene = Scene()
    scene.add()
    scene.run(60)
    scene.looks_s.clear()
    scene.run(3600)
    assert [*scene.looks_s, *scene.lists_s, *scene.stops_s] == []


def test_launches_keep_to_the_burst_and_the_rate():
    scene = Scene()
    scene.add(200)
    scene.run(120)
    assert len(scene.ended) == 200
    for start_s in scene.runs_s:
        assert sum(start_s <= at_s < start_s + 2.0 for at_s in scene.runs_s) <= 20 + 2 * 20 + 1


def test_looks_come_once_a_second_however_many_tasks_there_are():
    scene = Scene(run_s=(30.0, 60.0))
    scene.add(250)
    scene.run(150)
    assert len(scene.ended) == 250
    assert min(after - before for before, after in pairwise(scene.looks_s)) >= 1.0 - 1e-6


@pytest.mark.parametrize(
    ("error", "n_tasks"),
    [
        pytest.param(THROTTLE, 1, id="throttled: nothing was started"),
        pytest.param(LOST, 1, id="answer lost: repeated under its token"),
        pytest.param(FAULT, 1, id="their fault: repeated under its token"),
    ],
)
def test_trouble_that_passes_is_repeated(error, n_tasks):
    scene = Scene(refuse=[error, error])
    scene.add()
    scene.run(60)
    assert scene.kinds() == {1: StopKind.EXITED}
    assert len(scene.tasks) == n_tasks
    assert len(scene.runs_s) == 3


def test_a_refusal_ends_its_job_alone():
    scene = Scene(refuse=[DENIED])
    scene.add(2)
    scene.run(60)
    assert sorted(kind.name for kind in scene.kinds().values()) == ["EXITED", "REFUSED"]
    assert [ended.error for ended in scene.ended if ended.stop.kind is StopKind.REFUSED] == [DENIED]


def test_a_job_that_waits_can_be_taken_back_and_one_that_is_asked_for_cannot():
    scene = Scene(refuse=[THROTTLE])
    first = scene.add()
    assert not scene.containers.take_back(first.lane)
    scene.run(0.5)  # the throttle has come
    assert scene.containers.is_waiting(first.lane)
    assert scene.containers.take_back(first.lane)
    assert not scene.containers.take_back(first.lane)
    scene.run(400)
    assert (scene.tasks, scene.ended) == ({}, [])


def test_no_capacity_is_waited_for_and_told_at_the_deadline():
    scene = Scene(no_capacity=1.0, start_within_s=100.0)
    scene.add()
    scene.run(99)
    assert not scene.ended
    assert 4 < len(scene.runs_s) < 20
    scene.run(2)
    (ended,) = scene.ended
    assert ended.stop.kind is StopKind.CAPACITY
    assert "Capacity is unavailable" in ended.stop.text
    scene.run(200)
    assert len(scene.ended) == 1


def test_the_time_in_which_a_job_must_start_begins_with_its_first_try():
    scene = Scene(start_within_s=20.0)
    scene.add(800)  # the last ones have their turn after 40 s
    scene.run(120)
    assert set(scene.kinds().values()) == {StopKind.EXITED}
    assert len(scene.ended) == 800


def test_without_spot_capacity_a_job_goes_on_demand():
    scene = Scene(SPOT, no_spot=1.0)
    jobs = [scene.add() for _ in range(3)]
    scene.run(60)
    assert {job.capacity for job in jobs} == {Capacity.ON_DEMAND}
    assert len(scene.notices) == 1
    assert set(scene.kinds().values()) == {StopKind.EXITED}


@pytest.mark.parametrize(
    ("reason", "n_tries"),
    [
        pytest.param("CannotPullContainerError: manifest unknown", 1, id="no such image: told at once"),
        pytest.param("CannotPullContainerError: 429 toomanyrequests", 5, id="pulls are limited: tried again"),
        pytest.param("Capacity is unavailable at this time", 5, id="no capacity after all: tried again"),
    ],
)
def test_a_task_that_ends_before_it_runs(reason, n_tries):
    scene = Scene(early_death=1.0, early_reason=reason, start_within_s=100.0)
    scene.add()
    scene.run(300)
    assert len(scene.ended) == 1
    assert (len(scene.tasks) == 1) if n_tries == 1 else (len(scene.tasks) >= n_tries)


def test_a_task_that_does_not_start_in_time_is_told_and_stopped():
    scene = Scene(start_s=(500.0, 500.0), start_within_s=30.0)
    scene.add()
    scene.run(40)
    (ended,) = scene.ended
    assert "has not started within 30 s: it is PROVISIONING" in ended.stop.text
    assert not scene.live


def test_a_spot_interruption_ends_the_job():
    scene = Scene(SPOT, spot_death=1.0)
    scene.add()
    scene.run(30)
    assert scene.kinds() == {1: StopKind.SPOT}
    assert len(scene.tasks) == 1  # whether to try again is the ledger's to say


def test_a_young_task_may_be_unknown_for_a_while():
    scene = Scene(known_after_s=50.0)
    scene.add()
    scene.run(120)
    assert scene.kinds() == {1: StopKind.EXITED}


def test_a_task_that_ecs_forgets_has_vanished():
    scene = Scene(run_s=(500.0, 500.0))
    scene.add()
    scene.run(70)
    scene.tasks.clear()
    scene.run(10)
    assert scene.kinds() == {1: StopKind.VANISHED}


def test_the_time_limit_counts_from_the_start():
    scene = Scene(start_s=(30.0, 30.0), run_s=(500.0, 500.0))
    job = scene.add(timeout_s=10.0)
    scene.run(39)
    assert job.why is None
    scene.run(10)
    assert (job.why, scene.kinds()) == (Why.TIMEOUT, {1: StopKind.STOPPED_BY_US})


def test_a_program_that_ends_while_it_is_told_to_stop_has_ended_by_itself():
    scene = Scene(start_s=(1.0, 1.0), run_s=(9.0, 9.0))
    job = scene.add()
    scene.run(9.5)
    scene.stop(job, Why.STOPPED)
    scene.run(10)
    assert scene.kinds() == {1: StopKind.EXITED}


@pytest.mark.parametrize(
    "after_s",
    [
        pytest.param(0.0, id="its start is asked for"),
        pytest.param(1.0, id="its task is there"),
        pytest.param(8.0, id="it runs"),
    ],
)
@pytest.mark.parametrize("stop_error", [0.0, 0.6], ids=["", "StopTask throttled"])
def test_a_job_that_is_stopped_ends_whatever_it_did(after_s, stop_error):
    scene = Scene(start_s=(4.0, 5.0), run_s=(500.0, 500.0), stop_error=stop_error)
    job = scene.add()
    scene.run(after_s)
    scene.stop(job, Why.STOPPED)
    scene.run(60)
    assert scene.kinds() == {1: StopKind.STOPPED_BY_US}
    assert not scene.live


def test_the_end_stops_tasks_whose_start_was_never_answered():
    scene = Scene(lose_after=1.0, run_s=(5000.0, 5000.0))
    scene.add(3)
    scene.run(5)
    scene.stop_all()
    scene.run(30)
    assert scene.containers.is_over
    assert scene.tasks
    assert not scene.live


probability = st.floats(0.0, 0.4)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    n_jobs=st.integers(1, 40),
    is_spot=st.booleans(),
    weather=st.fixed_dictionaries(
        dict.fromkeys(
            ("throttle", "lose_before", "lose_after", "fault", "no_spot", "no_capacity", "read_error", "stop_error"),
            probability,
        )
        | {"early_death": probability, "spot_death": probability, "known_after_s": st.floats(0.0, 30.0)}
    ),
    stops=st.lists(st.tuples(st.integers(1, 40), st.floats(0.0, 30.0)), max_size=6),
    end_s=st.one_of(st.none(), st.floats(0.0, 60.0)),
)
def test_in_any_weather_each_job_ends_once_and_nothing_is_left_running(seed, n_jobs, is_spot, weather, stops, end_s):
    scene = Scene(SPOT if is_spot else Scene().target, seed=seed, **weather)
    scene.add(n_jobs)
    for number, after_s in stops:
        if number in scene.jobs:
            scene.later(after_s, lambda job=scene.jobs[number]: scene.stop(job, Why.STOPPED))
    if end_s is not None:
        scene.later(end_s, scene.stop_all)
    scene.run(900)
    if end_s is None:
        assert sorted(scene.kinds()) == sorted(scene.jobs)
    assert len(scene.ended) == len(scene.kinds())  # none twice
    scene.stop_all()
    scene.run(600)
    assert sorted(scene.kinds()) == sorted(scene.jobs)
    assert len(scene.ended) == n_jobs
    assert not scene.live
    assert scene.containers.is_over
    looks_s = sorted(scene.looks_s)
    assert all(after - before >= 1.0 - 1e-6 for before, after in pairwise(looks_s))
