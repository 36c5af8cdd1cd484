"""What the control object says, and whether the client lives. Pure: answers and times are handed in.

Called by: agent.py.   Calls: wire.mail for what a control is.
Age:       compared on the service's clock, `Date` minus `Last-Modified`; between two looks it grows with our own.
           An object that was not there, could not be read, or does not carry the signature is no sign of life.
Old words: whoever can write into the bucket can put an old object back, signature and all, with today's date. It is
           known by its number, and is neither obeyed nor a sign of life; nor is the same one with a new date.
"""

from __future__ import annotations

from cloudexec.errors import WireError
from cloudexec.transport.s3 import S3Object
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.mail import Control, decode_control


class Orders:
    """The latest control object. `now_s` is monotonic."""

    def __init__(self, seal: Seal, worker: str, now_s: float) -> None:
        self._seal = seal
        self._worker = worker
        self._modified_s: float | None = None  # on the service's clock
        self._signed_s = now_s  # when the client gave its last sign of life, on our clock
        self._number = 0  # of the latest control
        self.etag: str | None = None
        self.stops: frozenset[int] = frozenset()
        self.leave = False
        self.detached = False
        self.n_workers = 1

    def read(self, found: S3Object, now_s: float) -> bool:
        """Take in an answer; whether it says something new. Errors: WireError if it is not to be trusted."""
        if found.not_modified:
            self._signed_s = min(self._signed_s, self._signed_at(found, now_s))
            return False
        kind, body = self._seal.open(found.body)
        if kind is not Kind.CONTROL:
            raise WireError(f"the control object holds a {kind.name} message")
        control = decode_control(body)
        if control.number < self._number:
            raise WireError(f"the control object holds order {control.number}, and {self._number} was read before")
        is_new = control.number > self._number
        self._obey(control)
        self.etag = found.etag
        self._modified_s = found.last_modified_s
        signed_s = self._signed_at(found, now_s)
        self._signed_s = signed_s if is_new else min(self._signed_s, signed_s)
        return is_new

    def silent_for_s(self, now_s: float) -> float:
        """How long ago the client gave its last sign of life; 0 if it has detached by intention."""
        return 0.0 if self.detached else now_s - self._signed_s

    def _obey(self, control: Control) -> None:
        self._number = control.number
        self.stops = frozenset(control.stops)
        self.leave = "*" in control.leave or self._worker in control.leave
        self.detached = control.detached
        self.n_workers = max(1, control.n_workers)

    def _signed_at(self, found: S3Object, now_s: float) -> float:
        """When the object was written, on our clock."""
        modified_s = found.last_modified_s or self._modified_s  # not every store repeats it when nothing has changed
        if modified_s is None or found.server_date_s is None:
            return self._signed_s
        return now_s - max(0.0, found.server_date_s - modified_s)
