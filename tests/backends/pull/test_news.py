"""What reports of workers mean to the ledger, in whatever order and however often they come."""

import itertools

import pytest

from cloudexec.backends.protocol import (
    GivenBack,
    Heard,
    InitializerError,
    LaneDown,
    LaneUp,
    Outcomes,
    Requeued,
    Taken,
    WorkerDown,
)
from cloudexec.backends.pull.news import News
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause
from cloudexec.wire.control import DownCause
from cloudexec.wire.mail import LaneStart, LaneStop, Report
from cloudexec.wire.messages import Outcome, Verdict

DIED = LaneEnd(Cause.LOST, "the task was stopped")


def outcome(number, attempt=1):
    return Outcome(number, attempt, Verdict.RETURNED, 0.0, 1.0, 0.5, 0, b"")


def stop(lane="a", *, running=0, killed=0, why=DownCause.DIED, unstarted=()):
    return LaneStop(lane, 1, why, killed, running, "words", list(unstarted))


def hello(number=1, lanes=("a",)):
    return Report("w", number, up=[LaneStart(lane, slot) for slot, lane in enumerate(lanes)])


@pytest.fixture
def news():
    """A worker with one slot has said hello."""
    news = News()
    assert news.read(hello()) == [LaneUp("a", "w")]
    return news


def test_outcomes_are_grouped_by_slot(news):
    report = Report("w", 2, outcomes=[("a", outcome(1)), ("b", outcome(2)), ("a", outcome(3))])
    assert news.read(report) == [Outcomes("a", [outcome(1), outcome(3)]), Outcomes("b", [outcome(2)])]


def test_a_report_that_comes_twice_is_read_once(news):
    report = Report("w", 2, outcomes=[("a", outcome(1))])
    assert news.read(report)
    assert news.read(report) == []
    assert news.twins == 1


def test_held_calls_were_taken_and_the_first_one_runs(news):
    assert news.read(Report("w", 2, held={"a": [1, 2, 3]})) == [Taken("a", [1, 2, 3])]
    assert news.n_unstarted("a") == 2
    news.read(Report("w", 3, outcomes=[("a", outcome(1))]))
    assert news.n_unstarted("a") == 1


def test_what_is_held_unchanged_is_not_told_again(news):
    news.read(Report("w", 2, held={"a": [1]}))
    assert news.read(Report("w", 3, held={"a": [1]})) == []


def test_an_old_report_says_nothing_of_what_is_held_now(news):
    news.read(Report("w", 5, held={"a": [2]}))
    events = news.read(Report("w", 4, held={"a": [1]}, outcomes=[("a", outcome(1))]))
    assert events == [Outcomes("a", [outcome(1)])]
    assert news.n_unstarted("a") == 0


def test_a_report_of_what_is_held_answers_the_ledgers_question_once(news):
    news.ask("w")
    assert news.read(Report("w", 2)) == []
    assert news.read(Report("w", 3, held={"a": [1, 2]})) == [Taken("a", [1, 2]), Heard("w", frozenset({1, 2}))]
    assert news.read(Report("w", 4, held={"a": [1, 2]})) == []


def test_the_call_in_which_a_slot_died_is_taken_first_though_nobody_had_told(news):
    events = news.read(Report("w", 2, down=[stop(running=7, unstarted=[8, 9])]))
    assert events[:2] == [GivenBack([8, 9]), Taken("a", [7])]
    down = events[2]
    assert isinstance(down, LaneDown)
    assert (down.lane, down.unstarted, down.end.cause) == ("a", 0, Cause.CRASH)
    assert "words" in down.end.detail


@pytest.mark.parametrize(
    ("why", "cause"),
    [
        (DownCause.TIMEOUT, Cause.TIMEOUT),
        (DownCause.OUT_OF_MEMORY, Cause.OOM),
        (DownCause.FROZEN, Cause.LOST),
        (DownCause.STOPPED, Cause.CRASH),
        (DownCause.RETIRED, Cause.CRASH),
    ],
)
def test_a_slot_ends_for(news, why, cause):
    (*_, down) = news.read(Report("w", 2, down=[stop(killed=3, why=why)]))
    assert (down.end.cause, down.end.killed_call) == (cause, 3)
    assert down.end.stopped == (why == DownCause.STOPPED)
    assert down.end.retired == (why == DownCause.RETIRED)


@pytest.mark.parametrize("order", list(itertools.permutations([0, 1, 2])))
def test_a_slots_whole_life_may_come_in_any_order(order):
    reports = [
        hello(),
        Report("w", 2, outcomes=[("a", outcome(1))]),
        Report("w", 3, down=[stop(running=2)], up=[LaneStart("b", 0)]),
    ]
    news = News()
    events = [event for index in order for event in news.read(reports[index])]
    kinds = [(type(event).__name__, event.lane) for event in events if isinstance(event, LaneUp | LaneDown)]
    assert kinds.count(("LaneUp", "a")) == kinds.count(("LaneDown", "a")) == kinds.count(("LaneUp", "b")) == 1
    assert kinds.index(("LaneUp", "a")) < kinds.index(("LaneDown", "a"))
    assert Outcomes("a", [outcome(1)]) in events


def test_a_worker_that_leaves_puts_its_calls_back_first(news):
    news.read(Report("w", 2, held={"a": [1, 2]}))
    events = news.read(Report("w", 3, requeued=[(1, 2), (2, 1)], held={}, leaving="SIGTERM"))
    assert events[0] == Requeued([(1, 2), (2, 1)])
    assert isinstance(events[-1], WorkerDown)
    assert "SIGTERM" in events[-1].end.detail
    assert events[-1].end.retired, "that is no failed start"
    assert news.workers == []


def test_a_worker_that_leaves_because_it_cannot_work_is_a_failed_start(news):
    (down,) = news.read(Report("w", 2, leaving="its slots die", broken=True))
    assert not down.end.retired


def test_a_worker_that_its_service_stopped_is_told_once_and_its_late_outcomes_still_count(news):
    news.read(Report("w", 2, held={"a": [1, 2]}, receipts={"receipt": [1, 2]}))
    assert news.receipts("w") == ["receipt"]
    assert news.gone("w", DIED) == [WorkerDown("w", DIED, {"a": 1})]
    assert news.gone("w", DIED) == []
    assert news.read(Report("w", 3, outcomes=[("a", outcome(1))], held={"a": [2]})) == [Outcomes("a", [outcome(1)])]


def test_calls_that_were_dropped_before_they_started_are_given_back(news):
    assert news.read(Report("w", 2, dropped=[4])) == [GivenBack([4])]


def test_an_initializer_that_raised_is_told_as_such(news):
    failed = outcome(0)
    events = news.read(Report("w", 2, outcomes=[("a", failed)], failed_start=True))
    assert events == [InitializerError(failed)]
