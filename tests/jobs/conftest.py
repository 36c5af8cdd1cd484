"""A bucket of the pocket AWS, somebody who writes what a function would write, and jobs that are let go at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloudexec.executors.jobobjects import JobObjects
from cloudexec.executors.jobs import Jobs
from cloudexec.ids import new_run_id
from cloudexec.testing import PocketAWS
from cloudexec.transport.boto import account_of
from cloudexec.transport.retrying import RetryPolicy
from cloudexec.transport.sync import SyncClient
from tests.specs.executors import pocket

GROUP = "g"
PREFIX = "team/cloudexec"
HASTY = RetryPolicy(attempts=4, fault_base_s=0.02)  # the usual one repeats for several seconds


@pytest.fixture
def aws() -> Iterator[PocketAWS]:
    """The pocket AWS, without faults."""
    found = pocket()
    found.faults.clear()
    yield found
    found.faults.clear()


class Shelf:
    """A bucket, seen by others: whoever puts jobs without this library, and the function."""

    def __init__(self, aws: PocketAWS) -> None:
        self.aws = aws
        self.s3 = aws.session().client("s3")
        self.bucket = f"jobs-{new_run_id().lower().replace('.', '-')}"
        self.s3.create_bucket(Bucket=self.bucket)

    def put(self, key: str, said: Any) -> None:
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.s3.put_object(Bucket=self.bucket, Key=f"{PREFIX}/{key}", Body=body)

    def job(self, name: str, group: str = GROUP) -> Any:
        found = self.s3.get_object(Bucket=self.bucket, Key=f"{PREFIX}/jobs/{group}/{name}.json")
        return json.loads(found["Body"].read())

    def put_job(self, name: str, **said: Any) -> None:
        self.put(f"jobs/{GROUP}/{name}.json", {"call": "m:f", **said})

    def begin(self, name: str, beat: int = 0) -> None:
        self.put(f"results/{GROUP}/{name}.begun", {"beat": beat})

    def end(self, name: str, value: Any = None, **more: Any) -> None:
        said = {"job": name, "state": "done", "value": value, "error": None, "stdout": "", "stderr": ""}
        said |= {"started_s": 1.0, "finished_s": 2.5, "request_id": "r-1"}
        self.put(f"results/{GROUP}/{name}.json", {**said, **more})

    def requests(self) -> int:
        """How many S3 requests there have been."""
        return sum(count for (service, _), count in self.aws.requests().items() if service == "s3")


@pytest.fixture
def shelf(aws: PocketAWS) -> Shelf:
    """A bucket of this test's own."""
    return Shelf(aws)


@pytest.fixture
def attach(aws: PocketAWS, shelf: Shelf) -> Iterator[Callable[..., Jobs]]:
    """Attaches to the group; settings are those of `Jobs`."""
    made: list[Jobs] = []

    def new(**settings: Any) -> Jobs:
        client = SyncClient(account_of(aws.session(), endpoints={"s3": aws.endpoint_url}), policy=HASTY)
        objects = JobObjects(client=client, bucket=shelf.bucket, prefix=PREFIX, group=GROUP, owner="")
        made.append(Jobs(objects, **{"begin_within_s": 60.0, **settings}))
        return made[-1]

    yield new
    for jobs in made:
        jobs.close()
