"""Batch and outcome: the two messages that every backend carries."""

import contextlib
import json
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.errors import WireError
from cloudexec.ids import BlobRef
from cloudexec.wire.messages import (
    FunctionTraits,
    Outcome,
    PackedCall,
    PackedFunction,
    ShippedModule,
    Verdict,
    decode_batch,
    decode_outcome,
    encode_batch,
    encode_outcome,
)

packed = st.binary(max_size=40)
envs = st.none() | st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=8), max_size=3)
picklers = st.sampled_from(["", "3.1.2"])
modules = st.lists(
    st.builds(
        ShippedModule,
        st.text(min_size=1, max_size=8),
        st.builds(BlobRef, st.binary(min_size=32, max_size=32), st.integers(0, 2**64 - 1)),
    ),
    max_size=3,
).map(tuple)


@st.composite
def functions(draw):
    """Each with a digest of its own, as hashes are."""
    digests = draw(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=4, unique=True))
    return [
        PackedFunction(
            digest, FunctionTraits(stateless=draw(st.booleans())), draw(packed), draw(picklers), draw(modules)
        )
        for digest in digests
    ]


@st.composite
def batches(draw):
    known = draw(functions())
    call = st.builds(
        PackedCall,
        number=st.integers(1, 2**64 - 1),
        attempt=st.integers(1, 2**16 - 1),
        function=st.sampled_from(known),
        packed=packed,
        timeout_s=st.floats(0, 1e9),
        env=envs,
        pickler=picklers,
        attachments=st.just(()),  # they travel behind the batch, not in it
    )
    return draw(st.lists(call, max_size=8))


seconds = st.floats(0, 4e9)
outcomes = st.builds(
    Outcome,
    number=st.integers(0, 2**64 - 1),
    attempt=st.integers(0, 2**16 - 1),
    verdict=st.sampled_from(Verdict),
    started_s=seconds,
    finished_s=seconds,
    cpu_s=seconds,
    peak_rss=st.integers(0, 2**63),
    value=packed,
    out=packed,
)


def without_pickler(call):
    """The cloudpickle version is told once for the whole batch."""
    return call._replace(pickler="", function=call.function._replace(pickler=""))


@given(batches())
def test_a_batch_comes_back_as_it_was_sent(calls):
    batch = decode_batch(encode_batch(calls))
    assert batch.calls == [without_pickler(call) for call in calls]
    assert batch.python == sys.version_info[:2]


@given(batches())
def test_a_batch_tells_the_cloudpickle_version_that_anything_in_it_asks_for(calls):
    asked = {call.pickler for call in calls} | {call.function.pickler for call in calls}
    assert decode_batch(encode_batch(calls)).pickler == max(asked, default="")


@given(batches())
def test_a_batch_that_is_passed_on_keeps_the_versions_of_its_client(calls):
    first = decode_batch(encode_batch(calls, (3, 9), "2.0.7"))
    again = decode_batch(encode_batch(first.calls, first.python, first.pickler))
    assert again == first
    assert (again.python, again.pickler) == ((3, 9), "2.0.7")


def test_a_function_travels_once_however_many_calls_use_it():
    code = bytes(10_000)
    function = PackedFunction(bytes(32), FunctionTraits(), code)
    calls = [PackedCall(number, 1, function, b"") for number in range(1, 101)]
    assert len(encode_batch(calls)) < len(code) + 100 * 50


def test_an_environment_travels_once_however_many_calls_use_it():
    env = {"KEY": "v" * 10_000}
    function = PackedFunction(bytes(32), FunctionTraits(), b"")
    calls = [PackedCall(number, 1, function, b"", env=dict(env)) for number in range(1, 101)]
    body = encode_batch(calls)
    assert len(body) < 10_000 + 100 * 50
    assert all(call.env == env for call in decode_batch(body).calls)


def test_the_parts_of_a_call_are_a_view_and_no_copy():
    function = PackedFunction(bytes(32), FunctionTraits(), b"code")
    body = bytearray(encode_batch([PackedCall(1, 1, function, b"parts")]))
    (call,) = decode_batch(body).calls
    body[-5:] = b"PARTS"
    assert call.packed == b"PARTS"


@given(batches(), st.data())
def test_a_batch_cut_short_is_damaged(calls, data):
    body = encode_batch(calls)
    with pytest.raises(WireError, match="batch"):
        decode_batch(body[: data.draw(st.integers(0, len(body) - 1))])


@given(batches(), st.binary(min_size=1, max_size=9))
def test_a_batch_with_something_behind_it_is_damaged(calls, more):
    with pytest.raises(WireError, match="behind"):
        decode_batch(encode_batch(calls) + more)


@given(batches(), st.data())
def test_a_batch_with_changed_bytes_raises_nothing_but_wire_error(calls, data):
    body = bytearray(encode_batch(calls))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        decode_batch(body)


@given(st.binary(max_size=200))
def test_random_bytes_as_a_batch_raise_nothing_but_wire_error(data):
    with contextlib.suppress(WireError):
        decode_batch(data)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(b"{", id="not JSON"),
        pytest.param(b"[1]", id="a number where a text should be"),
        pytest.param(b"1", id="a number where a list should be"),
        pytest.param(b"[" * 100_000, id="nested deeper than the reader can go"),
        pytest.param(json.dumps(["{"]).encode(), id="an environment that is not JSON"),
    ],
)
def test_a_damaged_environment_is_a_wire_error(text):
    with pytest.raises(WireError, match="batch"):
        decode_batch(struct.pack("<IIIBBB", 0, 0, len(text), 3, 10, 0) + text)


@given(outcomes)
def test_an_outcome_comes_back_as_it_was_sent(outcome):
    assert decode_outcome(memoryview(encode_outcome(outcome))) == outcome


@given(outcomes, st.data())
def test_an_outcome_cut_short_is_damaged_or_lacks_the_end_of_its_value(outcome, data):
    body = encode_outcome(outcome)
    cut = data.draw(st.integers(0, len(body) - 1))
    try:
        found = decode_outcome(memoryview(body[:cut]))
    except WireError:
        return
    missing = len(body) - cut
    assert found == outcome._replace(value=outcome.value[:-missing])


@given(outcomes, st.data())
def test_an_outcome_with_a_changed_byte_raises_nothing_but_wire_error(outcome, data):
    body = bytearray(encode_outcome(outcome))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        decode_outcome(memoryview(body))


@given(st.binary(max_size=100))
def test_random_bytes_as_an_outcome_raise_nothing_but_wire_error(data):
    with contextlib.suppress(WireError):
        decode_outcome(memoryview(data))
