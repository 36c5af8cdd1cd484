"""Whether a ledger's books agree with each other: slow, and thorough.

Called by: simulation.py, tests.   Reads the insides of the ledger.
"""

from __future__ import annotations

from collections import Counter

from cloudexec.ledger.calls import State
from cloudexec.ledger.ledger import Ledger


def check_books(ledger: Ledger) -> None:
    """Errors: AssertionError, when something is in two places, in none, or counted wrongly."""
    placing = ledger._placing
    pending = [call.number for call in placing._pending if call.state is State.PENDING]
    paused = [call.number for _, _, call in ledger._paused if call.state is State.PAUSED]
    holders = [*ledger._lanes.values(), *ledger._queues.values()]
    placed = [
        call.number
        for lane in holders
        for call in lane.calls.values()
        if call.state is State.PLACED and call.lane == lane.id
    ]
    twice = [number for number, count in Counter(pending + paused + placed).items() if count > 1]
    assert not twice, f"calls {twice} are in two places"
    places = {*pending, *paused, *placed}
    assert places == set(ledger._calls), f"calls {places ^ set(ledger._calls)} are open, or somewhere, but not both"
    assert len(pending) == placing.n_pending, f"{len(pending)} calls are pending, counted {placing.n_pending}"
    assert len(paused) == ledger._n_paused, f"{len(paused)} calls are paused, counted {ledger._n_paused}"
    assert len(placed) == ledger.n_placed, f"{len(placed)} calls are placed, counted {ledger.n_placed}"
    for lane in holders:
        _check_lane(ledger, lane.id)
    assert set(placing.idle) <= set(ledger._lanes), "a lane that has ended is noted as idle"
    assert set(placing._hungry) <= set(ledger._lanes), "a lane that has ended is noted as hungry"
    assert placing._asked <= set(ledger._lanes), "a lane that has ended owes an answer"


def _check_lane(ledger: Ledger, lane_id: str) -> None:
    placing = ledger._placing
    lane = ledger._lanes.get(lane_id) or ledger._queues[lane_id]
    alien = [call for call in lane.calls.values() if call.state in (State.PENDING, State.PAUSED)]
    assert not alien, f"{alien} are in lane {lane_id} without being placed"
    load_s = sum(call.cost_s for call in lane.calls.values())
    assert abs(lane.load_s - load_s) < 1e-6, f"lane {lane_id} has work of {load_s} s, counted {lane.load_s} s"
    assert lane.quota is None or lane.quota >= 0, f"lane {lane_id} was given more than its share"
    if lane.shared:
        return
    usable = lane.quota != 0 and not lane.stalled and not lane.closed
    assert (lane_id in placing.idle) == (usable and not lane.calls), f"lane {lane_id}: idle or not?"
    assert lane in ledger._workers[lane.worker].lanes.values(), f"lane {lane_id} is not in its worker"
