"""What is put back into the queue is what was there, with the attempts that were interrupted counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloudexec.wire.envelope import Kind, Seal, new_key
from cloudexec.wire.mail import from_text
from cloudexec.wire.messages import Batch, FunctionTraits, PackedCall, PackedFunction, decode_batch
from cloudexec.worker.agent.books import Held, Work
from cloudexec.worker.agent.leaving import parcels, requests

SEAL = Seal(new_key())


def held_of(name, sizes, first, function_size=10):
    function = PackedFunction(name.encode().ljust(32, b"-"), FunctionTraits(stateless=True), b"f" * function_size)
    env = {"NAME": name}
    calls = [PackedCall(first + n, 1, function, b"x" * size, 1.5, env) for n, size in enumerate(sizes)]
    work = Work(name, "r", Batch(calls, (3, 11), "3.1.0"), memoryview(b""), 0.0)
    return [Held(call, work) for call in calls]


def read(parcel):
    return decode_batch(from_text(SEAL, Kind.BATCH, parcel.text))


def test_calls_of_one_message_travel_together_and_an_interrupted_attempt_counts():
    first, second = held_of("a", [5, 5, 5], 1), held_of("b", [5], 4)
    found = parcels(SEAL, [first[0]], [*first[1:], *second])
    assert [parcel.attempts for parcel in found] == [[(1, 2), (2, 1), (3, 1)], [(4, 1)]]
    assert [[work.id for work in parcel.works] for parcel in found] == [["a"] * 3, ["b"]]


def test_everything_else_about_a_call_stays_as_it_was():
    (held,) = held_of("a", [5], 1)
    (parcel,) = parcels(SEAL, [held], [])
    batch = read(parcel)
    assert (batch.python, batch.pickler) == ((3, 11), "3.1.0")
    assert batch.calls == [held.call._replace(attempt=2)]


def test_singly_means_a_message_for_each_call():
    found = parcels(SEAL, [], held_of("a", [5] * 12, 1), singly=True)
    assert [parcel.attempts for parcel in found] == [[(n, 1)] for n in range(1, 13)]
    assert [len(group) for group in requests(found)] == [10, 2]


@given(st.lists(st.lists(st.integers(0, 300_000), max_size=6), max_size=5), st.integers(0, 60_000))
def test_messages_and_requests_stay_below_their_limits(works, function_size):
    held = [
        one for n, sizes in enumerate(works) for one in held_of(f"m{n}", sizes, 100 * n, function_size=function_size)
    ]
    found = parcels(SEAL, [], held)
    assert [call.number for parcel in found for call in read(parcel).calls] == [one.number for one in held]
    assert all(len(parcel.text) < 1 << 20 for parcel in found)
    groups = requests(found)
    assert [parcel for group in groups for parcel in group] == found
    assert all(len(group) <= 10 and sum(len(parcel.text) for parcel in group) <= 1 << 20 for group in groups)
