"""A build in the account, over real HTTP: what is uploaded, started, followed, told and removed."""

from __future__ import annotations

import io
import zipfile

import pytest

from cloudexec.errors import AccessDenied, AwsError, CloudexecError, SettingsError
from cloudexec.infra.images import registry, remote
from cloudexec.infra.images.buildspec import Job
from cloudexec.infra.images.context import Context
from tests.infra.images.accounts import ACCOUNT_ID, OUTPUTS, Account, place_in

CONTEXT = Context({"Dockerfile": b"FROM scratch\n"})
IMAGE = OUTPUTS["Repository"] + ":0123"
LOGS = {"groupName": "g", "streamName": "s"}
EXPORTED = [{"name": "CLOUDEXEC_IMAGE", "value": IMAGE}]


@pytest.fixture
def account():
    return Account()


@pytest.fixture
def build(account):
    """A function that builds in the account; the image's name. What was told is in `build.told`."""

    def build():
        with place_in(account) as place:
            key = remote.upload(place, "bucket", CONTEXT)
            uploaded.update(account.objects)
            job = Job(project="cloudexec", bucket="bucket", key=key, repository=OUTPUTS["Repository"])
            return remote.build_remotely(place, job, build.told.append, every_s=0)

    build.told = []
    build.uploaded = uploaded = {}
    return build


def phase(name, status="SUCCEEDED", **more):
    return {"phaseType": name, "phaseStatus": status, **more}


def test_a_build_that_succeeds_names_its_image_and_leaves_nothing_in_the_bucket(account, build):
    account.looks = [
        {"phases": [phase("SUBMITTED", durationInSeconds=0), {"phaseType": "BUILD"}]},
        {"phases": [phase("SUBMITTED", durationInSeconds=0), phase("BUILD", durationInSeconds=31)]},
        {"buildStatus": "SUCCEEDED", "exportedEnvironmentVariables": EXPORTED},
    ]
    assert build() == IMAGE
    assert build.told == ["CodeBuild: cloudexec:1", "submitted: succeeded after 0 s", "build: succeeded after 31 s"]
    ((path, data),) = build.uploaded.items()
    assert path == f"/bucket/builds/{CONTEXT.sha256}.zip"
    with zipfile.ZipFile(io.BytesIO(data.split(b"\r\n", 1)[1] if data[:2] != b"PK" else data)) as archive:
        assert archive.read("Dockerfile") == b"FROM scratch\n"
    (started,) = account.of("StartBuild")
    assert started["sourceLocationOverride"] == f"bucket/builds/{CONTEXT.sha256}.zip"
    assert account.objects == {}
    assert account.of("StopBuild") == []
    owners = {request["Owner"] for request in account.of("PutObject") + account.of("DeleteObject")}
    assert owners == {ACCOUNT_ID}


def test_lines_of_the_log_are_told_once_as_they_come(account, build):
    account.looks = [
        {},
        {"logs": LOGS},
        {"logs": LOGS},
        {"logs": LOGS, "buildStatus": "SUCCEEDED", "exportedEnvironmentVariables": EXPORTED},
    ]
    account.log = [["one\n", "two"], [], ["three"], [], ["four"], []]
    build()
    assert build.told[1:] == ["  one", "  two", "  three", "  four"]
    tokens = [request.get("nextToken") for request in account.of("GetLogEvents")]
    assert tokens == [None, "f/1", "f/1", "f/2", "f/2", "f/3"]


def test_a_page_of_the_log_without_lines_is_not_its_end(account, build):
    account.looks = [{"logs": LOGS, "buildStatus": "SUCCEEDED", "exportedEnvironmentVariables": EXPORTED}]
    account.log = [None, ["late"]]
    build()
    assert build.told[1:] == ["  late"]


def test_a_build_that_fails_tells_phase_reason_and_log(account, build):
    contexts = [{"statusCode": "COMMAND_EXECUTION_ERROR", "message": "docker build: exit status 1"}]
    account.looks = [{"buildStatus": "FAILED", "logs": LOGS, "phases": [phase("BUILD", "FAILED", contexts=contexts)]}]
    account.log = [["no such package"], []]
    with pytest.raises(CloudexecError) as caught:
        build()
    assert caught.value.what == "build cloudexec:1 ended as FAILED: BUILD: docker build: exit status 1"
    assert "(g s)" in caught.value.remedy
    assert "  no such package" in build.told
    assert account.objects == {}


def test_whoever_may_not_read_the_log_is_told_so_once_and_builds_on(account, build):
    account.looks = [{"logs": LOGS}] * 3 + [{"buildStatus": "SUCCEEDED", "exportedEnvironmentVariables": EXPORTED}]
    account.refused["GetLogEvents"] = (400, "AccessDeniedException")
    assert build() == IMAGE
    assert len([line for line in build.told if "cannot be read" in line]) == 1


def test_a_log_that_does_not_exist_yet_is_waited_for(account, build):
    account.looks = [{"logs": LOGS}, {"buildStatus": "SUCCEEDED", "exportedEnvironmentVariables": EXPORTED}]
    account.refused["GetLogEvents"] = (400, "ResourceNotFoundException")
    assert build() == IMAGE


def test_ctrl_c_stops_the_build_and_removes_what_was_uploaded(account):
    class Interrupting(list):
        def append(self, line):
            if line.startswith("submitted"):
                raise KeyboardInterrupt

    account.looks = [{"phases": [phase("SUBMITTED")]}]
    job = Job(project="cloudexec", bucket="bucket", key="builds/1.zip", repository=OUTPUTS["Repository"])
    with place_in(account) as place, pytest.raises(KeyboardInterrupt):
        remote.build_remotely(place, job, Interrupting().append, every_s=0)
    assert account.of("StopBuild") == [{"id": "cloudexec:1"}]
    assert len(account.of("DeleteObject")) == 1


def test_whoever_may_not_build_is_told_so_and_leaves_nothing_in_the_bucket(account, build):
    account.refused["StartBuild"] = (400, "AccessDeniedException")
    with pytest.raises(AccessDenied, match="start_build"):
        build()
    assert len(build.uploaded) == 1
    assert account.objects == {}
    assert account.of("StopBuild") == []


def test_a_build_that_succeeds_without_an_image_is_no_success(account, build):
    with pytest.raises(CloudexecError, match="named no image"):
        build()


# --- the repository ------------------------------------------------------------------------------


def test_the_size_of_an_image_in_the_repository(account):
    account.images["0123"] = 92_000_000
    with place_in(account) as place:
        assert registry.compressed_size_of(place, OUTPUTS["Repository"], "0123") == 92_000_000
        assert registry.compressed_size_of(place, OUTPUTS["Repository"], "4567") is None


def test_a_repository_that_somebody_has_removed(account):
    account.refused["DescribeImages"] = (400, "RepositoryNotFoundException")
    with place_in(account) as place, pytest.raises(SettingsError, match="run `cloudexec up` to have it again"):
        registry.compressed_size_of(place, OUTPUTS["Repository"], "0123")


def test_the_outputs_of_the_stack_are_asked_for(account):
    with place_in(account) as place:
        assert registry.repository_of(registry.outputs_of(place)) == OUTPUTS["Repository"]
        del account.outputs["Repository"]
        with pytest.raises(SettingsError, match="stack 'cloudexec' has no Repository"):
            registry.repository_of(registry.outputs_of(place))


def test_only_a_stack_that_is_not_there_is_one_that_up_makes(account):
    with place_in(account) as place:
        account.refused["DescribeStacks"] = (400, "ValidationError", "Stack with id cloudexec does not exist")
        with pytest.raises(SettingsError, match=r"there is no stack 'cloudexec' in eu-west-1.*run `cloudexec up`"):
            registry.outputs_of(place)
        account.refused["DescribeStacks"] = (400, "ValidationError", "1 validation error detected: stackName")
        with pytest.raises(AwsError, match="1 validation error detected"):
            registry.outputs_of(place)
