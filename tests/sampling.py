"""Which tests the oldest Python runs of those that take long and hardly depend on the version of Python.

Called by: conftest.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final
from zlib import crc32

ONE_IN: Final = 20


def sample_of(tests: Iterable[tuple[str, str]], one_in: int = ONE_IN) -> set[str]:
    """The node ids to run of (node id, kind of executor): of each file and kind one in so many, and one at least.

    The ids' hashes choose: the same ones each time, on every machine, and a new test displaces one at most.
    """
    groups = defaultdict(list)
    for nodeid, kind in tests:
        groups[nodeid.partition("::")[0], kind].append(nodeid)
    return {
        nodeid
        for group in groups.values()
        for nodeid in sorted(group, key=lambda nodeid: crc32(nodeid.encode()))[: -(-len(group) // one_in)]
    }
