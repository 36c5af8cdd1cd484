"""Many runs are listed in few requests, and one that cannot be read is in nobody's way."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cloudexec.errors import RunMissing
from cloudexec.infra.place import Place
from cloudexec.infra.runs.home import RunsHome
from cloudexec.infra.runs.listing import list_runs, view
from cloudexec.observe.summary import RunSummary
from cloudexec.testing import PocketAWS

N_RUNS = 160
PAGE = 100  # instead of a thousand
NEWEST = "r20261121-235959-ffffff"


@pytest.fixture(scope="module")
def home(aws: PocketAWS, place: Place) -> RunsHome:
    """A prefix with many runs."""
    found = RunsHome(place, aws.ecs_setup()["bucket"], "many", page_keys=PAGE)
    ids = [f"r202611{day:02}-{n // 60:02}{n % 60:02}00-{n:06x}" for day in (1, 2) for n in range(N_RUNS // 2)]

    def write(run_id: str, body: bytes | None = None) -> None:
        summary = RunSummary(run_id=run_id, backend="ecs", state="done", begun_s=1.0, updated_s=2.0, ended_s=2.0)
        key = f"many/summaries/{run_id}.json"
        place.ask("s3", "put_object", {**found.owner, "Key": key, "Body": summary.to_json() if body is None else body})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, ids))
    write(NEWEST, b"{}")
    write("notes", b"not a run")
    return found


def test_the_latest_of_many_are_listed_in_few_requests(aws, home):
    aws.forget_requests()
    listing = list_runs(home, most=20)
    asked = aws.requests()
    assert asked["s3", "ListObjectsV2"] == 2, "a page for each PAGE"
    assert asked["s3", "GetObject"] == 20, "one for each run that is shown"
    assert sum(asked.values()) == 22, asked
    assert (len(listing.runs), listing.n_older) == (20, N_RUNS + 1 - 20)
    assert [one.run_id for one in listing.runs] == sorted((one.run_id for one in listing.runs), reverse=True)


def test_since_a_moment_only_what_is_younger_is_listed_at_all(aws, home):
    aws.forget_requests()
    second_day = time.mktime((2026, 11, 2, 0, 0, 0, 0, 0, 0)) - time.timezone
    listing = list_runs(home, most=1, since_s=second_day)
    assert listing.n_older == N_RUNS // 2
    assert aws.requests()["s3", "ListObjectsV2"] == 1


def test_a_summary_that_cannot_be_read_is_shown_as_that(home):
    first = list_runs(home, most=1).runs[0]
    assert (first.run_id, first.state, first.summary) == (NEWEST, "unreadable", None)
    assert "format" in first.trouble


@pytest.mark.parametrize(
    ("said", "is_meant"),
    [
        pytest.param(NEWEST, NEWEST, id="an id"),
        pytest.param("r20261121", NEWEST, id="its beginning"),
        pytest.param("20261121-23", NEWEST, id="without the letter"),
        pytest.param("last", NEWEST, id="the last"),
    ],
)
def test_a_run_is_meant_by(home, said, is_meant):
    assert home.find(said) == is_meant


@pytest.mark.parametrize("said", [NEWEST, "r20261121"])
def test_what_is_meant_and_when_it_was_written_is_one_request(aws, home, said):
    aws.forget_requests()
    entry = home.lookup(said)
    assert view(home, entry).state == "unreadable"
    assert time.time() - 60 < entry.modified_s < time.time() + 60
    asked = aws.requests()
    assert (asked["s3", "ListObjectsV2"], asked["s3", "GetObject"]) == (1, 1), asked


def test_a_beginning_of_many_is_refused_with_some_of_them(home):
    with pytest.raises(RunMissing, match=r"several runs begin with 'r20261101': r20261101-000000-000000, .*…"):
        home.find("r20261101")
