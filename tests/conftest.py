"""What holds for every test: how hypothesis searches, and which tests start containers.

HYPOTHESIS_PROFILE chooses; without it, `ci` where CI is set (same examples on every run) and `dev` elsewhere
(new examples on every run).
CONTAINER_TESTS=sample runs one in SAMPLE of those that start workers in the pocket AWS or need an emulated S3, always
the same ones: they take most of the time, and what they test hardly depends on the version of Python.
Tests marked `r` need R: without it they are skipped, with a line that says so, and in CI they fail.
"""

import os
import shutil
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings

# A slow machine is not a bug of the code under test; pytest-timeout ends what hangs.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, print_blob=True)

settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

SAMPLE = 10
CONTAINER_FOLDERS = (
    "tests/ecs/",
    "tests/examples/",
    "tests/pocket/",
    "tests/commands/test_on_ecs",
    "tests/worker/agent/",
    "tests/store/test_cached_store",
    "tests/store/test_s3_store",
)


def starts_containers(item: pytest.Item) -> bool:
    """Whether a test has workers started in the pocket AWS, or as if they were there."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    on_ecs = any(getattr(value, "name", "") == "ecs" for value in parameters.values())
    return on_ecs or item.nodeid.startswith(CONTAINER_FOLDERS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    containers = {item.nodeid for item in items if starts_containers(item)}
    for item in items:
        if item.nodeid in containers:
            item.add_marker("containers")
    if os.environ.get("CONTAINER_TESTS") == "sample":
        left_out = [item for item in items if item.nodeid in containers and crc32(item.nodeid.encode()) % SAMPLE]
        config.hook.pytest_deselected(items=left_out)
        dropped = set(map(id, left_out))
        items[:] = [item for item in items if id(item) not in dropped]


@pytest.fixture(autouse=True)
def with_r(request: pytest.FixtureRequest) -> None:
    """R is there, for a test that needs it."""
    if request.node.get_closest_marker("r") is not None and not shutil.which("Rscript"):
        why = "there is no Rscript: scripts/r.sh installs R on Debian"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)


NO_ACCOUNT_FOLDERS = ("tests/transport/", "tests/backends/", "tests/store/", "tests/serialization/")


@pytest.fixture(autouse=True)
def no_account_by_accident(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier test of this process may have put the pocket AWS into the environment, for all that come later."""
    if request.node.nodeid.startswith(NO_ACCOUNT_FOLDERS):
        for name in [name for name in os.environ if name.startswith(("AWS_", "CLOUDEXEC_"))]:
            monkeypatch.delenv(name)
