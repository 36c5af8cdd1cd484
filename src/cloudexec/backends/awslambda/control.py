"""The object through which running environments hear of the client: begun when an invocation is long enough to look.

Called by: backend.py (stops, the end), sending.py and event_invokes.py (something was sent), answers.py (is it ours?).
Calls:     pull/control.py, which writes the object.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Final

from cloudexec.backends.awslambda.flights import Flight, Flights
from cloudexec.backends.awslambda.plan import OpenRun
from cloudexec.backends.pull.control import BEAT_S, ControlWriter, beat_every_s
from cloudexec.backends.pull.home import Home
from cloudexec.backends.pull.loop import NEVER
from cloudexec.errors import AwsError, CloudexecError, RunTakenOver

log = logging.getLogger(__name__)

_CONTROL_AFTER_S: Final = 1.0  # an invocation that is in flight so long is worth a heartbeat object


class Control:
    """The run's control object, which is written with the first need. A run without a bucket has none."""

    def __init__(self, run: OpenRun, flights: Flights) -> None:
        self._run = run
        self._flights = flights
        self._writer: ControlWriter | None = None
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def due_s(self) -> float:
        """When it is to be begun, as far as is known; NEVER if it has been, or there is no bucket."""
        if self._run.plan.home is None or self._writer is not None:
            return NEVER
        return self._flights.oldest_s + _CONTROL_AFTER_S

    def note_sent(self) -> None:
        """Something is on its way. `poll` waits already, and did not know when the object would be due."""
        if self._run.plan.home is not None and self._writer is None and self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(_CONTROL_AFTER_S, self._ring)

    def _ring(self) -> None:
        """Have `poll` look at what is due."""
        self._alarm = None
        self._run.tell()

    def begin(self) -> ControlWriter:
        """Write it, and keep it up from now on. Only with a bucket."""
        if self._writer is None:
            home = self._run.plan.home
            assert home is not None
            self._writer = self._make(home, beat_s=beat_every_s(self._run.plan.settings.stale_s))
            self._run.loop.begin(self._keep(self._writer))
        return self._writer

    async def is_lost(self) -> bool:
        """Whether somebody else has ended the run, or goes on with it; then it is given up."""
        if self._writer is None:
            return False
        try:
            await self._writer.check()
        except RunTakenOver as error:
            self._run.give_up(error)
            return True
        except CloudexecError as error:  # the next heartbeat will tell
            log.info("run %s: it is not known whether it is still ours: %s", self._run.id, error)
        return False

    async def end(self, running: Collection[Flight]) -> None:
        """Tell what still runs to end, and wait until it has."""
        tasks = [flight.task for flight in running if flight.task is not None]
        home, settings = self._run.plan.home, self._run.plan.settings
        if not tasks or home is None:
            return
        writer = self._writer or self._make(home)
        writer.leave("*")
        within_s = settings.control_after_s + 2 * settings.control_every_s + 2.0
        try:
            await writer.write()
            await asyncio.wait(tasks, timeout=within_s)
        except (CloudexecError, RunTakenOver) as error:
            log.warning("run %s: environments could not be told to end: %s", self._run.id, error)

    def _make(self, home: Home, *, beat_s: float = BEAT_S) -> ControlWriter:
        seal, key = self._run.plan.seal, home.key("control")
        return ControlWriter(self._run.client, seal, home.bucket, key, home.owner, None, beat_s=beat_s)

    async def _keep(self, control: ControlWriter) -> None:
        try:
            try:
                await control.write()
            except AwsError as error:
                log.warning("the run's control object could not be written, it is tried again: %s", error)
            await control.keep()
        except RunTakenOver as error:
            self._run.give_up(error)
