"""What `import cloudexec` may load and do. Who may import whom is the import contract in pyproject.toml."""

import subprocess
import sys

import pytest

HEAVY = ("asyncio", "boto3", "botocore", "cloudpickle", "numpy")


def printed_by(code: str) -> str:
    """What a fresh interpreter prints for `code`."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", HEAVY)
def test_import_cloudexec_does_not_load(module):
    assert printed_by(f"import cloudexec, sys; print({module!r} in sys.modules)") == "False"


@pytest.mark.parametrize("module", ["boto3", "botocore", "numpy"])
def test_naming_the_local_executor_does_not_load(module):
    code = f"import sys; from cloudexec import LocalExecutor; print({module!r} in sys.modules)"
    assert printed_by(code) == "False"


def test_import_cloudexec_starts_no_thread_and_no_child_process():
    code = """
import subprocess, threading
def refuse(*args, **kwargs): raise AssertionError("a child process was started")
subprocess.Popen.__init__ = refuse
import cloudexec
print(threading.active_count())
"""
    assert printed_by(code) == "1"


@pytest.mark.parametrize("name", ["LocalExecutor", "Future"])
def test_a_public_name_is_listed_and_loads_on_first_use(name):
    code = f"import cloudexec; print({name!r} in cloudexec.__all__, getattr(cloudexec, {name!r}).__name__)"
    assert printed_by(code) == f"True {name}"
