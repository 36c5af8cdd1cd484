"""One child process of a worker: takes calls from its lane and runs them, one at a time.

Called by: supervisor.py, right after the fork.   Calls: running.py for each call, wire.lane.
It ends when the feeder closes the lane, when it has done its max_tasks_per_child, or when it is killed.
No threads: the user's code may fork.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import struct
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, NoReturn

from cloudexec.wire.envelope import Kind
from cloudexec.wire.lane import BELL_AFTER_S, SlotLane
from cloudexec.wire.messages import Outcome, PackedCall, Verdict, encode_outcome
from cloudexec.worker.printing import OutputLog
from cloudexec.worker.running import Runner
from cloudexec.worker.status import NEVER, Status
from cloudexec.worker.stores import open_store

EXIT_RETIRED: Final = 90  # has done its max_tasks_per_child
EXIT_INITIALIZER: Final = 91  # the initializer raised; the error went ahead through the lane
POKE: Final = struct.Struct("<H")
_LEAVE_WITHIN_S: Final = 5.0  # what user code registered with atexit may take so long in a slot that has retired


class SlotSettings(NamedTuple):
    """What a slot must know besides its lane."""

    number: int
    store_roots: list[str]
    inline_bytes: int
    max_tasks: int  # 0: no end
    initializer: bytes  # a batch of one call, see Packer.pack_initializer; empty: none
    stderr: int = -1  # the file for what it prints there; the supervisor has it, too
    store: Mapping[str, str] = {}  # see stores.py
    output: OutputLog | None = None  # where the output of calls goes, besides


def run_slot(settings: SlotSettings, lane: SlotLane, status: Status, poke: Callable[[bytes], object]) -> NoReturn:
    """Run calls until there is nothing more to do, then leave the process."""
    signal.signal(signal.SIGINT, _ignore)
    store = open_store(settings.store_roots, settings.store)
    modules_dir = os.path.join(settings.store_roots[-1], "modules")  # the last root is the disk
    runner = Runner(store, settings.inline_bytes, settings.stderr, modules_dir, settings.output)
    faulthandler.enable(2, all_threads=False)  # a crash in native code shows where it was called from
    if settings.initializer and (failure := runner.initialize(settings.initializer)) is not None:
        lane.send(Kind.INITIALIZER_FAILED, encode_outcome(_no_outcome(failure)))
        lane.ring()
        os._exit(EXIT_INITIALIZER)
    _leave(_serve(settings, lane, status, poke, runner))


def _serve(
    settings: SlotSettings, lane: SlotLane, status: Status, poke: Callable[[bytes], object], runner: Runner
) -> int:
    """Take and run calls; the exit code to leave with."""
    signed = POKE.pack(settings.number)
    left = settings.max_tasks or 1 << 62
    rung_s = time.time()
    while left:
        if not lane.claim(1):  # several at once would save 1 µs a call, and lie stuck when one of them is long
            return 0
        left -= 1
        call, batch = lane.next_call()
        deadline = _begin(call, status, poke, signed)
        outcome = runner.run(call, batch)
        lane.send(Kind.OUTCOME, encode_outcome(outcome))
        runner.tidy(outcome)
        status.end(deadline)  # not before: a call that is in no outcome and was in no slot is run again
        now_s = outcome.finished_s
        if not 0 <= now_s - rung_s < BELL_AFTER_S:
            lane.ring()
            rung_s = now_s
    lane.ring()
    status.retire(time.monotonic() + _LEAVE_WITHIN_S)
    poke(signed)
    return EXIT_RETIRED


def _begin(call: PackedCall, status: Status, poke: Callable[[bytes], object], signed: bytes) -> float:
    """Note that a call starts; tell the supervisor if it must look at the clock for it."""
    if not call.timeout_s:
        status.begin(call.number, NEVER)
        return NEVER
    deadline = time.monotonic() + call.timeout_s
    status.begin(call.number, deadline)
    if deadline < status.armed:
        poke(signed)
    return deadline


def _no_outcome(failure: bytes) -> Outcome:
    now_s = time.time()
    return Outcome(0, 0, Verdict.RAISED, now_s, now_s, 0.0, 0, failure)


def _ignore(_signal: int, _frame: object) -> None:
    """Ctrl-C is the client's business; its supervisor tells us what follows from it."""


def _leave(exitcode: int) -> NoReturn:
    """Run what user code registered for the end, then go without waiting for its threads."""
    try:
        atexit._run_exitfuncs()
    finally:
        os._exit(exitcode)
