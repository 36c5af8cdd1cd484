"""The pipes between a feeder of calls and one slot, and how a call changes hands on them.

Called by: worker/host (feeder's end) and worker/slot (slot's end).   Calls: envelope.py.

    feeder                                            slot
      | work   : BATCH and REVOKE messages  ------->   | reads when it has a token and no call in hand
      | tokens : one byte for each call     ------->   | reads one before it starts a call: that is the claim
      |          (the feeder may read too)             |
      | out    : one OUTCOME message a call <-------   | written at once, so that a crash loses none
      | bell   : two bytes, the slot's no.  <-------   | rung at the end of a batch or after BELL_AFTER_S

A pipe's bytes are handed out by the kernel exactly once. So a token belongs either to the slot, which then
has started the call for good, or to the feeder, which then knows for certain that the call never started:
queued calls can be taken back from a busy slot without asking it. A token's value is the lane's epoch;
each recall empties the pipe, raises the epoch and sends REVOKE, which tells the slot to drop what it holds.

A single call for a slot that has nothing to do is GIVEN: it needs no token, cannot be taken back, and reaches the
slot in one write (a token would cost a second one, and two more hand-overs of the interpreter lock). For its outcome
the feeder watches the out pipe, and no bell rings. Calls that are placed behind it get their tokens when the outcome
has come: a slot that found a token before it has read the given call would claim one of them, to lie stuck behind it.

Large buffers of arguments are attached: they follow a BATCH on the work pipe, uncopied and outside its signature.
They are never unpickled, and nobody but the feeder can write to the pipe.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import sys
import termios
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final

from cloudexec.errors import WireError
from cloudexec.wire.envelope import OVERHEAD, Kind, Seal, read_head
from cloudexec.wire.messages import Batch, PackedCall, decode_batch
from cloudexec.wire.parts import attached_sizes

BELL: Final = struct.Struct("<H")
BELL_AFTER_S: Final = 0.001  # outcomes wait at most this long for company
_BELL_BYTES: Final = 32 * 1024  # ring before the out pipe (64 KiB where it cannot grow) fills up
_PIPE_BYTES: Final = 1 << 20
_WRITE_AT_ONCE: Final = 64  # pieces; the system's own limit is 1024
_READ_BYTES: Final = 1 << 20
_TOKENS_AT_ONCE: Final = 4096
_EPOCHS: Final = 256  # a token is one byte; the slot must not fall a whole turn behind


class MessageReader:
    """Cuts a byte stream into messages."""

    __slots__ = ("_bytes", "_seal")

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self._bytes = bytearray()

    @property
    def in_the_middle(self) -> bool:
        """True while a message has begun and not ended."""
        return bool(self._bytes)

    def feed(self, data: bytes) -> list[tuple[Kind, memoryview]]:
        """Messages that `data` completes. Errors: WireError, SignatureError."""
        if self._bytes:
            self._bytes += data
            data = bytes(self._bytes) if self._is_whole() else b""
            if not data:
                return []
            self._bytes.clear()
        messages = []
        view, at, end = memoryview(data), 0, len(data)
        while end - at >= OVERHEAD:
            stop = at + OVERHEAD + read_head(view, at)[1]
            if stop > end:
                break
            messages.append(self._seal.open(view[at:stop]))
            at = stop
        self._bytes += view[at:]
        return messages

    def _is_whole(self) -> bool:
        """Whether at least one whole message is there; spares copying a long one at each piece."""
        have = len(self._bytes)
        return have >= OVERHEAD and have >= OVERHEAD + read_head(self._bytes)[1]


def widen(fd: int) -> None:
    """Let a pipe hold up to 1 MiB where the kernel permits; otherwise it keeps its size."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


class Feeder:
    """The feeder's end of a lane. Never blocks; it lives on one thread."""

    def __init__(self, seal: Seal, *, work: int, tokens_in: int, tokens_out: int, out: int) -> None:
        self._seal = seal
        self._work, self._tokens_in, self._tokens_out, self._out = work, tokens_in, tokens_out, out
        for fd in (work, tokens_in, tokens_out, out):
            os.set_blocking(fd, False)
        self._reader = MessageReader(seal)
        self._unsent: deque[memoryview] = deque()
        self._epoch = 0
        self._slot_epoch = 0  # the slot has reached this one, or a later one
        self._owed = 0  # tokens held back, or for which the pipe had no room: they follow as outcomes come
        self._placed: deque[list[int]] = deque()  # [epoch, calls whose outcomes have not come]
        self._given = 0  # the number of a call that was given, until an outcome comes
        self._deaf = False

    @property
    def out_fd(self) -> int:
        """Where outcomes come in."""
        return self._out

    @property
    def work_fd(self) -> int:
        """Where batches go out."""
        return self._work

    @property
    def has_unsent(self) -> bool:
        """True while bytes wait for the work pipe to have room: then call `flush` when it has."""
        return bool(self._unsent)

    @property
    def wants_watching(self) -> bool:
        """True while the out pipe is to be watched: the bell will not ring for a given call's outcome, nor for
        the rest of one that has arrived by half."""
        return bool(self._given) or self._reader.in_the_middle

    def place(self, body: bytes, n_calls: int, attachments: Iterable[bytes | bytearray | memoryview] = ()) -> None:
        """Hand over a batch body of `n_calls` calls, and what is attached to them."""
        self._send(self._seal.close(Kind.BATCH, body), *attachments)
        self._placed.append([self._epoch, n_calls])
        self._owed += n_calls
        self._pass_tokens()

    @property
    def is_idle(self) -> bool:
        """True when the slot has nothing left to do, as far as its outcomes tell."""
        return not self._placed

    def give(self, body: bytes, number: int, attachments: Iterable[bytes | bytearray | memoryview] = ()) -> None:
        """Hand over a batch body of one call to an idle slot; the call counts as started at once."""
        self._placed.append([self._epoch, 1])
        self._given = number
        self._send(self._seal.close(Kind.GIVEN, body), *attachments)

    def unstarted_at_end(self, running: int) -> int:
        """As `unclaimed`, once the slot is dead; `running` is the call that it was in, 0 if in none."""
        if self._given and self._given != running and not self._deaf:  # deaf: its outcome may have come unheard
            return sum(n_calls for _, n_calls in self._placed)  # it died before it came to the call
        return self.unclaimed()

    def recall(self) -> int:
        """Take back every call that the slot has not started; how many of the last ones these were."""
        if self._epoch + 1 - self._slot_epoch >= _EPOCHS:
            return 0
        n_calls = self._take_tokens() + self._owed
        if n_calls:
            self._owed = 0
            self._forget_last(n_calls)
            self._epoch += 1
            self._send(self._seal.close(Kind.REVOKE, b""))
        return n_calls

    def unclaimed(self) -> int:
        """How many of the last calls the slot has not started, as of now."""
        count = bytearray(4)
        fcntl.ioctl(self._tokens_in, termios.FIONREAD, count)
        return int.from_bytes(count, sys.byteorder) + self._owed

    def flush(self) -> None:
        """Send what waited for room."""
        unsent = self._unsent
        while unsent:
            try:
                sent = os.writev(self._work, list(islice(unsent, _WRITE_AT_ONCE)))
            except BlockingIOError:
                return
            except BrokenPipeError:  # the slot is gone; its end will be reported
                unsent.clear()
                return
            while unsent and sent >= len(unsent[0]):
                sent -= len(unsent.popleft())
            if sent:
                unsent[0] = unsent[0][sent:]

    def receive(self) -> list[tuple[Kind, memoryview]]:
        """Messages that have come in. Errors: WireError, SignatureError."""
        messages: list[tuple[Kind, memoryview]] = []
        size = 0 if self._deaf else _READ_BYTES
        while size == _READ_BYTES:  # a short read has emptied the pipe; what comes later rings again
            try:
                data = os.read(self._out, _READ_BYTES)
            except BlockingIOError:
                break
            size = len(data)
            messages += self._reader.feed(data)
            if size > 0 and self._reader.in_the_middle:
                size = _READ_BYTES
        self._note_outcomes(len(messages))
        if self._owed:
            self._pass_tokens()
        return messages

    def stop_reading(self) -> None:
        """Take no more messages: what comes cannot be trusted."""
        self._deaf = True
        self._reader = MessageReader(self._seal)

    def close(self) -> None:
        """Close this end; an idle slot then leaves by itself."""
        for fd in (self._work, self._tokens_in, self._tokens_out, self._out):
            with contextlib.suppress(OSError):
                os.close(fd)

    def _pass_tokens(self) -> None:
        if self._given:
            return
        token = bytes((self._epoch % _EPOCHS,))
        try:
            while self._owed:
                self._owed -= os.write(self._tokens_out, token * min(self._owed, _TOKENS_AT_ONCE))
        except BlockingIOError:
            pass
        except BrokenPipeError:  # the slot is gone; its end will be reported
            self._owed = 0

    def _forget_last(self, n_calls: int) -> None:
        while n_calls and self._placed:
            last = self._placed[-1]
            gone = min(last[1], n_calls)
            last[1] -= gone
            n_calls -= gone
            if not last[1]:
                self._placed.pop()

    def _note_outcomes(self, n_calls: int) -> None:
        """Outcomes come in the order of their calls, so each tells what epoch the slot has reached."""
        if n_calls:
            self._given = 0
        while n_calls and self._placed:
            first = self._placed[0]
            gone = min(first[1], n_calls)
            first[1] -= gone
            n_calls -= gone
            self._slot_epoch = first[0]
            if not first[1]:
                self._placed.popleft()

    def _send(self, *pieces: bytes | bytearray | memoryview) -> None:
        waited = bool(self._unsent)
        self._unsent.extend(map(memoryview, pieces))
        if not waited:
            self.flush()

    def _take_tokens(self) -> int:
        taken = 0
        with contextlib.suppress(BlockingIOError):
            while got := len(os.read(self._tokens_in, 1 << 16)):
                taken += got
        return taken


class SlotLane:
    """The slot's end of a lane. Blocks; it lives in the slot's main thread."""

    def __init__(self, seal: Seal, *, work: int, tokens: int, out: int, bell: int, number: int) -> None:
        self._seal = seal
        self._work, self._tokens, self._out, self._bell = work, tokens, out, bell
        self._ring = BELL.pack(number)
        self._calls: deque[tuple[PackedCall, Batch]] = deque()  # each needs a token
        self._given: deque[tuple[PackedCall, Batch]] = deque()
        self._is_watched = False  # the feeder looks at the out pipe itself, until the given call's outcome
        self._epoch = 0
        self._unrung = 0
        os.set_blocking(tokens, False)  # a slot that waits must notice a given call, which comes without a token
        self._poll = select.poll()
        self._poll.register(tokens, select.POLLIN)
        self._poll.register(work, select.POLLIN)

    def claim(self, most: int) -> int:
        """Claim up to `most` calls; waits for at least one. 0 when the feeder has closed the lane."""
        try:
            return self._count(os.read(self._tokens, most))
        except BlockingIOError:
            self.ring()
        while True:
            ready = dict(self._poll.poll())
            if self._tokens not in ready:
                if not ready[self._work] & select.POLLIN:
                    return 0
                if self._read_message() is Kind.GIVEN:
                    return 1  # a claim without a token
            with contextlib.suppress(BlockingIOError):  # the feeder took the token back before we came
                return self._count(os.read(self._tokens, most))

    def next_call(self) -> tuple[PackedCall, Batch]:
        """The next claimed call, and the batch in which it came."""
        while not self._calls and not self._given:
            self._read_message()
        if self._given:
            self._is_watched = True
            return self._given.popleft()
        return self._calls.popleft()

    def _count(self, tokens: bytes) -> int:
        while tokens and tokens[0] != self._epoch:
            self._read_message()  # REVOKE is under way
        return len(tokens)

    def send(self, kind: Kind, body: bytes) -> None:
        """Write one message to the feeder, without waking it yet."""
        message = memoryview(self._seal.close(kind, body))
        if self._is_watched:
            self._is_watched = False
        else:
            self._unrung += len(message)
        if self._unrung > _BELL_BYTES:
            self.ring()
            self._unrung = len(message)
        while message:
            message = message[os.write(self._out, message) :]

    def ring(self) -> None:
        """Wake the feeder if there is something that it has not been told of."""
        if self._unrung:
            self._unrung = 0
            os.write(self._bell, self._ring)

    def _read_message(self) -> Kind:
        kind, length = read_head(head := self._read(OVERHEAD))
        body = self._seal.open(head + self._read(length))[1]
        if kind is Kind.BATCH or kind is Kind.GIVEN:
            batch = decode_batch(body)
            calls = self._calls if kind is Kind.BATCH else self._given
            calls.extend((self._with_attachments(call), batch) for call in batch.calls)
        elif kind is Kind.REVOKE:
            self._calls.clear()
            self._epoch = (self._epoch + 1) % _EPOCHS
        else:
            raise WireError(f"a slot was sent a {kind.name} message")
        return kind

    def _with_attachments(self, call: PackedCall) -> PackedCall:
        """Each attachment is read into a buffer of its own, which then is an array's memory."""
        sizes = attached_sizes(call.packed)
        return call._replace(attachments=[self._read(size) for size in sizes]) if sizes else call

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            got = os.readv(self._work, [view])
            if not got:
                raise EOFError("the feeder closed the lane in the middle of a message")
            view = view[got:]
        return data
