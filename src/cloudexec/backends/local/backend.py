"""LocalExecutor's backend: one worker process with as many slots as are wanted.

Called by: engine.   Calls: worker.host, which does the work; facts become events here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from itertools import chain

from cloudexec.backends.causes import CAUSES
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
from cloudexec.ids import BlobRef
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause
from cloudexec.ledger.pace import Pace
from cloudexec.store.directory import DirectoryStore
from cloudexec.wire.control import DownCause, Setup
from cloudexec.wire.envelope import Seal
from cloudexec.wire.messages import encode_batch
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


class LocalBackend:
    """See Backend. `setup_for` gives the first message to a worker of a given id."""

    def __init__(self, setup_for: Callable[[str], Setup], seal: Seal, store: DirectoryStore) -> None:
        self._store = store
        self._host = Host(setup_for, seal)
        self._wake_in, self._wake_out = os.pipe()
        for fd in (self._wake_in, self._wake_out):
            os.set_blocking(fd, False)
        self._host.watch(self._wake_in, self._on_wake)

    @property
    def pace(self) -> Pace:
        """See Backend."""
        return Pace()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of workers and slots, by their ids."""
        return self._host.pids

    @property
    def queue(self) -> str | None:
        """See Backend."""
        return None

    # --- what the engine asks ---

    def want_lanes(self, count: int) -> None:
        """See Backend."""
        self._host.want_slots(count)

    def place(self, lane: str, calls: list[OutboundCall]) -> None:
        """See Backend."""
        if self._host.has_lane(lane):  # else its end is under way to the ledger
            attachments = chain.from_iterable(call.attachments for call in calls)
            body = encode_batch([call.for_wire() for call in calls])
            self._host.place(lane, body, [call.number for call in calls], attachments)

    def recall(self, lane: str) -> int:
        """See Backend."""
        return self._host.recall(lane)

    def recall_queue(self) -> list[tuple[int, int]]:
        """See Backend. There is none."""
        return []

    def unstarted(self, lane: str) -> int:
        """See Backend."""
        return self._host.unstarted(lane)

    def kill_call(self, lane: str, number: int) -> None:
        """See Backend."""
        self._host.kill_call(lane, number)

    def ping(self, worker: str) -> None:
        """See Backend."""
        self._host.ping(worker)

    def drop_worker(self, worker: str) -> None:
        """See Backend."""
        self._host.drop_worker(worker, f"worker {worker} gave no sign of life and was killed")

    def fetch(self, ref: BlobRef) -> memoryview:
        """See Backend."""
        content = self._store.get(ref.name)
        self._store.delete(ref.name)
        return content

    def poll(self, timeout_s: float | None) -> list[Event]:
        """See Backend."""
        return [_event(fact) for fact in self._host.poll(timeout_s)]

    def wake(self) -> None:
        """See Backend."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_out, b"w")

    def stop(self, grace_s: float) -> None:
        """See Backend."""
        self._host.stop(grace_s)
        self._close_pipe()
        remove_roots([*self._store.roots])

    def forget_in_child(self) -> None:
        """This process is a fork: let go of the parent's workers without a word to them."""
        self._host.forget_in_child()
        self._close_pipe()

    def _on_wake(self, _flags: int) -> list[Fact]:
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._wake_in, 4096)) == 4096:
                pass
        return []

    def _close_pipe(self) -> None:
        for fd in (self._wake_in, self._wake_out):
            os.close(fd)


def _event(fact: Fact) -> Event:
    """What a fact means to the ledger; the common ones first."""
    if isinstance(fact, Ended):
        return Outcomes(*fact)
    if isinstance(fact, LaneBegan):
        return LaneUp(fact.lane, fact.worker)
    if isinstance(fact, LaneEnded):
        return LaneDown(fact.lane, _end_of(fact), fact.unstarted)
    if isinstance(fact, WorkerEnded):
        return WorkerDown(fact.worker, LaneEnd(Cause.LOST, fact.detail, fact.exitcode), fact.unstarted)
    if isinstance(fact, InitializerRaised):
        return InitializerError(fact.outcome)
    if isinstance(fact, Answered):
        return Heard(fact.worker)
    assert isinstance(fact, NoStart)
    return StartFailed(LaneEnd(Cause.LOST, fact.detail))


def _end_of(fact: LaneEnded) -> LaneEnd:
    down = fact.down
    return LaneEnd(
        CAUSES[down.why],
        described(fact),
        down.exitcode,
        down.killed_call,
        stopped=down.why == DownCause.STOPPED,
        retired=down.why == DownCause.RETIRED,
    )
