"""What the engine expects of a backend.

Called by: engine; implemented in the folders beside this file.
A backend keeps no books: it carries out what the ledger wants and reports what happened.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from cloudexec.errors import CloudexecError
from cloudexec.ids import BlobRef
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Call, CallOptions
from cloudexec.ledger.pace import Estimate, Pace
from cloudexec.wire.messages import Outcome, PackedCall, PackedFunction


class OutboundCall(Call):
    """A call with all that it takes along, and `sink`, which is to learn how it ended."""

    __slots__ = ("attachments", "function", "packed", "pickler", "refs", "sink")

    def __init__(
        self,
        number: int,
        estimate: Estimate,
        options: CallOptions,
        function: PackedFunction,
        packed: bytes,
        refs: tuple[BlobRef, ...],
        pickler: str,
        sink: Any,
        attachments: tuple[bytes, ...] = (),
    ) -> None:
        super().__init__(number, estimate, options, len(packed) + sum(map(len, attachments)))
        self.function = function
        self.packed = packed
        self.attachments = attachments
        self.refs = refs
        self.pickler = pickler
        self.sink = sink

    def for_wire(self) -> PackedCall:
        """What a batch says of it."""
        options = self.options
        return PackedCall(
            self.number,
            self.attempts,
            self.function,
            self.packed,
            options.timeout_s or 0.0,
            options.env,
            self.pickler,
            self.attachments,
        )


class Chronicle(Protocol):
    """Who writes down what must outlive the client. Called on the engine's thread."""

    def submitted(self, calls: list[OutboundCall]) -> None:
        """New calls, which nobody has placed yet."""
        ...

    def cancelled(self, number: int) -> None:
        """A call will never run."""
        ...

    def failed(self, number: int, end: LaneEnd) -> None:
        """A call is over without an outcome."""
        ...


class LaneUp(NamedTuple):
    """A slot can take calls."""

    lane: str
    worker: str


class LaneDown(NamedTuple):
    """A slot has ended; the last `unstarted` of its calls were never started."""

    lane: str
    end: LaneEnd
    unstarted: int


class WorkerDown(NamedTuple):
    """A worker has ended with its lanes; `unstarted` by lane."""

    worker: str
    end: LaneEnd
    unstarted: dict[str, int]


class StartFailed(NamedTuple):
    """A worker or slot could not be started."""

    end: LaneEnd


class Outcomes(NamedTuple):
    """Attempts that ended in a lane, in the order in which they ended."""

    lane: str
    outcomes: list[Outcome]


class InitializerError(NamedTuple):
    """The initializer raised; the outcome holds its exception."""

    outcome: Outcome


class Heard(NamedTuple):
    """A worker answered a ping. `holding`: the calls that it has, if messages may get lost on the way."""

    worker: str
    holding: frozenset[int] | None = None


class Taken(NamedTuple):
    """A slot has taken calls out of the shared queue."""

    lane: str
    numbers: list[int]


class Requeued(NamedTuple):
    """A worker that had to leave has put calls back into the shared queue, each (number, attempt)."""

    attempts: list[tuple[int, int]]


class GivenBack(NamedTuple):
    """Calls were taken out of the shared queue, or out of a worker, before they started."""

    numbers: list[int]


class CallDown(NamedTuple):
    """An attempt has ended without an outcome, and its lane goes on. `alone`: any call of its batch may be to blame."""

    lane: str
    number: int
    end: LaneEnd
    alone: bool = False


class Broken(NamedTuple):
    """The backend can never run a call again; every open call ends with this error."""

    error: CloudexecError


CallEvent = Outcomes | CallDown | Taken | Requeued | GivenBack
SlotEvent = LaneUp | LaneDown | WorkerDown | Heard
Event = CallEvent | SlotEvent | StartFailed | InitializerError | Broken


class Backend(Protocol):
    """One service. Everything but `wake` is called on the engine's thread only."""

    @property
    def pace(self) -> Pace:
        """Figures for forming batches."""
        ...

    @property
    def queue(self) -> str | None:
        """The id of the queue that slots share; calls are then placed there. None: each slot is given its own."""
        ...

    def want_lanes(self, count: int) -> None:
        """Have this many slots; each reports as LaneUp, or as StartFailed."""
        ...

    def place(self, lane: str, calls: list[OutboundCall]) -> None:
        """Hand a batch to a lane."""
        ...

    def recall(self, lane: str) -> int:
        """Take back what a lane has not started; how many of its last calls that were."""
        ...

    def recall_queue(self) -> list[tuple[int, int]]:
        """Take out of the shared queue what no slot has taken; each (number, attempt). Where there is a queue."""
        ...

    def unstarted(self, lane: str) -> int:
        """How many of a lane's last calls have not started, as of now."""
        ...

    def kill_call(self, lane: str, number: int) -> None:
        """Kill a lane's process if it is still running this call; it reports as LaneDown."""
        ...

    def ping(self, worker: str) -> None:
        """Ask for a sign of life; it reports as Heard."""
        ...

    def drop_worker(self, worker: str) -> None:
        """Kill a silent worker; it reports as WorkerDown."""
        ...

    def fetch(self, ref: BlobRef) -> memoryview:
        """A result's blob, in a buffer of the caller's own; it is removed from the store."""
        ...

    def poll(self, timeout_s: float | None) -> list[Event]:
        """What happened; waits until something did, `wake` was called, or the time is over."""
        ...

    def wake(self) -> None:
        """End a `poll` that waits, or the next one. From any thread."""
        ...

    def stop(self, grace_s: float) -> None:
        """End all workers; those with running calls get `grace_s`. Nothing is left afterwards."""
        ...
