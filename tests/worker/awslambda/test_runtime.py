"""The handler behind AWS's own runtime client, against a Runtime API on loopback; and what importing it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.worker_start import HANDLER, RuntimeApi
from tests.contract import calls
from tests.worker.awslambda.caller import Caller

REPOSITORY = Path(__file__).parents[3]

LIST_MODULES = """
import json, sys
from cloudexec.worker.awslambda import handler
light = sorted(sys.modules)
from cloudexec.worker.awslambda.entry import ENVIRONMENT
class Context:
    aws_request_id, log_stream_name, invoked_function_arn, memory_limit_in_mb = "r", "s", "", "128"
    get_remaining_time_in_millis = staticmethod(lambda: 30000)
answer = handler(json.load(sys.stdin), Context())
ENVIRONMENT.close()
assert "report" in answer, answer
print(json.dumps([light, sorted(sys.modules)]))
"""


@pytest.fixture
def caller(tmp_path):
    """Packs calls and reads answers; the environment is another process."""
    made = Caller(tmp_path)
    yield made
    made.close()


@pytest.fixture
def runtime(tmp_path):
    """awslambdaric with our handler."""
    pytest.importorskip("awslambdaric")
    api = RuntimeApi()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | api.environment
    environment |= {"TMPDIR": os.fspath(tmp_path), "PYTHONPATH": os.fspath(REPOSITORY)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "awslambdaric", HANDLER], env=environment, stdout=log, stderr=log, cwd=REPOSITORY
        )
    api.wait_until_ready()
    yield api, process, tmp_path / "log"
    api.close()
    process.kill()
    process.wait()


def invoke(caller, api, *batch):
    return caller.report_in(json.loads(api.invoke(json.dumps(caller.event(*batch)).encode())))


def test_invocations_run_behind_the_genuine_runtime_client(caller, runtime):
    api, _, log = runtime
    first = invoke(caller, api, caller.call(os.getpid), caller.call(os.getenv, "_X_AMZN_TRACE_ID"))
    second = invoke(caller, api, caller.call(os.getpid), caller.call(os.getenv, "_X_AMZN_TRACE_ID"))
    (slot, trace), (again, other) = (list(caller.values(report).values()) for report in (first, second))
    assert slot == again
    assert (trace, other) == ("Root=1-1", "Root=1-2")
    assert 0 < float(first.facts["init_s"]) < 10
    assert first.facts["memory_mb"] == "1769"
    assert caller.key.hex() not in log.read_text()


def test_calls_cannot_ask_for_the_next_event(caller, runtime):
    api, *_ = runtime
    assert list(caller.values(invoke(caller, api, caller.call(os.getenv, "AWS_LAMBDA_RUNTIME_API"))).values()) == [None]


def test_a_runtime_that_is_killed_takes_its_slots_along(caller, runtime):
    api, process, _ = runtime
    slot = caller.value(invoke(caller, api, caller.call(os.getpid)).outcomes[0][1])
    process.kill()
    until_s = time.monotonic() + 10
    while os.path.exists(f"/proc/{slot}") and time.monotonic() < until_s:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{slot}")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Modules after the import, and after an invocation."""
    directory = tmp_path_factory.mktemp("light")
    made = Caller(directory)
    event = json.dumps(made.event(made.call(calls.double, 1)))
    found = subprocess.run(
        [sys.executable, "-c", LIST_MODULES],
        input=event.encode(),
        capture_output=True,
        check=True,
        env={"TMPDIR": os.fspath(directory), "PYTHONPATH": os.fspath(REPOSITORY)},
        cwd=REPOSITORY,
    )
    return json.loads(found.stdout)


def test_elsewhere_than_on_lambda_importing_the_package_starts_and_loads_nothing(loaded):
    assert not [name for name in loaded[0] if name.startswith("cloudexec.worker.") and "awslambda" not in name]
    assert "subprocess" not in loaded[0]


@pytest.mark.parametrize(
    "unwanted",
    ["boto3", "cloudpickle", "asyncio", "ssl", "http", "urllib", "email", "logging", "dataclasses", "inspect", "random"]
    + [
        "concurrent.futures",
        "cloudexec.engine",
        "cloudexec.ledger",
        "cloudexec.backends",
        "cloudexec.worker.supervisor",
    ]
    + ["cloudexec.transport.sync", "cloudexec.store.s3", "cloudexec.worker.awslambda.jobs"],
)
def test_an_environment_does_not_load(loaded, unwanted):
    assert "cloudexec.worker.awslambda.crew" in loaded[1]
    assert not [name for name in loaded[1] if name == unwanted or name.startswith(unwanted + ".")]
