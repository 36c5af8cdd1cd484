"""Jobs from the client's side: the bucket is real, the function is played by the test."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed, wait

import pytest

from cloudexec import LambdaExecutor, errors
from tests.jobs.conftest import GROUP, PREFIX

QUICK_S = 10  # nothing here takes a second; a busy machine may


# --- putting ---------------------------------------------------------------------------------


def test_a_job_is_put_as_the_format_says(shelf, attach):
    jobs = attach(timeout_s=30)
    jobs.submit("a b é", "pkg.mod:Class.run", 1, [2.5, None], deep={"x": "y"}, name="n", call="c")
    assert shelf.job("a b é") == {
        "call": "pkg.mod:Class.run",
        "args": [1, [2.5, None]],
        "kwargs": {"deep": {"x": "y"}, "name": "n", "call": "c"},
        "timeout_s": 30,
    }
    attach().submit("plain", "m:f")
    assert shelf.job("plain") == {"call": "m:f", "args": [], "kwargs": {}}


def test_a_name_is_used_once(shelf, attach):
    first, second = attach(), attach()
    first.submit("one", "m:f", 1)
    for jobs in (first, second):  # the second one learns it from the bucket
        with pytest.raises(errors.SettingsError, match="already"):
            jobs.submit("one", "m:f", 2)
    assert shelf.job("one")["args"] == [1]
    assert list(second.futures) == []


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "x" * 401, 7])
def test_a_name_must_fit_into_a_key(attach, name):
    with pytest.raises(errors.SettingsError, match="part of a key"):
        attach().submit(name, "m:f")


@pytest.mark.parametrize("argument", [object(), {1, 2}, float("nan"), b"bytes"])
def test_arguments_that_json_cannot_hold_are_refused_before_anything_is_put(shelf, attach, argument):
    jobs = attach()
    with pytest.raises(errors.SettingsError, match="written as JSON"):
        jobs.submit("one", "m:f", argument)
    assert jobs.futures == {}
    assert shelf.aws.objects(shelf.bucket) == {}


def test_a_put_that_fails_leaves_no_future(aws, attach):
    jobs = attach()
    aws.faults.error("AccessDenied", "no", status=403, service="s3", operation="PutObject")
    with pytest.raises(errors.AccessDenied):
        jobs.submit("one", "m:f")
    assert jobs.futures == {}
    aws.faults.clear()
    jobs.submit("one", "m:f")
    assert list(jobs.futures) == ["one"]


# --- results ---------------------------------------------------------------------------------


def test_values_failures_and_output_arrive(shelf, attach):
    jobs = attach()
    good, bad = jobs.submit("good", "m:f"), jobs.submit("bad", "m:g")
    shelf.begin("good")
    shelf.end("good", {"x": [1, 2]}, stdout="hello\n", stderr="oh\n")
    shelf.end("bad", state="failed", error={"type": "KeyError", "message": "'k'", "traceback": "Traceback (most"})

    assert good.result(QUICK_S) == {"x": [1, 2]}
    assert (good.stdout, good.stderr) == ("hello\n", "oh\n")
    assert good.outcome is not None
    assert (good.outcome.started_s, good.outcome.finished_s, good.outcome.request_id) == (1.0, 2.5, "r-1")
    error = bad.exception(QUICK_S)
    assert type(error) is errors.RemoteError
    assert error.type_name == "KeyError"
    assert type(error.__cause__) is errors.RemoteTraceback


def test_who_attaches_sees_jobs_that_others_have_put_in_the_order_of_their_names(shelf, attach):
    for name in ("b", "c", "a"):
        shelf.put_job(name)
    shelf.end("c", "see")
    shelf.end("gone", "its job was removed")
    shelf.put(f"jobs/{GROUP}/deep/x.json", {})
    shelf.put(f"jobs/{GROUP}/readme.txt", b"no job")
    shelf.put("jobs/other/z.json", {})
    shelf.put(f"jobs/{GROUP}-2/z.json", {})
    jobs = attach()

    assert list(jobs.futures) == ["a", "b", "c", "gone"]
    assert jobs.futures["c"].result(QUICK_S) == "see"
    assert jobs.futures["gone"].result(QUICK_S) == "its job was removed"
    shelf.end("a", 1)
    shelf.end("b", 2)
    done = [future.name for future in as_completed(jobs.futures.values(), timeout=QUICK_S)]
    assert sorted(done) == ["a", "b", "c", "gone"]


@pytest.mark.parametrize("names", [["a", "a-b", "a.b", "a.begun", "a.json"], ["x y", "é", "日本", "~", "!"]])
def test_names_that_sort_in_odd_ways_are_all_found(shelf, attach, names):
    jobs = attach()
    futures = {name: jobs.submit(name, "m:f") for name in names}
    for name in reversed(names):
        shelf.begin(name)
        shelf.end(name, name)
        assert futures[name].result(QUICK_S) == name


def test_more_results_than_a_page_holds(shelf, attach):
    names = [f"n{number:04}" for number in range(1050)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(shelf.end, names, range(1050)))
    jobs = attach()
    done, open_ones = wait(jobs.futures.values(), timeout=30)
    assert not open_ones
    assert [future.result() for future in jobs.futures.values()] == list(range(1050))
    assert len(done) == 1050


def test_a_damaged_result_harms_its_own_future_alone(shelf, attach):
    jobs = attach()
    for name in ("a", "b"):
        jobs.submit(name, "m:f")
    shelf.put(f"results/{GROUP}/a.json", b"\x80\x05N.")
    shelf.end("b", 2)
    error = jobs.futures["a"].exception(QUICK_S)
    assert type(error) is errors.WireError
    assert f"s3://{shelf.bucket}/{PREFIX}/results/{GROUP}/a.json" in str(error)
    assert jobs.futures["b"].result(QUICK_S) == 2


def test_a_job_that_was_begun_runs_and_cannot_be_cancelled(shelf, attach):
    future = attach().submit("one", "m:f")
    assert (future.running(), future.cancel()) == (False, False)
    shelf.begin("one")
    end_s = time.monotonic() + QUICK_S
    while not future.running():
        assert time.monotonic() < end_s
        time.sleep(0.01)
    assert future.cancel() is False
    shelf.end("one", 1)
    assert future.result(QUICK_S) == 1


def test_callbacks_may_submit(shelf, attach):
    jobs, second = attach(), []
    first = jobs.submit("one", "m:f")
    was_called = threading.Event()

    def go_on(future):
        second.append(jobs.submit("two", "m:f", future.result()))
        was_called.set()

    first.add_done_callback(go_on)
    shelf.end("one", 41)
    assert was_called.wait(QUICK_S)
    assert shelf.job("two")["args"] == [41]
    shelf.end("two", 42)
    assert second[0].result(QUICK_S) == 42


# --- what does not end well ------------------------------------------------------------------


def test_a_job_that_nobody_begins_names_the_notification(shelf, attach):
    jobs = attach(begin_within_s=0.5)
    dropped, begun = jobs.submit("dropped", "m:f"), jobs.submit("begun", "m:f")
    shelf.begin("begun")
    error = dropped.exception(QUICK_S)
    assert type(error) is errors.EventDropped
    assert "nobody has begun job 'dropped' in 0.5 s. Probably the bucket sends no notification" in str(error)
    assert f"s3://{shelf.bucket}/{PREFIX}/jobs/" in str(error)
    assert begun.running()
    shelf.end("begun", 1)
    assert begun.result(QUICK_S) == 1


def test_the_time_to_begin_counts_from_when_the_job_was_put(shelf, attach):
    shelf.put_job("old")
    time.sleep(3.1)  # S3 tells whole seconds: three seconds may look like two
    jobs = attach(begin_within_s=3.0)
    new = jobs.submit("new", "m:f")
    assert type(jobs.futures["old"].exception(QUICK_S)) is errors.EventDropped
    assert not new.done()


@pytest.mark.parametrize("is_removed", [False, True], ids=["its claim grows old", "its claim is gone"])
def test_a_job_whose_environment_died_is_lost(shelf, attach, is_removed):
    jobs = attach(silent_s=2.5)
    dead, alive = jobs.submit("dead", "m:f"), jobs.submit("alive", "m:f")
    is_over = threading.Event()

    def beat():
        number = 0
        while not is_over.wait(0.5):
            shelf.begin("alive", number := number + 1)

    shelf.begin("dead")
    shelf.begin("alive")
    beating = threading.Thread(target=beat)
    beating.start()
    try:
        if is_removed:
            while not dead.running():
                time.sleep(0.01)
            shelf.s3.delete_object(Bucket=shelf.bucket, Key=f"{PREFIX}/results/{GROUP}/dead.begun")
        error = dead.exception(30)
        assert type(error) is errors.EnvironmentLost
        assert "silent" in str(error)
        assert not alive.done()
    finally:
        is_over.set()
        beating.join()
    shelf.end("alive", 1)
    assert alive.result(QUICK_S) == 1


def test_a_refusal_fails_all_that_is_open_with_exceptions_of_their_own(aws, attach):
    jobs = attach()
    futures = [jobs.submit(name, "m:f") for name in ("a", "b")]
    aws.faults.error("AccessDenied", "no", status=403, service="s3", operation="ListObjectsV2")
    found = [future.exception(QUICK_S) for future in futures]
    assert [type(error) for error in found] == [errors.AccessDenied] * 2
    assert found[0] is not found[1]


def test_trouble_that_passes_is_not_seen_and_trouble_that_stays_ends_the_waiting(aws, shelf, attach):
    jobs = attach(trouble_s=0.5)
    future = jobs.submit("a", "m:f")
    rule = aws.faults.error("InternalError", "oh", status=500, service="s3", operation="ListObjectsV2", times=2)
    shelf.end("a", 1)
    assert future.result(QUICK_S) == 1
    aws.faults.clear(rule)

    future = jobs.submit("b", "m:f")
    aws.faults.error("InternalError", "oh", status=500, service="s3", operation="ListObjectsV2")
    error = future.exception(40)
    assert isinstance(error, errors.AwsError)
    assert error.code == "InternalError"
    aws.faults.clear()
    future = jobs.submit("c", "m:f")  # and it goes on afterwards
    shelf.end("c", 3)
    assert future.result(QUICK_S) == 3


def test_letting_go_ends_open_futures_at_once(shelf, attach):
    with attach() as jobs:
        open_one, done = jobs.submit("open", "m:f"), jobs.submit("done", "m:f")
        shelf.end("done", 1)
        assert done.result(QUICK_S) == 1
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 5
    assert type(open_one.exception(0)) is errors.RunDetached
    assert "attach to the group again" in str(open_one.exception(0))
    with pytest.raises(errors.SettingsError, match="closed"):
        jobs.submit("more", "m:f")
    jobs.close()

    with attach() as again:
        shelf.end("open", 2)
        assert again.futures["open"].result(QUICK_S) == 2
    assert not [thread for thread in threading.enumerate() if thread.name == "cloudexec-jobs"]


def test_nothing_is_asked_while_nothing_is_open(shelf, attach):
    jobs = attach()
    jobs.submit("a", "m:f")
    shelf.end("a", 1)
    jobs.futures["a"].result(QUICK_S)
    time.sleep(0.3)
    before = shelf.requests()
    time.sleep(1.0)
    assert shelf.requests() == before


# --- where -----------------------------------------------------------------------------------


def test_the_executors_class_attaches(aws, shelf):
    with LambdaExecutor.attach(
        GROUP, bucket=shelf.bucket, prefix=PREFIX, region="us-east-1", endpoint_url=aws.endpoint_url
    ) as jobs:
        future = jobs.submit("one", "m:f")
        assert repr(jobs) == "<jobs of group 'g': 1, 1 of them open>"
        shelf.end("one", 1)
        assert future.result(QUICK_S) == 1


@pytest.mark.parametrize(
    ("given", "match"),
    [
        pytest.param({"group": "a/b"}, "part of a key", id="group"),
        pytest.param({"group": ""}, "part of a key", id="no group"),
        pytest.param({"begin_within_s": 0}, "begin_within_s", id="no time to begin"),
        pytest.param({"timeout_s": -1}, "timeout_s", id="time limit"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(given, match):
    with pytest.raises(errors.SettingsError, match=match):
        LambdaExecutor.attach(**{"group": "g", "bucket": "jobs", "endpoint_url": "http://127.0.0.1:1", **given})


def test_without_a_bucket_there_are_no_jobs(aws, monkeypatch):
    monkeypatch.delenv("CLOUDEXEC_BUCKET", raising=False)
    with pytest.raises(errors.SettingsError, match="need a bucket"):
        LambdaExecutor.attach("g")


def test_a_bucket_that_is_not_there_is_said_at_once(aws):
    with pytest.raises(errors.AwsError, match="NoSuchBucket"):
        LambdaExecutor.attach("g", bucket="no-such-bucket-of-ours")


@pytest.mark.parametrize("wait", ["result()", "exception(60)"])
def test_a_ctrl_c_that_the_waiting_thread_does_not_notice_is_not_lost(wait):
    code = f"""
import signal, threading
from cloudexec.executors.jobs import JobFuture
threading.Timer(0.2, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT)).start()
JobFuture("one").{wait}
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert "KeyboardInterrupt" in ended.stderr
