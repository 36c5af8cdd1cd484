"""A worker starts with little: what it loads is paid for by every container."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contract import calls

LIST_MODULES = """
import json, os, sys
from cloudexec.worker.agent.main import pull
code = pull()
with open(os.environ["MODULES"], "w") as file:
    json.dump(sorted(sys.modules), file)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def loaded(moto_url, clients, tmp_path_factory):
    """Modules in an agent that has done some work and ended."""
    from tests.worker.agent.customer import Customer

    directory = tmp_path_factory.mktemp("light")
    customer = Customer(moto_url, clients, directory)
    try:
        (number,) = customer.send(customer.call(calls.double, 1))
        listed = directory / "modules"
        worker = customer.start(idle_s=1.0, code=LIST_MODULES, env={"MODULES": str(listed)})
        assert customer.values(number) == [2]
        assert worker.ended() == 0
        return set(json.loads(listed.read_text()))
    finally:
        customer.close()


@pytest.mark.parametrize(
    "unwanted",
    [
        "boto3",
        "botocore",
        "cloudpickle",
        "asyncio",
        "ssl",  # plain HTTP here
        "http",
        "urllib",
        "email",
        "logging",
        "dataclasses",
        "inspect",
        "random",
        "concurrent.futures",
        "cloudexec.engine",
        "cloudexec.ledger",
        "cloudexec.backends",
        "cloudexec.executors",
        "cloudexec.worker.supervisor",
    ],
)
def test_an_agent_does_not_load(loaded, unwanted):
    assert "cloudexec.worker.agent.agent" in loaded
    assert not [name for name in loaded if name == unwanted or name.startswith(unwanted + ".")]


def test_an_agent_takes_little_memory(customer):
    worker = customer.start()
    (number,) = customer.send(customer.call(calls.double, 1))
    customer.values(number)
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    resident_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident_kib < 30 << 10
