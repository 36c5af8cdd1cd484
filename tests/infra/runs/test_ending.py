"""Ending runs from outside, and removing what is left, where others write and remove at the same time."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from cloudexec.backends.clients import Clients
from cloudexec.backends.pull.home import HOME_TAG, RUN_TAG
from cloudexec.errors import AwsError
from cloudexec.infra.place import Place
from cloudexec.infra.runs.cleaning import find_remains
from cloudexec.infra.runs.costs import cost_of
from cloudexec.infra.runs.home import RunsHome
from cloudexec.infra.runs.logs import Wanted, follow
from cloudexec.infra.runs.stopping import force_stop, is_own, mark_stopped
from cloudexec.observe.summary import Client, Counts, RunSummary, Where, Worker, summary_key
from cloudexec.testing import PocketAWS

OLD = "r20200101-000000-aaaaaa"
DAY_S = 86_400.0
DEAD = Client(process=f"{socket.gethostname()}/{1 << 30}/1")  # on this machine, and no more


@pytest.fixture(scope="module")
def home(aws: PocketAWS, place: Place) -> RunsHome:
    return RunsHome(place, aws.ecs_setup()["bucket"], "ending")


def put(home: RunsHome, key: str, body: bytes = b"x") -> None:
    home.place.ask("s3", "put_object", {**home.owner, "Key": key, "Body": body})


def described(home: RunsHome, run_id: str, **changes: Any) -> tuple[RunSummary, str]:
    """A summary of a run that goes on, in the bucket; and its version."""
    usual = {"backend": "ecs", "begun_s": 1000.0, "updated_s": 1600.0, **changes}
    put(home, summary_key(home.prefix, run_id), RunSummary(run_id=run_id, **usual).to_json())
    return home.read_version(run_id)


def queue(home: RunsHome, run_id: str, **tags: str) -> str:
    request = {"QueueName": f"cloudexec-{run_id}-work", "tags": tags}
    return str(home.place.ask("sqs", "create_queue", request)["QueueUrl"])


# --- a client that writes, too -------------------------------------------------------------------


def test_a_summary_that_the_client_has_written_meanwhile_says_that_the_run_was_stopped(home):
    summary, etag = described(home, "r20200102-000000-aaaaaa")
    assert home.write(replace(summary, counts=Counts(done=7)), etag)
    assert mark_stopped(home, summary, etag, "me@here")
    found = home.read(summary.run_id)
    assert (found.state, found.reason, found.counts.done) == ("stopped", "stopped by me@here", 7)


def test_a_run_that_the_client_has_ended_meanwhile_stays_as_it_ended(home):
    summary, etag = described(home, "r20200102-000000-bbbbbb")
    assert home.write(replace(summary, state="done", ended_s=1700.0), etag)
    assert mark_stopped(home, summary, etag, "me@here")
    assert home.read(summary.run_id).state == "done"


def test_an_abandoned_run_ends_with_its_client_s_last_word_and_costs_no_more_for_being_stopped_late(home):
    on = Worker(id="w", capacity="on-demand", vcpu=2.0, memory_mib=4096, started_s=1000.0)
    summary, _ = described(home, "r20200102-000000-cccccc", client=DEAD, workers=(on,), n_workers=1)
    force_stop(home, summary.run_id, who="me@here")
    found = home.read(summary.run_id)
    assert (found.state, found.ended_s) == ("stopped", 1600.0)
    assert cost_of(found).usd == cost_of(summary, now_s=1600.0).usd


def test_a_run_whose_summary_is_damaged_can_be_stopped(home):
    run_id = "r20200102-000000-dddddd"
    put(home, summary_key(home.prefix, run_id), b"{}")
    put(home, home.run_prefix(run_id) + "control")
    queue(home, run_id, **{RUN_TAG: run_id})
    report = force_stop(home, run_id)
    assert report.had_control
    assert report.queues == [f"cloudexec-{run_id}-work"]
    assert any("is damaged" in note for note in report.notes)


def test_following_an_abandoned_run_ends(home):
    where = Where(log_group="/nobody/writes/there")
    summary, _ = described(home, "r20200102-000000-eeeeee", client=DEAD, where=where)
    assert list(follow(home, summary, Wanted(), late_s=0.0)) == []


# --- queues that go, and that are others' ----------------------------------------------------------


def test_a_queue_that_was_removed_is_nobody_s_though_it_may_be_listed_for_a_while(home):
    url = queue(home, OLD, **{RUN_TAG: OLD})
    assert is_own(home, url, OLD)
    home.place.ask("sqs", "delete_queue", {"QueueUrl": url})
    assert not is_own(home, url, OLD)


def test_tags_are_asked_only_of_queues_that_are_old_enough_and_of_the_run_that_is_meant(aws, home):
    young = time.strftime("r%Y%m%d-%H%M%S-aaaaaa", time.gmtime())
    tags = {HOME_TAG: f"{home.bucket}/{home.prefix}"}
    urls = [queue(home, run_id, **tags, **{RUN_TAG: run_id}) for run_id in (OLD, OLD[:-1] + "b", young)]
    try:
        aws.forget_requests()
        assert [one.run_id for one in find_remains(home, run_id=OLD)] == [OLD]
        assert aws.requests()["sqs", "ListQueueTags"] == 1
        assert [one.run_id for one in find_remains(home, older_than_s=DAY_S)] == [OLD, OLD[:-1] + "b"]
        assert aws.requests()["sqs", "ListQueueTags"] == 3
    finally:
        for url in urls:
            home.place.ask("sqs", "delete_queue", {"QueueUrl": url})


def test_what_is_called_like_a_run_of_no_day_there_is_is_left_alone(home):
    wrong = "r20209999-999999-aaaaaa"
    put(home, home.run_prefix(wrong) + "x")
    url = queue(home, wrong, **{RUN_TAG: wrong, HOME_TAG: f"{home.bucket}/{home.prefix}"})
    try:
        assert wrong not in {one.run_id for one in find_remains(home, older_than_s=0.0, summaries=True)}
    finally:
        home.place.ask("sqs", "delete_queue", {"QueueUrl": url})


# --- what is read of an object --------------------------------------------------------------------


def test_of_an_object_only_so_much_is_read_that_one_sees_that_it_is_too_large(home):
    put(home, "ending/large", bytes(1000))
    reply = home.place.ask("s3", "get_object", {**home.owner, "Key": "ending/large"})
    assert home.place.body("large", reply, 99) == bytes(100)
    reply = home.place.ask("s3", "get_object", {**home.owner, "Key": "ending/large"})
    assert home.place.body("large", reply, 1000) == bytes(1000)


def test_a_connection_that_breaks_within_an_object_is_a_named_error(aws):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 10)

        thread = threading.Thread(target=answer)
        thread.start()
        place = Place(Clients(region="us-east-1", endpoint_url=f"http://127.0.0.1:{server.getsockname()[1]}"))
        try:
            reply = place.ask("s3", "get_object", {"Bucket": "some-bucket", "Key": "some"})
            with pytest.raises(AwsError, match="reading it"):
                place.body("reading it", reply, 1000)
        finally:
            place.close()
            thread.join()
