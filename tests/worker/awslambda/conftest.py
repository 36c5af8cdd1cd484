"""The handler in this process, its supervisors and slots as real processes, S3 behind real HTTP on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worker.agent.conftest import clients, moto_url  # noqa: F401 - fixtures
from tests.worker.awslambda.caller import Caller


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Caller]:
    """A run without a bucket, and an environment of its own."""
    made = Caller(tmp_path)
    yield made
    made.close()


@pytest.fixture
def caller_with_bucket(
    tmp_path: Path,
    moto_url: str,  # noqa: F811 - the fixture
    clients: dict[str, Any],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Caller]:
    """A run with a bucket. The handler and its slots find the way to it in their environment, as on Lambda."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    made = Caller(tmp_path, moto_url, clients["s3"])
    yield made
    made.close()
