"""Writes the journal, and lets reports go once they are in it and the run is still ours.

Called by: backend.py.   Calls: journal.py for what is written, control.py for whose the run is.
Schedule:  at most one object a second, and with it one read of the control object.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Final

from cloudexec.backends.pull.control import ControlWriter
from cloudexec.backends.pull.home import Home
from cloudexec.backends.pull.journal import Journal
from cloudexec.errors import CloudexecError, RunTakenOver
from cloudexec.transport import s3
from cloudexec.transport.account import AwaitedClient
from cloudexec.wire.envelope import Kind, Seal

log = logging.getLogger(__name__)

JOURNAL_EVERY_S: Final = 1.0
_PAUSE_S: Final = 1.0
_PAUSE_MOST_S: Final = 30.0


class Scribe:
    """One client's part of a run's journal. `n_before`: entries of the clients before. `release(receipts)` deletes
    reports from their queue."""

    def __init__(
        self,
        journal: Journal,
        home: Home,
        seal: Seal,
        client: AwaitedClient,
        control: ControlWriter,
        release: Callable[[list[str]], None],
        n_before: int,
    ) -> None:
        self._journal = journal
        self._home = home
        self._seal = seal
        self._client = client
        self._control = control
        self._release = release
        self._number = n_before
        self._writing = asyncio.Lock()
        self._name = os.urandom(4).hex()  # two clients never write the same object

    async def keep(self) -> None:
        """Write once a second. Errors: RunTakenOver."""
        while True:
            await asyncio.sleep(JOURNAL_EVERY_S)
            await self.write()

    async def write(self) -> None:
        """Write what has gathered; then the reports in it may go. Errors: RunTakenOver."""
        async with self._writing:
            if self._journal.is_clean:
                return
            body, receipts = self._journal.take()
            self._number += 1
            key = self._home.key(f"journal/{self._number:08d}-{self._name}")
            await self._put(key, self._seal.close(Kind.JOURNAL, body))
            await self._see_that_it_is_ours()
            self._release(receipts)

    async def _put(self, key: str, sealed: bytes) -> None:
        home, pause_s = self._home, _PAUSE_S
        while True:
            try:
                await self._client.call(s3.put_object(home.bucket, key, [sealed], owner=home.owner))
                return
            except CloudexecError as error:
                log.warning("run %s: its journal could not be written, it is tried again: %s", home.run_id, error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_MOST_S)

    async def _see_that_it_is_ours(self) -> None:
        """Reports that the run's new owner has not read must stay in their queue."""
        while True:
            try:
                await self._control.check()
                return
            except RunTakenOver:
                raise
            except CloudexecError as error:
                log.info("run %s: it is not known whether it is still ours: %s", self._home.run_id, error)
                await asyncio.sleep(_PAUSE_S)
