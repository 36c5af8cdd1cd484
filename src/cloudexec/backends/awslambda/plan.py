"""What a run on Lambda is made of, and what its parts share once it is open. No I/O happens here.

Called by:  the executor, which makes the plan; every file beside this one.   Calls: transport.lambdas.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from cloudexec.backends.awslambda.discovery import FunctionFacts
from cloudexec.backends.protocol import Event
from cloudexec.backends.pull.home import Home
from cloudexec.backends.pull.loop import EngineLoop
from cloudexec.errors import CloudexecError, SettingsError
from cloudexec.transport import lambdas
from cloudexec.transport.account import AwaitedClient
from cloudexec.transport.lambdas import Invocation
from cloudexec.transport.operation import Operation
from cloudexec.wire.envelope import Seal
from cloudexec.wire.invocation import EventHead, InvocationSettings

READ_MARGIN_S: Final = 30.0  # answers may take so much longer than the function's timeout


class BlobStore(Protocol):
    """Where arguments were put and results come from."""

    def get(self, name: str) -> memoryview:
        """See store.protocol.Store."""
        ...

    def is_done(self, name: str) -> bool:
        """Whether nothing of a blob is on its way."""
        ...

    def wait(self, names: list[str]) -> None:
        """Until these blobs lie in the store. Errors: what their upload met."""
        ...


@dataclass(frozen=True, kw_only=True)
class LambdaPlan:
    """What a run is made of. home, store: None without a bucket."""

    functions: tuple[str, ...]
    qualifier: str
    facts: FunctionFacts
    most_lanes: int
    settings: InvocationSettings
    seal: Seal
    key: bytes = field(repr=False)
    home: Home | None
    store: BlobStore | None
    open_client: Callable[[], AwaitedClient]
    read_event_facts: Callable[[], FunctionFacts]
    throttle_timeout_s: float
    events_above_s: float
    on_open: Callable[[], None] = lambda: None
    on_invoked: Callable[[float], None] = lambda _seconds: None  # how long Lambda was at it, as far as we see


class Tell(Protocol):
    """Hands events to the engine; without one, has `poll` look around."""

    def __call__(self, *events: Event) -> None:
        """On the loop's own thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """A run that can invoke. give_up: nothing of it can go on, and the engine is told why."""

    id: str
    plan: LambdaPlan
    client: AwaitedClient
    loop: EngineLoop
    head: EventHead
    tell: Tell
    give_up: Callable[[CloudexecError], None]

    def invoke(self, function: str, payload: bytes, *, wait_s: float, event: bool = False) -> Operation[Invocation]:
        """The request of one invocation."""
        trace = os.environ.get("_X_AMZN_TRACE_ID", "")
        qualifier = self.plan.qualifier
        return lambdas.invoke(function, payload, qualifier=qualifier, event=event, wait_s=wait_s, trace=trace)


def without_bucket(what: str, remedy: str = "") -> SettingsError:
    """What is said when something needs one."""
    give = "give bucket=, or the function an environment variable CLOUDEXEC_BUCKET"
    return SettingsError(f"{what}, and there is no bucket for it", remedy=f"{give}{remedy}")
