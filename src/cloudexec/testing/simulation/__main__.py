"""Run simulations from the command line, and replay one that failed.

python -m cloudexec.testing.simulation --seed 7                     whatever seed 7 stands for
python -m cloudexec.testing.simulation --seeds 0:1000               many of them
python -m cloudexec.testing.simulation --seed 7 --calm --calls 1000000 --slots 1000
python -m cloudexec.testing.simulation --seed 7 --calm --set weather.loss=0.1 --set mode=pull
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

from cloudexec.testing.simulation.plan import Plan
from cloudexec.testing.simulation.simulation import Simulation, SimulationFailure


def main(words: list[str] | None = None) -> int:
    """The exit code: 1 when an invariant did not hold."""
    parser = argparse.ArgumentParser(prog="python -m cloudexec.testing.simulation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", metavar="FIRST:END", help="run many seeds")
    parser.add_argument("--calm", action="store_true", help="begin with a plan without surprises, not the seed's own")
    parser.add_argument("--calls", type=int)
    parser.add_argument("--slots", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a figure of the plan")
    given = parser.parse_args(words)
    first, _, end = (given.seeds or f"{given.seed}:{given.seed + 1}").partition(":")
    for seed in range(int(first), int(end)):
        plan = Plan(seed=seed) if given.calm else Plan.random(seed)
        plan = replace(plan, n_calls=given.calls or plan.n_calls, n_slots=given.slots or plan.n_slots)
        for setting in given.set:
            plan = plan.altered(setting)
        if not _ran(plan):
            return 1
    return 0


def _ran(plan: Plan) -> bool:
    began_s = time.perf_counter()
    try:
        report = Simulation(plan).run()
    except SimulationFailure as failure:
        print(failure)
        return False
    seconds = time.perf_counter() - began_s
    ends = ", ".join(f"{count} {how}" for how, count in sorted(report.ends.items()))
    print(
        f"seed {plan.seed}: {ends}; {report.virtual_s:.3f} s virtual, {report.n_messages} messages, "
        f"{report.retries} retries, {report.late_outcomes} late outcomes; {seconds * 1e6 / plan.n_calls:.1f} µs a call"
    )
    return True


if __name__ == "__main__":
    sys.exit(main())
