"""Gathers what a run's summary says, while it runs: a few counters a call.

Called by: engine/delivery.py (ends of calls), backends (tasks, invocations), executors (snapshots).
Threads:   the engine's thread writes; whoever takes a snapshot reads, and may see a call counted in one sum and not
           yet in another.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final

from cloudexec.observe.run import RunFacts
from cloudexec.observe.summary import (
    DURATION_BOUNDS_S,
    MOST_FAILURES,
    MOST_WORKERS,
    OVER,
    Client,
    Counts,
    Durations,
    Failure,
    Invocations,
    RunSummary,
    Sums,
    Where,
    Worker,
)

_MOST_MESSAGE: Final = 300
_MOST_NAME: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Heritage:
    """What an attaching client takes over: calls that were over without an outcome are not counted anew."""

    before: RunSummary | None = None
    n_cancelled: int = 0
    failed: frozenset[int] = frozenset()


class Recorder:
    """Of one run. What is fixed is given when the run begins; the rest comes as it happens."""

    def __init__(self, run_id: str, backend: str, max_workers: int = 0) -> None:
        self.run_id = run_id
        self.client = Client()
        self.where = Where()
        self.max_workers = max_workers
        self.backend = backend
        self._name = ""
        self._made_s = self._begun_s = time.time()
        self._heritage = Heritage()
        self._worked_s = 0.0  # the last end of an attempt before this client came
        self._run_s = self._cpu_s = 0.0
        self._peak = 0
        self._durations = [0] * (len(DURATION_BOUNDS_S) + 1)
        self._failures: list[Failure] = []
        self._n_failures = 0
        self._workers: dict[str, Worker] = {}
        self._unseen: set[str] = set()  # workers of an earlier client whose end is not known, and of which nobody told
        self._n_workers = 0
        self._larger_runs: list[str] = []
        self.n_invocations = 0
        self.billed_s = 0.0

    def begin(self, name: str = "") -> None:
        """The run begins now."""
        self._name = name
        self._begun_s = time.time()

    def inherit(self, heritage: Heritage) -> None:
        """Go on where an earlier client's summary ended."""
        self._heritage, before = heritage, heritage.before
        if before is None:
            return
        self._begun_s = before.begun_s
        self._name = before.name
        self._failures = [one for one in before.failures if one.call in heritage.failed]
        self._workers = {worker.id: worker for worker in before.workers}
        self._unseen = {worker.id for worker in before.workers if worker.stopped_s is None}
        self._n_workers = before.n_workers
        self._larger_runs = list(before.larger_runs)

    # --- calls ---

    def ended(self, started_s: float, finished_s: float, cpu_s: float, peak: int) -> None:
        """An attempt has ended, and the call with it."""
        run_s = finished_s - started_s
        self._run_s += run_s
        self._cpu_s += cpu_s
        if peak > self._peak:
            self._peak = peak
        if self._worked_s < finished_s < self._made_s:
            self._worked_s = finished_s
        self._durations[bisect_left(DURATION_BOUNDS_S, run_s)] += 1

    def failed(self, number: int, name: str, error: BaseException, lane: str, attempts: int) -> None:
        """A call has failed; the first ones are named."""
        self._n_failures += 1
        if len(self._failures) < MOST_FAILURES:
            self._failures.append(
                Failure(
                    call=number,
                    name=name[:_MOST_NAME],
                    type=type(error).__qualname__[:_MOST_NAME],
                    message=_first_line(error),
                    worker=lane.partition(".")[0],
                    attempts=max(1, attempts),
                )
            )

    # --- workers ---

    def worker(self, id: str, **facts: Any) -> None:
        """What is known of a worker; what was known before and is not said stays."""
        self._unseen.discard(id)
        known = self._workers.get(id)
        if known is None:
            self._n_workers += 1
            if len(self._workers) >= MOST_WORKERS:
                return
            known = Worker(id=id, started_s=time.time())
        said = {name: value for name, value in facts.items() if value not in (None, "")}
        self._workers[id] = replace(known, **said)

    def larger_run(self, run_id: str) -> None:
        """Calls that ran out of memory are tried again in another run's workers."""
        self._larger_runs.append(run_id)

    def invoked(self, seconds: float) -> None:
        """Lambda has run something for so long."""
        self.n_invocations += 1
        self.billed_s += ceil(seconds * 1000) / 1000

    # --- reading ---

    def snapshot(
        self,
        facts: RunFacts,
        retries: Mapping[str, int],
        *,
        n_throttled: int = 0,
        state: str = "running",
        reason: str = "",
        writer: str = "",
    ) -> RunSummary:
        """The run as it stands."""
        now_s, heritage = time.time(), self._heritage
        is_over = state in OVER
        workers = tuple(self._workers.values())
        if is_over:
            workers = tuple(self._ended(one, now_s) for one in workers)
        return RunSummary(
            run_id=self.run_id,
            name=self._name[:_MOST_NAME],
            backend=self.backend,
            state=state,
            reason=reason[:_MOST_MESSAGE],
            client=self.client,
            where=self.where,
            max_workers=self.max_workers,
            begun_s=self._begun_s,
            updated_s=now_s,
            ended_s=now_s if is_over else None,
            counts=Counts(
                pending=facts.pending,
                running=facts.running,
                done=facts.done,
                failed=facts.failed + len(heritage.failed),
                cancelled=facts.cancelled + heritage.n_cancelled,
                retries=dict(retries),
            ),
            sums=Sums(run_s=max(0.0, self._run_s), cpu_s=max(0.0, self._cpu_s), peak_memory_bytes=self._peak),
            durations=Durations(counts=tuple(self._durations)),
            failures=tuple(self._failures),
            n_failures=self._n_failures + len(heritage.failed),
            workers=workers,
            n_workers=self._n_workers,
            larger_runs=tuple(self._larger_runs),
            invocations=Invocations(n=self.n_invocations, throttled=n_throttled, billed_s=self.billed_s),
            writer=writer,
        )

    def _ended(self, worker: Worker, now_s: float) -> Worker:
        """As it stands when the run is over."""
        if worker.stopped_s is not None:
            return worker
        before = self._heritage.before
        if before is not None and worker.id in self._unseen:  # it ended while nobody looked, maybe days ago
            return replace(worker, stopped_s=max(before.updated_s, self._worked_s))
        return replace(worker, stopped_s=now_s)  # it was told to stop; ECS takes a moment more


def _first_line(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:  # its class is the user's
        said = "?"
    return (said.strip().splitlines() or [""])[0][:_MOST_MESSAGE]
