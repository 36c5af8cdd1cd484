"""Many calls and slots: batches do not cost time, and bookkeeping does not grow."""

from dataclasses import replace

import pytest

from cloudexec.ledger.calls import CallOptions
from cloudexec.ledger.pace import Pace
from cloudexec.testing.simulation import Plan, Simulation, Weather
from tests.ledger.driving import Driver

UNEVEN = Plan(n_calls=2000, n_slots=2, slots_per_worker=16, durations="pareto", weather=Weather(latency_s=0.0002))


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(UNEVEN, id="2 slots"),
        pytest.param(replace(UNEVEN, n_calls=10_000, n_slots=100), id="100 slots"),
        pytest.param(
            replace(UNEVEN, n_calls=10_000, n_slots=100, pace=Pace(can_recall=False, shares=0.1)), id="no taking back"
        ),
    ],
)
def test_uneven_calls_take_no_longer_in_batches_than_singly_and_half_the_messages(plan):
    plans = [replace(plan, seed=seed, checked=False) for seed in range(3)]
    batches = [Simulation(plan).run() for plan in plans]
    singly = [Simulation(replace(plan, batch=1)).run() for plan in plans]
    assert sum(run.virtual_s for run in batches) <= 1.05 * sum(run.virtual_s for run in singly)
    assert sum(run.n_messages for run in batches) <= 0.5 * sum(run.n_messages for run in singly)


def test_thousands_of_slots_are_driven_with_every_check():
    plan = Plan(n_calls=10_000, n_slots=2000, slots_per_worker=8, mean_s=0.5, durations="lognormal")
    weather = Weather(slot_death=0.001, worker_death=0.0002, throttled=0.1)
    report = Simulation(replace(plan, weather=weather)).run()
    assert sum(report.ends.values()) == plan.n_calls


class CountedLanes(dict):
    """Counts how many lanes are looked at by going through all of them."""

    looked_at = 0

    def values(self):
        self.looked_at += len(self)
        return super().values()


def test_idle_lanes_do_not_make_outcomes_dearer():
    ledger = Driver(lanes=1000, mean_s=1.0)
    lanes = ledger.ledger._placing.lanes = CountedLanes(ledger.ledger._placing.lanes)
    ledger.submit(500)
    ledger.act()
    for number in range(1, 401):
        ledger.now_s += 1e-4
        ledger.outcome(number, lane=f"lane{number - 1}")
    assert lanes.looked_at <= 10 * 1000  # 400 outcomes in 40 ms: a search each 10 ms, and no more


def test_what_is_over_is_forgotten():
    ledger = Driver(lanes=2, options=CallOptions(batch=10))
    for _ in range(20):
        for call in ledger.submit(100):
            call.placed_s = 0.0
        while ledger.ledger.n_open:
            for lane, numbers in ledger.places():
                for number in numbers:
                    ledger.outcome(number, lane=lane)
    inside = ledger.ledger
    assert not inside._calls
    assert not inside._paused
    assert not inside._placing._pending
    assert all(not lane.calls for lane in inside._lanes.values())
