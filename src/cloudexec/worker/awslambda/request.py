"""What awslambdaric tells of one invocation.

Called by: entry.py, which reads it; everybody here, who is given it. It imports little, for __init__.py.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final, NamedTuple

TRACE_VARIABLE: Final = "_X_AMZN_TRACE_ID"
HIDDEN_VARIABLES: Final = ("AWS_LAMBDA_RUNTIME_API",)  # whoever asks it for the next event reads the next run's key


class Request(NamedTuple):
    """One invocation. until_s: when Lambda ends it, on the monotonic clock. trace: what Lambda counts recursion by."""

    id: str
    until_s: float
    log_stream: str
    arn: str
    memory_mb: str
    trace: str

    def end_s(self, margin_s: float) -> float:
        """When calls must end, so that an answer can still be given. At least half of the time is theirs."""
        left_s = max(0.0, self.until_s - time.monotonic())
        return self.until_s - min(margin_s, left_s / 2)


def read_context(context: Any) -> Request:
    """The invocation that `context` belongs to."""
    return Request(
        id=str(context.aws_request_id),
        until_s=time.monotonic() + context.get_remaining_time_in_millis() / 1000,
        log_stream=str(context.log_stream_name or ""),
        arn=str(context.invoked_function_arn or ""),
        memory_mb=str(context.memory_limit_in_mb or ""),
        trace=os.environ.get(TRACE_VARIABLE, ""),
    )
