"""How many connections a process may have: tried in processes of their own, because nobody can take it back."""

import subprocess
import sys

import pytest

pytest.importorskip("resource")

SCRIPT = """
import resource, sys
from cloudexec.transport.limits import raise_descriptor_limit
soft, hard, n = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(raise_descriptor_limit(n), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "asked", "possible", "soft_then"),
    [
        pytest.param(256, 2000, 1000, 1000, 1100, id="raised as far as needed"),
        pytest.param(256, 600, 1000, 500, 600, id="raised to the hard limit, which is too low"),
        pytest.param(1500, 2000, 1000, 1000, 1500, id="high enough: left alone"),
        pytest.param(80, 80, 1000, 0, 80, id="no room at all"),
    ],
)
def test_the_limit_is_raised(soft, hard, asked, possible, soft_then):
    arguments = [sys.executable, "-c", SCRIPT, *map(str, (soft, hard, asked))]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=30)
    assert [int(word) for word in done.stdout.split()] == [possible, soft_then, hard]
