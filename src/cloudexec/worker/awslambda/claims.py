"""An object that says who does something, so that nobody else does it, and that he lives.

Called by: events.py, jobs.py.   Calls: a transport's client.
Lambda delivers what it queues at least once. Whoever writes the claim first does the work (If-None-Match); a writer
that meets its own first try, whose answer was lost, is known by its token (transport/s3.py). The claim is written
again and again while the work goes on: its age, on the service's clock, tells whether the worker is alive.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Final

from cloudexec.errors import AwsError, NoSuchKey, PreconditionFailed
from cloudexec.transport import s3
from cloudexec.transport.account import Client
from cloudexec.worker.agent.place import say

_LAST_BEAT_S: Final = 1.0


class Claim:
    """The object at `key`, which holds `body`."""

    def __init__(self, client: Client, bucket: str, owner: str, key: str, body: bytes) -> None:
        self._client = client
        self._bucket = bucket
        self._owner = owner
        self._key = key
        self._body = body

    def take(self) -> bool:
        """Whether it is ours now; False if somebody has it. Errors: AwsError."""
        try:
            self._client.call(
                s3.put_object(self._bucket, self._key, [self._body], owner=self._owner, if_none_match=True)
            )
        except PreconditionFailed:
            return False
        return True

    @contextlib.contextmanager
    def kept_alive(self, every_s: float) -> Iterator[None]:
        """Write it again every `every_s`, in a thread of its own, for as long as the block runs."""
        is_over = threading.Event()
        thread = threading.Thread(target=self._beat, args=(every_s, is_over), name="claim", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join(_LAST_BEAT_S)  # one that hangs does no harm: it writes what is true of the past

    def is_silent_for(self, seconds: float) -> bool:
        """Whether its owner has not written it for so long. Errors: AwsError."""
        try:
            found = self._client.call(s3.head_object(self._bucket, self._key, owner=self._owner))
        except NoSuchKey:
            return False
        if found.last_modified_s is None or found.server_date_s is None:
            return False
        return found.server_date_s - found.last_modified_s > seconds

    def _beat(self, every_s: float, is_over: threading.Event) -> None:
        while not is_over.wait(every_s):
            try:
                self._client.call(s3.put_object(self._bucket, self._key, [self._body], owner=self._owner))
            except AwsError as error:
                say(f"cannot renew the claim {self._key}: {error}")
