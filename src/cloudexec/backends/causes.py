"""What the end of a slot means for the call that ran in it.

Called by: local/backend.py, pull/news.py.
"""

from __future__ import annotations

from typing import Final

from cloudexec.ledger.calls import Cause
from cloudexec.wire.control import DownCause

CAUSES: Final = {
    DownCause.TIMEOUT: Cause.TIMEOUT,
    DownCause.OUT_OF_MEMORY: Cause.OOM,
    DownCause.FROZEN: Cause.LOST,
    DownCause.LOST: Cause.LOST,
    DownCause.STOPPED: Cause.CRASH,
    DownCause.DIED: Cause.CRASH,
    DownCause.RETIRED: Cause.CRASH,
}
