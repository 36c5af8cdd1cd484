"""Thousands of calls in bad weather: nothing is lost, nothing is doubled, nothing is left.

The seed stands in the test's name, and CLOUDEXEC_SOAK_SEEDS="7 8 9" tries others; CLOUDEXEC_SOAK_CALLS=5000 makes it
longer. With a seed the faults come with the same dice; which request meets them depends on the order in which processes
run.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter

import pytest

from tests.ecs.scene import assert_nothing_left, running_tasks_of, runs_in, trace
from tests.specs.executors import QUICK

N_CALLS = int(os.environ.get("CLOUDEXEC_SOAK_CALLS", "2000"))
N_WORKERS = 5
N_INTERRUPTIONS = 3
SEEDS = [int(seed) for seed in os.environ.get("CLOUDEXEC_SOAK_SEEDS", "1 2").split()]
WITHIN_S = 120.0
MOST_AGAIN = N_CALLS // 4  # a message of a lost worker comes again with all its calls, those that are done included
TUNING = {**QUICK, "control_every_s": 1.0, "visibility_s": 6.0, "tell_after_s": 0.5}


def bad_weather(faults, seed):
    """What goes wrong all the time."""
    for number, service in enumerate(("sqs", "s3", "ecs")):
        faults.throttle(service, rate=0.1, seed=seed + number)
        faults.reset(service, rate=0.01, seed=seed + 10 + number)
        faults.reset(service, after=True, rate=0.01, seed=seed + 20 + number)
    faults.duplicate_messages(rate=0.02, seed=seed + 30)


class Mishaps:
    """Spot capacity is taken away three times, with and without a warning, and one task is killed: each when a
    certain number of calls is done."""

    def __init__(self, aws, executor, seed):
        self._aws = aws
        self._executor = executor
        dice = random.Random(seed)
        at = sorted(dice.sample(range(N_CALLS // 10, 7 * N_CALLS // 10), N_INTERRUPTIONS + 1))
        kinds = [0, None, dice.choice([0, None]), "kill"]
        dice.shuffle(kinds)
        self._due = list(zip(at, kinds, strict=True))
        self._seed = seed
        self.happened = []

    def turn(self, n_done):
        if self._due and n_done >= self._due[0][0]:
            kind = self._due[0][1]
            tasks = running_tasks_of(self._aws, self._executor)
            if not tasks:
                return
            arn = tasks[(self._seed + len(self.happened)) % len(tasks)].arn
            if kind == "kill":
                hit = self._aws.faults.kill(arn)
            else:
                hit = bool(self._aws.faults.interrupt(arn, warning_s=kind))
            if hit:
                self.happened.append(kind)
                del self._due[0]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", SEEDS, ids="seed {}".format)
def test_every_call_is_resolved_once_with_its_value(new_executor, aws, tmp_path, seed, record_property):
    diary = tmp_path / "diary"
    executor = new_executor(N_WORKERS, spot=True, tuning=TUNING)
    resolved: Counter[int] = Counter()
    bad_weather(aws.faults, 100 * seed)
    mishaps = Mishaps(aws, executor, seed)
    futures = [executor.submit(trace, str(diary), x, (x % 10) / 1000) for x in range(N_CALLS)]
    for x, future in enumerate(futures):
        future.add_done_callback(lambda _future, x=x: resolved.update([x]))
    deadline = time.monotonic() + WITHIN_S
    while len(resolved) < N_CALLS and time.monotonic() < deadline:
        mishaps.turn(len(resolved))
        time.sleep(0.05)

    assert [x for x, future in enumerate(futures) if not future.done()] == []
    assert [future.result(0) for future in futures] == list(range(N_CALLS))
    assert set(resolved.values()) == {1}
    assert len(mishaps.happened) == N_INTERRUPTIONS + 1
    runs = runs_in(diary)
    assert len(runs) == N_CALLS
    n_again = sum(runs.values()) - N_CALLS
    record_property("calls that ran more than once", n_again)
    print(f"seed {seed}: {n_again} of {N_CALLS} calls ran again, mishaps {mishaps.happened}")
    assert n_again < MOST_AGAIN
    aws.faults.clear()
    executor.shutdown()
    assert_nothing_left(aws, executor.run.id)
