"""The pocket AWS with `containers="podman"`: Invoke starts real images, whose runtime reaches the Runtime API."""

from __future__ import annotations

import pytest

from cloudexec.testing import PocketAWS
from tests.pocket.lambdas import Functions

pytestmark = [pytest.mark.images, pytest.mark.timeout(240)]  # the first test builds, perhaps from nothing

# The image need not hold awslambdaric: any program that speaks with the Runtime API is a runtime.
RUNTIME = """
import json, os, time, urllib.request
base = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with urllib.request.urlopen(base + "next") as reply:
        request_id, event = reply.headers["Lambda-Runtime-Aws-Request-Id"], json.load(reply)
    if "exit" in event:
        print("leaving", flush=True)
        os._exit(event["exit"])
    time.sleep(event.get("s", 0))
    if "mib" in event:
        held = bytearray(event["mib"] << 20)
    body = json.dumps([os.path.isdir("/var"), os.environ["A"], os.getcwd(), os.getpid()]).encode()
    urllib.request.urlopen(urllib.request.Request(base + request_id + "/response", body)).close()
"""


@pytest.fixture
def functions(container_settings, monkeypatch):
    """Functions in a pocket AWS that runs images; podman finds them by these variables."""
    for name, value in container_settings.items():
        monkeypatch.setenv(name, value)
    with PocketAWS(containers="podman") as aws:
        yield Functions(aws)


@pytest.fixture
def function(functions, image):
    """A function of the worker image, with the small runtime."""
    config = {"EntryPoint": ["python"], "Command": ["-c", RUNTIME], "WorkingDirectory": "/var"}
    functions.aws.make_function("f", image=image, ImageConfig=config, env={"A": "a"}, memory=256, timeout=5)
    return functions


def test_a_function_of_a_real_image_runs_and_stays_warm(function):
    assert function.invoke().payload == [True, "a", "/var", 1]
    assert function.invoke(s=0.1).error is None
    assert function.counts().cold_starts == 1


def test_a_real_image_that_ends_or_grows_too_large(function, podman):
    told = function.invoke(exit=3)
    assert told.message.endswith("Runtime exited with error: exit status 3")
    assert "leaving" in told.log
    assert function.invoke(mib=900).kind == "Runtime.ExitError"
    assert podman("ps", "--all", "--quiet", "--filter", "name=pocket-").stdout == ""


def test_a_real_image_that_takes_too_long_is_removed(function, podman):
    assert function.invoke(s=60).kind == "Sandbox.Timedout"
    assert podman("ps", "--all", "--quiet", "--filter", "name=pocket-").stdout == ""


def test_no_container_of_a_function_is_left_when_the_pocket_ends(function, podman):
    function.invoke()
    function.aws.close()
    assert podman("ps", "--all", "--quiet", "--filter", "name=pocket-").stdout == ""
