"""One pocket AWS for all tests of this folder, emptied after each; its clock for stopping runs 20 times faster."""

import pytest

from tests.commands.driving import Driver


@pytest.fixture(scope="session")
def pocket_settings():
    return {"stop_scale": 0.05, "images": {"model": ["python", "-c"]}}  # a stopTimeout of 30 s becomes 1.5 s


@pytest.fixture
def drive(pocket):
    return Driver(pocket)
