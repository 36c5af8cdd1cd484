"""pytest fixtures of the pocket AWS; nothing is imported or started until a test asks for one.

Called by:  pytest, by the entry point `cloudexec`.   Calls: pocket.py.

  pocket_aws       one server for the whole session
  pocket           the same, with os.environ pointing at it during the test, and emptied after it
  ecs_settings     the keyword arguments of ECSExecutor for it
  lambda_settings  the keyword arguments of LambdaExecutor for it
  pocket_settings  override it to have a server with other settings, for the whole session; a folder that wants a
                   server of its own overrides pocket_aws in its conftest.py
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cloudexec.testing.pocket.pocket import PocketAWS


@pytest.fixture(scope="session")
def pocket_settings() -> dict[str, Any]:
    """Keyword arguments of PocketAWS; override this fixture to change them."""
    return {}


@pytest.fixture(scope="session")
def pocket_aws(pocket_settings: dict[str, Any]) -> Iterator[PocketAWS]:
    """A pocket AWS that serves all tests of the session."""
    from cloudexec.testing.pocket.pocket import PocketAWS

    with PocketAWS(**pocket_settings) as aws:
        yield aws


@pytest.fixture
def pocket(pocket_aws: PocketAWS) -> Iterator[PocketAWS]:
    """The session's pocket AWS, as fresh as at its start; os.environ points at it."""
    with pocket_aws.activated():
        yield pocket_aws
    pocket_aws.reset()


@pytest.fixture
def ecs_settings(pocket: PocketAWS) -> dict[str, Any]:
    """Keyword arguments of ECSExecutor for the pocket AWS."""
    return pocket.ecs_setup()


@pytest.fixture
def lambda_settings(pocket: PocketAWS) -> dict[str, Any]:
    """Keyword arguments of LambdaExecutor for the pocket AWS."""
    return pocket.lambda_setup()
