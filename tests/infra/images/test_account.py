"""Requests to ECR and CodeBuild, compared with botocore's models; and what is read of their replies."""

from __future__ import annotations

import base64
import json

import pytest

from cloudexec.errors import CloudexecError, SettingsError
from cloudexec.infra.images import buildspec as specs
from cloudexec.infra.images import registry
from tests.backends.ecs.models import complaints, enumerated

JOB = specs.Job(
    project="cloudexec",
    bucket="b",
    key="builds/1.zip",
    repository="123456789012.dkr.ecr.eu-west-1.amazonaws.com/cloudexec",
    build_args=("A=b c",),
)

# --- requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_start_build_is_as_codebuild_takes_it(arch):
    request = specs.start_build_request(specs.Job(**{**JOB_FIELDS, "arch": arch}))
    assert complaints("codebuild", "start_build", request) == ""
    assert request["environmentTypeOverride"] in enumerated("codebuild", "start_build", "environmentTypeOverride")
    assert request["sourceTypeOverride"] in enumerated("codebuild", "start_build", "sourceTypeOverride")
    assert request["sourceLocationOverride"] == "b/builds/1.zip"


JOB_FIELDS = {name: getattr(JOB, name) for name in ("project", "bucket", "key", "repository", "build_args")}


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        pytest.param(
            JOB.repository, {"registryId": "123456789012", "repositoryName": "cloudexec"}, id="an account's registry"
        ),
        pytest.param("127.0.0.1:5000/a/b", {"repositoryName": "a/b"}, id="another registry"),
    ],
)
def test_describe_images_is_as_ecr_takes_it(repository, expected):
    request = registry.describe_images_request(repository, "abc")
    assert complaints("ecr", "describe_images", request) == ""
    assert request == {**expected, "imageIds": [{"imageTag": "abc"}]}


def test_the_buildspec_has_the_members_that_codebuild_knows():
    spec = json.loads(specs.buildspec())
    assert set(spec) == {"version", "env", "phases"}
    assert spec["version"] == 0.2
    assert spec["env"]["exported-variables"] == ["CLOUDEXEC_IMAGE"]
    assert list(spec["phases"]) == ["pre_build", "build", "post_build"]
    assert {phase["on-failure"] for phase in spec["phases"].values()} == {"ABORT"}


def test_build_arguments_are_one_word_each_for_the_shell():
    (build,) = [
        one for one in specs.commands_of(specs.buildspec(["A=b c", "X=$(x)"])) if one.startswith("docker build")
    ]
    assert "--build-arg 'A=b c' --build-arg 'X=$(x)' ." in build


# --- replies -------------------------------------------------------------------------------------


def test_the_outputs_of_a_stack():
    outputs = registry.Outputs({"Repository": "uri"}, "mine")
    assert registry.repository_of(outputs) == "uri"
    with pytest.raises(SettingsError, match=r"stack 'mine' has no Bucket, which .* Remedy: run `cloudexec up`"):
        outputs.need("Bucket", "is used")


def test_the_password_in_ecrs_token():
    token = base64.b64encode(b"AWS:pass:word").decode()
    assert registry.read_password({"authorizationData": [{"authorizationToken": token}]}) == "pass:word"


@pytest.mark.parametrize("token", ["", "!", base64.b64encode(b"AWS").decode(), base64.b64encode(b"\xff:").decode()])
def test_a_token_that_is_none(token):
    with pytest.raises(CloudexecError, match="no user and password"):
        registry.read_password({"authorizationData": [{"authorizationToken": token}]})


def test_a_tag_is_the_begin_of_the_images_id():
    assert registry.tag_of("0123456789abcdef" * 4) == "0123456789abcdef"


BUILD = {
    "id": "cloudexec:1",
    "buildStatus": "FAILED",
    "logs": {"groupName": "g", "streamName": "s"},
    "phases": [
        {
            "phaseType": "PROVISIONING",
            "phaseStatus": "SUCCEEDED",
            "durationInSeconds": 9,
            "contexts": [{"message": ""}],
        },
        {"phaseType": "BUILD", "phaseStatus": "FAILED", "contexts": [{"statusCode": "X", "message": "exit status 1"}]},
        {"phaseType": "COMPLETED"},
    ],
}


def test_a_build_that_failed_says_in_which_phase_and_why():
    progress = specs.read_builds({"builds": [BUILD]}, "cloudexec:1")
    assert progress.is_over
    assert progress.trouble == "BUILD: exit status 1"
    assert (progress.log_group, progress.log_stream) == ("g", "s")
    assert [phase.duration_s for phase in progress.phases] == [9, None, None]


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "FAULT", "TIMED_OUT", "IN_PROGRESS", "STOPPED"])
def test_only_a_build_in_progress_goes_on(status):
    assert specs.read_progress({"id": "1", "buildStatus": status}).is_over is (status != "IN_PROGRESS")


def test_what_a_build_has_pushed_is_among_its_exported_variables():
    exported = [{"name": "OTHER", "value": "x"}, {"name": "CLOUDEXEC_IMAGE", "value": "uri:tag"}]
    build = {"id": "1", "exportedEnvironmentVariables": exported}
    assert specs.read_progress(build).image == "uri:tag"


def test_a_build_that_codebuild_does_not_know():
    with pytest.raises(SettingsError, match="does not know the build cloudexec:1"):
        specs.read_builds({"builds": [], "buildsNotFound": ["cloudexec:1"]}, "cloudexec:1")
