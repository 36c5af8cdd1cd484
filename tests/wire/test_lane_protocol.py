"""How a call changes hands: whatever the interleaving, it is run once or returned once."""

import random
import sys
import threading
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cloudexec.wire.envelope import Kind
from tests.wire.lanes import Lane, lane


class Handover(RuleBasedStateMachine):
    """Feeder and slot take turns in one thread, beside a model of who has which call."""

    def __init__(self):
        super().__init__()
        self.lane = Lane()
        self.lane.connect()
        self.placed = 0
        self.given = deque()  # the slot's from the start
        self.awaited = None  # the given call, until its outcome has come: nothing behind it can be claimed
        self.queue = deque()  # placed; nobody has a claim on them
        self.claimed = deque()  # the slot has taken their tokens
        self.claims = 0  # how many calls the slot was told to run next
        self.sent = deque()  # outcomes on their way to the feeder

    def teardown(self):
        self.lane.close()

    @precondition(lambda self: len(self.queue) < 2000)
    @rule(count=st.integers(1, 40))
    def feeder_places(self, count):
        numbers = list(range(self.placed + 1, self.placed + 1 + count))
        self.placed += count
        self.lane.place(numbers)
        self.queue.extend(numbers)

    @precondition(lambda self: self.lane.feeder.is_idle)
    @rule()
    def feeder_gives(self):
        self.placed += 1
        self.lane.give(self.placed)
        self.given.append(self.placed)
        self.awaited = self.placed

    @rule()
    def feeder_recalls(self):
        returned = self.lane.feeder.recall()
        assert returned in (0, len(self.queue))
        for _ in range(returned):
            self.queue.pop()

    @rule(times=st.integers(1, 150))
    def feeder_changes_its_mind(self, times):
        for _ in range(times):
            self.feeder_places(1)
            self.feeder_recalls()

    @precondition(lambda self: not self.claims and (self.given or (self.queue and not self.awaited)))
    @rule(most=st.integers(1, 16))
    def slot_claims(self, most):
        self.claims = self.lane.slot.claim(most)
        taken = len(self.queue) - self.lane.feeder.unclaimed()
        self.claimed.extend(self.queue.popleft() for _ in range(taken))
        assert 1 <= self.claims <= most
        assert self.claims == (len(self.given) or len(self.claimed))

    @precondition(lambda self: self.claims)
    @rule()
    def slot_runs_the_next_call(self):
        call, _batch = self.lane.slot.next_call()
        assert call.number == (self.given or self.claimed).popleft()
        self.claims -= 1
        self.lane.slot.send(Kind.OUTCOME, b"%d" % call.number)
        self.sent.append(call.number)

    @rule()
    def feeder_receives(self):
        for kind, body in self.lane.feeder.receive():
            assert kind is Kind.OUTCOME
            number = self.sent.popleft()
            assert int(bytes(body)) == number
            if number == self.awaited:
                self.awaited = None

    @invariant()
    def the_feeder_knows_how_many_calls_nobody_has_started(self):
        assert self.lane.feeder.unclaimed() == len(self.queue)

    @invariant()
    def the_feeder_thinks_the_slot_idle_only_when_it_is(self):
        if self.lane.feeder.is_idle:
            assert not any((self.given, self.queue, self.claimed, self.sent))


Handover.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
test_a_call_is_run_once_or_returned_once = Handover.TestCase


def test_a_slot_that_falls_behind_by_more_recalls_than_a_token_can_count_runs_no_recalled_call():
    with lane() as it:
        it.place([1])
        it.slot.claim(1)
        it.slot.next_call()
        it.slot.send(Kind.OUTCOME, b"written before all that follows")
        kept = deque()
        for number in range(2, 600):
            it.place([number])
            kept.append(number)
            for _ in range(it.feeder.recall()):
                kept.pop()
            it.feeder.receive()
        assert kept, "at some point the feeder must stop recalling"
        while kept:
            for _ in range(it.slot.claim(16)):
                assert it.slot.next_call()[0].number == kept.popleft()


def test_recalling_goes_on_once_the_slot_has_caught_up():
    with lane() as it:
        for number in range(1, 2000):
            it.place([number])
            if number % 100:
                assert it.feeder.recall() == 1
            else:
                it.slot.claim(1)
                assert it.slot.next_call()[0].number == number
                it.slot.send(Kind.OUTCOME, b"")
                it.feeder.receive()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets us shrink a pipe")
def test_more_calls_than_the_token_pipe_holds_lose_none():
    count = 20_000
    with lane() as it:
        it.shrink_token_pipe()
        it.place(list(range(1, count + 1)))
        assert it.feeder.unclaimed() == count
        ran = []
        while len(ran) < count - 5000:
            for _ in range(it.slot.claim(64)):
                ran.append(it.slot.next_call()[0].number)
                it.slot.send(Kind.OUTCOME, b"")
            it.feeder.receive()
        assert it.feeder.recall() == count - len(ran)
        assert ran == list(range(1, len(ran) + 1))
        assert it.feeder.unclaimed() == 0


class Worker(threading.Thread):
    """Serves the slot's end, as worker.slot does."""

    def __init__(self, it, most):
        super().__init__(daemon=True)
        self.lane, self.most, self.error = it, most, None

    def run(self):
        slot = self.lane.slot
        try:
            while claimed := slot.claim(self.most):
                for _ in range(claimed):
                    call, _batch = slot.next_call()
                    slot.send(Kind.OUTCOME, call.number.to_bytes(8, "little") + bytes(call.packed))
                slot.ring()
        except (EOFError, BrokenPipeError):
            pass
        except Exception as error:
            self.error = error


@pytest.mark.parametrize("most", [1, 16])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [0, 3000])
def test_with_both_ends_at_work_every_call_is_run_once_or_returned_once(seed, most, size):
    dice = random.Random(seed)
    with lane(wide=False) as it:
        worker = Worker(it, most)
        worker.start()
        expected, ran, returned, placed = deque(), [], 0, 0

        def take_in():
            for kind, body in it.feeder.receive():
                assert kind is Kind.OUTCOME
                number = int.from_bytes(body[:8], "little")
                assert number == expected.popleft(), "a call was run that was returned, or out of order"
                assert body[8:] == bytes(size)
                ran.append(number)

        while placed < 4000:
            if it.feeder.is_idle and dice.random() < 0.7:
                placed += 1
                it.give(placed, bytes(size))
                expected.append(placed)
            numbers = list(range(placed + 1, placed + 1 + dice.randint(1, 20)))
            placed += len(numbers)
            it.place(numbers, bytes(size))
            expected.extend(numbers)
            if dice.random() < 0.5:
                count = it.feeder.recall()
                returned += count
                for _ in range(count):
                    expected.pop()
            it.feeder.flush()
            take_in()
            if len(expected) > 300:
                it.wait_for_bell(0.05)
        while expected:
            it.feeder.flush()
            it.wait_for_bell(0.05)
            take_in()
        assert worker.error is None
        assert len(ran) + returned == placed
        assert it.feeder.unclaimed() == 0
        it.feeder.close()
        worker.join(30)
        assert not worker.is_alive()


def test_a_slot_that_waits_already_when_its_feeder_comes_takes_a_given_call():
    it, taken = Lane(), []
    thread = threading.Thread(target=lambda: taken.extend((it.slot.claim(1), it.slot.next_call())), daemon=True)
    thread.start()
    thread.join(0.1)  # it most likely waits by now
    it.connect()
    it.give(1)
    thread.join(30)
    assert not thread.is_alive()
    assert taken[0] == 1
    assert taken[1][0].number == 1
    it.close()


def test_a_given_calls_outcome_rings_no_bell_and_the_feeder_knows_that_it_must_watch():
    with lane() as it:
        assert not it.feeder.wants_watching
        it.give(1)
        assert it.feeder.wants_watching
        it.slot.claim(1)
        it.slot.next_call()
        it.slot.send(Kind.OUTCOME, b"")
        it.slot.ring()
        assert not it.wait_for_bell(0)
        assert len(it.feeder.receive()) == 1
        assert not it.feeder.wants_watching


def test_a_given_call_cannot_be_taken_back():
    with lane() as it:
        it.give(1)
        assert it.feeder.unclaimed() == 0
        assert it.feeder.recall() == 0


def test_what_is_placed_behind_a_given_call_that_the_slot_has_not_read_yet_can_be_taken_back_while_it_runs():
    with lane() as it:
        it.give(1)
        it.place([2, 3])
        assert it.slot.claim(1) == 1
        assert it.slot.next_call()[0].number == 1
        assert it.feeder.recall() == 2


def test_what_is_placed_behind_a_given_call_follows_when_its_outcome_has_come():
    with lane() as it:
        it.give(1)
        it.place([2])
        it.slot.claim(1)
        it.slot.next_call()
        it.slot.send(Kind.OUTCOME, b"")
        it.feeder.receive()
        assert it.slot.claim(1) == 1
        assert it.slot.next_call()[0].number == 2


@pytest.mark.parametrize(
    ("running", "unstarted"),
    [pytest.param(1, 2, id="it died in the given call"), pytest.param(0, 3, id="it died before it came to it")],
)
def test_at_a_slots_end_the_feeder_tells_how_many_calls_never_started(running, unstarted):
    with lane() as it:
        it.give(1)
        it.place([2, 3])
        it.close_slot()
        assert it.feeder.unstarted_at_end(running) == unstarted
