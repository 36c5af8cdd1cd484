"""What a fleet does about each thing that can happen to it; test_fleet_in_weather.py has them all at once."""

import pytest

from cloudexec.backends.ecs.fleet import GRACE_S
from cloudexec.backends.ecs.launching import LaunchLimits
from cloudexec.backends.ecs.target import Capacity, EcsTarget, Fallback
from cloudexec.ledger.calls import Cause
from tests.backends.ecs.scene import DENIED, FAULT, LOST, PLAIN, SPOT, THROTTLE, UNAVAILABLE, Scene

QUICK = {"start_s": (2.0, 2.0), "latency_s": (0.1, 0.1)}
OD, SP = Capacity.ON_DEMAND, Capacity.SPOT


def a_scene(target=PLAIN, **more):
    return Scene(target, **{**QUICK, **more})


def all_up(scene):
    return all(machine.said_hello for machine in scene.machines.values())


# --- starting ---


def test_as_many_as_wanted_in_tens():
    scene = a_scene()
    scene.want(25)
    scene.run(10)
    assert [launch.count for launch in scene.asked] == [10, 10, 5]
    assert len(scene.machines) == 25
    assert all_up(scene)
    assert scene.news == []


def test_wanting_more_starts_the_difference_and_wanting_less_stops_nobody():
    scene = a_scene()
    scene.want(5)
    scene.run(10)
    scene.want(8)
    scene.run(10)
    scene.want(2)
    scene.run(10)
    assert [launch.count for launch in scene.asked] == [5, 3]
    assert (len(scene.running), scene.stops) == (8, [])


def test_who_leaves_is_not_replaced_until_more_are_wanted():
    scene = a_scene()
    scene.want(3)
    scene.run(10)
    scene.leave(scene.running[0])
    scene.run(30)
    assert (len(scene.machines), scene.fleet.n_workers, scene.news) == (3, 2, [])
    scene.want(3)
    scene.run(10)
    assert len(scene.machines) == 4


@pytest.mark.parametrize(
    ("fault", "acted"),
    [
        pytest.param(LOST, True, id="the answer is lost"),
        pytest.param(LOST, False, id="the request is lost"),
        pytest.param(FAULT, True, id="a fault of theirs, after the deed"),
    ],
)
def test_a_lost_answer_is_asked_for_again_and_starts_nothing_twice(fault, acted):
    scene = a_scene(refuse=[(fault, acted)])
    scene.want(4)
    scene.run(20)
    assert [launch.token for launch in scene.asked] == [scene.asked[0].token] * 2
    assert len(scene.machines) == 4
    assert all_up(scene)


def test_a_repeat_that_is_throttled_is_still_in_doubt():
    scene = a_scene(refuse=[(LOST, True), (THROTTLE, False), (THROTTLE, False)])
    scene.want(4)
    scene.run(60)
    assert len({launch.token for launch in scene.asked}) == 1
    assert len(scene.machines) == 4


def test_a_repeat_that_is_refused_makes_the_fleet_look_for_the_tasks():
    scene = a_scene(refuse=[(LOST, True), (DENIED, False)])
    scene.want(4)
    scene.run(30)
    assert len(scene.running) == scene.fleet.n_workers == 4
    assert all(machine.arn in scene.shown for machine in scene.running)


def test_a_throttle_costs_time_and_no_worker():
    scene = a_scene(refuse=[(THROTTLE, False)] * 3)
    scene.want(4)
    scene.run(30)
    assert (len(scene.machines), scene.fleet.n_throttled, scene.news) == (4, 3, [])


def test_a_permanent_refusal_is_told_at_once_and_not_repeated():
    scene = a_scene(refuse=[(DENIED, False)])
    scene.want(4)
    scene.run(1)
    (end,) = scene.not_started()
    assert "AccessDeniedException" in end.detail
    assert end.remedy == DENIED.remedy
    scene.run(60)
    assert len(scene.asked) == 1
    scene.want(4)  # the ledger tries again
    scene.run(10)
    assert len(scene.machines) == 4


def test_an_image_that_cannot_be_pulled_is_told_at_once():
    scene = a_scene(start_s=(1000, 1000))
    scene.want(1)
    scene.run(1)
    (machine,) = scene.machines.values()
    scene.end(machine, "TaskFailedToStart", "CannotPullContainerError: no basic auth: access denied")
    scene.run(2 + GRACE_S)
    (end,) = scene.not_started()
    assert (end.error, machine.arn in end.detail) == ("ImagePullFailed", True)
    assert "execution role" in end.remedy


@pytest.mark.parametrize(
    ("status", "remedy"),
    [pytest.param("RUNNING", "SQS", id="it runs and reaches nobody"), pytest.param("PENDING", "image", id="stuck")],
)
def test_a_worker_that_does_not_report_in_time_is_stopped_and_told(status, remedy):
    scene = a_scene(silent=1.0, start_within_s=60.0)
    scene.want(1)
    scene.run(5)
    (machine,) = scene.machines.values()
    machine.status = status
    scene.run(60)
    (end,) = scene.not_started()
    assert f"it is {status}" in end.detail
    assert remedy in end.remedy
    assert machine.told_to_stop
    scene.run(60)
    assert (scene.ended(), len(scene.not_started())) == ({}, 1)


# --- capacity ---


def test_no_capacity_is_waited_for_and_told_at_the_deadline():
    scene = a_scene(no_on_demand=1.0, start_within_s=60.0)
    scene.want(4)
    scene.run(59)
    assert scene.news == []
    assert 3 <= len(scene.asked) <= 10  # with growing pauses
    scene.run(2)
    (end,) = scene.not_started()
    assert end.error == "CapacityUnavailable"
    assert "Capacity is unavailable" in end.detail


def test_tasks_that_all_die_for_lack_of_capacity_are_not_tried_for_ever():
    scene = a_scene(dies_early=1.0)
    scene.want(3)
    scene.run(400)
    assert 1 <= len(scene.not_started()) <= 2
    assert scene.not_started()[0].error == "CapacityUnavailable"


def test_capacity_that_comes_back_fails_nobody():
    scene = a_scene(no_on_demand=1.0)
    scene.want(4)
    scene.run(100)
    scene.weather.no_on_demand = 0.0
    scene.run(90)
    assert len(scene.running) == 4
    assert scene.news == []


def test_who_waits_for_the_first_worker_for_a_minute_is_told_what_is_known():
    scene = a_scene(start_s=(90.0, 95.0))
    scene.want(3)
    scene.run(59)
    assert scene.notices == []
    scene.run(60)
    (notice,) = scene.notices
    assert "no worker has reported after 60 s" in notice
    assert "of 3 tasks wanted, 3 PENDING" in notice or "of 3 tasks wanted, 3 PROVISIONING" in notice
    assert "start_timeout_s=300" in notice


def test_without_spot_capacity_workers_are_started_on_demand_and_that_is_said_once():
    scene = a_scene(SPOT, no_spot=1.0)
    scene.want(30)
    scene.run(20)
    assert scene.capacities() == {OD: 30}
    (notice,) = scene.notices
    assert "no Spot capacity" in notice
    assert scene.fleet.n_diverted == 30
    assert scene.news == []


def test_as_many_as_found_no_spot_capacity_and_no_more_run_on_demand():
    scene = a_scene(SPOT, seed=3, no_spot=0.5)
    scene.want(40)
    scene.run(20)
    kinds = scene.capacities()
    assert sum(kinds.values()) == 40
    assert kinds[OD] == scene.fleet.n_diverted > 5


def test_who_prefers_to_wait_for_spot_waits():
    target = EcsTarget(cluster="c", task_definition="t", subnets=("s",), spot=True, fallback=Fallback.WAIT)
    scene = a_scene(target, no_spot=1.0)
    scene.want(4)
    scene.run(60)
    assert scene.machines == {}
    scene.weather.no_spot = 0.0
    scene.run(90)
    assert scene.capacities() == {SP: 4}


def test_the_base_runs_on_demand():
    target = EcsTarget(cluster="c", task_definition="t", subnets=("s",), spot=True, on_demand_base=3)
    scene = a_scene(target)
    scene.want(2)
    scene.run(5)
    assert scene.capacities() == {OD: 2}
    scene.want(10)
    scene.run(5)
    assert scene.capacities() == {OD: 3, SP: 7}


def test_a_base_without_capacity_does_not_hold_up_the_others():
    target = EcsTarget(cluster="c", task_definition="t", subnets=("s",), spot=True, on_demand_base=3)
    scene = a_scene(target, no_on_demand=1.0)
    scene.want(10)
    scene.run(5)
    assert scene.capacities() == {SP: 7}


def test_a_task_that_never_ran_for_lack_of_capacity_is_replaced_without_a_word():
    scene = a_scene(SPOT, start_s=(1000, 1000))
    scene.want(1)
    scene.run(1)
    (machine,) = scene.machines.values()
    scene.end(machine, "SpotInterruption", "Your Spot Task was interrupted.")
    scene.run(10)
    assert [other.capacity for other in scene.running] == [OD]
    assert scene.news == []


# --- ends ---


@pytest.mark.parametrize(
    ("code", "reason", "exit_code", "container", "cause", "says"),
    [
        pytest.param("SpotInterruption", "Your Spot Task was interrupted.", None, "", Cause.LOST, "Spot", id="spot"),
        pytest.param("EssentialContainerExited", "", 1, "", Cause.LOST, "exit code 1", id="exited"),
        pytest.param(
            "EssentialContainerExited", "", 137, "OutOfMemoryError: killed", Cause.OOM, "OutOfMemory", id="memory"
        ),
        pytest.param("InfrastructureHealth", "gone", None, "", Cause.LOST, "gone", id="host"),
    ],
)
def test_a_workers_end_is_told_after_a_moment_for_its_last_reports(code, reason, exit_code, container, cause, says):
    scene = a_scene()
    scene.want(2)
    scene.run(10)
    machine = scene.running[0]
    scene.fleet.suspect(machine.worker, scene.now_s)
    scene.end(machine, code, reason, exit_code, container)
    scene.run(2)
    assert scene.news == []
    scene.run(GRACE_S)
    assert list(scene.ended()) == [machine.worker]
    end = scene.ended()[machine.worker]
    assert (end.cause, end.exitcode) == (cause, exit_code)
    assert says in end.detail
    assert machine.arn in end.detail


def test_who_said_that_it_leaves_is_no_news_even_if_it_says_so_late():
    scene = a_scene()
    scene.want(1)
    scene.run(10)
    (machine,) = scene.running
    scene.fleet.suspect(machine.worker, scene.now_s)
    scene.end(machine, "EssentialContainerExited", "", 0)
    scene.run(2)  # the end was seen
    scene.fleet.left(machine.worker, scene.now_s)
    scene.run(GRACE_S + 1)
    assert scene.news == []


def test_a_hello_that_comes_after_the_services_word_makes_it_a_worker_that_ended():
    scene = a_scene(silent=1.0)
    scene.want(1)
    scene.run(4)
    (machine,) = scene.machines.values()
    scene.end(machine, "EssentialContainerExited", "", 1)
    scene.run(1.5)
    scene.fleet.heard(machine.worker, scene.now_s)
    scene.run(GRACE_S)
    assert list(scene.ended()) == [machine.worker]
    assert scene.not_started() == []


def test_a_task_that_is_not_known_yet_is_waited_for():
    scene = a_scene(known_after_s=55.0)
    scene.want(3)
    scene.run(120)
    assert all_up(scene)
    assert scene.news == []


def test_a_task_that_is_not_known_any_more_has_ended():
    scene = a_scene()
    scene.want(1)
    scene.run(100)
    (machine,) = scene.machines.values()
    del scene.machines[machine.arn]
    scene.run(25 + GRACE_S)
    assert "not known to ECS any more" in scene.ended()[machine.worker].detail


def test_a_silent_worker_is_looked_at_within_a_second_and_a_quiet_fleet_every_ten():
    scene = a_scene()
    scene.want(5)
    scene.run(30)
    n_reads = len(scene.reads)
    scene.run(60)
    assert len(scene.reads) - n_reads == 6
    n_reads = len(scene.reads)
    scene.fleet.suspect(scene.running[0].worker, scene.now_s)
    scene.run(1.5)
    assert len(scene.reads) > n_reads


def test_without_workers_nothing_is_read():
    scene = a_scene()
    scene.want(1)
    scene.run(10)
    scene.leave(scene.running[0])
    scene.run(30)
    n_reads = len(scene.reads)
    scene.run(600)
    assert len(scene.reads) == n_reads
    assert scene.fleet.next_deadline > scene.now_s


# --- stopping ---


def test_a_worker_that_is_dropped_is_stopped_and_its_end_is_told():
    scene = a_scene()
    scene.want(2)
    scene.run(10)
    machine = scene.running[0]
    scene.fleet.drop(machine.worker, "no sign of life", scene.now_s)
    scene.run(30)
    assert machine.reason == "cloudexec: no sign of life"
    assert "no sign of life" in scene.ended()[machine.worker].detail
    assert len(scene.running) == scene.fleet.n_workers == 1


def test_a_worker_that_is_dropped_and_forgotten_by_its_service_has_ended():
    scene = a_scene()
    scene.want(1)
    scene.run(10)
    (machine,) = scene.running
    del scene.machines[machine.arn]
    scene.fleet.drop(machine.worker, "no sign of life", scene.now_s)
    scene.run(5)
    assert "not known to ECS any more" in scene.ended()[machine.worker].detail
    assert scene.fleet.n_workers == 0


def test_a_worker_that_is_dropped_and_was_never_found_has_ended():
    scene = a_scene()
    scene.fleet.heard("stranger", scene.now_s)
    scene.run(5)
    scene.fleet.drop("stranger", "no sign of life", scene.now_s)
    scene.settle()
    assert list(scene.ended()) == ["stranger"]


def test_who_says_that_it_leaves_and_stays_is_stopped():
    scene = a_scene()
    scene.want(1)
    scene.run(10)
    (machine,) = scene.running
    scene.fleet.left(machine.worker, scene.now_s)
    scene.run(140)
    assert not machine.told_to_stop
    scene.run(40)
    assert machine.status == "STOPPED"
    assert scene.news == []


def test_the_end_stops_everybody_at_the_allowed_rate():
    scene = a_scene(limits=LaunchLimits(tasks_burst=100))
    scene.want(100)
    scene.run(10)
    scene.stop_all()
    scene.run(3.9)
    assert len(scene.stops) <= 20 + 4 * 20
    scene.run(40)
    assert (scene.running, scene.fleet.is_over) == ([], True)
    assert {machine.reason for machine in scene.machines.values()} == {"cloudexec: shutdown"}


@pytest.mark.parametrize("acted", [True, False])
def test_the_end_finds_tasks_whose_launch_was_never_answered(acted):
    scene = a_scene(refuse=[(LOST, acted)])
    scene.want(4)
    scene.run(0.2)
    scene.stop_all()
    assert not scene.fleet.is_over
    scene.run(60)
    assert (scene.running, scene.fleet.is_over) == ([], True)
    assert len(scene.asked) == 1


def test_the_end_stops_tasks_whose_launch_is_under_way():
    scene = a_scene(latency_s=(5.0, 5.0))
    scene.want(4)
    scene.run(1)
    scene.stop_all()
    assert not scene.fleet.is_over
    scene.run(60)
    assert (len(scene.machines), scene.running, scene.fleet.is_over) == (4, [], True)


def test_a_stop_that_is_throttled_is_repeated():
    scene = a_scene(stop_error=0.5)
    scene.want(10)
    scene.run(10)
    scene.stop_all()
    scene.run(60)
    assert (scene.running, scene.fleet.is_over) == ([], True)


def test_nothing_is_started_after_the_end():
    scene = a_scene(no_on_demand=1.0)
    scene.want(4)
    scene.run(1)
    scene.stop_all()
    scene.want(9)
    scene.weather.no_on_demand = 0.0
    scene.run(200)
    assert scene.machines == {}


# --- another client's workers ---


def test_the_tasks_of_an_earlier_client_are_found_and_counted():
    old = a_scene()
    old.want(12)
    old.run(10)
    scene = a_scene()
    scene.machines = old.machines
    scene.fleet.adopt(scene.now_s)
    scene.run(2)
    assert scene.fleet.n_workers == 12
    scene.want(12)
    scene.run(5)
    assert scene.asked == []
    machine = scene.running[0]
    scene.fleet.heard(machine.worker, scene.now_s)
    scene.end(machine, "SpotInterruption", "Your Spot Task was interrupted.")
    scene.run(10 + GRACE_S)
    assert list(scene.ended()) == [machine.worker]


def test_who_adopts_starts_only_what_is_missing():
    old = a_scene()
    old.want(8)
    old.run(10)
    scene = a_scene()
    scene.machines, scene._names = old.machines, old._names
    scene.fleet.adopt(scene.now_s)
    scene.want(12)  # at once, before the list of tasks is there
    scene.run(5)
    assert sum(launch.count for launch in scene.asked) == 4


def test_who_adopts_and_may_not_list_tasks_starts_its_own():
    scene = a_scene(read_error=1.0)
    scene.fleet.adopt(scene.now_s)
    scene.want(3)
    scene.run(5)
    assert sum(launch.count for launch in scene.asked) == 3


def test_a_worker_nobody_here_has_started_is_looked_for_once_it_reports():
    scene = a_scene()
    machine = scene._give_birth(OD)
    scene.run(3)
    scene.fleet.heard(machine.worker, scene.now_s)
    scene.run(3)
    assert scene.fleet.arn_of(machine.worker) == machine.arn
    assert scene.fleet.n_workers == 1


def test_the_reason_for_the_deadline_is_the_last_one_that_was_heard():
    scene = a_scene(refuse=[(THROTTLE, False)] * 100, start_within_s=60.0)
    scene.want(1)
    scene.run(61)
    (end,) = scene.not_started()
    assert "Rate exceeded" in end.detail
    assert UNAVAILABLE["reason"] not in end.detail
