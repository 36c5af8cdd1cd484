"""The engine `R(..., engine="rpy2")`: a Python process that embeds R, instead of Rscript.

Called by: engines.py.   Calls: rscript (everything around the process is the same), finding; host.py is what it starts.
The process speaks as Rscript does, because both source start.R: the same isolation, errors, output, limits and ends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from cloudexec.errors import RMissing
from cloudexec.r.engines import Reply, Request
from cloudexec.r.rscript import finding
from cloudexec.r.rscript.engine import RscriptEngine

_HOST: Final = Path(__file__).with_name("host.py")


class Rpy2Engine:
    """One embedded R, which is started when it is needed, and again when it is gone. Not for two threads at once.

    isolation: "fork", "process" or "session". packages: attached when R starts. rscript: which R, see RscriptEngine.
    Errors: RMissing.
    """

    def __init__(self, *, isolation: str, packages: tuple[str, ...] = (), rscript: str = "") -> None:
        command = command_of(rscript or finding.rscript())
        self._engine = RscriptEngine(isolation=isolation, packages=packages, command=command)

    def run(self, request: Request) -> Reply:
        """Run it. Errors: RError and its kin, RConversionError, RMissing (no rpy2, or one that this R cannot load)."""
        return self._engine.run(request)

    def close(self) -> None:
        """End R and everything that it started."""
        self._engine.close()

    def forget(self) -> None:
        """R belongs to the process that we were forked from."""
        self._engine.forget()


def command_of(rscript: str) -> tuple[str, ...]:
    """What starts the process. R's front end runs Python, so that it finds R's libraries. Errors: RMissing."""
    beside = [os.path.join(os.path.dirname(path), "R") for path in (rscript, os.path.realpath(rscript))]
    front_end = next((path for path in beside if os.access(path, os.X_OK)), "")
    if not front_end:
        raise RMissing(f"there is no R beside {rscript}, which rpy2 could embed")
    if not sys.executable or getattr(sys, "frozen", False):
        raise RMissing("engine='rpy2' starts a Python, and there is none beside this program", remedy="use 'rscript'")
    # Isolated, without the user's settings of Python, and with our path: the same rpy2 as here, and no other module.
    options = ("-I", "-X", "utf8", "-W", "ignore")
    return (front_end, "CMD", sys.executable, *options, str(_HOST), os.pathsep.join(map(str, sys.path)))
