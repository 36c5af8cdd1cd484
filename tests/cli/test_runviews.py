"""Runs as text: what a person is shown of a summary that anybody may have written."""

from __future__ import annotations

import time

import pytest

from cloudexec.cli.runviews import failure_rows, hint, list_json, list_row, log_text, run_facts, shown_usd
from cloudexec.cli.spans import Moment, Span, shown_span
from cloudexec.infra.runs.listing import RunView
from cloudexec.infra.runs.logs import LogLine
from cloudexec.observe.summary import Client, Counts, Failure, RunSummary

RUN = "r20261121-120000-abcdef"
EVIL = "\x1b]0;title\x07\x9b31m"
summary = RunSummary(
    run_id=RUN,
    name=f"n{EVIL}",
    backend="ecs",
    begun_s=1.0,
    updated_s=2.0,
    client=Client(user=f"u{EVIL}", host="h"),
    counts=Counts(pending=1, done=3),
    failures=(Failure(call=1, type="E", message=f"m{EVIL}"),),
)


def test_nothing_of_a_summary_is_obeyed_by_a_terminal() -> None:
    shown = RunView(run_id=RUN, state="running", summary=summary)
    cells = [*list_row(shown), *(text for _, text in run_facts(shown, {})), *next(iter(failure_rows(summary)))]
    assert not any(char in str(cell) for cell in cells for char in "\x1b\x07\x9b")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param(f"{RUN}/17 out| hello", "17 out| hello", id="a call's line"),
        pytest.param(f"{RUN} cloudexec worker: taken", "abcdefgh worker| taken", id="a worker's line"),
        pytest.param("Traceback", "abcdefgh worker| Traceback", id="somebody's line in a worker's stream"),
        pytest.param(f"{RUN}/1 err| \x1b[31mred\x1b[0m\t.", "1 err| \x1b[31mred\x1b[0m\t.", id="colours stay"),
        pytest.param(f"{RUN}/1 err| \x1b[2J\x07", "1 err| ·[2J·", id="what else a terminal obeys does not"),
    ],
)
def test_a_line_of_the_log_is_shown_as(text: str, shown: str) -> None:
    line = LogLine(at_s=0.0, stream="p/worker/abcdefghijk", text=text, id="1")
    assert log_text(line, RUN).split(" ", 1)[1] == shown


def test_a_list_in_json_leaves_out_what_is_long() -> None:
    said = list_json(RunView(run_id=RUN, state="running", summary=summary))
    assert not {"failures", "workers"} & said["summary"].keys()
    assert list_json(RunView(run_id=RUN, state="unreadable", trouble="why"))["trouble"] == "why"


@pytest.mark.parametrize("state", ["abandoned", "silent", "detached"])
def test_who_finds_a_run_without_client_is_told_what_to_do(state: str) -> None:
    said = hint(RunView(run_id=RUN, state=state, summary=summary))
    assert f'attach("{RUN}")' in said
    assert f"cloudexec stop {RUN}" in said


@pytest.mark.parametrize(
    ("said", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("7d", 604_800), ("2w", 1_209_600)]
)
def test_a_span_is(said: str, seconds: float) -> None:
    assert Span().convert(said, None, None) == seconds
    assert Moment().convert(said, None, None) == pytest.approx(time.time() - seconds, abs=5)


@pytest.mark.parametrize("said", ["", "7", "d", "7 years", "-1d"])
def test_what_is_no_span_is_refused(said: str) -> None:
    with pytest.raises(Exception, match="no span"):
        Span().convert(said, None, None)


def test_a_moment_is_local_time() -> None:
    assert Moment().convert("2026-11-21T18:30", None, None) == time.mktime((2026, 11, 21, 18, 30, 0, 0, 0, -1))
    with pytest.raises(Exception, match="neither"):
        Moment().convert("yesterday", None, None)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (99, "99 s"), (100, "2 min"), (7200, "2 h"), (86_400 * 3, "3 d")]
)
def test_spans_are_shown_in_two_digits(seconds: float, shown: str) -> None:
    assert shown_span(seconds) == shown


@pytest.mark.parametrize(
    ("usd", "shown"), [(12.346, "$12.35"), (0.0123, "$0.0123"), (0.0001, "$0.0001"), (0.00001, "<$0.0001"), (0, "$0")]
)
def test_money_is_shown_in_cents_or_finer(usd: float, shown: str) -> None:
    assert shown_usd(usd) == shown
