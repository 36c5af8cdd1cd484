"""Any events in any order, beside a model that only knows who has which call."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloudexec.ledger.actions import DropWorker, Fail, LaneEnd, Place, Recall, Resolve
from cloudexec.ledger.calls import Call, CallOptions, Cause, Retry, State
from cloudexec.ledger.ledger import Ledger, Limits
from cloudexec.ledger.pace import Estimate, Pace
from cloudexec.testing.simulation.books import check_books

N_SLOTS = 3
LIMITS = Limits(max_lanes=N_SLOTS, max_tasks_per_lane=7, failed_starts=3)
causes = st.sampled_from([Cause.CRASH, Cause.OOM, Cause.LOST, Cause.TIMEOUT])


class Life(RuleBasedStateMachine):
    """The model: who holds which calls, which calls are over, and how each ended."""

    def __init__(self):
        super().__init__()
        self.now_s = 0.0
        self.calls = {}
        self.ends = {}
        self.lanes = {}  # lane -> calls as its backend knows them, the first one running
        self.started = {}  # lane -> how many of them have started
        self.n_lanes = 0
        self.sent = []  # (lane, number, attempt) of every outcome that was ever sent

    @initialize(
        backoff_s=st.sampled_from([0.0, 0.5]),
        batch=st.sampled_from([None, 1, 4]),
        recall=st.booleans(),
        n=st.integers(0, 3),
    )
    def begin(self, backoff_s, batch, recall, n):
        """An empty ledger."""
        self.ledger = Ledger(LIMITS, Pace(can_recall=recall))
        retry = Retry(error=n, crash=n, timeout=n, oom=n, lost=n, backoff_s=backoff_s)
        self.options = CallOptions(retry=retry, batch=batch)
        self.estimate = Estimate()

    # --- events ---

    @rule(count=st.integers(1, 12))
    def submit(self, count):
        """New calls."""
        first = len(self.calls) + 1
        calls = [Call(n, self.estimate, self.options, 100) for n in range(first, first + count)]
        self.calls.update((call.number, call) for call in calls)
        self.ledger.submitted(calls, self.now_s)
        self.act()

    @precondition(lambda self: len(self.lanes) < N_SLOTS)
    @rule(worker=st.integers(0, 1))
    def lane_up(self, worker):
        """A slot is there."""
        lane = f"{worker}/{self.n_lanes}"
        self.n_lanes += 1
        self.lanes[lane], self.started[lane] = [], 0
        self.ledger.lane_up(lane, f"w{worker}", self.now_s)
        self.act()

    @precondition(lambda self: any(self.lanes.values()))
    @rule(
        data=st.data(),
        ok=st.booleans(),
        retry=st.booleans(),
        seconds=st.sampled_from([0.0, 1e-4, 1.0]),
        act=st.booleans(),
    )
    def outcome(self, data, ok, retry, seconds, act):
        """The first call of a lane ends. Without `act`, the next event comes in the same turn."""
        lane = data.draw(st.sampled_from(sorted(lane for lane, calls in self.lanes.items() if calls)))
        number, attempt = self.lanes[lane].pop(0)
        self.started[lane] = max(0, self.started[lane] - 1)
        self.sent.append((lane, number, attempt))
        self.tell(lane, number, attempt, ok=ok, retry=retry, seconds=seconds)
        if act:
            self.act()

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), ok=st.booleans())
    def twin(self, data, ok):
        """An outcome comes again."""
        self.tell(*data.draw(st.sampled_from(self.sent)), ok=ok, retry=True, seconds=0.0)
        self.act()

    @precondition(lambda self: self.lanes)
    @rule(data=st.data(), cause=causes, retired=st.booleans())
    def lane_down(self, data, cause, retired):
        """A slot ends."""
        lane = data.draw(st.sampled_from(sorted(self.lanes)))
        unstarted = self.bury(lane)
        self.ledger.lane_down(lane, LaneEnd(cause, "down", retired=retired), unstarted, self.now_s)
        self.act()

    @rule(worker=st.integers(0, 1))
    def worker_down(self, worker):
        """A worker ends, with its slots; or one that never had any."""
        unstarted = {lane: self.bury(lane) for lane in list(self.lanes) if lane.startswith(f"{worker}/")}
        self.ledger.worker_down(f"w{worker}", LaneEnd(Cause.LOST, "down"), unstarted, self.now_s)
        self.act()

    @precondition(lambda self: self.lanes)
    @rule(data=st.data())
    def start_call(self, data):
        """A slot begins with its first call, from now on it cannot be taken back."""
        lane = data.draw(st.sampled_from(sorted(self.lanes)))
        self.started[lane] = min(1, len(self.lanes[lane]))

    @rule(worker=st.integers(0, 1), losing=st.booleans())
    def heard(self, worker, losing):
        """A worker answers; if `losing`, one of its lanes has not got its last call."""
        lanes = [lane for lane in self.lanes if lane.startswith(f"{worker}/")]
        if losing:
            for lane in lanes[:1]:
                del self.lanes[lane][self.started[lane] :][-1:]
        holding = frozenset(number for lane in lanes for number, _ in self.lanes[lane])
        self.ledger.heard(f"w{worker}", self.now_s, holding)
        self.act()

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def cancel(self, data):
        """The user loses interest in a call."""
        call = self.calls[data.draw(st.sampled_from(sorted(self.calls)))]
        if call.lane in self.lanes:
            self.give_back(call.lane, place=False)
        if self.ledger.cancel(call):
            self.end(call, "cancelled")
        self.ledger.settle(self.now_s)
        self.act()

    @rule(seconds=st.sampled_from([0.001, 0.1, 3.0, 100.0]))
    def time_passes(self, seconds):
        """Every deadline on the way is kept."""
        until_s = self.now_s + seconds
        while self.ledger.next_deadline <= until_s:
            self.now_s = max(self.now_s, self.ledger.next_deadline)
            self.ledger.tick(self.now_s)
            self.act()
            assert self.ledger.next_deadline > self.now_s
        self.now_s = until_s

    @rule()
    def start_failed(self):
        """A worker does not start."""
        self.ledger.start_failed(LaneEnd(Cause.LOST, "no start"), self.now_s)
        self.act()

    # --- what follows ---

    def tell(self, lane, number, attempt, *, ok, retry, seconds):
        """Hand an outcome to the ledger; its value says whose it is."""
        self.ledger.outcome(
            lane, number, ok=ok, retry=retry, seconds=seconds, outcome=number, now_s=self.now_s, attempt=attempt
        )
        self.ledger.settle(self.now_s)

    def bury(self, lane):
        """A lane's end in the model; how many of its calls had not started."""
        return len(self.lanes.pop(lane)) - self.started.pop(lane)

    def give_back(self, lane, *, place=True):
        """Take back what a lane has not started."""
        if lane not in self.lanes:
            return
        count = len(self.lanes[lane]) - self.started[lane]
        del self.lanes[lane][self.started[lane] :]
        self.ledger.returned(lane, count, self.now_s, place=place)

    def act(self):
        """Carry out what the ledger wants."""
        while actions := self.ledger.take_actions():
            for action in actions:
                if isinstance(action, Place):
                    self.lanes[action.lane] += [(call.number, call.attempts) for call in action.calls]
                elif isinstance(action, Resolve):
                    assert action.outcome == action.call.number
                    self.end(action.call, "resolved")
                elif isinstance(action, Fail):
                    self.end(action.call, action.end.cause)
                elif isinstance(action, Recall):
                    self.give_back(action.lane)
                elif isinstance(action, DropWorker):
                    lanes = [lane for lane in self.lanes if f"w{lane.partition('/')[0]}" == action.worker]
                    unstarted = {lane: self.bury(lane) for lane in lanes}
                    self.ledger.worker_down(action.worker, LaneEnd(Cause.LOST, "silent"), unstarted, self.now_s)
        assert set(self.ends) == {call.number for call in self.calls.values() if call.state is State.DONE}

    def end(self, call, how):
        """A call is over, for the first time."""
        assert call.number not in self.ends
        self.ends[call.number] = how

    @invariant()
    def books_agree(self):
        """The ledger agrees with itself, and with the model."""
        if not hasattr(self, "ledger"):
            return
        check_books(self.ledger)
        assert self.ledger.n_open == sum(call.state is not State.DONE for call in self.calls.values())
        retry = self.options.retry
        for call in self.calls.values():
            assert all(spent <= getattr(retry, cause.value) for cause, spent in call.spent.items())
            assert call.attempts <= sum(call.spent.values()) + 1

    @invariant()
    def something_is_due_while_calls_are_open(self):
        """Otherwise nobody would ever look at them again."""
        if hasattr(self, "ledger") and self.ledger.n_open:
            assert self.ledger.next_deadline < math.inf

    def teardown(self):
        """Whatever happened, every call ends when all starts fail."""
        if not hasattr(self, "ledger"):
            return
        self.act()
        for lane in list(self.lanes):
            self.ledger.lane_down(lane, LaneEnd(Cause.LOST, "the end"), self.bury(lane), self.now_s)
            self.act()
        for _ in range(60):
            self.time_passes(100.0)
        assert not self.ledger.n_open
        assert len(self.ends) == len(self.calls)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=40)
