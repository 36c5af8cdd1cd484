"""Pieces of a slot in a child process, which they take over: captured descriptors, put-back state."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

SAY = """
import fcntl, json, os, sys
say_fd = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 200)
def say(value):
    os.write(say_fd, json.dumps(value).encode() + b"\\n")
"""


def said_by(script: str) -> list[Any]:
    """What a script handed to `say`, a value a line; its descriptors 1 and 2 are its own business."""
    code = SAY + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, timeout=50
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
