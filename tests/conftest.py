"""What holds for every test: how hypothesis searches, and which tests start containers.

HYPOTHESIS_PROFILE chooses; without it, `ci` where CI is set (same examples on every run) and `dev` elsewhere
(new examples on every run).
CONTAINER_TESTS=sample runs a part (sampling.py) of those that start workers in the pocket AWS or need an emulated S3,
and of those in SAME_EVERYWHERE: they take most of the time, and what they test hardly depends on the version of Python.
Tests marked `r` need R: without it they are skipped, with a line that says so, and in CI they fail.
"""

import os
import shutil
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings

from tests.sampling import sample_of
from tests.specs.executors import ExecutorKind

# A slow machine is not a bug of the code under test; pytest-timeout ends what hangs.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, print_blob=True)

settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

CONTAINER_FOLDERS = (
    "tests/awslambda/",
    "tests/cli/test_doctor",
    "tests/commands/test_on_ecs",
    "tests/docs/test_lambda_page",
    "tests/ecs/",
    "tests/examples/",
    "tests/infra/bundle/test_boot",
    "tests/infra/doctor/test_in_the_pocket",
    "tests/infra/stack/test_down",
    "tests/infra/stack/test_in_the_stack",
    "tests/infra/stack/test_refusals",
    "tests/infra/stack/test_up",
    "tests/jobs/test_client",
    "tests/jobs/test_end_to_end",
    "tests/pocket/",
    "tests/store/test_cached_store",
    "tests/store/test_s3_store",
    "tests/worker/agent/",
    "tests/worker/awslambda/",
)
IN_CONTAINERS = ("ecs", "lambda")  # kinds of executors, in tests/specs/executors.py
SAME_EVERYWHERE = ("tests/simulation/", "tests/benchmarks/", "tests/r/engine/", "tests/r/foreach/", "tests/r/rpy2/")


def kind_of(item: pytest.Item) -> str:
    """The kind of executor that a test runs over; empty if that is no question."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return next((kind.name for kind in parameters.values() if isinstance(kind, ExecutorKind)), "")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    long = []
    for item in items:
        kind = kind_of(item)
        if kind in IN_CONTAINERS or item.nodeid.startswith(CONTAINER_FOLDERS):
            item.add_marker("containers")
            long.append((item.nodeid, kind))
        elif item.nodeid.startswith(SAME_EVERYWHERE):
            long.append((item.nodeid, kind))
    if os.environ.get("CONTAINER_TESTS") == "sample":
        left_out = {nodeid for nodeid, _ in long} - sample_of(long)
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
        items[:] = [item for item in items if item.nodeid not in left_out]


@pytest.fixture(autouse=True)
def with_r(request: pytest.FixtureRequest) -> None:
    """R is there, for a test that needs it; rpy2 too, for one that is marked `r("rpy2")`."""
    marks = list(request.node.iter_markers("r"))
    if marks and not shutil.which("Rscript"):
        why = "there is no Rscript: scripts/r.sh installs R on Debian"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    if any("rpy2" in mark.args for mark in marks) and find_spec("rpy2") is None:
        why = "there is no rpy2 in this environment: scripts/r.sh rpy2 ENVIRONMENT installs it"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)


# Programs of these tests ask the pocket AWS for anything, in everybody's name: it says nothing of what cloudexec asks.
NOT_RECORDED_FOLDERS = ("tests/pocket/", "tests/benchmarks/", "tests/images/test_pocket")
RECORD_TO = os.environ.get("CLOUDEXEC_POCKET_RECORD")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Servers that start for this test write down who asks them what, if scripts/test.sh wants it."""
    if RECORD_TO and item.nodeid.startswith(NOT_RECORDED_FOLDERS):
        os.environ.pop("CLOUDEXEC_POCKET_RECORD", None)
    elif RECORD_TO:
        os.environ["CLOUDEXEC_POCKET_RECORD"] = RECORD_TO


NO_ACCOUNT_FOLDERS = ("tests/transport/", "tests/backends/", "tests/store/", "tests/serialization/")


@pytest.fixture(autouse=True)
def no_account_by_accident(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier test of this process may have put the pocket AWS into the environment, for all that come later."""
    if request.node.nodeid.startswith(NO_ACCOUNT_FOLDERS):
        for name in [name for name in os.environ if name.startswith(("AWS_", "CLOUDEXEC_"))]:
            monkeypatch.delenv(name)
