"""Starts a supervisor's process, for whichever run comes.

Called by: __init__.py, before there is one; environment.py, for later ones.   Calls: worker.host.
"""

from __future__ import annotations

from typing import Final

from cloudexec.worker.awslambda.request import HIDDEN_VARIABLES
from cloudexec.worker.host.process import Launch

_STDOUT: Final = 1


def launch() -> Launch:
    """It imports what slots need, and may write the output of calls to the function's log, if its run wants that."""
    return Launch(hidden=HIDDEN_VARIABLES, with_bucket=True, log_fd=_STDOUT)
