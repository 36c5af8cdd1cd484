"""Which lane gets which calls: pending calls, the lanes that could take them, batches, and taking back.

Called by: ledger.py.   Calls: pace, lanes.
Every step costs the same however many lanes there are, but for the search for a lane to take calls back from; that
one is made when lanes are idle and nothing is pending, and not again soon unless it has brought calls back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from cloudexec.ledger.actions import Action, Place, Recall
from cloudexec.ledger.calls import Call, State
from cloudexec.ledger.growth import NEVER
from cloudexec.ledger.lanes import Lane
from cloudexec.ledger.pace import Pace

_SEARCH_S: Final = 1e-5  # a search may cost a hundredth of the time until the next one, 0.1 µs a lane
_COMPACT_ABOVE: Final = 64
_MOST_DOUBLINGS: Final = 12


class Placing:
    """Gives pending calls to lanes. Adds to the ledger's list of actions."""

    def __init__(self, pace: Pace, actions: list[Action]) -> None:
        self.lanes: dict[str, Lane] = {}
        self.queues: dict[str, Lane] = {}
        self.idle: dict[str, Lane] = {}  # the longest idle one first
        self.n_pending = 0  # without those that are over already and still lie in the queue
        self.n_batches = 0
        self.n_expected = 0  # lanes that are up or on their way
        self.steal_at = NEVER  # when to look for calls to take back
        self._pace = pace
        self._actions = actions
        self._pending: deque[Call] = deque()
        self._hungry: dict[str, Lane] = {}
        self._asked: set[str] = set()  # lanes with a Recall that is not answered yet
        self._search_from_s = 0.0
        self._width = 0  # calls that run at once in all lanes, where lanes run several

    def adjust(self, pace: Pace) -> None:
        """Another pace, before the first call."""
        self._pace = pace

    # --- pending calls ---

    def add(self, calls: Iterable[Call]) -> None:
        """New calls, at the end."""
        before = len(self._pending)
        self._pending.extend(calls)
        self.n_pending += len(self._pending) - before

    def add_first(self, calls: list[Call]) -> None:
        """Calls that have been placed before, in front of the others."""
        self._pending.extendleft(reversed(calls))
        self.n_pending += len(calls)

    def forget(self) -> None:
        """One of the pending calls is over."""
        self.n_pending -= 1
        if len(self._pending) > _COMPACT_ABOVE and len(self._pending) > 2 * self.n_pending:
            self._pending = deque(call for call in self._pending if call.state is State.PENDING)

    def pending(self) -> list[Call]:
        """The pending calls, in their order."""
        return [call for call in self._pending if call.state is State.PENDING]

    # --- lanes ---

    def look_at(self, lane: Lane) -> None:
        """Note whether a lane is idle, or could take more."""
        if lane.width > len(lane.calls):  # the others may run elsewhere
            self._set_width(lane, len(lane.calls))
        usable = lane.quota != 0 and not lane.stalled and not lane.closed
        if usable and not lane.calls:
            self.idle[lane.id] = lane
        else:
            self.idle.pop(lane.id, None)
        takes_more = self._pace.pipelined or not lane.calls
        if (
            usable
            and takes_more
            and lane.load_s <= self._pace.target_s / 2
            and lane.n_bytes <= self._pace.lane_bytes // 2
        ):
            self._hungry[lane.id] = lane
        else:
            self._hungry.pop(lane.id, None)

    def remove(self, lane: Lane) -> None:
        """A lane is no more."""
        self._set_width(lane, 0)
        del self.lanes[lane.id]
        self.idle.pop(lane.id, None)
        self._hungry.pop(lane.id, None)
        self._asked.discard(lane.id)

    def moved(self, lane: Lane) -> None:
        """A lane has shown a sign of life: it is stalled no more, unless it still owes an answer."""
        lane.stalled = lane.id in self._asked

    def answered(self, lane: Lane, n_back: int) -> None:
        """`n_back` calls were taken back from a lane; the others it has started."""
        self._asked.discard(lane.id)
        if n_back:
            self._search_from_s = 0.0  # there may be more
        lane.stalled = bool(lane.calls)
        lane.vain = 0 if lane.stalled else lane.vain + 1

    def unsend(self, lane: Lane) -> list[Call]:
        """Calls of a lane whose Place nobody has carried out yet; they will not be sent."""
        unsent = [action for action in self._actions if type(action) is Place and action.lane == lane.id]
        if not unsent:
            return []
        self._actions[:] = [action for action in self._actions if not any(action is place for place in unsent)]
        self.n_batches -= len(unsent)
        return [call for place in unsent for call in place.calls]

    # --- batches ---

    def fill(self, now_s: float) -> None:
        """Give pending calls to lanes that can take them; idle lanes first."""
        if self.queues:
            self._fill_queues(now_s)
            return
        idle, hungry = self.idle, self._hungry
        while idle and self._room and (call := self._next_pending()):
            self._place(next(iter(idle.values())), call, now_s)
        while hungry and self._room and (call := self._next_pending()) and call.estimate.count:
            self._place(next(iter(hungry.values())), call, now_s)
        if idle and self._pace.can_recall and len(idle) < len(self.lanes) and len(self._asked) < len(idle):
            self._steal(now_s)

    @property
    def _room(self) -> int:
        """How many more calls may run at once."""
        most = self._pace.most_at_once
        return max(0, most - self._width) if most else self._pace.together

    def _set_width(self, lane: Lane, width: int) -> None:
        self._width += width - lane.width
        lane.width = width

    def _fill_queues(self, now_s: float) -> None:
        """Put calls into a shared queue: one for each slot that has nothing to do, and a little ahead if calls are
        known to be short. More would be out of reach for `cancel`, and for better batches later."""
        n_slots = max(len(self.lanes), self.n_expected, 1)
        n_free = len(self.idle) + n_slots - len(self.lanes)
        for queue in self.queues.values():
            while (call := self._next_pending()) and (
                len(queue.calls) < n_free or self._is_worth_ahead(queue, call, n_slots)
            ):
                self._place(queue, call, now_s)

    def flush(self, now_s: float) -> None:
        """Put every pending call into a shared queue: nobody will be here to do it later."""
        for queue in self.queues.values():
            while call := self._next_pending():
                self._place(queue, call, now_s)

    def _is_worth_ahead(self, queue: Lane, call: Call, n_slots: int) -> bool:
        if not call.estimate.count:
            return False
        cost_s = self._pace.cost_s(call)
        return queue.load_s + cost_s <= n_slots * self._pace.ahead_work_s(cost_s)

    def _next_pending(self) -> Call | None:
        """The first pending call, without taking it; drops what is over."""
        pending = self._pending
        while pending:
            if pending[0].state is State.PENDING:
                return pending[0]
            pending.popleft()
        return None

    def _place(self, lane: Lane, first: Call, now_s: float) -> None:
        batch = self._form_batch(lane, first)
        if not lane.calls:
            lane.progress_s = now_s
        for call in batch:
            call.state = State.PLACED
            call.attempts += 1
            call.placed_s = now_s
            lane.add(call, self._pace.cost_s(call))
        self.n_pending -= len(batch)
        self.n_batches += 1
        self._actions.append(Place(lane.id, batch))
        if lane.shared:
            return
        if lane.quota is not None:
            lane.quota -= len(batch)
        if self._pace.most_at_once:
            self._set_width(lane, min(len(batch), self._pace.together))
        self._hungry.pop(lane.id, None)  # it goes to the end, so that the others have their turn
        self.look_at(lane)

    def _form_batch(self, lane: Lane, first: Call) -> list[Call]:
        """Take calls from the pending queue for one message."""
        fixed = first.options.batch
        most = fixed or self._pace.most_in_batch(
            first.estimate, self.n_pending, max(len(self.lanes), self.n_expected, 1)
        )
        together = self._pace.together
        room_s = NEVER if fixed else together * self._pace.target_s - (0.0 if lane.shared else lane.load_s)
        if lane.quota is not None:
            most = min(most, lane.quota)
        if self._room < together:
            most = min(most, self._room)
        batch: list[Call] = []
        size, work_s, pending, pace = 0, 0.0, self._pending, self._pace
        while pending and (not batch or len(batch) < most):
            call = pending[0]
            if call.state is not State.PENDING:
                pending.popleft()
                continue
            size += call.size
            work_s += pace.cost_s(call)
            if batch and (
                size > pace.most_bytes
                or call.options.batch != fixed
                or (call.alone or batch[0].alone)
                or (not fixed and len(batch) >= together and (work_s > room_s or not call.estimate.count))
            ):
                break
            batch.append(pending.popleft())
        return batch

    # --- taking back ---

    def _steal(self, now_s: float) -> None:
        """Ask for queued calls back, for idle lanes."""
        if now_s < self._search_from_s:
            self.steal_at = min(self.steal_at, self._search_from_s)
            return
        holders = [lane for lane in self.lanes.values() if lane.calls and not lane.stalled and not lane.closed]
        victims, self.steal_at = self._victims(holders, now_s)
        self._search_from_s = now_s + min(_SEARCH_S * len(self.lanes), self._pace.stalled_after_s)
        for lane in victims[: len(self.idle) - len(self._asked)]:
            lane.stalled = True
            self._asked.add(lane.id)
            self._actions.append(Recall(lane.id))
            self.look_at(lane)

    def _victims(self, holders: list[Lane], now_s: float) -> tuple[list[Lane], float]:
        """Lanes to take calls back from, and when there may be others.

        The lane with the most queued work; else those that have done nothing yet, because a single call may be
        waiting there for a slow start.
        """
        ripe: list[Lane] = []
        later = NEVER
        for lane in holders:
            if len(lane.calls) > 1 or not lane.done:
                due_s = self._due(lane)
                if due_s <= now_s:
                    ripe.append(lane)
                else:
                    later = min(later, due_s)
        queued = max(ripe, key=lambda lane: (len(lane.calls) > 1, lane.load_s), default=None)
        return [queued] if queued is not None and len(queued.calls) > 1 else ripe, later

    def _due(self, lane: Lane) -> float:
        """When a lane's calls may be taken back: soon if it has much to do, later if it is merely slow.

        Never right after they were placed, and later each time that it had not started any: lanes that are all slow
        to start would pass calls on in a circle for ever.
        """
        pace = self._pace
        due_s = lane.progress_s + pace.stalled_after_s * 2.0 ** min(lane.vain, _MOST_DOUBLINGS)
        if len(lane.calls) > 1 and lane.done and not lane.vain and lane.load_s >= pace.recall_above_s:
            placed_s = next(reversed(lane.calls.values())).placed_s
            return min(due_s, placed_s + pace.recall_above_s)
        return due_s
