"""Version, kind, length and signature around every message."""

import hmac
import pickle
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.errors import SignatureError, WireError
from cloudexec.wire.envelope import KEY_BYTES, MOST_BYTES, OVERHEAD, VERSION, Kind, Seal, new_key, read_head

KEY = bytes(range(KEY_BYTES))
SEAL = Seal(KEY)

kinds = st.sampled_from(Kind)
bodies = st.binary(max_size=300)
keys = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)


@given(keys, kinds, bodies)
def test_a_message_opens_as_it_was_closed(key, kind, body):
    assert Seal(key).open(Seal(key).close(kind, body)) == (kind, body)


@given(keys, kinds, bodies)
def test_the_signature_is_the_hmac_of_head_and_body(key, kind, body):
    message = Seal(key).close(kind, body)
    head = struct.pack("<2sBBQ", b"cx", VERSION, kind, len(body))
    assert message == head + hmac.digest(key, head + body, "sha256") + body


@pytest.mark.parametrize("container", [bytes, bytearray, memoryview])
def test_a_message_may_come_in_any(container):
    kind, body = SEAL.open(container(SEAL.close(Kind.BATCH, b"body")))
    assert (kind, body) == (Kind.BATCH, b"body")


def test_a_large_body_survives():
    body = bytes(5_000_000)
    assert SEAL.open(SEAL.close(Kind.OUTCOME, body)) == (Kind.OUTCOME, body)


@given(kinds, bodies, st.data())
def test_a_flipped_bit_is_always_noticed(kind, body, data):
    message = bytearray(SEAL.close(kind, body))
    bit = data.draw(st.integers(0, 8 * len(message) - 1))
    message[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WireError):  # SignatureError is one
        SEAL.open(message)


def test_every_flipped_bit_behind_the_head_breaks_the_signature():
    message = SEAL.close(Kind.OUTCOME, b"body")
    for bit in range(8 * 12, 8 * len(message)):  # magic, version, kind and length are 12 bytes
        damaged = bytearray(message)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError):
            SEAL.open(damaged)


@given(kinds, bodies, st.data())
def test_a_message_cut_short_is_damaged(kind, body, data):
    message = SEAL.close(kind, body)
    with pytest.raises(WireError):
        SEAL.open(message[: data.draw(st.integers(0, len(message) - 1))])


@given(bodies, st.binary(min_size=1, max_size=20))
def test_a_message_with_something_behind_it_is_damaged(body, more):
    with pytest.raises(WireError):
        SEAL.open(SEAL.close(Kind.BATCH, body) + more)


@given(keys, keys, kinds, bodies)
def test_another_runs_key_does_not_open_it(key, other, kind, body):
    if key == other:
        return
    with pytest.raises(SignatureError, match=kind.name):
        Seal(other).open(Seal(key).close(kind, body))


def test_one_kind_cannot_be_passed_off_as_another():
    message = bytearray(SEAL.close(Kind.REVOKE, b""))
    message[3] = Kind.OUTCOME
    with pytest.raises(SignatureError):
        SEAL.open(message)


@pytest.mark.parametrize(
    ("at", "byte", "complaint"),
    [
        pytest.param(0, 0x43, "magic", id="other magic"),
        pytest.param(2, VERSION + 1, f"version {VERSION + 1}", id="newer version"),
        pytest.param(2, 0, "version 0", id="older version"),
        pytest.param(3, 200, "200", id="unknown kind"),
    ],
)
def test_the_head_is_checked_before_anything_else(at, byte, complaint):
    message = bytearray(SEAL.close(Kind.BATCH, b"body"))
    message[at] = byte
    with pytest.raises(WireError, match=complaint) as caught:
        SEAL.open(message)
    assert not isinstance(caught.value, SignatureError)


@given(st.binary(max_size=100))
def test_random_bytes_are_no_message(data):
    with pytest.raises(WireError):
        SEAL.open(data)


def test_the_head_tells_kind_and_length_also_from_the_middle_of_a_stream():
    stream = b"12345" + SEAL.close(Kind.OUTCOME, b"body")
    assert read_head(stream, 5) == (Kind.OUTCOME, 4)
    assert len(stream) == 5 + OVERHEAD + 4


@pytest.mark.parametrize("length", [0, KEY_BYTES - 1, KEY_BYTES + 1])
def test_a_key_of_another_length_is_refused(length):
    with pytest.raises(WireError, match=str(length)):
        Seal(bytes(length))


def test_new_keys_differ():
    assert len({new_key() for _ in range(10)}) == 10
    assert {len(new_key())} == {KEY_BYTES}


def test_a_seal_does_not_pickle_and_does_not_show_its_key():
    with pytest.raises(TypeError, match="key"):
        pickle.dumps(SEAL)
    assert KEY.hex() not in repr(SEAL)


def test_a_head_that_announces_more_than_any_message_holds_is_refused():
    forged = struct.pack("<2sBBQ", b"cx", 1, int(Kind.OUTCOME), MOST_BYTES + 1)
    with pytest.raises(WireError, match="none is longer"):
        read_head(forged)
