"""LocalExecutor's backend: one worker process with as many slots as are wanted.

Called by: engine.   Calls: process.py, wire.lane.
Waits on: the wake pipe, each worker's control channel and bell, pipes that are full or in mid-message, and when
all has been quiet for a while, the outcomes of every busy slot.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable
from itertools import chain
from typing import Final

from cloudexec.backends.local.process import LaneProcess, WorkerProcess
from cloudexec.backends.local.scratch import remove_roots
from cloudexec.backends.protocol import (
    Event,
    Heard,
    InitializerError,
    LaneDown,
    LaneUp,
    OutboundCall,
    Outcomes,
    StartFailed,
    WorkerDown,
)
from cloudexec.errors import WireError
from cloudexec.ids import BlobRef, slot_id
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause
from cloudexec.ledger.pace import Pace
from cloudexec.store.directory import DirectoryStore
from cloudexec.wire.control import (
    FDS_PER_LANE,
    CannotFork,
    DownCause,
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
from cloudexec.wire.messages import Outcome, decode_outcome, encode_batch

_CAUSES: Final = {
    DownCause.TIMEOUT: Cause.TIMEOUT,
    DownCause.OUT_OF_MEMORY: Cause.OOM,
    DownCause.FROZEN: Cause.LOST,
    DownCause.STOPPED: Cause.CRASH,
    DownCause.DIED: Cause.CRASH,
    DownCause.RETIRED: Cause.CRASH,
}
_END_WAIT_S: Final = 2.0
_QUIET_MS: Final = 2.0


class LocalBackend:
    """See Backend. `setup_for` gives the first message to a worker of a given id."""

    def __init__(self, setup_for: Callable[[str], Setup], seal: Seal, store: DirectoryStore) -> None:
        self._setup_for = setup_for
        self._seal = seal
        self._store = store
        self._workers: dict[str, WorkerProcess] = {}
        self._lanes: dict[str, tuple[WorkerProcess, LaneProcess]] = {}
        self._started = 0
        self._wanted = 0
        self._poll = select.poll()
        self._by_fd: dict[int, Callable[[int], list[Event]]] = {}
        self._wake_in, self._wake_out = os.pipe()
        for fd in (self._wake_in, self._wake_out):
            os.set_blocking(fd, False)
        self._watch(self._wake_in, self._on_wake)
        self._due: list[Event] = []

    @property
    def pace(self) -> Pace:
        """See Backend."""
        return Pace()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of workers and slots, by their ids."""
        workers = {worker.id: worker.pid for worker in self._workers.values()}
        return workers | {lane.id: lane.pid for _, lane in self._lanes.values()}

    @property
    def queue(self) -> str | None:
        """See Backend."""
        return None

    # --- what the engine asks ---

    def want_lanes(self, count: int) -> None:
        """See Backend."""
        self._wanted = count
        worker = next(iter(self._workers.values()), None)
        if worker is None:
            worker = self._start_worker()
        if worker is not None:
            worker.control.send(WantSlots(count))

    def place(self, lane: str, calls: list[OutboundCall]) -> None:
        """See Backend."""
        entry = self._lanes.get(lane)
        if entry is not None:  # else its end is under way to the ledger
            feeder = entry[1].feeder
            attachments = chain.from_iterable(call.attachments for call in calls)
            body = encode_batch([call.for_wire() for call in calls])
            if len(calls) == 1 and feeder.is_idle:
                feeder.give(body, calls[0].number, attachments)
            else:
                feeder.place(body, len(calls), attachments)
            self._watch_lane(entry[1])

    def recall(self, lane: str) -> int:
        """See Backend."""
        entry = self._lanes.get(lane)
        if entry is None:
            return 0
        count = entry[1].feeder.recall()
        self._watch_lane(entry[1])
        return count

    def unstarted(self, lane: str) -> int:
        """See Backend."""
        entry = self._lanes.get(lane)
        return entry[1].feeder.unclaimed() if entry is not None else 0

    def kill_call(self, lane: str, number: int) -> None:
        """See Backend."""
        entry = self._lanes.get(lane)
        if entry is not None:
            entry[0].control.send(KillCall(entry[1].slot, number))

    def ping(self, worker: str) -> None:
        """See Backend."""
        process = self._workers.get(worker)
        if process is not None:
            process.control.send(Ping(1))

    def drop_worker(self, worker: str) -> None:
        """See Backend."""
        process = self._workers.get(worker)
        if process is not None:
            process.kill()
            self._due += self._bury(process, f"worker {worker} gave no sign of life and was killed")

    def fetch(self, ref: BlobRef) -> memoryview:
        """See Backend."""
        content = self._store.get(ref.name)
        self._store.delete(ref.name)
        return content

    def poll(self, timeout_s: float | None) -> list[Event]:
        """See Backend."""
        wait_ms = None if timeout_s is None else max(0.0, timeout_s * 1000)
        ready = self._wait_for_any(0 if self._due else wait_ms)
        events, self._due = self._due, []
        for fd, flags in ready:
            handler = self._by_fd.get(fd)
            if handler is not None:  # else an earlier handler of this round removed it
                events += handler(flags)
        return events

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

    def wake(self) -> None:
        """See Backend."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_out, b"w")

    def stop(self, grace_s: float) -> None:
        """See Backend."""
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
        for fd in (self._wake_in, self._wake_out):
            os.close(fd)
        remove_roots([*self._store.roots])

    def forget_in_child(self) -> None:
        """This process is a fork: let go of the parent's workers without a word to them."""
        for worker in self._workers.values():
            worker.close()
        for fd in (self._wake_in, self._wake_out):
            os.close(fd)

    # --- what comes in ---

    def _start_worker(self) -> WorkerProcess | None:
        self._started += 1
        worker_id = f"w{self._started}"
        try:
            worker = WorkerProcess(self._setup_for(worker_id))
        except OSError as error:
            end = LaneEnd(Cause.LOST, f"worker {worker_id} could not be started: {error}")
            self._due.append(StartFailed(end))
            self.wake()
            return None
        self._workers[worker_id] = worker
        self._watch(worker.control.fileno(), lambda _flags: self._on_control(worker))
        return worker

    def _on_wake(self, _flags: int) -> list[Event]:
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._wake_in, 4096)) == 4096:
                pass
        return []

    def _on_control(self, worker: WorkerProcess) -> list[Event]:
        messages = worker.control.receive()
        if messages is None:
            exitcode = worker.wait(_END_WAIT_S)
            return self._bury(
                worker, f"worker {worker.id} ended with {_how(exitcode)}{_said(worker.last_words())}", exitcode
            )
        return [event for message in messages for event in self._on_message(worker, message)]

    def _on_message(self, worker: WorkerProcess, message: Message) -> list[Event]:
        if isinstance(message, Pong):
            if worker.bell is None:
                (worker.bell,) = worker.control.take_fds(1)
                os.set_blocking(worker.bell, False)
                self._watch(worker.bell, lambda _flags: self._on_bell(worker))
                return []
            return [Heard(worker.id)]
        if isinstance(message, SlotUp):
            return [self._slot_up(worker, message)]
        if isinstance(message, SlotDown):
            return self._slot_down(worker, message)
        if isinstance(message, CannotFork):
            return [StartFailed(LaneEnd(Cause.LOST, f"worker {worker.id} cannot fork: {message.reason}"))]
        return []

    def _slot_up(self, worker: WorkerProcess, message: SlotUp) -> LaneUp:
        work, tokens_in, tokens_out, out = worker.control.take_fds(FDS_PER_LANE)
        feeder = Feeder(self._seal, work=work, tokens_in=tokens_in, tokens_out=tokens_out, out=out)
        lane_id = f"{slot_id(worker.id, message.slot)}:{message.pid}"
        lane = LaneProcess(lane_id, message.slot, message.pid, feeder)
        worker.lanes[message.slot] = lane
        self._lanes[lane_id] = (worker, lane)
        return LaneUp(lane_id, worker.id)

    def _slot_down(self, worker: WorkerProcess, message: SlotDown) -> list[Event]:
        lane = worker.lanes.pop(message.slot)
        events = self._on_out(lane)
        unstarted = lane.feeder.unstarted_at_end(message.running_call)
        self._forget_lane(lane)
        end = LaneEnd(
            _CAUSES[message.why],
            f"slot {slot_id(worker.id, message.slot)} (pid {message.pid}) {lane.condemned or _why(message)}"
            f"{_said(message.last_words)}",
            message.exitcode,
            message.killed_call,
            stopped=message.why == DownCause.STOPPED,
            retired=message.why == DownCause.RETIRED,
        )
        return [*events, LaneDown(lane.id, end, unstarted)]

    def _on_bell(self, worker: WorkerProcess) -> list[Event]:
        try:
            rings = os.read(worker.bell, 1 << 16) if worker.bell is not None else b""
        except BlockingIOError:
            return []
        whole = len(rings) - len(rings) % BELL.size
        slots = {slot for (slot,) in BELL.iter_unpack(rings[:whole])}
        if whole < len(rings) or not slots <= worker.lanes.keys():  # user code wrote to the bell: look everywhere
            slots = set(worker.lanes)
        return [event for slot in slots for event in self._on_out(worker.lanes[slot])]

    def _on_out(self, lane: LaneProcess) -> list[Event]:
        """Read what a slot has sent."""
        outcomes: list[Outcome] = []
        events: list[Event] = []
        try:
            for kind, body in lane.feeder.receive():
                outcome = decode_outcome(body)
                if kind is Kind.INITIALIZER_FAILED:
                    events.append(InitializerError(outcome))
                else:
                    outcomes.append(outcome)
        except WireError as error:  # user code wrote to the pipe; nothing that comes from there is to be trusted
            lane.condemn(f"it sent a damaged message ({error.what})")
        self._watch_lane(lane)
        return [Outcomes(lane.id, outcomes), *events] if outcomes else events

    def _bury(self, worker: WorkerProcess, detail: str, exitcode: int | None = None) -> list[Event]:
        """A worker's process is dead: tell what its lanes had sent, and what they had not started."""
        worker.kill_slots()
        self._unwatch(worker.control.fileno())
        if worker.bell is not None:
            self._unwatch(worker.bell)
        events: list[Event] = []
        unstarted: dict[str, int] = {}
        for lane in worker.lanes.values():
            # Taken, not counted: a slot lives on for some microseconds after it was killed, and could start a call.
            unstarted[lane.id] = lane.feeder.recall() or lane.feeder.unclaimed()
            events += self._on_out(lane)
            self._unwatch_lane(lane)
            self._lanes.pop(lane.id, None)
        worker.wait(_END_WAIT_S)
        worker.close()
        self._workers.pop(worker.id, None)
        return [*events, WorkerDown(worker.id, LaneEnd(Cause.LOST, detail, exitcode), unstarted)]

    def _forget_lane(self, lane: LaneProcess) -> None:
        self._unwatch_lane(lane)
        self._lanes.pop(lane.id, None)
        lane.feeder.close()

    # --- waiting ---

    def _watch(self, fd: int, handler: Callable[[int], list[Event]], flags: int = select.POLLIN) -> None:
        self._by_fd[fd] = handler
        self._poll.register(fd, flags)

    def _unwatch(self, fd: int) -> None:
        if self._by_fd.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _watch_lane(self, lane: LaneProcess) -> None:
        """A lane's pipes are watched only while one is full, or half a message has come."""
        feeder = lane.feeder
        if feeder.wants_watching != (feeder.out_fd in self._by_fd):
            if feeder.wants_watching:
                self._listen_to(lane)
            else:
                self._unwatch(feeder.out_fd)
        if feeder.has_unsent != (feeder.work_fd in self._by_fd):
            if feeder.has_unsent:
                self._watch(feeder.work_fd, lambda _flags: self._on_room(lane), select.POLLOUT)
            else:
                self._unwatch(feeder.work_fd)

    def _listen_to(self, lane: LaneProcess) -> None:
        self._watch(lane.feeder.out_fd, lambda _flags: self._on_out(lane))

    def _on_room(self, lane: LaneProcess) -> list[Event]:
        lane.feeder.flush()
        self._watch_lane(lane)
        return []

    def _unwatch_lane(self, lane: LaneProcess) -> None:
        self._unwatch(lane.feeder.out_fd)
        self._unwatch(lane.feeder.work_fd)


def _how(exitcode: int | None) -> str:
    if exitcode is None:
        return "no exit code"
    if exitcode < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-exitcode).name
    return f"exit code {exitcode}"


def _said(words: str) -> str:
    return f"; its last words:\n{words}\n" if words else ""


def _why(message: SlotDown) -> str:
    how = _how(message.exitcode)
    return {
        DownCause.TIMEOUT: "was killed because the call's timeout_s was over",
        DownCause.STOPPED: "was killed because the call was stopped",
        DownCause.FROZEN: "was suspended (SIGSTOP) and therefore killed",
        DownCause.OUT_OF_MEMORY: "was killed by the kernel because memory ran out",
    }.get(message.why, f"died with {how}")
