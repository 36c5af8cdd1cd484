"""Thousands of calls in bad weather: nothing is lost, nothing is doubled in resolution, nothing is left.

The seed stands in the test's name, and CLOUDEXEC_SOAK_SEEDS="7 8 9" tries others; CLOUDEXEC_SOAK_CALLS=5000 makes it
longer. With a seed the faults come with the same dice; which request meets them depends on the order in which processes
run.
"""

from __future__ import annotations

import os
import time
from collections import Counter

import pytest

from cloudexec import Retry
from tests.awslambda.scene import eventually, left_of, runs_in, trace

N_CALLS = int(os.environ.get("CLOUDEXEC_SOAK_CALLS", "2000"))
N_EVENTS = 20  # of those
N_WORKERS = 5
SEEDS = [int(seed) for seed in os.environ.get("CLOUDEXEC_SOAK_SEEDS", "1").split()]
WITHIN_S = 150.0
MOST_AGAIN = N_CALLS // 2  # whatever was in a batch whose environment died, or whose answer was lost, comes again
KINDS = {"invoke_throttle", "reset", "throttle", "kill_environment", "duplicate_events"}


def bad_weather(faults, seed):
    """What goes wrong all the time."""
    faults.invoke_throttle(rate=0.1, seed=seed)
    faults.invoke_throttle(reason="CallerRateLimitExceeded", retry_after_s=0.1, rate=0.02, seed=seed + 1)
    faults.reset("lambda", "Invoke", rate=0.02, seed=seed + 2)
    faults.reset("lambda", "Invoke", after=True, rate=0.02, seed=seed + 3)
    faults.kill_environment(when="mid-call", delay_s=0.05, rate=0.02, seed=seed + 4)
    faults.kill_environment(when="after", rate=0.01, seed=seed + 5)
    faults.duplicate_events(rate=0.3, seed=seed + 6)
    faults.throttle("s3", rate=0.05, seed=seed + 7)
    faults.reset("s3", rate=0.01, seed=seed + 8)
    faults.reset("s3", after=True, rate=0.01, seed=seed + 9)


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("seed", SEEDS, ids="seed {}".format)
def test_every_call_is_resolved_once_with_its_value(new_executor, new_function, aws, tmp_path, seed, record_property):
    name, diary = new_function(), tmp_path / "diary"
    # One loss in twenty, and nothing that ends a call but a loss: with four attempts some would meet it each time.
    executor = new_executor(N_WORKERS, function=name, retries=Retry(lost=12))
    as_event = executor.with_options(timeout_s=600)
    resolved: Counter[int] = Counter()
    before = len(aws.faults.fired())
    bad_weather(aws.faults, 100 * seed)
    ways = [as_event if x % (N_CALLS // N_EVENTS) == 0 else executor for x in range(N_CALLS)]
    futures = [way.submit(trace, str(diary), x, (x % 10) / 1000) for x, way in enumerate(ways)]
    for x, future in enumerate(futures):
        future.add_done_callback(lambda _future, x=x: resolved.update([x]))
    deadline = time.monotonic() + WITHIN_S
    while len(resolved) < N_CALLS and time.monotonic() < deadline:
        time.sleep(0.05)

    assert [x for x, future in enumerate(futures) if not future.done()] == []
    assert [future.result(0) for future in futures] == list(range(N_CALLS))
    assert set(resolved.values()) == {1}
    happened = Counter(fault["kind"] for fault in aws.faults.fired()[before:])
    assert set(happened) == KINDS
    runs = runs_in(diary)
    assert len(runs) == N_CALLS
    n_again = sum(runs.values()) - N_CALLS
    record_property("calls that ran more than once", n_again)
    print(f"seed {seed}: {n_again} of {N_CALLS} calls ran again, {executor.run.batches} batches, {dict(happened)}")
    assert n_again < MOST_AGAIN
    aws.faults.clear()
    executor.shutdown()
    assert left_of(aws, executor.run.id) == []
    eventually(lambda: aws.waiting_events() == 0)
