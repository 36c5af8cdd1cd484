"""The pipes themselves: full ones, cut messages, large messages, the bell, and ends that close."""

import os
import select
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.errors import SignatureError, WireError
from cloudexec.ids import Attached
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.lane import BELL, MessageReader
from cloudexec.wire.messages import PackedCall, encode_batch
from cloudexec.wire.parts import pack_parts
from tests.wire.lanes import FUNCTION, SEAL, lane

messages = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=200)), max_size=6)


@given(messages, st.data())
def test_a_stream_is_cut_into_messages_however_it_arrives(sent, data):
    stream = b"".join(SEAL.close(kind, body) for kind, body in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    reader, came = MessageReader(SEAL), []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        came += [(kind, bytes(body)) for kind, body in reader.feed(stream[start:stop])]
    assert came == sent
    assert not reader.in_the_middle


@given(st.binary(min_size=1, max_size=200), st.data())
def test_the_reader_knows_that_a_message_has_begun(body, data):
    message = SEAL.close(Kind.OUTCOME, body)
    reader = MessageReader(SEAL)
    cut = data.draw(st.integers(1, len(message) - 1))
    assert reader.feed(message[:cut]) == []
    assert reader.in_the_middle
    assert reader.feed(message[cut:]) == [(Kind.OUTCOME, body)]
    assert not reader.in_the_middle


def test_a_message_of_another_key_is_refused_by_the_reader():
    with pytest.raises(SignatureError):
        MessageReader(SEAL).feed(Seal(b"k" * 32).close(Kind.OUTCOME, b"body"))


def test_text_in_the_stream_is_refused_by_the_reader():
    with pytest.raises(WireError):
        MessageReader(SEAL).feed(b"somebody printed this into our pipe, of all places\n")


def test_a_body_stays_as_it_is_while_the_reader_goes_on():
    reader = MessageReader(SEAL)
    first, second = SEAL.close(Kind.OUTCOME, b"first"), SEAL.close(Kind.OUTCOME, b"2nd")
    reader.feed(first[:9])
    ((_, body),) = reader.feed(first[9:] + second[:9])
    reader.feed(second[9:])
    assert body == b"first"


def run_in_thread(job):
    thread = threading.Thread(target=job, daemon=True)
    thread.start()
    return thread


def flush_until_sent(it):
    while it.feeder.has_unsent:
        assert select.select([], [it.feeder.work_fd], [], 30)[1], "nobody reads the work pipe"
        it.feeder.flush()


def test_placing_more_than_the_pipe_holds_does_not_block_and_loses_nothing():
    body = os.urandom(300_000)
    came = []
    with lane(wide=False) as it:
        for number in range(1, 11):
            it.place([number], body)
        assert it.feeder.has_unsent

        def serve():
            for _ in range(10):
                it.slot.claim(1)
                came.append(it.slot.next_call()[0])

        thread = run_in_thread(serve)
        flush_until_sent(it)
        thread.join(30)
    assert [call.number for call in came] == list(range(1, 11))
    assert all(call.packed == body for call in came)


def test_a_recall_behind_a_full_pipe_reaches_the_slot_in_its_order():
    with lane(wide=False) as it:
        it.place([1], bytes(500_000))
        it.place([2], bytes(500_000))
        assert it.feeder.recall() == 2
        it.place([3], b"this one")
        came = []

        def serve():
            it.slot.claim(1)
            came.append(it.slot.next_call()[0])

        thread = run_in_thread(serve)
        flush_until_sent(it)
        thread.join(30)
    assert [(call.number, bytes(call.packed)) for call in came] == [(3, b"this one")]


@pytest.mark.parametrize("size", [0, 1, 65_536, 1 << 20, (1 << 20) + 1, 30_000_000])
def test_an_outcome_of_any_size_comes_whole(size):
    body = os.urandom(size)
    with lane() as it:

        def send():
            it.slot.send(Kind.OUTCOME, body)
            it.slot.ring()

        thread = run_in_thread(send)
        assert it.wait_for_bell()
        came = []
        while not came:
            came = it.feeder.receive()
            if it.feeder.wants_watching:
                assert select.select([it.feeder.out_fd], [], [], 30)[0]
        thread.join(30)
        assert came == [(Kind.OUTCOME, body)]
        assert not it.feeder.wants_watching


def test_the_bell_carries_the_slots_number_once_for_many_outcomes():
    with lane() as it:
        for number in range(100):
            it.slot.send(Kind.OUTCOME, b"%d" % number)
        it.slot.ring()
        it.slot.ring()
        assert os.read(it.bell, 1000) == BELL.pack(7)
        assert [int(bytes(body)) for _, body in it.feeder.receive()] == list(range(100))


def test_the_bell_rings_by_itself_before_the_out_pipe_can_fill_up():
    with lane(wide=False) as it:
        while not it.wait_for_bell(0):
            it.slot.send(Kind.OUTCOME, bytes(1000))
        assert it.feeder.receive()


def test_a_slot_that_runs_out_of_calls_rings_before_it_waits():
    with lane() as it:
        it.slot.send(Kind.OUTCOME, b"")
        thread = run_in_thread(lambda: it.slot.claim(1))
        assert it.wait_for_bell()
        it.place([1])
        thread.join(30)
        assert not thread.is_alive()


def test_nothing_to_receive_is_an_empty_list():
    with lane() as it:
        assert it.feeder.receive() == []


def test_a_slot_whose_feeder_closes_gets_no_more_calls():
    with lane() as it:
        it.feeder.close()
        assert it.slot.claim(1) == 0


def test_a_waiting_slot_wakes_when_its_feeder_closes():
    claimed = []
    with lane() as it:
        thread = run_in_thread(lambda: claimed.append(it.slot.claim(1)))
        it.feeder.close()
        thread.join(30)
    assert claimed == [0]


def test_a_feeder_that_dies_in_the_middle_of_a_message_is_noticed_by_the_slot():
    with lane(wide=False) as it:
        it.place([1], bytes(500_000))
        it.slot.claim(1)
        it.feeder.close()
        with pytest.raises(EOFError, match="middle"):
            it.slot.next_call()


def test_placing_and_recalling_on_a_dead_slots_lane_raises_nothing():
    with lane() as it:
        it.place([1, 2])
        it.close_slot()
        it.place([3], bytes(100))
        it.feeder.flush()
        assert it.feeder.unclaimed() == 3
        assert it.feeder.recall() == 3
        assert it.feeder.receive() == []


def test_what_a_dead_slot_had_sent_is_still_received():
    with lane() as it:
        it.slot.send(Kind.OUTCOME, b"the last one")
        it.close_slot()
        assert it.feeder.receive() == [(Kind.OUTCOME, b"the last one")]


def test_a_feeder_that_stopped_reading_receives_nothing_more():
    with lane() as it:
        it.slot.send(Kind.OUTCOME, b"not to be trusted")
        it.feeder.stop_reading()
        assert it.feeder.receive() == []
        assert not it.feeder.wants_watching


def test_a_slot_that_is_sent_an_outcome_complains():
    with lane() as it:
        it.place([])
        os.write(it.feeder.work_fd, SEAL.close(Kind.OUTCOME, b""))
        with pytest.raises(WireError, match="OUTCOME"):
            it.slot.next_call()


def test_attachments_follow_their_batch_and_belong_to_their_calls():
    contents = {number: [os.urandom(size) for size in range(0, 200_000 * number, 70_000)] for number in range(1, 5)}
    came = []
    with lane(wide=False) as it:
        calls = [
            PackedCall(number, 1, FUNCTION, pack_parts([b"stream", *(Attached(len(each)) for each in attached)]))
            for number, attached in contents.items()
        ]
        it.feeder.place(encode_batch(calls), len(calls), [each for attached in contents.values() for each in attached])
        it.place([5], b"what comes next")

        def serve():
            for _ in range(5):
                it.slot.claim(1)
                came.append(it.slot.next_call()[0])

        thread = run_in_thread(serve)
        flush_until_sent(it)
        thread.join(30)
    assert [call.number for call in came] == [1, 2, 3, 4, 5]
    assert {call.number: call.attachments for call in came[:4]} == contents
    assert came[4].packed == b"what comes next"


def test_a_recall_behind_attachments_leaves_the_stream_in_step():
    with lane(wide=False) as it:
        call = PackedCall(1, 1, FUNCTION, pack_parts([b"stream", Attached(500_000)]))
        it.feeder.place(encode_batch([call]), 1, [bytes(500_000)])
        assert it.feeder.recall() == 1
        it.place([2], b"this one")
        came = []

        def serve():
            it.slot.claim(1)
            came.append(it.slot.next_call()[0])

        thread = run_in_thread(serve)
        flush_until_sent(it)
        thread.join(30)
    assert [call.number for call in came] == [2]
