"""What a worker tells fits into messages, in an order that a client understands."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloudexec.errors import RemoteError
from cloudexec.serialization.failures import load_failure
from cloudexec.wire.control import DownCause
from cloudexec.wire.mail import LaneStop, decode_report
from cloudexec.wire.messages import Outcome, Verdict
from cloudexec.worker.agent.reporter import MOST_BYTES, Reporter
from tests.worker.agent.test_books import work_of

STOP = LaneStop("l0", -9, DownCause.DIED, 0, 1, "", [])


def outcome_of(number, size=10):
    return Outcome(number, 1, Verdict.RETURNED, 1.0, 2.0, 0.5, 100, b"x" * size)


def letters_of(reporter):
    letters = []
    while reporter.has_news:
        letters.append(reporter.next({"l1": [7]}, {"receipt": [7]}))
    return letters


def test_a_reporter_without_news_has_none():
    assert not Reporter("w", {}).has_news


def test_what_gathers_travels_in_one_report():
    reporter = Reporter("w", {"python": "3.13"})
    work = work_of([1, 2, 3, 4])
    reporter.lane_up("l0", 0)
    reporter.end("l0", outcome_of(1), work)
    reporter.end("l0", outcome_of(2), work)
    reporter.lane_down(STOP, work)
    reporter.requeued([(4, 1)])
    (letter,) = letters_of(reporter)
    report = decode_report(memoryview(letter.body))
    assert (report.worker, report.number, dict(report.facts)) == ("w", 1, {"python": "3.13"})
    assert [outcome.number for _, outcome in report.outcomes] == [1, 2]
    assert [start.lane for start in report.up] == ["l0"]
    assert list(report.down) == [STOP]
    assert list(report.requeued) == [(4, 1)]
    assert report.held == {"l1": [7]}
    assert letter.works == [work] * 3  # two outcomes and the slot's victim


def test_reports_are_counted_and_only_the_first_has_the_facts():
    reporter = Reporter("w", {"python": "3.13"})
    for slot in range(3):
        reporter.lane_up(f"l{slot}", slot)
        (letter,) = letters_of(reporter)
        assert letter.report.number == slot + 1
        assert bool(letter.report.facts) == (slot == 0)


@given(st.lists(st.integers(0, MOST_BYTES // 2), max_size=12))
def test_many_outcomes_are_cut_into_reports_that_fit_and_ends_are_told_last(sizes):
    reporter = Reporter("w", {})
    work = work_of(range(1, len(sizes) + 2))
    for number, size in enumerate(sizes, 1):
        reporter.end("l0", outcome_of(number, size), work)
    reporter.lane_down(STOP, work)
    reporter.leaving("it was told to")
    letters = letters_of(reporter)
    told = [outcome.number for letter in letters for _, outcome in letter.report.outcomes]
    assert told == list(range(1, len(sizes) + 1))
    assert all(len(letter.body) < MOST_BYTES + 2000 for letter in letters)
    assert [letter.report.number for letter in letters] == list(range(1, len(letters) + 1))
    assert [bool(letter.report.down and letter.report.leaving) for letter in letters] == [False] * (
        len(letters) - 1
    ) + [True]
    assert sum(len(letter.works) for letter in letters) == len(sizes) + 1


def test_an_outcome_that_fits_into_no_report_is_replaced_by_one_that_says_so():
    reporter = Reporter("w", {})
    reporter.end("l0", outcome_of(1, MOST_BYTES + 1), work_of([1]))
    (letter,) = letters_of(reporter)
    ((_, outcome),) = letter.report.outcomes
    assert outcome.verdict is Verdict.REFUSED
    error = load_failure(outcome.value, lambda ref: memoryview(b""))
    assert isinstance(error, RemoteError)
    assert "700,0" in str(error)


def test_a_report_that_the_queue_finds_too_large_is_sent_in_halves_down_to_single_outcomes():
    reporter = Reporter("w", {})
    work = work_of([1, 2, 3])
    for number in (1, 2, 3):
        reporter.end("l0", outcome_of(number, 100_000), work)
    reporter.lane_down(STOP, work)
    limit = 150_000
    sent = []
    while reporter.has_news:
        letter = reporter.next({}, {})
        if len(letter.body) > limit:
            reporter.refused(letter)
        else:
            sent.append(letter)
    assert [outcome.number for letter in sent for _, outcome in letter.report.outcomes] == [1, 2, 3]
    assert all(outcome.verdict is Verdict.RETURNED for letter in sent for _, outcome in letter.report.outcomes)
    assert [list(letter.report.down) for letter in sent][-1] == [STOP]
    assert sum(len(letter.works) for letter in sent) == 4
    assert len({letter.report.number for letter in sent}) == len(sent)


def test_a_failed_start_has_a_report_of_its_own():
    reporter = Reporter("w", {})
    reporter.end("l0", outcome_of(1), work_of([1]))
    reporter.failed_start("l1", outcome_of(0))
    letters = letters_of(reporter)
    failed = [letter for letter in letters if letter.report.failed_start]
    assert [[outcome.number for _, outcome in letter.report.outcomes] for letter in failed] == [[0]]
    assert failed[0].works == []


def test_a_report_that_was_not_taken_is_the_next_one_again():
    reporter = Reporter("w", {})
    reporter.lane_up("l0", 0)
    letter = reporter.next({}, {})
    assert not reporter.has_news
    reporter.again(letter)
    assert reporter.next({}, {}) is letter
