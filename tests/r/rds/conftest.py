"""What the codec's tests share: an R to ask, and how values are compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudexec.r import rds
from tests.r.rds.rsession import RSession


class Exchange:
    """Values to R and back through one file."""

    def __init__(self, ask: RSession, path: Path) -> None:
        self.ask = ask
        self.path = path

    def assert_r_reads(self, data: bytes, expected: str) -> None:
        """R must find a stream `identical()` to what R makes of a source."""
        self.path.write_bytes(data)
        assert self.ask(f'same("{self.path}", {expected})') == "TRUE"

    def from_r(self, source: str) -> bytes:
        """What R writes of a value."""
        assert self.ask(f'write("{self.path}", {source})') == "TRUE"
        return self.path.read_bytes()

    def returned(self, value: object) -> object:
        """A value that R read and wrote again."""
        self.path.write_bytes(rds.dumps(value))
        return rds.loads(self.from_r(f'readRDS("{self.path}")'))


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    ask = RSession()
    yield Exchange(ask, tmp_path_factory.mktemp("rds") / "value.rds")
    ask.close()
