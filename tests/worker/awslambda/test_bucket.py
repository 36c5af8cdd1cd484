"""What an invocation does with a bucket: stored batches and answers, blobs, the client's orders, Event invocations."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from pathlib import Path

import pytest

from cloudexec.errors import AccessDenied, AwsError, ConnectionLost
from cloudexec.ids import BlobRef
from cloudexec.wire.control import DownCause
from cloudexec.wire.envelope import Kind, Seal, new_key
from cloudexec.wire.invocation import open_report
from cloudexec.wire.mail import decode_report
from cloudexec.worker.awslambda.events import patiently
from tests.contract import calls
from tests.worker.agent import deeds


@pytest.fixture
def caller(caller_with_bucket):
    """All tests here have a bucket."""
    return caller_with_bucket


def test_a_batch_may_lie_in_the_bucket(caller):
    report = caller.report_in(caller.invoke(caller.event_stored(caller.call(calls.double, 4))))
    assert caller.values(report) == {1: 8}


def test_a_stored_batch_with_another_signature_is_refused(caller):
    event = caller.event_stored(caller.call(calls.double, 4))
    caller.store.put("batches/1", [Seal(new_key()).close(1, b"")])
    assert caller.answer_in(caller.invoke(event)).refused_error == "SignatureError"


def test_a_stored_batch_that_is_not_there_is_refused(caller):
    event = caller.event_stored(caller.call(calls.double, 4))
    caller.store.delete("batches/1")
    assert caller.answer_in(caller.invoke(event)).refused_error == "BlobMissing"


def test_a_large_result_is_a_blob(caller):
    answer = caller.invoke(caller.event(caller.call(text_buffer, 1_000_000)))
    assert len(json.dumps(answer)) < 5000
    assert len(caller.values(caller.report_in(answer))[1]) == 1_000_000


def text_buffer(size: int) -> bytearray:
    return bytearray(b"x" * size)


def test_an_answer_above_the_limit_is_stored_and_named(caller):
    batch = [caller.call(deeds.text_of, 200_000) for _ in range(30)]
    answer = caller.invoke(caller.event(*batch), request_id="11111111-2222")
    assert answer == {"stored": "answers/11111111-2222"}
    assert len(caller.values(caller.report_in(answer))) == 30


def test_an_initializer_may_be_a_blob(caller):
    name = caller.store.put_blob(memoryview(caller.initializer(deeds.warm_up, "text"))).name
    report = caller.run(caller.call(deeds.warmth), initializer_blob=name)
    assert list(caller.values(report).values()) == [["text"]]


def test_an_initializer_that_is_not_there_is_refused(caller):
    name = BlobRef(hashlib.sha256(b"").digest(), 0).name
    answer = caller.answer_in(caller.invoke(caller.event(caller.call(calls.double, 1), initializer_blob=name)))
    assert answer.refused_error == "BlobMissing"


# --- caches ---


def kept(caller) -> list[Path]:
    """Blobs of ended runs."""
    return list((caller.directory / "cache" / "attic" / "blobs").iterdir())


def n_bytes(content: bytearray) -> int:
    return len(content)


def test_a_blob_of_an_ended_run_is_used_again_by_its_name(caller):
    argument = bytearray(os.urandom(300_000))
    call = caller.call(n_bytes, argument)
    caller.run(call)
    caller.another_run()
    caller.run(caller.call(calls.double, 1))
    assert len(kept(caller)) == 1
    name = f"blobs/{kept(caller)[0].name}"
    caller.store.delete(name)  # so that it can come from nowhere else
    assert caller.values(caller.run(call)) == {call.number: 300_000}


def test_a_blob_that_an_ended_run_has_tampered_with_is_not_believed(caller):
    argument = bytearray(os.urandom(300_000))
    call = caller.call(hashlib_of, argument)
    caller.run(call)
    caller.another_run()
    caller.run(caller.call(calls.double, 1))
    (path,) = kept(caller)
    path.write_bytes(b"y" * 300_000)
    assert caller.values(caller.run(call)) == {call.number: hashlib.sha256(argument).hexdigest()}


def hashlib_of(content: bytearray) -> str:
    return hashlib.sha256(content).hexdigest()


def test_what_an_earlier_process_left_goes_into_the_attic(caller):
    left = caller.directory / "cache" / "0123"
    (left / "blobs").mkdir(parents=True)
    (left / "modules").mkdir()
    (left / "blobs" / "aa").write_bytes(b"old")
    (caller.directory / "cache").chmod(0o700)
    caller.run(caller.call(calls.double, 1))
    assert [path.name for path in kept(caller)] == ["aa"]
    assert not left.exists()


def test_a_cache_directory_that_others_can_write_to_is_left_alone(caller):
    base = caller.directory / "cache"
    base.mkdir()
    base.chmod(0o777)
    caller.run(caller.call(calls.double, 1))
    assert not list(base.iterdir())
    assert caller.environment.caches.attic.startswith(f"{base}-")


def test_the_cache_of_all_runs_together_is_bounded(caller):
    caller.run(caller.call(calls.double, 1))
    caller.environment.caches.most_bytes = 700_000
    for _ in range(4):
        caller.another_run()
        caller.run(caller.call(n_bytes, bytearray(os.urandom(300_000))))
    files = [path for path in (caller.directory / "cache").rglob("blobs/*") if path.is_file()]
    assert 1 <= len(files) <= 2


# --- orders ---

QUICK = {"control_after_s": 0.05, "control_every_s": 0.05}


def later(seconds: float, act, *args, **kwargs) -> threading.Timer:
    timer = threading.Timer(seconds, act, args, kwargs)
    timer.start()
    return timer


def test_a_call_that_the_client_stops_is_killed_and_its_neighbours_run(caller):
    caller.run(caller.call(calls.double, 1), **QUICK)  # so that the slot is up
    stopped, waits = caller.call(calls.sleep, 60.0), caller.call(calls.double, 2)
    timer = later(0.2, caller.control, stops=[stopped.number])
    report = caller.run(stopped, waits, **QUICK)
    timer.join()
    (stop,) = report.down
    assert (stop.why, stop.killed_call) == (DownCause.STOPPED, stopped.number)
    assert caller.values(report) == {waits.number: 4}


def test_a_stopped_call_that_has_not_begun_is_given_back(caller):
    runs, waits = caller.call(calls.sleep, 0.6), caller.call(calls.double, 2)
    caller.control(stops=[waits.number])
    report = caller.run(runs, waits, **QUICK)
    assert (list(caller.values(report)), report.requeued) == ([runs.number], [(waits.number, 1)])


@pytest.mark.parametrize("who", ["*", "0123456789abcdef0123456789abcdef"])
def test_told_to_leave_the_worker_kills_all_and_answers(caller, who):
    caller.run(caller.call(calls.double, 1), **QUICK)  # so that the slot is up
    runs, waits = caller.call(calls.sleep, 60.0), caller.call(calls.double, 2)
    caller.control(leave=[who])
    report = caller.run(runs, waits, **QUICK)
    (stop,) = report.down
    assert stop.why == DownCause.STOPPED
    assert "leave" in stop.last_words
    assert report.requeued == [(waits.number, 1)]


def test_another_worker_s_order_to_leave_is_not_for_this_one(caller):
    caller.control(leave=["another"])
    assert caller.values(caller.run(caller.call(calls.sleep, 0.4), **QUICK))


def test_calls_of_a_client_that_gives_no_sign_of_life_are_killed(caller):
    caller.control()
    (stop,) = caller.run(caller.call(calls.sleep, 60.0), stale_s=0.5, **QUICK).down
    assert stop.why == DownCause.STOPPED
    assert "no sign of life" in stop.last_words


def test_without_a_control_object_calls_run_on_for_a_while(caller):
    assert caller.values(caller.run(caller.call(calls.sleep, 0.6), stale_s=0.2, **{**QUICK, "control_after_s": 0.2}))


def test_calls_of_a_client_that_died_before_it_could_write_its_control_object_are_killed(caller):
    caller.run(caller.call(calls.double, 1), stale_s=0.2, **QUICK)  # so that the slot is up
    (stop,) = caller.run(caller.call(calls.sleep, 60.0), stale_s=0.2, **QUICK).down
    assert stop.why == DownCause.STOPPED
    assert "the client is gone" in stop.last_words


def test_calls_of_a_run_whose_control_object_was_removed_are_killed(caller):
    caller.control()
    caller.run(caller.call(calls.double, 1), **QUICK)  # so that the slot is up
    timer = later(0.5, caller.store.delete, "control")
    (stop,) = caller.run(caller.call(calls.sleep, 60.0), **QUICK).down
    timer.join()
    assert stop.why == DownCause.STOPPED
    assert "the run is over" in stop.last_words


def test_the_invocation_itself_is_a_sign_of_life(caller):
    caller.control()
    time.sleep(1.1)
    assert caller.values(caller.run(caller.call(calls.sleep, 0.5), stale_s=1.0, **QUICK))


def test_orders_with_another_signature_are_not_obeyed(caller):
    caller.control(seal=Seal(new_key()), leave=["*"])
    assert caller.values(caller.run(caller.call(calls.sleep, 0.4), **QUICK))


def test_short_calls_ask_for_nothing(caller):
    caller.run(caller.call(calls.double, 1))
    assert not caller.environment._couriers


# --- Event invocations ---


def event_report(caller, name):
    return decode_report(open_report(caller.seal, caller.store.get(f"events/{name}.report")))


def test_an_event_is_claimed_and_its_report_written(caller):
    answer = caller.invoke(caller.event(caller.call(calls.double, 4), name="e1"), request_id="request-1")
    assert answer == {"event": "e1", "state": "done"}
    assert caller.values(event_report(caller, "e1")) == {1: 8}
    kind, body = caller.seal.open(caller.store.get("events/e1.begun"))
    claim = json.loads(bytes(body))
    assert kind is Kind.CONTROL
    assert claim["owner"].startswith("0123456789abcdef0123456789abcdef/")
    assert claim["request_id"] == "request-1"
    assert 50 < claim["until_s"] - claim["began_s"] <= 60


def test_a_duplicate_of_an_event_runs_nothing(caller, tmp_path):
    event = caller.event(caller.call(deeds.note, os.fspath(tmp_path / "diary"), "ran"), name="e1")
    assert [caller.invoke(event, request_id="r")["state"] for _ in range(2)] == ["done", "duplicate"]
    assert (tmp_path / "diary").read_text() == "ran\n"


def test_a_running_event_says_that_it_lives(caller):
    event = caller.event(caller.call(calls.sleep, 1.5), name="e1", event_beat_s=0.2)
    found = []
    timers = [later(seconds, lambda: found.append(modified(caller, "e1"))) for seconds in (0.3, 1.5)]
    caller.invoke(event)
    for timer in timers:
        timer.join()
    assert found[0] < found[1]


def modified(caller, name):
    head = caller._s3.head_object(Bucket=caller.bucket, Key=f"{caller.prefix}/events/{name}.begun")
    return head["LastModified"]


def test_an_event_that_is_refused_says_so_in_its_report(caller):
    caller.invoke(caller.event(caller.call(calls.double, 1), name="e1", python_version="3.9"))
    report = event_report(caller, "e1")
    assert report.broken
    assert report.leaving.startswith("VersionMismatch: ")


def test_the_report_of_an_event_may_be_as_large_as_it_likes(caller):
    caller.invoke(caller.event(*(caller.call(deeds.text_of, 200_000) for _ in range(30)), name="e1"))
    assert len(caller.values(event_report(caller, "e1"))) == 30


def test_a_function_that_is_asked_whether_events_could_report_tries_and_tells(caller):
    report = caller.report_in(caller.invoke(caller.event_to_try("0")))
    assert (report.outcomes, report.down, report.requeued) == ([], [], [])
    assert [key.rpartition("/")[2] for key in caller.objects(f"{caller.prefix}/events/")] == ["0.tried"]
    answer = caller.answer_in(caller.invoke(caller.event_to_try("0", bucket="absent-bucket")))
    assert answer.refused_error == "AwsError"
    assert "NoSuchBucket" in answer.refused_what


def test_an_event_that_cannot_write_its_claim_fails_where_lambda_sees_it_and_runs_nothing(caller, tmp_path):
    call = caller.call(deeds.note, os.fspath(tmp_path / "diary"), "ran")
    with pytest.raises(AwsError, match="NoSuchBucket"):
        caller.invoke(caller.event(call, name="e1", bucket="absent-bucket"))
    assert not (tmp_path / "diary").exists()


@pytest.mark.parametrize(
    ("error", "n_writes"),
    [
        pytest.param(ConnectionLost("gone", True), 3, id="no connection"),
        pytest.param(AwsError("broken", "InternalError", 500, ""), 3, id="a fault of S3"),
        pytest.param(AwsError("wrong", "NoSuchBucket", 404, ""), 1, id="no such bucket"),
        pytest.param(AccessDenied("no", "AccessDenied", 403, ""), 1, id="no right"),
    ],
)
def test_what_may_pass_is_waited_for_and_nothing_else(error, n_writes):
    answers = [error, error, "written"]
    written: list[object] = []

    def write() -> object:
        written.append(answers.pop(0))
        if isinstance(written[-1], AwsError):
            raise written[-1]
        return written[-1]

    with contextlib.suppress(AwsError):
        assert patiently(write, time.monotonic() + 60.0, 0.01) == "written"
    assert len(written) == n_writes


def test_waiting_for_s3_ends():
    def write() -> None:
        raise ConnectionLost("gone", True)

    with pytest.raises(ConnectionLost):
        patiently(write, time.monotonic() + 0.05, 0.01)


# --- early reports ---


def early_reports(caller):
    names = sorted(key.rpartition("/")[2] for key in caller.objects(f"{caller.prefix}/events/"))
    sealed = {name: caller.store.get(f"events/{name}") for name in names}
    return {name: decode_report(open_report(caller.seal, found)) for name, found in sealed.items()}


def test_a_batch_that_lasts_tells_what_has_ended_gives_back_what_waits_and_goes_on(caller):
    caller.run(caller.call(calls.double, 0), early_after_s=0.3)  # so that the slot is up
    short, long, waits = caller.call(calls.double, 1), caller.call(calls.sleep, 1.0), caller.call(calls.double, 2)
    answer = caller.report_in(caller.invoke(caller.event(short, long, waits, early="b1", early_after_s=0.3)))
    reports = early_reports(caller)
    assert list(reports) == ["b1.1.early"]
    first = reports["b1.1.early"]
    assert caller.values(first) == {short.number: 2}
    assert first.requeued == [(waits.number, 1)]
    assert caller.values(answer) == {short.number: 2, long.number: 1.0}, "the answer tells everything"
    assert answer.requeued == [(waits.number, 1)]


def test_each_early_report_tells_what_is_new(caller):
    caller.run(caller.call(calls.double, 0), n_slots=2, early_after_s=0.3)
    batch = [caller.call(calls.sleep, seconds) for seconds in (0.05, 0.45, 1.5)]
    caller.invoke(caller.event(*batch, early="b1", n_slots=2, early_after_s=0.3))
    reports = early_reports(caller)
    told = [[outcome.number for _, outcome in report.outcomes] for report in reports.values()]
    assert list(reports) == ["b1.1.early", "b1.2.early"]
    assert told == [[batch[0].number], [batch[1].number]]


def test_a_call_that_kills_its_slot_is_told_early(caller):
    caller.run(caller.call(calls.double, 0), n_slots=2, early_after_s=0.2)
    guilty, long = caller.call(os._exit, 3), caller.call(calls.sleep, 0.8)
    caller.invoke(caller.event(guilty, long, early="b1", n_slots=2, early_after_s=0.2))
    assert [stop.running_call for stop in early_reports(caller)["b1.1.early"].down] == [guilty.number]


def test_calls_that_wait_for_an_initializer_are_not_given_back(caller):
    name = caller.store.put_blob(memoryview(caller.initializer(time.sleep, 2.0))).name
    batch = [caller.call(calls.double, number) for number in range(3)]
    event = caller.event(*batch, early="b1", early_after_s=0.8, initializer_blob=name)  # no call takes so long
    assert len(caller.values(caller.report_in(caller.invoke(event)))) == 3
    assert not early_reports(caller)


def test_a_batch_that_ends_in_time_tells_nothing_early(caller):
    caller.invoke(caller.event(caller.call(calls.double, 1), caller.call(calls.double, 2), early="b1"))
    assert not early_reports(caller)
