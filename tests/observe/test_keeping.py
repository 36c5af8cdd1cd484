"""A summary is written while its run goes on, and nothing that happens to it happens to the run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from cloudexec import LocalExecutor
from cloudexec.backends.clients import Clients
from cloudexec.executors.ecs import account_in
from cloudexec.executors.summaries import SummaryKeeper, SummaryObject
from cloudexec.observe.recorder import Recorder
from cloudexec.observe.summary import RunSummary
from cloudexec.testing import PocketAWS
from cloudexec.transport.account import open_client
from tests.contract.events import eventually
from tests.specs.executors import pocket

RUN = "r20261121-120000-abcdef"


@pytest.fixture(scope="module")
def aws() -> PocketAWS:
    return pocket()


@pytest.fixture(scope="module")
def client(aws: PocketAWS) -> Iterator[Any]:
    clients = Clients(region="us-east-1", endpoint_url=aws.endpoint_url)
    with open_client(account_in(clients, aws.endpoint_url)) as found:
        yield found


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    with LocalExecutor(max_workers=1) as made:
        yield made


def object_in(client: Any, bucket: str, run_id: str) -> SummaryObject:
    return SummaryObject(client, bucket, "kept", "123456789012", run_id)


def test_it_is_written_at_the_begin_while_it_changes_and_at_the_end(aws, client, executor):
    bucket, run_id = aws.ecs_setup()["bucket"], executor.run.id
    recorder = Recorder(run_id, "ecs")
    looked = object_in(client, bucket, run_id)
    keeper = SummaryKeeper(recorder, object_in(client, bucket, run_id), lambda: executor._core.engine, every_s=0.05)
    assert executor.submit(abs, -1).result() == 1
    keeper.begin()
    eventually(lambda: (found := looked.read()) and found.counts.done == 1)
    unchanged = looked.read()
    assert executor.submit(abs, -2).result() == 2
    eventually(lambda: looked.read().counts.done == 2)
    assert unchanged.state == looked.read().state == "running"
    keeper.end()
    assert (looked.read().state, looked.read().counts.done) == ("done", 2)


def test_after_somebody_else_has_written_it_the_earlier_client_is_silent(aws, client, executor):
    bucket, run_id = aws.ecs_setup()["bucket"], executor.run.id
    keeper = SummaryKeeper(
        Recorder(run_id, "ecs"), object_in(client, bucket, run_id), lambda: executor._core.engine, every_s=0.05
    )
    keeper.begin()
    other = object_in(client, bucket, run_id)
    eventually(lambda: other.read() is not None)
    theirs = RunSummary(run_id=run_id, backend="ecs", state="stopped", begun_s=1.0, updated_s=2.0)
    eventually(lambda: other.write(theirs) or not other.read())
    executor.submit(abs, -1).result()
    keeper.end()
    assert other.read() == theirs


def test_a_summary_that_cannot_be_written_is_told_of_once_and_harms_no_call(aws, client, executor, caplog):
    keeper = SummaryKeeper(
        Recorder(executor.run.id, "ecs"),
        object_in(client, aws.ecs_setup()["bucket"], executor.run.id),
        lambda: executor._core.engine,
        every_s=0.02,
    )
    denied = aws.faults.error("AccessDenied", status=403, service="s3", operation="PutObject")
    with caplog.at_level(logging.WARNING, logger="cloudexec"):
        keeper.begin()
        assert [executor.submit(abs, -x).result() for x in range(20)] == list(range(20))
        eventually(lambda: caplog.records)
        keeper.end()
    aws.faults.clear(denied)
    assert [record.message for record in caplog.records if "summary cannot be written" not in record.message] == []
    assert len(caplog.records) == 1


def test_a_summary_of_nobody_s_is_begun_anew(aws, client):
    bucket = aws.ecs_setup()["bucket"]
    aws.session().client("s3").put_object(Bucket=bucket, Key=f"kept/summaries/{RUN}.json", Body=b"nonsense")
    found = object_in(client, bucket, RUN)
    assert found.read() is None
    assert found.write(RunSummary(run_id=RUN, backend="ecs", begun_s=1.0, updated_s=1.0))
    assert object_in(client, bucket, RUN).read() is not None
