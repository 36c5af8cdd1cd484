"""What the ledger's bookkeeping costs, and what batches do to the makespan: `python benchmarks/simulation.py`.

    --rounds N   medians of so many rounds (3)      --quick   no run of 1,000,000 calls

Called by: scripts/bench.sh.   Calls: cloudexec.testing.simulation, in this process.
Times are this process's CPU time; what other processes do meanwhile hardly counts. Makespans are virtual time, so
they are the same on every machine.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from dataclasses import replace
from statistics import median
from typing import Final

from cloudexec.ledger.actions import Place
from cloudexec.ledger.ledger import Ledger
from cloudexec.ledger.pace import Pace
from cloudexec.testing.simulation import Plan, Report, Simulation, Weather
from cloudexec.testing.simulation.plan import draw_calls

N_SLOTS: Final = 1000
AIM_US: Final = 30.0
FLAT: Final = 1.5  # the largest size over the cheapest one; the CPU's caches take their share of it
MAKESPAN_GATE, MAKESPAN_AIM, MESSAGES_GATE = 1.05, 1.02, 0.5

CALM: Final = Plan(n_slots=N_SLOTS, slots_per_worker=16, durations="lognormal", mean_s=0.05, checked=False)


def simulated(plan: Plan) -> tuple[float, Report]:
    """µs a call, of simulator and ledger together."""
    gc.collect()
    began_s = time.process_time()
    report = Simulation(plan).run()
    return (time.process_time() - began_s) / plan.n_calls * 1e6, report


def ledger_alone(plan: Plan) -> float:
    """µs a call: each lane gives its outcomes as soon as it has calls, one message after the other."""
    calls = draw_calls(plan, random.Random(plan.seed))
    ledger = Ledger(plan.limits(), plan.pace)
    gc.collect()
    began_s = time.process_time()
    now_s = 0.0
    ledger.submitted(calls, now_s)
    for number in range(plan.n_slots):
        ledger.lane_up(f"w{number // 16}.{number}", f"w{number // 16}", now_s)
    while actions := ledger.take_actions():
        for action in actions:
            if type(action) is Place:
                now_s += 50e-6
                for call in action.calls:
                    seconds = call.seconds  # type: ignore[attr-defined]  # they are SimCalls
                    ledger.outcome(
                        action.lane, call.number, ok=True, retry=False, seconds=seconds, outcome=None, now_s=now_s
                    )
                ledger.settle(now_s)
    assert not ledger.n_open, f"{ledger.n_open} calls are left"
    return (time.process_time() - began_s) / plan.n_calls * 1e6


def bookkeeping(rounds: int, sizes: list[int]) -> bool:
    """Print the first table; whether its gates hold."""
    print(f"Bookkeeping on {N_SLOTS:,} slots, µs of CPU a call (medians; above 100,000 calls one round)")
    print(f"{'calls':>10} {'ledger alone':>13} {'with simulator':>15} {'messages':>9} {'virtual s':>10} {'total s':>8}")
    alone: list[float] = []
    total: list[float] = []
    for size in sizes:
        plan = replace(CALM, n_calls=size)
        times = rounds if size <= 100_000 else 1
        alone.append(median(ledger_alone(plan) for _ in range(times)))
        runs = [simulated(plan) for _ in range(times)]
        total.append(median(us for us, _ in runs))
        report = runs[0][1]
        messages, virtual_s = report.n_messages, report.virtual_s
        total_s = total[-1] * size / 1e6
        print(f"{size:>10,} {alone[-1]:>13.2f} {total[-1]:>15.2f} {messages:>9,} {virtual_s:>10.2f} {total_s:>8.2f}")
    growth = max(alone[-1] / min(alone), total[-1] / min(total))
    print(f"flat: the largest size over the cheapest one {growth:.2f} (gate ≤ {FLAT}) {_verdict(growth <= FLAT)}")
    print(f"{sizes[-1]:,} calls: {total[-1]:.1f} µs a call in total (aim ≤ {AIM_US:g}) {_verdict(total[-1] <= AIM_US)}")
    return growth <= FLAT


def makespans(rounds: int) -> bool:
    """Print the second table; whether its gates hold."""
    print("\nUneven calls (Pareto, 1 ms to 1 s), adaptive batches over one-call batches: virtual time, mean of seeds")
    print(f"{'slots':>6} {'calls':>7} {'take back':>10} {'makespan':>9} {'messages':>9}")
    good = True
    for n_slots, n_calls, can_recall in ((2, 2000, True), (100, 20_000, True), (100, 20_000, False)):
        plans = [
            Plan(seed=seed, n_calls=n_calls, n_slots=n_slots, slots_per_worker=16, durations="pareto", checked=False)
            for seed in range(max(5, rounds))
        ]
        pace = Pace(can_recall=can_recall, shares=1.0 if can_recall else 0.1)
        plans = [replace(plan, weather=Weather(latency_s=0.0002), pace=pace) for plan in plans]
        at_once = replace(pace, target_s=0.0)  # and each call only when a slot is free for it
        ones = [Simulation(replace(plan, batch=1, pace=at_once)).run() for plan in plans]
        ours = [Simulation(plan).run() for plan in plans]
        time_ratio = sum(r.virtual_s for r in ours) / sum(r.virtual_s for r in ones)
        message_ratio = sum(r.n_messages for r in ours) / sum(r.n_messages for r in ones)
        gates = time_ratio <= MAKESPAN_GATE and message_ratio <= MESSAGES_GATE
        good &= gates
        aim = "aim met" if time_ratio <= MAKESPAN_AIM else f"aim ≤ {MAKESPAN_AIM} missed"
        row = f"{n_slots:>6} {n_calls:>7,} {'yes' if can_recall else 'no':>10}"
        print(f"{row} {time_ratio:>9.4f} {message_ratio:>9.3f}  {_verdict(gates)}, {aim}")
    print(f"gates: makespan ≤ {MAKESPAN_GATE}, messages ≤ {MESSAGES_GATE}")
    return good


def _verdict(holds: bool) -> str:
    return "holds" if holds else "MISSED"


def main() -> int:
    """The exit code: 1 when a gate is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    sizes = [1000, 10_000, 100_000] + ([] if given.quick else [1_000_000])
    good = [bookkeeping(given.rounds, sizes), makespans(given.rounds)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
