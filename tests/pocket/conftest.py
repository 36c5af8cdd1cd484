"""One pocket AWS for all tests of this folder, emptied after each; its clocks for stopping and repeating run faster."""

import pytest

from cloudexec.testing import PocketAWS
from tests.pocket.driving import Driver
from tests.pocket.lambdas import Functions
from tests.pocket.stacks import Stacks


@pytest.fixture(scope="session")
def pocket_aws():
    with PocketAWS(
        stop_scale=0.05,  # a stopTimeout of 30 s becomes 1.5 s
        lambda_retry_scale=0.001,  # an event is tried again after 60 ms instead of 60 s
        lambda_concurrency=20,
        images={"of/lambda": ["python", "-m", "awslambdaric"]},
    ) as aws:
        yield aws


@pytest.fixture(scope="session")
def empty_aws():
    """An account with nothing in it, for stacks."""
    with PocketAWS(ready_made=False, stack_resource_s=0.002) as aws:
        yield aws


@pytest.fixture
def stacks(empty_aws):
    yield Stacks(empty_aws)
    empty_aws.reset()


@pytest.fixture
def drive(pocket):
    return Driver(pocket)


@pytest.fixture
def functions(pocket):
    return Functions(pocket)
