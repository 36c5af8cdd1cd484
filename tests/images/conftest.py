"""The worker images of this interpreter's version, built once a session, and what runs in them."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from cloudexec import ECSExecutor
from cloudexec.testing import PocketAWS

ROOT = pathlib.Path(__file__).parents[2]
CANNOT_BE_HAD = 69  # the scripts' exit status for "not on this machine"


def output_of(*command, **environment):
    """What a script of ours prints; skips, aloud, if it says that this machine cannot do it."""
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
    if done.returncode == CANNOT_BE_HAD:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def image():
    """Its name. Building takes ten seconds, and on a new machine forty."""
    return output_of("scripts/images.sh", "build", sys.executable).splitlines()[-1]


@pytest.fixture(scope="session")
def container_settings(image):
    """What podman's environment needs to see the image."""
    return dict(line.split("=", 1) for line in output_of("scripts/images.sh", "settings").splitlines())


@pytest.fixture
def podman(container_settings):
    """A function that runs podman and returns the finished process."""

    def run(*arguments, input=None, timeout_s=60):
        environment = os.environ | container_settings
        command = ["podman", *arguments]
        return subprocess.run(
            command, env=environment, input=input, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    return run


@pytest.fixture
def aws(container_settings, monkeypatch, tmp_path):
    """A pocket AWS whose tasks are containers of real images."""
    for name, value in container_settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with PocketAWS(containers="podman", stop_scale=0.5) as aws:
        aws.activate()
        yield aws
        aws.deactivate()


@pytest.fixture
def new_executor(aws, image):
    """A function that makes executors whose containers are of the image, or of another."""

    def new(**settings):
        setup = {name: value for name, value in aws.ecs_setup().items() if name != "task_definition"}
        roles = {name: f"arn:aws:iam::123456789012:role/{name}" for name in ("execution_role", "task_role")}
        tuning = {"tell_after_s": 0.05, "control_every_s": 0.5}
        return ECSExecutor(**{**setup, **roles, "image": image, "tuning": tuning, **settings})

    return new


@pytest.fixture
def in_image(podman, image):
    """A function that runs a command in the image, with the loopback of this machine, and returns what it printed."""

    def run(*command):
        done = podman("run", "--rm", "--network", "host", image, *command)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
