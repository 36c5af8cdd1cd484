"""What comes as objects below the run's prefix: reports of Event invocations, and early ones of batches that last.

Called by: event_invokes.py, on the loop.   Calls: transport.s3.
Schedule:  one LIST for all events that are waited for: soon at first, then every few seconds.
Objects:   events/NAME.N.early tells what became of a part of the batch NAME, before its end; N counts from 1.
           events/NAME.begun is written by the environment that has claimed the event, and again as its heartbeat;
           events/NAME.report once, when it is done, and removed when it has been read.
Promise:   who waits gets the report, or a LaneEnd that says why there is none: never begun within the event's
           greatest age, or begun and silent, or nobody can look any more. Nothing is sent before a first look has
           succeeded. A claim stays until the run's end: Lambda may deliver an event once more.
           Ages are measured here, from one sweep to the next: clocks need not agree.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from cloudexec.backends.awslambda.discovery import FunctionFacts
from cloudexec.backends.pull.home import Home
from cloudexec.errors import AccessDenied, CloudexecError
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause
from cloudexec.transport import s3
from cloudexec.transport.account import AwaitedClient
from cloudexec.wire.envelope import Seal
from cloudexec.wire.invocation import open_report
from cloudexec.wire.mail import Report, decode_report

log = logging.getLogger(__name__)

_FIRST_S: Final = 0.1
_GROWTH: Final = 1.3
_SLOWEST_S: Final = 5.0
_SILENT_BEATS: Final = 4
_AGE_MARGIN_S: Final = 30.0
_BLIND_S: Final = 300.0  # so long may looks fail before what is waited for is taken for lost
_MAY_LIST: Final = "allow s3:ListBucket on the bucket, and s3:GetObject below its prefix: so reports are found"
_BEGUN: Final = ".begun"
_REPORT: Final = ".report"
_EARLY: Final = ".early"


class _Awaited:
    """One event. `beat`: the heartbeat object as last seen, since `beat_s`."""

    __slots__ = ("beat", "beat_s", "result", "sent_s")

    def __init__(self, result: asyncio.Future[Report | LaneEnd], sent_s: float) -> None:
        self.result = result
        self.sent_s = sent_s
        self.beat = ""
        self.beat_s = 0.0


class Sweep:
    """Waits for all events of a run. beat_s: how often environments write their heartbeat."""

    def __init__(self, client: AwaitedClient, home: Home, seal: Seal, beat_s: float) -> None:
        self._client = client
        self._home = home
        self._seal = seal
        self._silent_s = _SILENT_BEATS * beat_s + 5.0
        self._age_s = 21_600.0
        self._awaited: dict[str, _Awaited] = {}
        self._early: dict[str, Callable[[Report], Awaitable[None]]] = {}
        self._read: set[str] = set()  # early reports that could not be removed must not be read twice
        self._pause_s = _FIRST_S
        self._seen_s = time.monotonic()  # the last look that succeeded
        self._may_look = False
        self._first_look = asyncio.Lock()
        self._has_work = asyncio.Event()

    async def check(self) -> None:
        """Before the first event: whether its report could be found. Errors: AccessDenied; AwsError if there is no such
        bucket."""
        async with self._first_look:
            if self._may_look:
                return
            home = self._home
            try:
                await self._client.call(s3.list_objects(home.bucket, home.key("events/"), owner=home.owner, max_keys=1))
            except AccessDenied as error:
                error.remedy = _MAY_LIST
                raise
            except CloudexecError as error:
                if getattr(error, "code", "") == "NoSuchBucket":
                    raise
                log.info("whether events of run %s can be listed is not known: %s", home.run_id, error)
            self._may_look = True

    def learn(self, facts: FunctionFacts) -> None:
        """How long Lambda keeps an event that it cannot run."""
        self._age_s = facts.event_age_s + _AGE_MARGIN_S

    def watch(self, name: str) -> asyncio.Future[Report | LaneEnd]:
        """Wait for the event of this name, which is about to be sent."""
        result: asyncio.Future[Report | LaneEnd] = asyncio.get_running_loop().create_future()
        self._awaited[name] = _Awaited(result, time.monotonic())
        self._pause_s = _FIRST_S
        self._has_work.set()
        return result

    def forget(self, name: str) -> None:
        """It was not sent."""
        self._awaited.pop(name, None)

    def watch_early(self, name: str, tell: Callable[[Report], Awaitable[None]]) -> None:
        """A batch has been away for long: hand over what it tells before its end."""
        self._early[name] = tell
        self._pause_s = _FIRST_S
        self._has_work.set()

    def forget_early(self, name: str) -> None:
        """Its end has come."""
        self._early.pop(name, None)

    async def keep(self) -> None:
        """Look again and again."""
        while True:
            if not self._awaited and not self._early:
                self._has_work.clear()
                await self._has_work.wait()
                self._seen_s = time.monotonic()
            await asyncio.sleep(self._pause_s)
            if not self._awaited and not self._early:  # meanwhile nobody waits any more
                continue
            try:
                await self._look()
                self._seen_s = time.monotonic()
            except CloudexecError as error:
                log.warning("events of run %s could not be listed, it is tried again: %s", self._home.run_id, error)
                self._bury_unseen(error, time.monotonic())
            self._pause_s = min(_SLOWEST_S, self._pause_s * _GROWTH)

    async def _look(self) -> None:
        begun: dict[str, str] = {}
        done: list[str] = []
        early: list[str] = []
        prefix = self._home.key("events/")
        after = prefix + min((*self._awaited, *self._early), default="")
        while True:
            page = await self._client.call(
                s3.list_objects(self._home.bucket, prefix, owner=self._home.owner, start_after=after)
            )
            for entry in page.objects:
                name = entry.key[len(prefix) :]
                if name.endswith(_REPORT):
                    done.append(name[: -len(_REPORT)])
                elif name.endswith(_EARLY):
                    early.append(name)
                elif name.endswith(_BEGUN):
                    begun[name[: -len(_BEGUN)]] = f"{entry.etag} {entry.last_modified_s}"
            if not page.is_truncated:
                break
            after = page.objects[-1].key
        await asyncio.gather(*[self._take_early(name) for name in sorted(early)])
        await asyncio.gather(*[self._take(name) for name in done if name in self._awaited])
        self._bury_silent(begun, time.monotonic())

    async def _take(self, name: str) -> None:
        """Read a report, and remove it. One that is not ours is left, and not believed."""
        home, key = self._home, self._home.key(f"events/{name}{_REPORT}")
        found = await self._client.call(s3.get_object(home.bucket, key, owner=home.owner))
        try:
            report = decode_report(open_report(self._seal, found.body))
        except CloudexecError as error:
            end = LaneEnd(Cause.LOST, f"event {name} ended with a report that is not its worker's: {error.what}")
            self._settle(name, end._replace(error="EventDropped"))
            return
        self._settle(name, report)
        try:
            await self._client.call(s3.delete_object(home.bucket, key, owner=home.owner))
        except CloudexecError as error:  # removed with the run, at its end
            log.info("the report of event %s was not removed: %s", name, error)

    async def _take_early(self, name: str) -> None:
        """Hand an early report on. One that is not its worker's is left, and not believed."""
        home, key = self._home, self._home.key(f"events/{name}")
        tell = self._early.get(name[: -len(_EARLY)].rpartition(".")[0])
        if tell is None or name in self._read:
            return
        self._read.add(name)
        try:
            found = await self._client.call(s3.get_object(home.bucket, key, owner=home.owner))
            report = decode_report(open_report(self._seal, found.body))
        except CloudexecError as error:
            log.warning("an early report of run %s was not read: %s", home.run_id, error)
            return
        await tell(report)
        try:
            await self._client.call(s3.delete_object(home.bucket, key, owner=home.owner))
        except CloudexecError as error:  # removed with the run, at its end
            log.info("%s was not removed: %s", name, error)

    def _bury_silent(self, begun: dict[str, str], now_s: float) -> None:
        for name, awaited in list(self._awaited.items()):
            beat = begun.get(name, "")
            if beat != awaited.beat:
                awaited.beat, awaited.beat_s = beat, now_s
            if awaited.beat and now_s - awaited.beat_s > self._silent_s:
                what = f"event {name} began, and its environment has been silent for {now_s - awaited.beat_s:.0f} s"
                self._settle(name, LaneEnd(Cause.LOST, what, error="EventDropped"))
            elif not awaited.beat and now_s - awaited.sent_s > self._age_s:
                what = f"Lambda took event {name}, and had not begun it after {now_s - awaited.sent_s:.0f} s"
                self._settle(name, LaneEnd(Cause.LOST, what, error="EventDropped"))

    def _bury_unseen(self, error: CloudexecError, now_s: float) -> None:
        """Nobody can look: a right that was taken away does not come back by itself, all else is given more time."""
        is_denied = isinstance(error, AccessDenied)
        if now_s - self._seen_s <= (self._silent_s if is_denied else _BLIND_S):
            return
        self._may_look = self._may_look and not is_denied
        self._early.clear()
        for name in list(self._awaited):
            what = f"what became of event {name} could not be looked up for {now_s - self._seen_s:.0f} s: {error.what}"
            self._settle(name, LaneEnd(Cause.LOST, what, error="EventDropped"))

    def _settle(self, name: str, end: Report | LaneEnd) -> None:
        awaited = self._awaited.pop(name, None)
        if awaited is not None and not awaited.result.done():
            awaited.result.set_result(end)
