"""Short words for driving a ledger by hand."""

from cloudexec.ledger.actions import Fail, LaneEnd, Place, Resolve
from cloudexec.ledger.calls import Call, CallOptions, Cause, Retry
from cloudexec.ledger.ledger import Ledger, Limits
from cloudexec.ledger.pace import Estimate, Pace
from cloudexec.testing.simulation.books import check_books

DIED = LaneEnd(Cause.CRASH, "died")
LOST = LaneEnd(Cause.LOST, "lost")


def known(mean_s=0.001, count=1000):
    """An estimate that has been measured often."""
    estimate = Estimate()
    estimate.count, estimate.mean_s = count, mean_s
    return estimate


class Driver:
    """A ledger, its calls by number, and what it has asked for."""

    def __init__(self, *, lanes=1, pace=None, mean_s=None, size=100, options=None, **limits):
        self.ledger = Ledger(Limits(**{"max_lanes": max(1, lanes), **limits}), pace or Pace())
        self.estimate = Estimate() if mean_s is None else known(mean_s)
        self.options = options or CallOptions()
        self.size = size
        self.calls = {}
        self.now_s = 0.0
        for number in range(lanes):
            self.ledger.lane_up(f"lane{number}", f"worker{number}", 0.0)
        self.did = []

    def submit(self, count=1, **options):
        """New calls, numbered on from the last one; returns them."""
        first = len(self.calls) + 1
        made = CallOptions(**options) if options else self.options
        calls = [Call(n, self.estimate, made, self.size) for n in range(first, first + count)]
        self.calls.update((call.number, call) for call in calls)
        self.ledger.submitted(calls, self.now_s)
        return calls

    def act(self, kind=None):
        """Take the actions, all or those of a kind."""
        check_books(self.ledger)
        actions = self.ledger.take_actions()
        self.did += actions
        return [action for action in actions if kind is None or type(action) is kind]

    def places(self):
        """Batches as (lane, numbers)."""
        return [(place.lane, [call.number for call in place.calls]) for place in self.act(Place)]

    def ends(self):
        """How calls ended: number -> value, or cause."""
        return {
            end.call.number: end.outcome if type(end) is Resolve else end.end.cause
            for end in self.act()
            if type(end) in (Resolve, Fail)
        }

    def outcome(self, number, lane="lane0", value="value", *, ok=True, retry=True, seconds=0.001, attempt=0):
        """A lane says how a call went."""
        self.ledger.outcome(
            lane, number, ok=ok, retry=retry, seconds=seconds, outcome=value, now_s=self.now_s, attempt=attempt
        )
        self.ledger.settle(self.now_s)

    def wait(self, seconds):
        """Let time pass, with every deadline on the way."""
        until_s = self.now_s + seconds
        while self.ledger.next_deadline <= until_s:
            self.now_s = max(self.now_s, self.ledger.next_deadline)
            self.ledger.tick(self.now_s)
        self.now_s = until_s


def retries(**budget):
    """Options with a retry budget and nothing else."""
    return CallOptions(retry=Retry(**{"lost": 0, **budget}))
