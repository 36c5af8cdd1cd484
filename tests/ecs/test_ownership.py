"""Whose a run is, and what it takes for words about it to be believed."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest

from cloudexec import ECSExecutor, errors
from cloudexec.backends.pull.backend import PullPlan
from cloudexec.executors import runkeys
from cloudexec.wire.envelope import OVERHEAD


def double(x):
    return 2 * x


def length(data):
    return len(data)


def object_of(run_id, aws, name):
    """(boto3 client, bucket and key) of an object of a run."""
    found = runkeys.load(run_id)
    return aws.session().client("s3"), {"Bucket": found.bucket, "Key": f"{found.prefix}/runs/{run_id}/{name}"}


# --- one owner at a time ---


def test_of_two_executors_of_one_process_only_the_last_one_that_attached_owns_the_run(new_executor):
    """Otherwise each would take half of the reports, and both would wait for ever."""
    first = new_executor(2)
    assert first.submit(double, 4).result(timeout=20) == 8
    open_call = first.submit(time.sleep, 30)
    time.sleep(1.2)  # the journal is written once a second
    with pytest.raises(errors.RunBusy):
        ECSExecutor.attach(first.run.id)
    second = ECSExecutor.attach(first.run.id, take_over=True)
    try:
        assert isinstance(open_call.exception(timeout=25), errors.RunTakenOver)
        assert [second.submit(double, x).result(timeout=20) for x in range(3)] == [0, 2, 4]
    finally:
        second.terminate_workers()
        second.shutdown()


def test_a_client_that_has_not_noticed_yet_removes_nothing_of_its_successors(new_executor, aws):
    first = new_executor(1)
    assert first.submit(double, 4).result(timeout=20) == 8
    time.sleep(1.2)
    with ECSExecutor.attach(first.run.id, take_over=True) as second:
        first.shutdown()
        assert [queue for queue in aws.queues() if second.run.id in queue.name]
        assert second.futures[0].result(timeout=20) == 8
        assert second.submit(double, 5).result(timeout=20) == 10
    assert not [queue for queue in aws.queues() if second.run.id in queue.name]


# --- detaching ---


def test_large_arguments_are_stored_before_a_client_lets_go(new_executor, aws):
    first = new_executor(1)
    assert first.submit(double, 1).result(timeout=20) == 2
    aws.faults.latency("s3", 0.7, operation="PutObject")
    data = [os.urandom(200_000) for _ in range(20)]
    for each in data:
        first.submit(length, each)
    run_id = first.detach()
    aws.faults.clear()
    with ECSExecutor.attach(run_id) as second:
        assert [future.result(timeout=20) for future in second.futures] == [2, *[200_000] * 20]


def test_nobody_can_attach_before_the_journal_tells_all(new_executor, aws):
    first = new_executor(1)
    assert first.submit(double, 1).result(timeout=20) == 2
    aws.forget_requests()
    futures = [first.submit(double, x) for x in range(20)]
    first.detach()
    assert all(isinstance(f.exception(timeout=5), (errors.RunDetached, type(None))) for f in futures)
    client, control = object_of(first.run.id, aws, "control")
    written = client.head_object(**control)["LastModified"]
    prefix = control["Key"].removesuffix("control") + "journal/"
    entries = client.list_objects_v2(Bucket=control["Bucket"], Prefix=prefix)["Contents"]
    assert all(entry["LastModified"] <= written for entry in entries)
    second = ECSExecutor.attach(first.run.id)
    second.terminate_workers()  # to wait for reports that the first has read, and not journaled, would take 20 s
    second.shutdown()


# --- what is not believed ---


def detached(new_executor):
    first = new_executor(1)
    assert first.submit(double, 1).result(timeout=20) == 2
    return first.detach()


def test_a_record_that_somebody_has_changed_is_refused(new_executor, aws):
    """It says which containers get the run's key, and which blob is unpickled as initializer."""
    run_id = detached(new_executor)
    client, where = object_of(run_id, aws, "run")
    body = client.get_object(**where)["Body"].read()
    at = body.index(b"{", OVERHEAD)  # the signature may hold any byte
    said = json.loads(body[at:])
    said["fleet"]["task_definition"] = "worker-of-a-stranger"
    for forged in (json.dumps(said).encode(), body[:at] + json.dumps(said).encode()):
        client.put_object(**where, Body=forged)
        with pytest.raises(errors.WireError):
            ECSExecutor.attach(run_id)
    client.put_object(**where, Body=body)
    ECSExecutor.attach(run_id).shutdown()


@pytest.mark.parametrize("name", ["control", "journal"])
def test_one_object_of_a_run_is_not_taken_for_another(name, new_executor, aws):
    """All are signed with the run's key; what each is stands in it, and is signed too."""
    run_id = detached(new_executor)
    client, record = object_of(run_id, aws, "run")
    body = client.get_object(**record)["Body"].read()
    _, where = object_of(run_id, aws, name if name == "control" else "journal/00000099-00000000")
    before = client.get_object(**where)["Body"].read() if name == "control" else None
    client.put_object(**where, Body=body)
    with pytest.raises(errors.SignatureError, match="RECORD"):
        ECSExecutor.attach(run_id)
    if before is None:
        client.delete_object(**where)
    else:
        client.put_object(**where, Body=before)
    ECSExecutor.attach(run_id, take_over=True).shutdown()


def test_no_representation_shows_the_key(new_executor):
    executor = new_executor(1)
    assert executor.submit(double, 1).result(timeout=20) == 2
    key = executor.run_key
    known = runkeys.load(executor.run.id)
    assert known.key_hex == key
    assert key not in repr(known)
    assert key not in repr(replace(known, region="x"))
    assert not PullPlan.__dataclass_fields__["key"].repr


def test_a_key_is_never_written_into_a_file_that_was_there(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    run_id = "r20261121-052301-9f3a1c"
    folder = tmp_path / "cloudexec" / "runs"
    folder.mkdir(parents=True)
    stranger = tmp_path / "strangers"
    stranger.touch()
    (folder / f"{run_id}.json.new").symlink_to(stranger)
    runkeys.save(runkeys.RunKey(run_id=run_id, key_hex="ab", bucket="b", prefix="p", owner="1", region="r"))
    assert stranger.read_text() == ""
    assert runkeys.load(run_id).key_hex == "ab"
    assert sorted(path.name for path in folder.iterdir()) == [f"{run_id}.json", f"{run_id}.json.new"]


@pytest.mark.parametrize("change", [lambda body: body + b"x" * 1000, lambda body: body[:-1]], ids=["longer", "shorter"])
def test_a_result_of_another_size_than_was_signed_is_refused(change, new_executor, aws):
    """Results have random names in the store; the signed report tells their size."""
    first = new_executor(1)
    future = first.submit(bytearray, 300_000)
    assert len(future.result(timeout=20)) == 300_000
    run_id = first.detach()
    client, where = object_of(run_id, aws, "blobs/")
    listed = client.list_objects_v2(Bucket=where["Bucket"], Prefix=where["Key"])["Contents"]
    (key,) = [item["Key"] for item in listed if item["Size"] >= 300_000]
    body = client.get_object(Bucket=where["Bucket"], Key=key)["Body"].read()
    client.put_object(Bucket=where["Bucket"], Key=key, Body=change(body))
    with ECSExecutor.attach(run_id) as second:
        assert isinstance(second.futures[0].exception(timeout=20), errors.CloudexecError)
