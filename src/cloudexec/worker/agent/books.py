"""Which calls the worker has, and which slot shall run them. Pure: no I/O, no clock; times are handed in.

Called by: agent.py, slots.py, post.py.
A message of the queue is a `Work`. Its calls are first in the backlog, then in a lane, and leave the books when
their end is told. When the end of all of them has been told, and the report accepted, the message may be deleted.
A lane is given calls only when it has none: whoever is free first takes what is next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator
from typing import Final, NamedTuple

from cloudexec.wire.messages import Batch, Outcome, PackedCall

UNLIMITED: Final = 1 << 62
NEVER: Final = float("inf")
_REMEMBERED: Final = 1000


class Work:
    """A message that was taken from the queue; `untold` of its calls have no end that the client has accepted."""

    __slots__ = ("batch", "body", "id", "receipt", "renew_s", "untold")

    def __init__(self, id: str, receipt: str, batch: Batch, body: memoryview, renew_s: float) -> None:
        self.id = id
        self.receipt = receipt
        self.batch = batch
        self.body = body
        self.renew_s = renew_s
        self.untold = len(batch.calls)


class Held:
    """A call that the worker has."""

    __slots__ = ("call", "told", "work")

    def __init__(self, call: PackedCall, work: Work) -> None:
        self.call = call
        self.work = work
        self.told = False  # the client knows that we have it

    @property
    def number(self) -> int:
        """The call's number."""
        return self.call.number


class Lane:
    """A slot as the books see it. `held`: the running call first. `since_s`: when that one became the first."""

    __slots__ = ("done", "held", "id", "looked_s", "quota", "since_s", "slot")

    def __init__(self, id: str, slot: int, quota: int) -> None:
        self.id = id
        self.slot = slot
        self.quota = quota
        self.held: deque[Held] = deque()
        self.since_s = NEVER
        self.looked_s = 0.0  # when calls behind the running one were last asked back
        self.done = 0

    @property
    def waits_since_s(self) -> float:
        """Since when what is behind the running call waits, or was last asked back."""
        return max(self.since_s, self.looked_s)


class Placement(NamedTuple):
    """Calls of one message for one lane."""

    lane: str
    work: Work
    calls: list[PackedCall]


class Books:
    """All that the worker has. `max_tasks`: calls that one slot may run, 0 for no limit."""

    def __init__(self, n_slots: int, max_tasks: int) -> None:
        self.n_slots = n_slots
        self._max_tasks = max_tasks or UNLIMITED
        self.works: dict[str, Work] = {}
        self.lanes: dict[str, Lane] = {}
        self._backlog: deque[list[Held]] = deque()  # pieces of one work each
        self._over: dict[str, None] = {}  # ids of messages that are over, the latest ones

    # --- questions ---

    @property
    def room(self) -> int:
        """How many messages more the worker can begin at once, counting slots that are on their way."""
        n_busy = sum(1 for lane in self.lanes.values() if lane.held)
        return max(0, self.n_slots - n_busy - len(self._backlog))

    @property
    def is_empty(self) -> bool:
        """Whether no call is here; messages may still wait to be deleted."""
        return not self._backlog and not any(lane.held for lane in self.lanes.values())

    @property
    def n_waiting(self) -> int:
        """How many calls no lane has."""
        return sum(map(len, self._backlog))

    @property
    def is_homeless(self) -> bool:
        """Whether calls wait while there is no lane to name as their holder."""
        return bool(self._backlog) and not self.lanes

    def has(self, message_id: str) -> bool:
        """Whether we hold a message already."""
        return message_id in self.works

    def is_over(self, message_id: str) -> bool:
        """Whether a message has been done with: the queue may send it again before it knows of the delete."""
        return message_id in self._over

    def held(self) -> dict[str, list[int]]:
        """The calls of each lane; those of the backlog stand with the first. Empty without a lane."""
        said = {lane.id: [held.number for held in lane.held] for lane in self.lanes.values()}
        first = next(iter(said.values()), None)
        if first is not None:
            first += [held.number for piece in self._backlog for held in piece]
        return said

    def receipts(self) -> dict[str, list[int]]:
        """The calls of each message that is not deleted yet, by its receipt."""
        return {work.receipt: [call.number for call in work.batch.calls] for work in self.works.values()}

    def all_held(self) -> Iterator[Held]:
        """Every call that is here."""
        for lane in self.lanes.values():
            yield from lane.held
        for piece in self._backlog:
            yield from piece

    def next_untold_s(self, after_s: float) -> float:
        """When a call will have run for `after_s` without the client knowing where."""
        starts = (lane.since_s for lane in self.lanes.values() if lane.held and not lane.held[0].told)
        return min(starts, default=NEVER) + after_s

    # --- messages ---

    def take(self, work: Work, *, without: Container[int] = ()) -> list[Held]:
        """A message has come. Calls in `without` are not wanted any more, and returned."""
        self.works[work.id] = work
        held = [Held(call, work) for call in work.batch.calls]
        wanted = [one for one in held if one.number not in without]
        if wanted:
            self._backlog.append(wanted)
        return [one for one in held if one.number in without]

    def renew_receipt(self, message_id: str, receipt: str) -> None:
        """The queue has sent a message that we hold once more: only the newest receipt is sure to delete it."""
        self.works[message_id].receipt = receipt

    def settle(self, ends: Iterable[Work]) -> list[Work]:
        """The client has accepted the end of one call of each of these; the works that are over now."""
        over = []
        for work in ends:
            work.untold -= 1
            if not work.untold and self.works.pop(work.id, None) is not None:
                over.append(work)
                self._over[work.id] = None
        while len(self._over) > _REMEMBERED:
            del self._over[next(iter(self._over))]
        return over

    def forget(self, works: Iterable[Work]) -> None:
        """Leave messages to their visibility."""
        for work in works:
            self.works.pop(work.id, None)

    def due(self, now_s: float, visibility_s: float) -> list[Work]:
        """Messages whose visibility must be extended now; their next time is noted."""
        due = [work for work in self.works.values() if work.renew_s <= now_s]
        for work in due:
            work.renew_s = now_s + visibility_s / 2
        return due

    def next_due_s(self) -> float:
        """When `due` will have something."""
        return min((work.renew_s for work in self.works.values()), default=NEVER)

    # --- lanes ---

    def begin_lane(self, lane: str, slot: int) -> None:
        """A slot has come up."""
        self.lanes[lane] = Lane(lane, slot, self._max_tasks)

    def place(self, now_s: float, most: int = UNLIMITED) -> list[Placement]:
        """Give what waits to lanes that have nothing, divided evenly among them and those on their way; `most` calls
        in all, as evenly."""
        idle = [lane for lane in self.lanes.values() if not lane.held and lane.quota > 0]
        if idle and self._backlog:
            self._divide(len(idle) + max(0, self.n_slots - len(self.lanes)))
        placements: list[Placement] = []
        for lane in idle:
            room = min(lane.quota, -(-most // (len(idle) - len(placements))))
            if not self._backlog or room <= 0:
                break
            piece = self._backlog.popleft()
            if len(piece) > room:
                self._backlog.appendleft(piece[room:])
                piece = piece[:room]
            most -= len(piece)
            lane.quota -= len(piece)
            lane.held.extend(piece)
            lane.since_s = now_s
            placements.append(Placement(lane.id, piece[0].work, [held.call for held in piece]))
        return placements

    def _divide(self, n_lanes: int) -> None:
        """Cut pieces until there is one for each lane, or each has one call."""
        pieces, self._backlog = self._backlog, deque()
        while pieces:
            piece = pieces.popleft()
            n_rest = len(pieces) + 1
            n_parts = max(1, min(len(piece), -(-(n_lanes - len(self._backlog)) // n_rest)))
            base, longer = divmod(len(piece), n_parts)
            at = 0
            for part in range(n_parts):
                end = at + base + (part < longer)
                self._backlog.append(piece[at:end])
                at = end

    def ended(self, lane_id: str, outcomes: Iterable[Outcome], now_s: float) -> list[tuple[Held, Outcome]]:
        """Attempts that have ended in a lane; outcomes of calls that it does not have are left out."""
        lane = self.lanes.get(lane_id)
        found: list[tuple[Held, Outcome]] = []
        if lane is None:
            return found
        for outcome in outcomes:
            held = next((one for one in lane.held if one.number == outcome.number), None)
            if held is not None:
                lane.held.remove(held)
                found.append((held, outcome))
        lane.done += len(found)
        lane.since_s = now_s if lane.held else NEVER
        return found

    def is_idle(self, lane_id: str) -> bool:
        """Whether a lane has no call left."""
        lane = self.lanes.get(lane_id)
        return lane is None or not lane.held

    def take_back(self, lane_id: str, count: int) -> None:
        """The last `count` calls of a lane have not started, and will not there: others shall have them."""
        lane = self.lanes[lane_id]
        back = [lane.held.pop() for _ in range(min(count, len(lane.held)))][::-1]
        lane.quota += len(back)
        self.again(back)

    def again(self, back: list[Held]) -> None:
        """Calls that a lane had, all of one message, shall run once more."""
        for held in back:
            held.told = False
        if back:
            self._backlog.appendleft(back)

    def end_lane(self, lane_id: str, unstarted: int) -> tuple[Lane | None, list[Held]]:
        """A slot has ended, and with it the calls that it had started: they are returned. The others go back."""
        lane = self.lanes.get(lane_id)
        if lane is None:
            return None, []
        self.take_back(lane_id, unstarted)
        del self.lanes[lane_id]
        return lane, list(lane.held)

    def next_stuck_s(self, after_s: float) -> float:
        """When some lane will have kept calls waiting for `after_s` behind a running one, while another has none."""
        if self._backlog or not any(not lane.held and lane.quota > 0 for lane in self.lanes.values()):
            return NEVER
        return min((lane.waits_since_s for lane in self.lanes.values() if len(lane.held) > 1), default=NEVER) + after_s

    def stuck(self, now_s: float, after_s: float) -> str | None:
        """The lane that keeps most calls waiting so."""
        if self.next_stuck_s(after_s) > now_s:
            return None
        late = [x for x in self.lanes.values() if len(x.held) > 1 and x.waits_since_s + after_s <= now_s]
        lane = max(late, key=lambda lane: len(lane.held))
        lane.looked_s = now_s
        return lane.id

    def next_late_s(self, after_s: float) -> float:
        """When some lane will have kept calls waiting for `after_s` while no lane here could have them."""
        is_full = len(self.lanes) >= self.n_slots and all(lane.held or not lane.quota for lane in self.lanes.values())
        waits = (lane.waits_since_s for lane in self.lanes.values() if len(lane.held) > 1) if is_full else ()
        return min(waits, default=NEVER) + after_s

    def late(self, now_s: float, after_s: float) -> list[str]:
        """The lanes that do so; those are not named again until `after_s` later."""
        if self.next_late_s(after_s) > now_s:
            return []
        late = [x for x in self.lanes.values() if len(x.held) > 1 and x.waits_since_s + after_s <= now_s]
        for lane in late:
            lane.looked_s = now_s
        return [lane.id for lane in late]

    def take_waiting(self) -> list[Held]:
        """Empty the backlog: others shall have what waits."""
        waiting = [held for piece in self._backlog for held in piece]
        self._backlog.clear()
        return waiting

    # --- calls that are not wanted any more, and the end ---

    def drop_waiting(self, numbers: Container[int]) -> list[Held]:
        """Strike these calls out of the backlog."""
        dropped = [held for piece in self._backlog for held in piece if held.number in numbers]
        if dropped:
            rest = ([held for held in piece if held.number not in numbers] for piece in self._backlog)
            self._backlog = deque(piece for piece in rest if piece)
        return dropped

    def take_all(self) -> tuple[list[Held], list[Held]]:
        """Empty the books of calls: (those that have started, as far as is known; the others)."""
        started = [held for lane in self.lanes.values() for held in lane.held]
        for lane in self.lanes.values():
            lane.held.clear()
        return started, self.take_waiting()
