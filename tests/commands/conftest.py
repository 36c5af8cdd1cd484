"""One pocket AWS for all tests of this folder, emptied after each; its clock for stopping runs 20 times faster."""

import pytest

from cloudexec.testing import PocketAWS
from tests.commands.driving import Driver


@pytest.fixture(scope="session")
def pocket_aws():
    with PocketAWS(stop_scale=0.05, images={"model": ["python", "-c"]}) as aws:  # a stopTimeout of 30 s becomes 1.5 s
        yield aws


@pytest.fixture
def drive(pocket):
    return Driver(pocket)
