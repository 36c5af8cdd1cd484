"""Supervisors and the lanes of their slots, as whoever feeds them sees them.

Called by: backends/local/backend.py, worker/agent.   Calls: process.py, wire.lane.
Waits on: each supervisor's control channel and bell, pipes that are full or in mid-message, what its user `watch`es,
and when all has been quiet for a while, the outcomes of every busy slot. It lives on one thread.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable
from typing import Final

from cloudexec.errors import WireError
from cloudexec.ids import slot_id
from cloudexec.wire.control import (
    FDS_PER_LANE,
    CannotFork,
    KillCall,
    Message,
    Ping,
    Pong,
    Setup,
    SlotDown,
    SlotUp,
    Stop,
    WantSlots,
)
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.lane import BELL, Feeder
from cloudexec.wire.messages import Outcome, decode_outcome
from cloudexec.worker.host.facts import (
    Answered,
    Ended,
    Fact,
    InitializerRaised,
    LaneBegan,
    LaneEnded,
    NoStart,
    WorkerEnded,
    how_it_ended,
    quoted,
)
from cloudexec.worker.host.process import LaneProcess, Launch, WorkerProcess

_END_WAIT_S: Final = 2.0
_QUIET_MS: Final = 2.0

Handler = Callable[[int], list[Fact]]


class Host:
    """Starts supervisors, hands calls to their slots, tells what happened. `setup_for` gives the first message to the
    supervisor of a given id; ids are `w1`, `w2`, … behind `prefix`. `launch` starts its process, or gives one that
    waits already. `gives`: a single call for an idle slot counts as started at once, which is quicker; without, that
    one can be taken back, too, while the slot is busy with its initializer."""

    def __init__(
        self,
        setup_for: Callable[[str], Setup],
        seal: Seal,
        prefix: str = "",
        launch: Callable[[], Launch] = Launch,
        *,
        gives: bool = True,
    ) -> None:
        self._gives = gives
        self._setup_for = setup_for
        self._launch = launch
        self._seal = seal
        self._prefix = prefix
        self._workers: dict[str, WorkerProcess] = {}
        self._lanes: dict[str, tuple[WorkerProcess, LaneProcess]] = {}
        self._started = 0
        self._poll = select.poll()
        self._by_fd: dict[int, Handler] = {}
        self._due: list[Fact] = []

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of supervisors and slots, by their ids."""
        workers = {worker.id: worker.pid for worker in self._workers.values()}
        return workers | {lane.id: lane.pid for _, lane in self._lanes.values()}

    @property
    def workers(self) -> list[str]:
        """Ids of the supervisors that are there."""
        return list(self._workers)

    # --- what its user asks ---

    def want_slots(self, count: int) -> None:
        """Have this many slots; each reports as LaneBegan, or as NoStart."""
        worker = next(iter(self._workers.values()), None)
        if worker is None:
            worker = self._start_worker()
        if worker is not None:
            worker.control.send(WantSlots(count))

    def place(
        self, lane: str, body: bytes, numbers: list[int], attachments: Iterable[bytes | bytearray | memoryview]
    ) -> None:
        """Hand a batch body with these calls to a lane; nothing happens if the lane's end is about to be told."""
        entry = self._lanes.get(lane)
        if entry is not None:
            feeder = entry[1].feeder
            if self._gives and len(numbers) == 1 and feeder.is_idle:
                feeder.give(body, numbers[0], attachments)
            else:
                feeder.place(body, len(numbers), attachments)
            self._watch_lane(entry[1])

    def has_lane(self, lane: str) -> bool:
        """Whether the lane is there."""
        return lane in self._lanes

    def recall(self, lane: str) -> int:
        """Take back what a lane has not started; how many of its last calls that were."""
        entry = self._lanes.get(lane)
        if entry is None:
            return 0
        count = entry[1].feeder.recall()
        self._watch_lane(entry[1])
        return count

    def unstarted(self, lane: str) -> int:
        """How many of a lane's last calls have not started, as of now."""
        entry = self._lanes.get(lane)
        return entry[1].feeder.unclaimed() if entry is not None else 0

    def kill_call(self, lane: str, number: int) -> None:
        """Kill a lane's process if it is still running this call; it reports as LaneEnded."""
        entry = self._lanes.get(lane)
        if entry is not None:
            entry[0].control.send(KillCall(entry[1].slot, number))

    def ping(self, worker: str) -> None:
        """Ask for a sign of life; it reports as Answered."""
        process = self._workers.get(worker)
        if process is not None:
            process.control.send(Ping(1))

    def drop_worker(self, worker: str, detail: str) -> None:
        """Kill a supervisor with its slots; it reports as WorkerEnded."""
        process = self._workers.get(worker)
        if process is not None:
            process.kill()
            self._due += self._bury(process, detail)

    def drop_workers(self, detail: str) -> None:
        """Kill all supervisors with their slots."""
        for worker in list(self._workers):
            self.drop_worker(worker, detail)

    def poll(self, timeout_s: float | None) -> list[Fact]:
        """What happened; waits until something did, something watched is ready, or the time is over."""
        wait_ms = None if timeout_s is None else max(0.0, timeout_s * 1000)
        ready = self._wait_for_any(0 if self._due else wait_ms)
        facts, self._due = self._due, []
        for fd, flags in ready:
            handler = self._by_fd.get(fd)
            if handler is not None:  # else an earlier handler of this round removed it
                facts += handler(flags)
        return facts

    def _wait_for_any(self, wait_ms: float | None) -> list[tuple[int, int]]:
        if wait_ms is not None and wait_ms <= _QUIET_MS:
            return self._poll.poll(wait_ms)
        if ready := self._poll.poll(_QUIET_MS):
            return ready
        # A slot that begins a long call may not have rung for the short ones before it, so we look ourselves.
        for _, lane in self._lanes.values():
            if not (lane.feeder.is_idle or lane.condemned or lane.feeder.out_fd in self._by_fd):
                self._listen_to(lane)
        return self._poll.poll(None if wait_ms is None else wait_ms - _QUIET_MS)

    def stop(self, grace_s: float) -> None:
        """End all supervisors; slots with running calls get `grace_s`. Nothing is left afterwards."""
        for worker in self._workers.values():
            worker.control.send(Stop(grace_s))
            for lane in worker.lanes.values():
                self._unwatch_lane(lane)
                lane.feeder.close()
        for worker in self._workers.values():
            if worker.wait(grace_s + _END_WAIT_S) is None:
                worker.kill()
                worker.wait(_END_WAIT_S)
            worker.kill_slots()
            worker.lanes.clear()
            worker.close()
        self._workers.clear()
        self._lanes.clear()

    def forget_in_child(self) -> None:
        """This process is a fork: let go of the parent's supervisors without a word to them."""
        for worker in self._workers.values():
            worker.close()

    # --- what comes in ---

    def _start_worker(self) -> WorkerProcess | None:
        self._started += 1
        worker_id = f"{self._prefix}w{self._started}"
        try:
            worker = WorkerProcess(self._setup_for(worker_id), self._launch())
        except OSError as error:
            self._due.append(NoStart(f"worker {worker_id} could not be started: {error}"))
            return None
        self._workers[worker_id] = worker
        self.watch(worker.control.fileno(), lambda _flags: self._on_control(worker))
        return worker

    def _on_control(self, worker: WorkerProcess) -> list[Fact]:
        messages = worker.control.receive()
        if messages is None:
            exitcode = worker.wait(_END_WAIT_S)
            how = f"worker {worker.id} ended with {how_it_ended(exitcode)}{quoted(worker.last_words())}"
            return self._bury(worker, how, exitcode)
        return [fact for message in messages for fact in self._on_message(worker, message)]

    def _on_message(self, worker: WorkerProcess, message: Message) -> list[Fact]:
        if isinstance(message, Pong):
            if worker.bell is None:
                (worker.bell,) = worker.control.take_fds(1)
                os.set_blocking(worker.bell, False)
                self.watch(worker.bell, lambda _flags: self._on_bell(worker))
                return []
            return [Answered(worker.id)]
        if isinstance(message, SlotUp):
            return [self._slot_up(worker, message)]
        if isinstance(message, SlotDown):
            return self._slot_down(worker, message)
        if isinstance(message, CannotFork):
            return [NoStart(f"worker {worker.id} cannot fork: {message.reason}")]
        return []

    def _slot_up(self, worker: WorkerProcess, message: SlotUp) -> LaneBegan:
        work, tokens_in, tokens_out, out = worker.control.take_fds(FDS_PER_LANE)
        feeder = Feeder(self._seal, work=work, tokens_in=tokens_in, tokens_out=tokens_out, out=out)
        lane_id = f"{slot_id(worker.id, message.slot)}:{message.pid}"
        lane = LaneProcess(lane_id, message.slot, message.pid, feeder)
        worker.lanes[message.slot] = lane
        self._lanes[lane_id] = (worker, lane)
        return LaneBegan(lane_id, worker.id, message.slot)

    def _slot_down(self, worker: WorkerProcess, message: SlotDown) -> list[Fact]:
        lane = worker.lanes.pop(message.slot)
        facts = self._on_out(lane)
        unstarted = lane.feeder.unstarted_at_end(message.running_call)
        self._forget_lane(lane)
        slot = slot_id(worker.id, message.slot)
        return [*facts, LaneEnded(lane.id, slot, message, lane.condemned, unstarted)]

    def _on_bell(self, worker: WorkerProcess) -> list[Fact]:
        try:
            rings = os.read(worker.bell, 1 << 16) if worker.bell is not None else b""
        except BlockingIOError:
            return []
        whole = len(rings) - len(rings) % BELL.size
        slots = {slot for (slot,) in BELL.iter_unpack(rings[:whole])}
        if whole < len(rings) or not slots <= worker.lanes.keys():  # user code wrote to the bell: look everywhere
            slots = set(worker.lanes)
        return [fact for slot in slots for fact in self._on_out(worker.lanes[slot])]

    def _on_out(self, lane: LaneProcess) -> list[Fact]:
        """Read what a slot has sent."""
        outcomes: list[Outcome] = []
        facts: list[Fact] = []
        try:
            for kind, body in lane.feeder.receive():
                outcome = decode_outcome(body)
                if kind is Kind.INITIALIZER_FAILED:
                    facts.append(InitializerRaised(lane.id, outcome))
                else:
                    outcomes.append(outcome)
        except WireError as error:  # user code wrote to the pipe; nothing that comes from there is to be trusted
            lane.condemn(f"it sent a damaged message ({error.what})")
        self._watch_lane(lane)
        return [Ended(lane.id, outcomes), *facts] if outcomes else facts

    def _bury(self, worker: WorkerProcess, detail: str, exitcode: int | None = None) -> list[Fact]:
        """A supervisor is dead: tell what its lanes had sent, and what they had not started."""
        worker.kill_slots()
        self.unwatch(worker.control.fileno())
        if worker.bell is not None:
            self.unwatch(worker.bell)
        facts: list[Fact] = []
        unstarted: dict[str, int] = {}
        for lane in worker.lanes.values():
            # Taken, not counted: a slot lives on for some microseconds after it was killed, and could start a call.
            unstarted[lane.id] = lane.feeder.recall() or lane.feeder.unclaimed()
            facts += self._on_out(lane)
            self._unwatch_lane(lane)
            self._lanes.pop(lane.id, None)
        worker.wait(_END_WAIT_S)
        worker.close()
        self._workers.pop(worker.id, None)
        return [*facts, WorkerEnded(worker.id, detail, exitcode, unstarted)]

    def _forget_lane(self, lane: LaneProcess) -> None:
        self._unwatch_lane(lane)
        self._lanes.pop(lane.id, None)
        lane.feeder.close()

    # --- waiting ---

    def watch(self, fd: int, handler: Handler, flags: int = select.POLLIN) -> None:
        """Call `handler` from `poll` whenever the descriptor is ready."""
        self._by_fd[fd] = handler
        self._poll.register(fd, flags)

    def unwatch(self, fd: int) -> None:
        """Look at it no more."""
        if self._by_fd.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _watch_lane(self, lane: LaneProcess) -> None:
        """A lane's pipes are watched only while one is full, or half a message has come."""
        feeder = lane.feeder
        if feeder.wants_watching != (feeder.out_fd in self._by_fd):
            if feeder.wants_watching:
                self._listen_to(lane)
            else:
                self.unwatch(feeder.out_fd)
        if feeder.has_unsent != (feeder.work_fd in self._by_fd):
            if feeder.has_unsent:
                self.watch(feeder.work_fd, lambda _flags: self._on_room(lane), select.POLLOUT)
            else:
                self.unwatch(feeder.work_fd)

    def _listen_to(self, lane: LaneProcess) -> None:
        self.watch(lane.feeder.out_fd, lambda _flags: self._on_out(lane))

    def _on_room(self, lane: LaneProcess) -> list[Fact]:
        lane.feeder.flush()
        self._watch_lane(lane)
        return []

    def _unwatch_lane(self, lane: LaneProcess) -> None:
        self.unwatch(lane.feeder.out_fd)
        self.unwatch(lane.feeder.work_fd)
