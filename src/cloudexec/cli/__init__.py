"""The command line: `cloudexec up`, `doctor`, `runs`, …

Called by: the `cloudexec` program, `python -m cloudexec.cli`.   Calls: main.py, if what it needs is installed.
Click, rich, tomlkit and PyYAML are an extra: the library works without them.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Final

_NEEDED: Final = {"click": "click", "rich": "rich", "tomlkit": "tomlkit", "yaml": "pyyaml"}


def main() -> int:
    """Run the program with the words of this process; its exit code."""
    missing = [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        print(
            f"cloudexec: the command line needs {', '.join(missing)}: pip install 'cloudexec[cli]'",
            file=sys.stderr,
        )
        return 2
    from cloudexec.cli.main import run

    return run(sys.argv[1:])
