"""The object that all workers of a run read: the client's heartbeat, and what they shall do.

Called by: backend.py, on its loop.   Calls: transport.s3 through an asyncio client, wire.mail.
Schedule:  written when it changes, and every BEAT_S as heartbeat: 0.05 requests a second. More often only where
           workers are told to take a silent client for dead sooner than usual.
Whoever writes it owns the run. Each write asks that the object is still the one that we wrote; if it is not, another
client has taken the run over, and this one must stop.
Numbers rise from write to write and from client to client, so that workers know an old object that was put back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from typing import Final, NamedTuple

from cloudexec.errors import AwsError, CloudexecError, NoSuchKey, PreconditionFailed, RunTakenOver, SignatureError
from cloudexec.transport import s3
from cloudexec.transport.account import AwaitedClient, Client
from cloudexec.transport.operation import Buffer
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.mail import Control, decode_control, encode_control

log = logging.getLogger(__name__)

BEAT_S: Final = 20.0
_BEATS_UNTIL_STALE: Final = 4  # a beat or two may be late, or fail and be tried again
_STOPS_MOST: Final = 5000
_AGAIN_S: Final = 1.0
_WRITES_MOST: Final = 5
_REMOVED: Final = "the run's objects were removed by somebody else"


def client_name() -> str:
    """Names this process: host, process id, and when the process began, so that its death can be told."""
    return f"{socket.gethostname()}/{os.getpid()}/{_began(os.getpid())}"


def _own_name() -> str:
    """Names one client of this process: two that attach to one run must not take each other's writes for their own."""
    return f"{client_name()}/{os.urandom(8).hex()}"


def is_dead_here(name: str) -> bool:
    """Whether a client was a process of this machine that is no more."""
    host, _, rest = name.partition("/")
    pid, began = (*rest.split("/"), "", "")[:2]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    return _began(int(pid)) != began


class Hold(NamedTuple):
    """The control object as it was found or written: its version, and its number. Whoever knows the latest may write
    the next."""

    etag: str
    number: int


def claim(client: Client, seal: Seal, bucket: str, key: str, owner: str, before: Hold | None) -> Hold:
    """Make a run ours, if its control object is still as it was `before`. Errors: PreconditionFailed.

    From now on the client before us notices, at the latest before it deletes the next report that it has read. So
    whoever has claimed a run and then reads its journal misses nothing.
    """
    number = before.number + 1 if before is not None else 1
    body = seal.close(Kind.CONTROL, encode_control(Control(number, _own_name())))
    etag = before.etag if before is not None else None
    put = s3.put_object(bucket, key, [body], owner=owner, if_match=etag, if_none_match=etag is None)
    return Hold(client.call(put), number)


def _began(pid: int) -> str:
    """When a process began, in ticks since the machine did; empty if there is none, or where that cannot be told."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def beat_every_s(stale_s: float) -> float:
    """How often a client must show that it lives, if workers take it for dead after `stale_s`."""
    return min(BEAT_S, stale_s / _BEATS_UNTIL_STALE)


class ControlWriter:
    """Keeps the control object as it should be."""

    def __init__(
        self,
        client: AwaitedClient,
        seal: Seal,
        bucket: str,
        key: str,
        owner: str,
        hold: Hold | None,
        *,
        beat_s: float = BEAT_S,
    ) -> None:
        self._client = client
        self._beat_s = beat_s
        self._seal = seal
        self._bucket, self._key, self._owner = bucket, key, owner
        self._etag = hold.etag if hold is not None else None  # of the object as we know it; None: there is none yet
        self._name = _own_name()
        self._number = hold.number if hold is not None else 0
        self._stops: deque[int] = deque(maxlen=_STOPS_MOST)
        self._leave: list[str] = []
        self._detached = False
        self._n_workers = 1
        self._changed = asyncio.Event()
        self._written = asyncio.Lock()

    def stop_call(self, number: int) -> None:
        """End a call wherever it is."""
        if number not in self._stops:
            self._stops.append(number)
            self._changed.set()

    def leave(self, *workers: str) -> None:
        """Have workers end; "*" means all."""
        self._leave += workers
        self._changed.set()

    def detach(self) -> None:
        """Tell that the client goes by intention."""
        self._detached = True

    def see_fleet(self, n_workers: int) -> None:
        """How many workers read this; not worth a write of its own."""
        self._n_workers = max(1, n_workers)

    async def keep(self) -> None:
        """Write whenever something changes, and as heartbeat. Errors: RunTakenOver."""
        while True:
            try:
                await asyncio.wait_for(self._changed.wait(), self._beat_s)
            except asyncio.TimeoutError:
                pass
            self._changed.clear()
            try:
                await self.write()
            except RunTakenOver:
                raise
            except CloudexecError as error:
                log.warning("the run's control object could not be written, it is tried again: %s", error)
                self._changed.set()
                await asyncio.sleep(_AGAIN_S)

    async def write(self) -> None:
        """Write it now. Errors: RunTakenOver, AwsError and its kin."""
        async with self._written:
            self._number += 1
            control = Control(self._number, self._name, list(self._stops), self._leave, self._detached, self._n_workers)
            body = self._seal.close(Kind.CONTROL, encode_control(control))
            for _ in range(_WRITES_MOST):
                put = s3.put_object(
                    self._bucket,
                    self._key,
                    [body],
                    owner=self._owner,
                    if_match=self._etag,
                    if_none_match=self._etag is None,
                )
                try:
                    self._etag = await self._client.call(put)
                    return
                except (PreconditionFailed, NoSuchKey):
                    hold = await self._own_hold()
                    self._etag = hold.etag
                    if hold.number == self._number:
                        return
                    # An earlier write of ours has arrived late, its answer lost: this one is still to be written.
            raise AwsError(f"the control object was changed {_WRITES_MOST} times while it was written", "Conflict")

    async def check(self) -> None:
        """See that the run is still ours; a read that finds nothing new. Errors: RunTakenOver, AwsError and its kin."""
        if self._etag is None:
            return
        async with self._written:
            try:
                found = await self._client.call(
                    s3.get_object(self._bucket, self._key, owner=self._owner, if_none_match=self._etag)
                )
            except NoSuchKey:
                raise RunTakenOver(_REMOVED) from None
            if not found.not_modified:
                self._etag = self._owned(found).etag

    async def _own_hold(self) -> Hold:
        """After a refusal: what lies there, if it is ours after all, for an answer may have got lost."""
        try:
            found = await self._client.call(s3.get_object(self._bucket, self._key, owner=self._owner))
        except NoSuchKey:
            raise RunTakenOver(_REMOVED) from None
        return self._owned(found)

    def _owned(self, found: s3.S3Object) -> Hold:
        """The object, if it is ours."""
        control = read_control(self._seal, found.body)
        if control.client != self._name:
            raise RunTakenOver(f"the run was taken over by another client ({control.client})")
        return Hold(found.etag, control.number)


def read_control(seal: Seal, sealed: Buffer) -> Control:
    """What a control object says. Errors: WireError, SignatureError."""
    kind, body = seal.open(sealed)
    if kind is not Kind.CONTROL:
        raise SignatureError(f"the control object of the run is a {kind.name} message")
    return decode_control(body)
