"""Lanes with both ends in this process: real pipes, as a supervisor makes them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
from collections.abc import Iterator

from cloudexec.wire.envelope import KEY_BYTES, Seal
from cloudexec.wire.lane import Feeder, SlotLane, widen
from cloudexec.wire.messages import FunctionTraits, PackedCall, PackedFunction, encode_batch

SEAL = Seal(bytes(KEY_BYTES))
FUNCTION = PackedFunction(bytes(32), FunctionTraits(), b"")


class Lane:
    """A feeder, a slot, and the client's end of the bell. `wide` pipes hold 1 MiB where the kernel permits."""

    feeder: Feeder

    def __init__(self, *, wide: bool = True, number: int = 7) -> None:
        work, tokens, out, bell = (os.pipe() for _ in range(4))
        if wide:
            widen(work[1])
            widen(out[1])
        self._slot_fds = [work[0], os.dup(tokens[0]), out[1], bell[1]]
        self.bell = bell[0]
        self._feeder_fds = {"work": work[1], "tokens_in": tokens[0], "tokens_out": tokens[1], "out": out[0]}
        self.slot = SlotLane(SEAL, work=work[0], tokens=self._slot_fds[1], out=out[1], bell=bell[1], number=number)

    def connect(self) -> None:
        """The feeder comes: in truth some time after the slot has begun to wait."""
        self.feeder = Feeder(SEAL, **self._feeder_fds)

    def place(self, numbers: list[int], packed: bytes = b"") -> None:
        """One batch of these calls."""
        self.feeder.place(encode_batch([PackedCall(n, 1, FUNCTION, packed) for n in numbers]), len(numbers))

    def give(self, number: int, packed: bytes = b"") -> None:
        """One call for an idle slot."""
        self.feeder.give(encode_batch([PackedCall(number, 1, FUNCTION, packed)]), number)

    def wait_for_bell(self, timeout_s: float = 30.0) -> bool:
        """Whether it rings."""
        return bool(select.select([self.bell], [], [], timeout_s)[0])

    def shrink_token_pipe(self) -> None:
        """Let the pipe of tokens hold 4096, as on machines where pipes have become scarce."""
        fcntl.fcntl(self._slot_fds[1], fcntl.F_SETPIPE_SZ, 4096)

    def close_slot(self) -> None:
        """The slot's process ends."""
        for fd in self._slot_fds:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._slot_fds = []

    def close(self) -> None:
        """Close all ends."""
        self.feeder.close()
        self.close_slot()
        with contextlib.suppress(OSError):
            os.close(self.bell)


@contextlib.contextmanager
def lane(*, wide: bool = True) -> Iterator[Lane]:
    """A lane that is closed at the end."""
    made = Lane(wide=wide)
    made.connect()
    try:
        yield made
    finally:
        made.close()
