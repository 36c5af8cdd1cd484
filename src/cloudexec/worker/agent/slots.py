"""The worker's slots: what waits is handed to them, what happens in them is told.

Called by: agent.py, awslambda/crew.py.   Calls: worker.host; books.py, which it shares with its neighbours.
Slots that end are replaced at once; a supervisor that ends is replaced MOST_RESTARTS times. When that does not help,
`broken` says why, and the agent ends. A supervisor that gives no sign of life while calls run (suspended, say) is
killed: it would neither keep their time limits nor see their slots end.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection
from typing import Final, Protocol

from cloudexec.errors import CloudexecError
from cloudexec.wire.control import DownCause, Setup
from cloudexec.wire.envelope import Seal
from cloudexec.wire.mail import LaneStop
from cloudexec.wire.messages import Outcome, PackedCall, Verdict, encode_batch
from cloudexec.worker.agent.books import NEVER, UNLIMITED, Books, Held, Work
from cloudexec.worker.agent.place import say
from cloudexec.worker.host.facts import (
    Answered,
    Ended,
    Fact,
    InitializerRaised,
    LaneBegan,
    LaneEnded,
    NoStart,
    WorkerEnded,
    described,
)
from cloudexec.worker.host.host import Host
from cloudexec.worker.host.process import Launch
from cloudexec.worker.system import reap_strangers

STUCK_S: Final = 0.05  # calls wait so long behind a running one before an idle slot may have them
LATE_S: Final = 2.0  # and so long before other workers may: a batch is made to last no more than half of that
LEAVE_WITHIN_S: Final = 2.0  # what slots may take to leave when they have nothing to do
MOST_RESTARTS: Final = 2  # of the supervisor
MOST_BARREN: Final = 20  # slots that end without having run anything, one after another
LOOK_EVERY_S: Final = 2.0  # while calls run, the supervisor is asked for a sign of life so often
MOST_SILENT: Final = 4  # looks in a row without an answer; looks, not seconds, for the whole machine may have slept
_PAUSE_S: Final = 0.05
_PAUSE_MOST_S: Final = 5.0


class Told(Protocol):
    """Who is told what happens in slots; see Reporter."""

    def lane_up(self, lane: str, slot: int) -> None:
        """A slot has come up."""
        ...

    def lane_down(self, stop: LaneStop, victim: Work | None) -> None:
        """A slot has ended, and with it a call of the message `victim`."""
        ...

    def end(self, lane: str, outcome: Outcome, work: Work | None, *, is_last: bool = True) -> None:
        """An attempt is over."""
        ...

    def dropped(self, held: Held) -> None:
        """A call was struck off before it started."""
        ...

    def failed_start(self, lane: str, outcome: Outcome) -> None:
        """The initializer has raised."""
        ...


class Slots:
    """All slots of a worker. `setup_for`, `launch`, `gives`: see Host. `most_barren`: when to give up."""

    def __init__(
        self,
        books: Books,
        reporter: Told,
        setup_for: Callable[[str], Setup],
        seal: Seal,
        worker: str,
        launch: Callable[[], Launch] = Launch,
        *,
        gives: bool = True,
        most_barren: int = MOST_BARREN,
    ) -> None:
        self._most_barren = most_barren
        self._books = books
        self._reporter = reporter
        self.host = Host(setup_for, seal, f"{worker}.", launch, gives=gives)
        self.broken = ""  # why there is no use in going on
        self.has_failed_start = False
        self._began_s = time.monotonic()
        self._want_s = NEVER
        self._look_s = NEVER
        self._n_silent = 0
        self._restarts = 0
        self._barren = 0
        self._interrupted: list[Held] = []
        self._is_killed = False
        self._grace_s = LEAVE_WITHIN_S

    @property
    def next_s(self) -> float:
        """When `feed` will have something to do."""
        books = self._books
        return min(self._want_s, self._look_s, books.next_stuck_s(STUCK_S), books.next_late_s(LATE_S))

    def start(self) -> None:
        """Have as many as the settings say."""
        self._want_s = NEVER
        self.host.want_slots(self._books.n_slots)

    def feed(self, now_s: float, most: int = UNLIMITED) -> None:
        """Give idle slots what waits, `most` calls in all; take from busy ones what waits behind a long call; replace
        what has ended."""
        if now_s >= self._want_s:
            self.start()
        if (lane := self._books.stuck(now_s, STUCK_S)) is not None:
            self._books.take_back(lane, self.host.recall(lane))
        for lane, work, calls in self._books.place(now_s, most):
            batch = work.batch
            is_whole = len(calls) == len(batch.calls)
            body = bytes(work.body) if is_whole else encode_batch(calls, batch.python, batch.pickler)
            self.host.place(lane, body, [call.number for call in calls], ())
        self._look_after_supervisor(now_s)

    def take_late(self, now_s: float) -> list[Held]:
        """Calls that wait behind a long one while every slot is busy: somewhere else, one may be idle."""
        late = self._books.late(now_s, LATE_S)
        for lane in late:
            self._books.take_back(lane, self.host.recall(lane))
        return self._books.take_waiting() if late else []

    def take_unstarted(self) -> list[Held]:
        """What waits behind calls that run, or for a slot, while every slot runs a call. A slot that has not begun one
        yet keeps what it has."""
        books = self._books
        n_running = 0
        for lane in books.lanes.values():
            unstarted = self.host.unstarted(lane.id)
            if len(lane.held) > unstarted:
                n_running += 1
                if unstarted:
                    books.take_back(lane.id, self.host.recall(lane.id))
        return books.take_waiting() if n_running >= books.n_slots else []

    def take_back(self) -> None:
        """What waits behind calls that run is not given to anybody yet."""
        for lane in list(self._books.lanes):
            self._books.take_back(lane, self.host.recall(lane))

    def _look_after_supervisor(self, now_s: float) -> None:
        if self._books.is_empty or not self._books.lanes:
            self._look_s, self._n_silent = NEVER, 0
        elif self._look_s == NEVER:
            self._look_s = now_s + LOOK_EVERY_S
        elif now_s >= self._look_s:
            self._look_s = now_s + LOOK_EVERY_S
            self._n_silent += 1
            if self._n_silent > MOST_SILENT:
                self.host.drop_workers("its supervisor gave no sign of life, and was killed")
            for supervisor in self.host.workers:
                self.host.ping(supervisor)

    def stop_calls(self, numbers: Collection[int]) -> bool:
        """Kill those of these calls that run, strike off the others; whether one may still run."""
        is_running = False
        for lane in list(self._books.lanes.values()):
            if any(held.number in numbers for held in lane.held):
                self._books.take_back(lane.id, self.host.recall(lane.id))
                for held in lane.held:
                    if held.number in numbers:
                        self.host.kill_call(lane.id, held.number)
                        is_running = True
        for held in self._books.drop_waiting(numbers):
            self._reporter.dropped(held)
        return is_running

    def reap(self) -> None:
        """Bury what calls have left behind."""
        reap_strangers(self.host.pids.values())

    def kill(self, why: str) -> tuple[list[Held], list[Held]]:
        """Empty the books: (calls that were interrupted, calls that had not started).

        Slots that have nothing to do are left to themselves until `close`, so that what user code has registered for
        its exit can run.
        """
        self._is_killed = True
        if self._books.is_empty:
            return [], []
        self._grace_s = 0.0
        self.host.drop_workers(why)
        for fact in self.host.poll(0.0):
            self.take(fact)
        return self._interrupted, self._books.take_all()[1]

    def close(self) -> None:
        """End all."""
        self.host.stop(self._grace_s)

    def take(self, fact: Fact) -> None:
        """Take in what has happened."""
        now_s = time.monotonic()
        if isinstance(fact, Ended):
            for held, outcome in self._books.ended(fact.lane, fact.outcomes, now_s):
                self._reporter.end(fact.lane, outcome, held.work, is_last=self._books.is_idle(fact.lane))
        elif isinstance(fact, LaneBegan):
            if not self._books.lanes:
                say(f"first slot is up after {now_s - self._began_s:.3f} s")
            self._books.begin_lane(fact.lane, fact.slot)
            self._reporter.lane_up(fact.lane, fact.slot)
        elif isinstance(fact, LaneEnded):
            self._lane_ended(fact, now_s)
        elif isinstance(fact, WorkerEnded):
            self._supervisor_ended(fact, now_s)
        elif isinstance(fact, Answered):
            self._n_silent = 0
        elif isinstance(fact, InitializerRaised):
            if not self.has_failed_start:
                self.has_failed_start = True
                self._reporter.failed_start(fact.lane, fact.outcome)
        elif isinstance(fact, NoStart):
            say(fact.detail)
            self._count_barren(fact.detail, now_s)

    def _lane_ended(self, fact: LaneEnded, now_s: float) -> None:
        lane, victims = self._books.end_lane(fact.lane, fact.unstarted)
        if self._is_killed:
            self._interrupted += victims
            return
        down = fact.down
        if down.why != DownCause.RETIRED:
            say(described(fact))
        words = f"it {fact.condemned}\n{down.last_words}" if fact.condemned else down.last_words
        running = down.killed_call or down.running_call
        self._tell_down(LaneStop(fact.lane, down.exitcode, down.why, down.killed_call, running, words, []), victims)
        if lane is not None and not lane.done and not victims and down.why != DownCause.RETIRED:
            self._count_barren(described(fact), now_s)
        else:
            self._barren = 0
            self._want_s = now_s

    def _count_barren(self, detail: str, now_s: float) -> None:
        """A slot has ended without having run anything: try again, after a while if that happens often."""
        self._barren += 1
        if self._barren > self._most_barren:
            self.broken = f"{self._barren} slots ended before they ran anything; the last one: {detail}"
        often = self._barren - 2 * self._books.n_slots
        pause_s = min(_PAUSE_MOST_S, _PAUSE_S * 2.0**often) if often > 0 else 0.0
        self._want_s = min(self._want_s, now_s + pause_s)

    def _tell_down(self, stop: LaneStop, victims: list[Held]) -> None:
        """Report a slot's end. One call ends with it; should others have started too, their outcomes were lost, and
        they run again."""
        found = next((held for held in victims if held.number == stop.running_call), victims[0] if victims else None)
        number = found.number if found is not None else 0
        killed = stop.killed_call if stop.killed_call == number else 0
        stop = stop._replace(running_call=number, killed_call=killed)
        self._reporter.lane_down(stop, found.work if found is not None else None)
        self._books.again([held for held in victims if held is not found])

    def _supervisor_ended(self, fact: WorkerEnded, now_s: float) -> None:
        exitcode = -signal.SIGKILL if fact.exitcode is None else fact.exitcode
        for lane in list(self._books.lanes):
            _, victims = self._books.end_lane(lane, fact.unstarted.get(lane, 0))
            if self._is_killed:
                self._interrupted += victims
            else:
                self._tell_down(LaneStop(lane, exitcode, DownCause.LOST, 0, 0, fact.detail, []), victims)
        if not self._is_killed:
            say(fact.detail)
            self._restarts += 1
            if self._restarts > MOST_RESTARTS:
                self.broken = f"its supervisor died {self._restarts} times; {fact.detail}"
            self._want_s = now_s


def refusal(call: PackedCall, error: CloudexecError) -> Outcome:
    """An attempt that ended by our doing."""
    from cloudexec.serialization.failures import pack_failure

    now_s = time.time()
    return Outcome(call.number, call.attempt, Verdict.REFUSED, now_s, now_s, 0.0, 0, pack_failure(error))
