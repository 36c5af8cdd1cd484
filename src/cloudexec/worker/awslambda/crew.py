"""The slots of one run, and one batch at a time in them.

Called by: environment.py, which keeps it; entry.py, jobs.py.   Calls: worker.agent, for slots and books; watch.py,
           room.py.
Time:      an environment is frozen between invocations, for minutes or hours. Nothing here goes by the clock across
           that: each batch has its own end, its own looks at the client's orders, and what happened to slots meanwhile
           is read before anything else.
Ends:      when the batch has run; or, a margin before the function's own time is over or when the client says so, by
           killing what runs. Slots that were killed are replaced, the others stay warm.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from cloudexec.wire.control import DownCause, Setup
from cloudexec.wire.envelope import Seal
from cloudexec.wire.messages import Batch, encode_batch
from cloudexec.worker.agent.books import NEVER, Books, Work
from cloudexec.worker.agent.slots import Slots
from cloudexec.worker.awslambda.early import Early
from cloudexec.worker.awslambda.request import TRACE_VARIABLE
from cloudexec.worker.awslambda.room import Room
from cloudexec.worker.awslambda.tally import Tally
from cloudexec.worker.awslambda.watch import Watch
from cloudexec.worker.host.process import Launch

KILL_WITHIN_S: Final = 2.0  # else the supervisor is killed with all slots
MOST_BARREN: Final = 6  # slots in a row that end without having run anything: two seconds, which somebody pays for
_KILL_AGAIN_S: Final = 0.05  # a call may have been about to begin
_LOOK_S: Final = 60.0
_COMING_S: Final = 0.2
MOST_IDLE: Final = 3  # invocations in a row that ended by the clock before a slot had begun a call


class Crew:
    """`launch`: see Host. `setup`: for each supervisor, but for its id. `watch`: None if the run has no bucket. `room`:
    what must fit into an answer; None if that can be stored."""

    def __init__(
        self,
        setup: Setup,
        n_slots: int,
        worker: str,
        launch: Callable[[], Launch],
        watch: Watch | None,
        room: Room | None = None,
    ) -> None:
        self._seal = Seal(bytes.fromhex(setup.key_hex))
        self._worker = worker
        self._watch = watch
        self._room = room
        self.tally = Tally(room)
        self._books = Books(n_slots, setup.max_tasks_per_child)
        self._slots = Slots(
            self._books,
            self.tally,
            lambda id: setup._replace(worker_id=id),
            self._seal,
            worker,
            launch,
            gives=False,  # what has not started must be known exactly: it is given back at no cost
            most_barren=MOST_BARREN,
        )
        self._is_started = False
        self._n_idle = 0
        self._ending = ""
        self._early: Early | None = None
        self._end_s = self._hard_end_s = self._kill_s = NEVER
        self.is_over = False  # it cannot run another batch
        if watch is not None:
            self._slots.host.watch(watch.fd, lambda _flags: watch.hear())

    def start(self) -> None:
        """Have the slots come up."""
        if not self._is_started:
            self._is_started = True
            self._slots.start()

    def run(
        self,
        batch: Batch,
        body: memoryview,
        *,
        end_s: float,
        until_s: float,
        trace: str = "",
        early: Early | None = None,
    ) -> Tally:
        """Run the calls of a batch, until `end_s` at most; an answer must be on its way before `until_s`. `early`:
        where to tell what has ended before all has."""
        self._early = early
        if trace:
            batch, body = _with_trace(batch, trace)
        self.tally.begin(batch)
        self._ending = ""
        self._end_s, self._hard_end_s, self._kill_s = end_s, (end_s + until_s) / 2, NEVER
        if self._watch is not None:
            self._watch.begin(time.monotonic())
        work = Work("batch", "", batch, body, NEVER)
        self._absorb(0.0)
        self._books.take(work)
        self.start()
        try:
            self._work()
        finally:
            self._books.forget([work])
        return self.tally

    def close(self) -> None:
        """End all slots."""
        if self._is_started and not self.is_over:
            self._await_slots(time.monotonic() + _COMING_S)
        self.is_over = True
        if self._watch is not None:
            self._slots.host.unwatch(self._watch.fd)
        self._slots.close()

    def _await_slots(self, until_s: float) -> None:
        """Slots that are on their way would not hear that they are not needed, and be waited for."""
        while len(self._books.lanes) < self._books.n_slots and (now_s := time.monotonic()) < until_s:
            self._absorb(until_s - now_s)

    def _work(self) -> None:
        while True:
            now_s = time.monotonic()
            self._turn(now_s)
            if self._books.is_empty or self.is_over:
                return
            self._absorb(min(max(0.0, self._next_s() - now_s), _LOOK_S))

    def _next_s(self) -> float:
        """When `_turn` will have something to do, unless something happens before."""
        times = [self._slots.next_s, self._kill_s, self._hard_end_s if self._ending else self._end_s]
        if not self._ending:
            times += [part.next_s for part in (self._watch, self._early) if part is not None]
        return min(times)

    def _absorb(self, wait_s: float) -> None:
        for fact in self._slots.host.poll(wait_s):
            self._slots.take(fact)

    def _turn(self, now_s: float) -> None:
        """Whatever is due."""
        slots = self._slots
        if slots.has_failed_start or slots.broken:
            self.tally.leaving = slots.broken
            self._kill_all(slots.broken or "the initializer raised an exception")
            return
        if not self._ending:
            self._look_for_an_end(now_s)
        elif now_s >= self._hard_end_s:
            self._kill_all(self._ending)
            return
        if now_s >= self._kill_s:
            self._stop_calls(now_s)
        if self._early is not None and not self._ending and now_s >= self._early.next_s:
            self._tell_early(self._early, now_s)
        if self._room is None:
            slots.feed(now_s)
        else:
            self._feed_within(self._room, now_s)

    def _feed_within(self, room: Room, now_s: float) -> None:
        """Give slots no more than what an answer has room for; what is left when it is full is given back. Until it is
        known that all has room, slots are given one call at a time."""
        books = self._books
        given = [len(lane.held) for lane in books.lanes.values()]
        if 0 <= room.n_more(sum(given)) >= books.n_waiting:
            self._slots.feed(now_s)
            return
        if max(given, default=0) > 1:
            self._slots.take_back()
            given = [len(lane.held) for lane in books.lanes.values()]
        n_more = room.n_more(sum(given))
        if n_more <= 0 and not any(given):
            self.tally.given_back(books.take_waiting())
        self._slots.feed(now_s, max(0, min(n_more, given.count(0))))

    def _look_for_an_end(self, now_s: float) -> None:
        watch = self._watch
        if now_s >= self._end_s:
            self._note_idleness()
            self._end(DownCause.DEADLINE, "the function's own timeout was near", now_s)
        elif watch is not None:
            watch.turn(now_s)
            if why := watch.why_to_end:
                self._hard_end_s = min(self._hard_end_s, now_s + KILL_WITHIN_S)
                self._end(DownCause.STOPPED, why, now_s)
            elif watch.has_news:
                watch.has_news = False
                self.tally.stops(watch.orders.stops)
                self._kill_s = now_s

    def _tell_early(self, early: Early, now_s: float) -> None:
        """Somebody may be waiting for a short call behind a long one: tell what has ended; give back what waits."""
        early.wait(now_s)
        self.tally.given_back(self._slots.take_unstarted())
        report = None if self._books.is_empty else self.tally.early_report(self._worker)
        if report is not None:
            early.tell(report)

    def _end(self, cause: str, why: str, now_s: float) -> None:
        self._ending = why
        self.tally.ends_all(cause, why)
        self._kill_s = now_s

    def _stop_calls(self, now_s: float) -> None:
        """Kill calls that must not go on, strike off those that have not started."""
        if self._ending:
            numbers = frozenset(held.number for held in self._books.all_held())
        else:
            assert self._watch is not None
            numbers = self._watch.orders.stops
        is_running = self._slots.stop_calls(numbers)
        self._kill_s = now_s + _KILL_AGAIN_S if is_running else NEVER

    def _kill_all(self, why: str) -> None:
        """Kill the supervisor and its slots, whatever they do."""
        self.is_over = True
        for held in self._slots.kill(why)[0]:
            self.tally.killed(f"{self._worker}.call{held.number}", held)

    def _note_idleness(self) -> None:
        """An initializer that takes for ever would have the same calls given back for ever."""
        has_begun = self.tally.has_ends or any(self._unfinished())
        self._n_idle = 0 if has_begun else self._n_idle + 1
        if self._n_idle >= MOST_IDLE:
            self.tally.leaving = (
                f"no slot was ready for a call at the end of {self._n_idle} invocations, "
                "each as long as the function's timeout allows: its initializer may take for ever"
            )

    def _unfinished(self) -> Iterator[bool]:
        """For each lane, whether a call in it has begun."""
        for lane in self._books.lanes.values():
            yield len(lane.held) > self._slots.host.unstarted(lane.id)


def _with_trace(batch: Batch, trace: str) -> tuple[Batch, memoryview]:
    """The batch with Lambda's trace in the environment of each call: slots were started in earlier invocations, and by
    this Lambda knows functions that invoke each other for ever."""
    calls = [call._replace(env={TRACE_VARIABLE: trace, **(call.env or {})}) for call in batch.calls]
    batch = batch._replace(calls=calls)
    return batch, memoryview(encode_batch(calls, batch.python, batch.pickler))


def setup_of(
    key: bytes,
    run_id: str,
    roots: list[str],
    *,
    store: dict[str, str],
    max_tasks: int,
    initializer: str,
    inline_bytes: int,
    log_as: str = "",
) -> Setup:
    """What slots need to know; the supervisor's id is filled in when it starts."""
    return Setup(
        run_id=run_id,
        worker_id="",
        key_hex=key.hex(),
        client_pid=os.getpid(),
        store_roots=roots,
        python_path=[path or os.getcwd() for path in sys.path],
        python_version="{}.{}".format(*sys.version_info[:2]),
        max_tasks_per_child=max_tasks,
        initializer=initializer,
        inline_bytes=inline_bytes,
        store=store,
        log_as=log_as,
    )
