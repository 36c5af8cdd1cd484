"""The real ledger in random clouds; `python -m cloudexec.testing.simulation --seeds 0:10000` looks further."""

import random
from dataclasses import replace

import pytest

from cloudexec.ledger.calls import Retry
from cloudexec.ledger.pace import Pace
from cloudexec.testing.simulation import Plan, Simulation, Weather

N_FIXED = 150
N_NEW = 50
FOUND = {
    36: "a call is cancelled in the turn in which it is submitted",
    74: "an old message is taken while a new one is on its way",
    489: "slots that are slow to start pass a call on in a circle",
    1043: "a retired slot's last outcome comes after its end",
    1092: "an outcome comes from another slot than the one that is said to hold the call",
    1093: "calls are taken back at the moment in which they were placed",
    1441: "an outcome sends a call back to its pause while its message waits to be sent",
}


@pytest.mark.parametrize("part", range(5))
def test_every_promise_holds_in_the_clouds_of_the_first_seeds(part):
    for seed in range(part * N_FIXED // 5, (part + 1) * N_FIXED // 5):
        Simulation(Plan.random(seed)).run()


def test_every_promise_holds_in_clouds_that_nobody_has_seen():
    first = random.SystemRandom().randrange(10**9)
    for seed in range(first, first + N_NEW):
        Simulation(Plan.random(seed)).run()


@pytest.mark.parametrize("seed", FOUND, ids=FOUND.get)
def test_what_once_went_wrong_goes_well_when(seed):
    Simulation(Plan.random(seed)).run()


# --- clouds with one kind of trouble, and what must come out ---

PATIENT = Retry(error=20, crash=20, timeout=20, oom=20, lost=100)
CALM = Plan(n_calls=300, n_slots=10, slots_per_worker=2, retry=PATIENT, durations="lognormal")


def lossy(**weather):
    """Messages of their own, as over a network."""
    return replace(CALM, pace=Pace(can_recall=False), weather=Weather(**weather))


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(CALM, id="nothing"),
        pytest.param(lossy(loss=0.05), id="messages get lost"),
        pytest.param(lossy(twins=0.5, jitter=1.0, latency_s=0.05), id="messages come twice and in any order"),
        pytest.param(replace(CALM, weather=Weather(slot_death=0.05)), id="slots die"),
        pytest.param(replace(CALM, weather=Weather(worker_death=0.02)), id="workers die"),
        pytest.param(lossy(silence=0.02), id="workers fall silent"),
        pytest.param(lossy(silence=0.05, revival=1.0), id="workers fall silent, and are heard again"),
        pytest.param(replace(CALM, weather=Weather(throttled=0.5, start_s=2.0)), id="starts are throttled"),
        pytest.param(replace(CALM, max_tasks=1, weather=Weather(start_s=1.0)), id="a process for each call"),
        pytest.param(replace(CALM, mode="pull", weather=Weather(redelivery=0.2)), id="the queue hands out twice"),
        pytest.param(replace(CALM, mode="pull", weather=Weather(loss=0.05)), id="the queue loses messages"),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_every_call_returns_its_value_though(plan, seed):
    report = Simulation(replace(plan, seed=seed)).run()
    assert report.ends == {"ok": plan.n_calls}


def test_a_call_that_kills_its_slot_each_time_fails_and_harms_no_other():
    plan = replace(CALM, crash=0.1, retry=Retry(crash=1))
    report = Simulation(plan).run()
    assert set(report.ends) == {"ok", "crash"}
    poisons = [call for call in Simulation(plan).calls if call.ends.count("crash") > 1 or call.ends == ("crash",)]
    assert report.ends["crash"] == len(poisons)


def test_starts_that_always_fail_end_every_call():
    report = Simulation(replace(CALM, weather=Weather(start_failure=1.0))).run()
    assert report.ends == {"broken": CALM.n_calls}


def test_slots_that_always_die_at_their_start_end_every_call():
    report = Simulation(replace(CALM, weather=Weather(barren=1.0))).run()
    assert report.ends == {"broken": CALM.n_calls}


def test_a_terminated_run_leaves_nothing_open():
    report = Simulation(replace(CALM, terminate=1.0, submit_for_s=5.0, mean_s=1.0)).run()
    assert sum(report.ends.values()) == CALM.n_calls
    assert report.ends["cancelled"]


def test_the_same_seed_gives_the_same_run():
    assert Simulation(Plan.random(4)).run() == Simulation(Plan.random(4)).run()
