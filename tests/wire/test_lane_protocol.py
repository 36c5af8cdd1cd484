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
        self.placed = 0
        self.queue = deque()  # placed; nobody has a claim on them
        self.claimed = deque()  # the slot has taken their tokens
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

    @precondition(lambda self: self.queue and not self.claimed)
    @rule(most=st.integers(1, 16))
    def slot_claims(self, most):
        count = self.lane.slot.claim(most)
        assert 1 <= count <= most
        assert count <= len(self.queue)
        self.claimed.extend(self.queue.popleft() for _ in range(count))

    @precondition(lambda self: self.claimed)
    @rule()
    def slot_runs_the_next_call(self):
        call, _batch = self.lane.slot.next_call()
        assert call.number == self.claimed.popleft()
        self.lane.slot.send(Kind.OUTCOME, b"%d" % call.number)
        self.sent.append(call.number)

    @rule()
    def feeder_receives(self):
        for kind, body in self.lane.feeder.receive():
            assert kind is Kind.OUTCOME
            assert int(bytes(body)) == self.sent.popleft()

    @invariant()
    def the_feeder_knows_how_many_calls_nobody_has_started(self):
        assert self.lane.feeder.unclaimed() == len(self.queue)


Handover.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
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
