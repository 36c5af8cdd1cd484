"""A build in the account, as the pocket AWS has it: its CodeBuild knows projects, and builds nothing.

What is asked here as `setup` is compared with the rights of set-up (scripts/permissions.py).
"""

from __future__ import annotations

import pytest

from cloudexec.backends.clients import Clients
from cloudexec.errors import AwsError, CloudexecError
from cloudexec.infra.images import registry, remote
from cloudexec.infra.images.buildspec import Job, Progress
from cloudexec.infra.images.context import Context
from cloudexec.infra.place import Place
from tests.specs.executors import pocket

CONTEXT = Context({"Dockerfile": b"FROM scratch\n"})
NAME = "images-in-the-pocket"


@pytest.fixture(scope="module")
def aws():
    return pocket()


@pytest.fixture(scope="module")
def place(aws):
    """Where set-up acts; a project and a repository are there."""
    session = aws.session("tester")
    codebuild, ecr = session.client("codebuild"), session.client("ecr")
    codebuild.create_project(
        name=NAME,
        source={"type": "NO_SOURCE", "buildspec": "version: 0.2"},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={"type": "LINUX_CONTAINER", "image": "i", "computeType": "BUILD_GENERAL1_SMALL"},
        serviceRole="arn:aws:iam::123456789012:role/build",
    )
    ecr.create_repository(repositoryName=NAME)
    clients = Clients(session=aws.session("setup"))
    yield Place(clients)
    clients.close()
    codebuild.delete_project(name=NAME)
    ecr.delete_repository(repositoryName=NAME)
    codebuild.close()
    ecr.close()


@pytest.fixture
def job(aws, place):
    """One whose context has been uploaded; the pocket is shared, so that nothing of it may stay."""
    bucket = aws.ecs_setup()["bucket"]
    repository = f"{place.account_id}.dkr.ecr.{place.region}.amazonaws.com/{NAME}"
    key = remote.upload(place, bucket, CONTEXT)
    yield Job(project=NAME, bucket=bucket, key=key, repository=repository)
    place.ask("s3", "delete_object", {"Bucket": bucket, "Key": key, "ExpectedBucketOwner": place.account_id})


def test_what_is_uploaded_is_a_zip_by_its_content_and_is_gone_when_the_build_is_over(aws, place, job):
    assert job.key == f"builds/{CONTEXT.sha256}.zip"
    assert job.key in aws.objects()
    with pytest.raises(CloudexecError, match="succeeded and named no image"):
        remote.build_remotely(place, job, lambda line: None, every_s=0)
    assert job.key not in aws.objects()


def test_a_build_that_is_interrupted_is_stopped(aws, place, job):
    def interrupted(line):
        if not line.startswith("CodeBuild"):
            raise KeyboardInterrupt

    before = aws.requests().get(("codebuild", "StopBuild"), 0)
    with pytest.raises(KeyboardInterrupt):
        remote.build_remotely(place, job, interrupted, every_s=0)
    assert aws.requests()["codebuild", "StopBuild"] == before + 1


def test_a_log_that_is_not_there_yet_has_no_lines(place):
    told = []
    remote.BuildLog(place, told.append).read_on(
        Progress(id="1", status="IN_PROGRESS", log_group="none", log_stream="none")
    )
    assert told == []


def test_a_bucket_of_somebody_elses_gets_nothing(place):
    with pytest.raises(AwsError):
        remote.upload(place, "somebody-elses-bucket", CONTEXT)


def test_the_registry_gives_a_password_and_has_no_such_image(place, job):
    assert registry.password_of(place)
    assert registry.compressed_size_of(place, job.repository, "0123") is None
