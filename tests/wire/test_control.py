"""What a client and its local worker say to each other about slots, over a real socket."""

import os
import socket

import pytest

from cloudexec.errors import WireError
from cloudexec.wire.control import (
    FDS_PER_LANE,
    CannotFork,
    ControlSocket,
    DownCause,
    KillCall,
    Ping,
    Pong,
    Setup,
    SlotDown,
    SlotUp,
    Stop,
    WantSlots,
)

SETUP = Setup(
    **dict.fromkeys(Setup._fields, "")
    | {"client_pid": 7, "store_roots": ["/a", "/b"], "python_path": ["/ü"], "max_tasks_per_child": 0}
)
MESSAGES = [
    SETUP,
    WantSlots(3),
    KillCall(1, 2**63),
    Ping(5),
    Stop(0.25),
    SlotUp(1, 4242),
    SlotDown(1, 4242, -9, DownCause.TIMEOUT, 17, 17, "a word\nand another"),
    Pong(5),
    CannotFork(2, "Resource\ntemporarily “unavailable”"),
]


@pytest.fixture
def pair():
    sockets = socket.socketpair()
    ends = [ControlSocket(sock) for sock in sockets]
    yield ends
    for end in ends:
        end.close()


def receive(end, count):
    messages = []
    while len(messages) < count:
        messages += end.receive()
    return messages


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_as_it_was_sent(pair, message):
    here, there = pair
    assert here.send(message)
    (came,) = receive(there, 1)
    assert came == message
    assert type(came) is type(message)


def test_messages_come_in_their_order_however_they_are_cut(pair):
    here, there = pair
    for message in MESSAGES:
        here.send(message)
    assert receive(there, len(MESSAGES)) == MESSAGES


def test_a_message_that_comes_byte_by_byte_is_put_together():
    raw, sock = socket.socketpair()
    end = ControlSocket(sock)
    line = b'["KillCall", 1, 17]\n["Ping", 3]\n'
    came = []
    with raw:
        for at in range(len(line)):
            raw.sendall(line[at : at + 1])
            came += end.receive()
    end.close()
    assert came == [KillCall(1, 17), Ping(3)]


def test_a_long_setup_arrives_whole(pair):
    here, there = pair
    setup = SETUP._replace(initializer="x" * 50_000)
    here.send(setup)
    assert receive(there, 1) == [setup]


def test_descriptors_travel_beside_a_message_and_are_private_to_this_process(pair):
    here, there = pair
    pipe_in, pipe_out = os.pipe()
    here.send(SlotUp(0, 1), [pipe_in, pipe_out])
    os.close(pipe_in)
    os.close(pipe_out)
    receive(there, 1)
    came_in, came_out = there.take_fds(2)
    assert not os.get_inheritable(came_in)
    assert not os.get_inheritable(came_out)
    os.write(came_out, b"through")
    assert os.read(came_in, 100) == b"through"
    os.close(came_in)
    os.close(came_out)


def test_descriptors_of_many_messages_stay_in_their_order(pair):
    here, there = pair
    pipes = [os.pipe() for _ in range(5)]
    for number, (pipe_in, pipe_out) in enumerate(pipes):
        os.write(pipe_out, b"%d" % number)
        here.send(SlotUp(number, number), [pipe_in])
        os.close(pipe_in)
        os.close(pipe_out)
    ups = receive(there, len(pipes))
    for up in ups:
        (fd,) = there.take_fds(1)
        assert os.read(fd, 10) == b"%d" % up.slot
        os.close(fd)


def test_a_lane_has_four_descriptors():
    assert FDS_PER_LANE == 4


def test_the_end_of_the_other_side_is_noticed(pair):
    here, there = pair
    there.close()
    assert here.receive() is None
    assert here.send(Ping(1)) is False


def test_messages_sent_before_the_end_are_still_read(pair):
    here, there = pair
    there.send(Ping(1))
    there.close()
    assert receive(here, 1) == [Ping(1)]
    assert here.receive() is None


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b'["Evil", 1]\n', id="unknown name"),
        pytest.param(b'["Ping"]\n', id="a field is missing"),
        pytest.param(b'["Ping", 1, 2]\n', id="a field too many"),
        pytest.param(b"{}\n", id="not a list"),
        pytest.param(b"[]\n", id="an empty list"),
        pytest.param(b"17\n", id="a number"),
        pytest.param(b'[["Ping"], 1]\n', id="a name that is no text"),
        pytest.param(b"not JSON\n", id="not JSON"),
        pytest.param(b"\xff\xff\n", id="not UTF-8"),
    ],
)
def test_a_damaged_message_is_a_wire_error(line):
    raw, sock = socket.socketpair()
    with raw, sock:
        raw.sendall(line)
        with pytest.raises(WireError, match="control"):
            ControlSocket(sock).receive()
