"""What a report says of a batch, whatever has happened to its calls."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from cloudexec.errors import PayloadTooLarge
from cloudexec.serialization.failures import load_failure
from cloudexec.wire.control import DownCause
from cloudexec.wire.envelope import Kind, Seal, new_key
from cloudexec.wire.mail import LaneStop, Report, decode_report, encode_report
from cloudexec.wire.messages import Batch, FunctionTraits, Outcome, PackedCall, PackedFunction, Verdict
from cloudexec.worker.agent.books import Held, Work
from cloudexec.worker.awslambda.room import OUTCOME_BYTES, Room
from cloudexec.worker.awslambda.tally import Tally, fit

FUNCTION = PackedFunction(b"f" * 32, FunctionTraits(), b"")
MOST = 5


def batch_of(n: int) -> Batch:
    return Batch([PackedCall(number, number % 3 + 1, FUNCTION, b"") for number in range(1, n + 1)], (3, 13), "")


def outcome(number: int, value: bytes = b"") -> Outcome:
    return Outcome(number, 1, Verdict.RETURNED, time.time(), time.time(), 0.0, 0, value)


def stop(number: int, why: str) -> LaneStop:
    return LaneStop(f"lane{number}", -9, why, number, number, "words", [])


def held(number: int) -> Held:
    call = PackedCall(number, 1, FUNCTION, b"")
    return Held(call, Work("w", "", Batch([call], (3, 13), ""), memoryview(b""), 0.0))


NUMBERS = st.integers(0, MOST + 1)  # 0 and the last are calls of nobody
EVENTS = st.one_of(
    st.tuples(st.just("outcome"), NUMBERS),
    st.tuples(st.sampled_from([DownCause.DIED, DownCause.STOPPED, DownCause.TIMEOUT, DownCause.RETIRED]), NUMBERS),
    st.tuples(st.just("dropped"), NUMBERS),
    st.tuples(st.just("killed"), NUMBERS),
    st.tuples(st.just("failed start"), st.just(0)),
    st.tuples(st.just("ending"), st.just(0)),
)


@given(n=st.integers(0, MOST), events=st.lists(EVENTS, max_size=20))
def test_every_call_stands_in_exactly_one_place(n, events):
    tally = Tally()
    tally.begin(batch_of(n))
    for what, number in events:
        if what == "outcome":
            tally.end("lane", outcome(number), None)
        elif what == "dropped":
            tally.dropped(held(number))
        elif what == "killed":
            tally.killed("lane", held(number))
        elif what == "failed start":
            tally.failed_start("lane", outcome(0))
        elif what == "ending":
            tally.ends_all(DownCause.DEADLINE, "time is over")
        else:
            tally.lane_down(stop(number, what), None)
    report = tally.report("w", 1, {})
    places = [one.number for _, one in report.outcomes if one.number]
    places += [one.running_call for one in report.down] + [number for number, _ in report.requeued]
    assert sorted(places) == list(range(1, n + 1))
    assert all(attempt == number % 3 + 1 for number, attempt in report.requeued)
    if report.failed_start:
        assert [one.number for _, one in report.outcomes] == [0]


@given(
    st.lists(st.tuples(st.sampled_from(["outcome", "down", "given back", "tell"]), st.integers(1, MOST)), max_size=20)
)
def test_early_reports_tell_each_call_once_and_the_last_report_all_of_them(events):
    tally = Tally()
    tally.begin(batch_of(MOST))
    early: list[int] = []
    for what, number in events:
        if what == "outcome":
            tally.end("lane", outcome(number), None)
        elif what == "down":
            tally.lane_down(stop(number, DownCause.DIED), None)
        elif what == "given back" and number in dict(tally.report("w", 1, {}).requeued):
            tally.given_back([held(number)])
        elif what == "tell" and (report := tally.early_report("w")) is not None:
            early += numbers_in(report)
            assert numbers_in(report)
    assert len(set(early)) == len(early)
    assert sorted(numbers_in(tally.report("w", 1, {}))) == list(range(1, MOST + 1))


def numbers_in(report: Report) -> list[int]:
    told = [one.number for _, one in report.outcomes] + [one.running_call for one in report.down]
    return told + [number for number, _ in report.requeued]


def test_what_is_killed_at_the_end_says_why_but_not_what_the_client_stopped_or_what_died_by_itself():
    tally = Tally()
    tally.begin(batch_of(3))
    tally.stops(frozenset({2}))
    tally.ends_all(DownCause.DEADLINE, "time is over")
    for number, why in ((1, DownCause.STOPPED), (2, DownCause.STOPPED), (3, DownCause.DIED)):
        tally.lane_down(stop(number, why), None)
    down = tally.report("w", 1, {}).down
    assert [one.why for one in down] == [DownCause.DEADLINE, DownCause.STOPPED, DownCause.DIED]
    assert [one.last_words for one in down] == ["time is over\nwords", "words", "words"]


def test_an_initializer_that_raised_waits_for_its_turn_if_calls_have_outcomes():
    tally = Tally()
    tally.begin(batch_of(2))
    tally.failed_start("lane", outcome(0))
    tally.end("lane", outcome(1), None)
    report = tally.report("w", 1, {})
    assert ([one.number for _, one in report.outcomes], report.failed_start) == ([1], False)
    assert [number for number, _ in report.requeued] == [2]


def test_a_new_batch_knows_nothing_of_the_one_before():
    tally = Tally()
    tally.begin(batch_of(1))
    tally.failed_start("lane", outcome(0))
    tally.leaving = "broken"
    tally.begin(batch_of(1))
    assert tally.report("w", 1, {}) == Report("w", 1, down=[], outcomes=[], requeued=[(1, 2)], facts={})


@given(sizes=st.lists(st.integers(0, 30_000), min_size=1, max_size=8), most=st.integers(10_000, 60_000))
def test_in_a_report_that_must_fit_the_largest_make_room_and_only_what_is_too_large_alone_is_refused(sizes, most):
    seal = Seal(new_key())
    outcomes = [("lane", outcome(number, b"v" * size)) for number, size in enumerate(sizes, 1)]
    sealed = fit(seal, Report("w", 1, outcomes=outcomes), most)
    kind, body = seal.open(sealed)
    found = decode_report(body)
    assert kind is Kind.REPORT
    assert len(sealed) <= most
    kept = {one.number for _, one in found.outcomes if one.verdict is Verdict.RETURNED}
    refused = {one.number for _, one in found.outcomes if one.verdict is Verdict.REFUSED}
    crowded = {stop.running_call for stop in found.down if stop.why == DownCause.CROWDED}
    assert sorted([*kept, *crowded, *refused]) == list(range(1, len(sizes) + 1))
    alone = {number: len(fit_of(seal, one)) <= most for one in outcomes for number in [one[1].number]}
    assert refused <= {number for number, fits in alone.items() if not fits}
    assert all(alone[number] for number in crowded | kept)
    for _, one in found.outcomes:
        if one.verdict is Verdict.REFUSED:
            assert isinstance(load_failure(one.value, lambda ref: memoryview(b"")), PayloadTooLarge)


def fit_of(seal: Seal, entry: tuple[str, Outcome]) -> bytes:
    """A report with this outcome alone, however large."""
    return seal.close(Kind.REPORT, encode_report(Report("w", 1, outcomes=[entry])))


# --- room in an answer ---


@given(sizes=st.lists(st.integers(0, 3_000), min_size=1, max_size=30), n_slots=st.integers(1, 4))
def test_a_batch_never_comes_to_a_standstill_and_results_of_a_known_size_always_fit(sizes, n_slots):
    room = Room(10_000, n_slots)
    assert run_within(room, sizes, n_slots) > 0
    assert 0 < run_within(room, sizes[:1] * 30, n_slots) <= 10_000


def run_within(room: Room, sizes: list[int], n_slots: int) -> int:
    """Run calls with results of these sizes, as the crew does; what those that were begun take."""
    room.begin()
    waiting, given, taken = list(sizes), [], 0
    while True:
        n_more = min(room.n_more(len(given)), n_slots - len(given), len(waiting))
        given += [waiting.pop(0) for _ in range(n_more)]
        if not given:
            return taken
        size = given.pop(0)
        room.take(outcome(1, bytes(size)))
        taken += size + OUTCOME_BYTES


def test_while_nothing_is_known_each_slot_has_one_call_and_then_as_many_as_are_expected_to_fit():
    room = Room(100 * OUTCOME_BYTES, 2)
    room.begin()
    assert (room.n_more(0), room.n_more(1), room.n_more(2)) == (2, 1, 0)
    room.take(outcome(1, b""))
    assert room.n_more(1) == 98
    room.take(outcome(2, bytes(60 * OUTCOME_BYTES)))
    assert room.n_more(0) == 0, "38 are left, and the next may take 61"
    assert room.n_more(5) < 0
    room.begin()
    assert room.n_more(0) == 1, "what the batch before has shown"
