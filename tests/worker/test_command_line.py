"""`python -m cloudexec.worker`, and how little a worker loads."""

import subprocess
import sys

import pytest

from cloudexec import LocalExecutor


def run_worker(*arguments):
    command = [sys.executable, "-m", "cloudexec.worker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50)


def test_check_tells_that_it_is_ready_with_which_python():
    done = run_worker("--check")
    assert done.returncode == 0
    assert "ready" in done.stdout
    assert sys.version.split()[0] in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="nothing"),
        pytest.param(["--unknown"], id="an unknown option"),
        pytest.param(["--control-fd"], id="a missing number"),
    ],
)
def test_a_wrong_command_line_shows_the_usage(arguments):
    done = run_worker(*arguments)
    assert done.returncode == 2
    assert "usage: python -m cloudexec.worker" in done.stderr


@pytest.mark.parametrize(
    "unwanted",
    [
        "boto3",
        "botocore",
        "numpy",
        "asyncio",
        "concurrent.futures",
        "multiprocessing",
        "hypothesis",
        "cloudexec.engine",
        "cloudexec.ledger",
        "cloudexec.backends",
        "cloudexec.executors",
        "cloudexec.future",
    ],
)
def test_a_worker_does_not_load(slots_modules, unwanted):
    assert [name for name in slots_modules if name == unwanted or name.startswith(unwanted + ".")] == []


@pytest.fixture(scope="module")
def slots_modules():
    script = """
import sys
from cloudexec import LocalExecutor
def loaded():
    import sys
    return sorted(sys.modules)
if __name__ == "__main__":
    with LocalExecutor(1) as ex:
        print(*ex.submit(loaded).result())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=50)
    return done.stdout.split()


def test_a_worker_has_what_it_needs(slots_modules):
    assert {"cloudexec.worker.slot", "cloudexec.wire.lane", "pickle"} <= {*slots_modules}


def test_a_slot_is_not_the_main_module_of_the_client():
    with LocalExecutor(1) as ex:
        assert ex.submit(eval, "__import__('__main__').__dict__.get('__file__')").result() is None
