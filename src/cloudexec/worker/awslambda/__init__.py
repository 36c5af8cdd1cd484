"""The worker's entry on AWS Lambda: `cloudexec.worker.awslambda.handler` (docs/decisions/0007).

Called by: awslambdaric, which names it as the function's handler.   Calls: worker.agent's slots, wire.invocation.

    Invoke ---> handler --> entry --> environment --> crew --> slots (those of every worker)
    answer <--- report  <-- tally <-------------------- facts

Files:      entry.py        what the event asks for; the answer
            environment.py  what one environment keeps from one invocation to the next
            crew.py         the slots of one run: one batch at a time, until its end or the function's
            tally.py        pure: what became of each call of a batch
            watch.py        the client's orders, looked at while calls run long
            early.py        what a batch tells before its end
            claims.py       one object that says who does something, and that he lives
            events.py       Event invocations
            jobs.py         jobs that lie in a bucket; jobcall.py runs in their slot
            caches.py       directories for blobs, and what ended runs left there
            ahead.py        starts a supervisor's process
Starts:     on Lambda, importing this package starts a supervisor's process: it imports what slots need while the
            runtime is on its way to the first event.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["handler"]


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """One invocation. `event` and `context` as awslambdaric gives them; the result becomes the answer's JSON."""
    from cloudexec.worker.awslambda.entry import handle

    return handle(event, context)


if "AWS_LAMBDA_RUNTIME_API" in os.environ:
    from cloudexec.worker.awslambda.ahead import launch

    _ahead = launch()  # it imports while we do, where there are two CPUs

    from cloudexec.worker.awslambda import entry  # noqa: F401 - the first event shall not wait for it
    from cloudexec.worker.awslambda.environment import ENVIRONMENT

    ENVIRONMENT.take_over(_ahead)
