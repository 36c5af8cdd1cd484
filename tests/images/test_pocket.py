"""The pocket AWS with `containers="podman"`: RunTask starts real images."""

from __future__ import annotations

import pytest

from cloudexec.testing import PocketAWS
from tests.pocket.driving import Driver

pytestmark = [pytest.mark.images, pytest.mark.timeout(240)]  # the first test builds, perhaps from nothing

READY = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *a: sys.exit(7))
print('ready')
signal.pause()
"""


@pytest.fixture
def drive(container_settings, monkeypatch):
    """A driver of a pocket AWS that runs images; podman finds them by these variables."""
    for name, value in container_settings.items():
        monkeypatch.setenv(name, value)
    with PocketAWS(containers="podman") as aws:
        yield Driver(aws)


@pytest.fixture
def definition(drive, image):
    """A task definition of the worker image."""
    role = "arn:aws:iam::123456789012:role/cloudexec-task"
    return drive.register({"name": "worker", "image": image, "entryPoint": ["python"]}, taskRoleArn=role)


def test_a_task_of_a_real_image_runs_and_reaches_aws_with_its_own_credentials(drive, definition):
    code = "import boto3; print(boto3.client('s3').list_buckets()['Buckets'][0]['Name'])"
    arn = drive.run("-c", code, taskDefinition=definition)
    task = drive.until(arn, "STOPPED", within_s=40)
    assert drive.aws.task(arn).log.strip() == drive.setup["bucket"]
    assert task["containers"][0]["exitCode"] == 0


def test_stop_task_of_a_real_image_is_a_sigterm(drive, definition, podman):
    arn = drive.run("-c", READY, taskDefinition=definition)
    drive.until_logged(arn, "ready", within_s=40)
    drive.stop(arn)
    assert drive.until(arn, "STOPPED", within_s=40)["containers"][0]["exitCode"] == 7
    assert podman("ps", "--all", "--quiet", "--filter", "name=pocket-").stdout == ""


def test_no_container_is_left_when_the_pocket_ends(drive, definition, podman):
    arn = drive.run("-c", READY, taskDefinition=definition)
    drive.until_logged(arn, "ready", within_s=40)
    drive.aws.close()
    assert podman("ps", "--all", "--quiet", "--filter", "name=pocket-").stdout == ""
