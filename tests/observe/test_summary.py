"""A run's summary: what is gathered, what is written, and what is refused when it is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.errors import WireError
from cloudexec.observe.recorder import Heritage, Recorder
from cloudexec.observe.run import RunFacts
from cloudexec.observe.summary import (
    DURATION_BOUNDS_S,
    MOST_FAILURES,
    MOST_WORKERS,
    STATES,
    Client,
    Counts,
    Durations,
    Failure,
    Invocations,
    RunSummary,
    Sums,
    Where,
    Worker,
    summary_key,
)

RUN = "r20261121-120000-abcdef"
NOW = RunFacts(RUN, 1, 2, 3, 4, 5)
text = st.text(max_size=20)
count = st.integers(0, 1 << 40)
seconds = st.floats(0, 1e12)
summaries = st.builds(
    RunSummary,
    run_id=text,
    name=text,
    backend=st.sampled_from(["ecs", "lambda"]),
    state=st.sampled_from(STATES),
    client=st.builds(Client, host=text, user=text, pid=count),
    where=st.builds(Where, region=text, functions=st.tuples(text, text), vcpu=seconds, spot=st.booleans()),
    begun_s=seconds,
    updated_s=seconds,
    ended_s=st.none() | seconds,
    counts=st.builds(Counts, done=count, retries=st.dictionaries(text, count, max_size=3)),
    sums=st.builds(Sums, run_s=seconds, cpu_s=seconds, peak_memory_bytes=count),
    durations=st.builds(Durations, counts=st.tuples(*[count] * (len(DURATION_BOUNDS_S) + 1))),
    failures=st.lists(st.builds(Failure, call=count, type=text, message=text), max_size=3).map(tuple),
    workers=st.lists(st.builds(Worker, id=text, started_s=st.none() | seconds), max_size=3).map(tuple),
    invocations=st.builds(Invocations, n=count, billed_s=seconds),
)


@given(summaries)
def test_what_is_written_is_read_again(summary: RunSummary) -> None:
    assert RunSummary.from_json(summary.to_json(), summary.run_id) == summary


def said(**changes: Any) -> dict[str, Any]:
    """A summary as JSON, with changes."""
    summary = RunSummary(run_id=RUN, backend="ecs", begun_s=1.0, updated_s=2.0)
    found: dict[str, Any] = {**json.loads(summary.to_json()), **changes}
    return found


@pytest.mark.parametrize(
    ("written", "why"),
    [
        pytest.param(b"", "Expecting value", id="nothing"),
        pytest.param(b"[]", "not an object", id="another kind of JSON"),
        pytest.param(b"\xff\xfe", "summary of run", id="no text"),
        pytest.param(said(format=2), "format is not 1", id="another format"),
        pytest.param(said(spice="hot"), "'spice', which nobody knows", id="a field of a later version"),
        pytest.param({"format": 1, "run_id": RUN}, "lacks backend, begun_s, updated_s", id="fields are missing"),
        pytest.param(said(state="fine"), "state is 'fine'", id="an unknown state"),
        pytest.param(said(backend="ec2"), "backend is 'ec2'", id="an unknown backend"),
        pytest.param(said(begun_s="now"), "begun_s is 'now'", id="text for a number"),
        pytest.param(said(max_workers=True), "max_workers is True", id="a truth for a number"),
        pytest.param(said(max_workers=-1), "from 0 on", id="fewer than none"),
        pytest.param(b'{"format": 1, "begun_s": NaN}', "NaN is no number", id="not a number"),
        pytest.param(said(begun_s=1e400), "Infinity|from 0 on", id="too large a number"),
        pytest.param(said(counts={"done": 1.5}), "counts.done is 1.5", id="half a call"),
        pytest.param(said(counts=[]), "must be of type dict", id="a list for an object"),
        pytest.param(said(workers=[{"id": 7}]), "workers.id is 7", id="a number for a worker's id"),
        pytest.param(said(durations={"counts": [1]}), "another number of counts", id="a histogram that is cut off"),
        pytest.param(
            said(failures=[{"call": n, "type": "E", "message": ""} for n in range(MOST_FAILURES + 1)]),
            "more than one names",
            id="too many failures",
        ),
        pytest.param(said(run_id="r2"), "tells of run 'r2'", id="another run's"),
        pytest.param(b"[" * 100_000, "summary of run", id="deeper than anybody writes"),
        pytest.param(b" " * (9 << 20), "more than any that cloudexec writes", id="too long"),
    ],
)
def test_what_is_no_summary_is_refused_in_words(written: Any, why: str) -> None:
    with pytest.raises(WireError, match=why) as caught:
        RunSummary.from_json(written if isinstance(written, bytes) else json.dumps(written).encode(), RUN)
    assert RUN in caught.value.what


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("cloudexec", f"cloudexec/summaries/{RUN}.json"),
        ("a/b/", f"a/b/summaries/{RUN}.json"),
        ("", f"summaries/{RUN}.json"),
    ],
)
def test_a_summary_lies_beside_the_runs(prefix: str, key: str) -> None:
    assert summary_key(prefix, RUN) == key


# --- gathering ---------------------------------------------------------------------------------


def test_calls_are_summed_and_sorted_by_how_long_they_took() -> None:
    recorder = Recorder(RUN, "ecs")
    for took_s in (0.0005, 0.001, 0.5, 3700.0):
        recorder.ended(100.0, 100.0 + took_s, 0.25, 1000)
    recorder.ended(0.0, 0.05, 0.0, 5000)
    summary = recorder.snapshot(NOW, {"lost": 2})
    assert summary.durations.counts == (1, 1, 1, 1, 0, 0, 0, 0, 1)
    assert summary.sums.run_s == pytest.approx(3700.5515)
    assert (summary.sums.cpu_s, summary.sums.peak_memory_bytes) == (1.0, 5000)
    assert summary.counts == Counts(pending=1, running=2, done=3, failed=4, cancelled=5, retries={"lost": 2})
    assert summary.counts.total == 15


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_the_first_failures_are_named_and_all_are_counted() -> None:
    recorder = Recorder(RUN, "ecs")
    recorder.failed(1, "sum", ValueError("first\nsecond"), "abc.w1.0:77", 2)
    recorder.failed(2, "", Unspeakable(), "", 0)
    recorder.failed(3, "", ValueError("x" * 10_000), "", 1)
    for number in range(4, 300):
        recorder.failed(number, "", ValueError(), "", 1)
    summary = recorder.snapshot(NOW, {})
    assert summary.failures[0] == Failure(
        call=1, name="sum", type="ValueError", message="first", worker="abc", attempts=2
    )
    assert (summary.failures[1].message, summary.failures[1].attempts) == ("?", 1)
    assert len(summary.failures[2].message) == 300
    assert (len(summary.failures), summary.n_failures) == (MOST_FAILURES, 299)


def test_workers_are_named_up_to_a_number_and_counted_beyond() -> None:
    recorder = Recorder(RUN, "ecs")
    for n in range(MOST_WORKERS + 3):
        recorder.worker(f"w{n}", capacity="spot")
    recorder.worker("w0", started_s=5.0, stopped_s=None, capacity="")
    summary = recorder.snapshot(NOW, {})
    assert (len(summary.workers), summary.n_workers) == (MOST_WORKERS, MOST_WORKERS + 3)
    assert summary.workers[0] == Worker(id="w0", capacity="spot", started_s=5.0)
    assert all(worker.stopped_s is not None for worker in recorder.snapshot(NOW, {}, state="done").workers)


def test_who_attaches_counts_what_was_over_before_and_goes_on_from_there() -> None:
    first = Recorder(RUN, "ecs")
    first.begin("long")
    first.failed(1, "", ValueError("by its outcome"), "", 1)
    first.failed(2, "", ValueError("without one"), "", 1)
    first.worker("w1")
    before = first.snapshot(NOW, {}, state="detached")
    second = Recorder(RUN, "ecs")
    second.inherit(Heritage(before=before, n_cancelled=2, failed=frozenset({2})))
    summary = second.snapshot(RunFacts(RUN, 0, 0, 3, 0, 0), {})
    assert (summary.name, summary.begun_s, summary.n_workers) == ("long", before.begun_s, 1)
    assert (summary.counts.failed, summary.counts.cancelled) == (1, 2)
    assert [failure.call for failure in summary.failures] == [2], "call 1 is told again by its outcome"


@pytest.mark.parametrize(
    ("attempts", "stopped_s"),
    [
        pytest.param([], 1600.0, id="with the last word of the client before"),
        pytest.param([(1500.0, 1550.0)], 1600.0, id="not with what that client saw"),
        pytest.param([(1700.0, 1900.0), (1700.0, 1800.0)], 1900.0, id="with the last attempt that it did not see"),
        pytest.param([(4e9, 5e9)], 1600.0, id="not with attempts of later workers"),
    ],
)
def test_a_worker_of_an_earlier_client_that_is_not_there_any_more_has_ended(
    attempts: list[tuple[float, float]], stopped_s: float
) -> None:
    workers = tuple(Worker(id=id, started_s=1000.0) for id in ("gone", "there"))
    before = RunSummary(run_id=RUN, backend="ecs", begun_s=1000.0, updated_s=1600.0, workers=workers, n_workers=2)
    recorder = Recorder(RUN, "ecs")
    recorder.inherit(Heritage(before=before))
    recorder.worker("there", capacity="spot")
    for began_s, ended_s in attempts:
        recorder.ended(began_s, ended_s, 0.0, 0)
    over = recorder.snapshot(NOW, {}, state="stopped")
    assert [one.stopped_s for one in over.workers] == [stopped_s, over.ended_s]


def test_invocations_are_billed_in_whole_milliseconds() -> None:
    recorder = Recorder(RUN, "lambda")
    recorder.invoked(0.0101)
    recorder.invoked(1.0)
    assert recorder.snapshot(NOW, {}, n_throttled=7).invocations == Invocations(n=2, throttled=7, billed_s=1.011)
