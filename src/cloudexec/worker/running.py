"""One call: load it, call it, pack what came of it.

Called by: slot.py.   Calls: serialization (load, pack), capture, hygiene, modules, the store for what is large.
Nothing that was unpickled serves two calls, except functions that provably hold no state.
"""

from __future__ import annotations

import os
import pickle
import resource
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from cloudexec.errors import CloudexecError, UnpicklableResult, VersionMismatch
from cloudexec.ids import BlobRef
from cloudexec.serialization.failures import pack_failure, shown
from cloudexec.serialization.loading import load
from cloudexec.serialization.mainglobals import take_born
from cloudexec.serialization.pickling import PROTOCOL, Pickled, dumps, outside
from cloudexec.serialization.warned import Collector
from cloudexec.store.protocol import Store
from cloudexec.wire.messages import Batch, Outcome, PackedCall, PackedFunction, ShippedModule, Verdict, decode_batch
from cloudexec.wire.parts import Part, pack_parts
from cloudexec.worker.capture import Capture
from cloudexec.worker.hygiene import Hygiene
from cloudexec.worker.modules import ModuleShelf
from cloudexec.worker.printing import OutputLog
from cloudexec.worker.system import reset_peak_memory

_PLAIN: Final = frozenset({int, float, complex, bool, type(None)})
_PYTHON: Final = (sys.version_info.major, sys.version_info.minor)
_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024
_PEAK_STEP: Final = 1 << 20
_BRIEF_S: Final = 0.0001  # too short to use much memory, or to wait: measuring it would take as long
_LONG_S: Final = 0.0005  # a call that started a process took longer than this
_MOST_FUNCTIONS: Final = 128


class Runner:
    """Runs calls in this process, one after another.

    modules_dir: where the user's modules are unpacked; the worker's slots share it. output: the worker's log.
    """

    def __init__(
        self,
        store: Store,
        inline_bytes: int,
        stderr: int = -1,
        modules_dir: str = "",
        output: OutputLog | None = None,
    ) -> None:
        self._store = store
        self._output = output
        self._modules = ModuleShelf(modules_dir or _own_modules_dir(), self._fetch)
        self._inline_bytes = inline_bytes
        self._functions: OrderedDict[bytes, Callable[..., Any]] = OrderedDict()
        self._pinned: dict[str, Any] = {}
        self._pid = os.getpid()
        self._peak = 0
        self._capture = Capture(stderr)
        self._warned = Collector()
        self._hygiene = Hygiene()

    def run(self, call: PackedCall, batch: Batch) -> Outcome:
        """Run one call to its end. Never raises: whatever happens becomes the outcome."""
        started_s, cpu_s = time.time(), time.process_time()
        if call.env:
            os.environ.update(call.env)
        verdict, value = self._attempt(call, batch)
        finished_s = time.time()
        elapsed_s = finished_s - started_s
        cpu_s = time.process_time() - cpu_s if elapsed_s > _BRIEF_S else elapsed_s
        if os.getpid() != self._pid:  # the call forked, and its child came back out of the call
            os._exit(0)
        out = self._take_output(call.number)
        peak = self._peak_rss() if elapsed_s > _BRIEF_S else self._peak
        return Outcome(call.number, call.attempt, verdict, started_s, finished_s, cpu_s, peak, value, out)

    def tidy(self, outcome: Outcome) -> None:
        """Put back what the call has changed. Its outcome is on its way already."""
        self._hygiene.restore()
        if outcome.finished_s - outcome.started_s > _LONG_S:
            self._after_long_call()

    def initialize(self, packed: bytes) -> bytes | None:
        """Run the initializer, pinning what it binds in `__main__`; a packed failure if it raises."""
        try:
            batch = decode_batch(packed)
            _check_versions(batch)
            (call,) = batch.calls
            self._modules.provide(call.function.modules)
            initializer, initargs = load(call.packed, self._fetch)[1].values()
            born = take_born()
            before = [dict(namespace) for namespace in born]
            initializer(*initargs)
        except BaseException as error:
            return pack_failure(error, own_frames=1)
        for old, namespace in zip(before, born, strict=False):
            self._pinned |= {k: v for k, v in namespace.items() if k not in old or old[k] is not v}
        self._pinned.pop("__builtins__", None)
        self._capture.take()
        self._hygiene = Hygiene()  # what the initializer set up is how things shall be
        return None

    def _attempt(self, call: PackedCall, batch: Batch) -> tuple[Verdict, bytes]:
        try:
            _check_versions(batch)
            if call.function.modules:
                self._provide(call.function.modules)
            function = self._function(call.function)
            args, kwargs = load(call.packed, self._fetch, call.attachments)
            self._bind_pinned()
        except BaseException as error:
            return Verdict.REFUSED, pack_failure(error, own_frames=1)
        try:
            result = function(*args, **kwargs) if kwargs else function(*args)
        except BaseException as error:
            return Verdict.RAISED, pack_failure(error, own_frames=1)
        return self._pack_result(result)

    def _provide(self, modules: tuple[ShippedModule, ...]) -> None:
        if self._modules.provide(modules):
            self._functions.clear()
            self._hygiene.keep_path()

    def _function(self, packed: PackedFunction) -> Callable[..., Any]:
        function = self._functions.get(packed.digest)
        if function is None:
            function = load(packed.packed, self._fetch)
            if packed.traits.stateless and not self._pinned:
                self._functions[packed.digest] = function
                if len(self._functions) > _MOST_FUNCTIONS:
                    self._functions.popitem(last=False)
        return function

    def _bind_pinned(self) -> None:
        for namespace in take_born():
            namespace.update(self._pinned)

    def _pack_result(self, result: object) -> tuple[Verdict, bytes]:
        if type(result) in _PLAIN:
            return Verdict.RETURNED, pack_parts((pickle.dumps(result, PROTOCOL),))
        try:
            pickled = dumps(result)
            if not _loads_for_sure(result):
                pickle.loads(pickled.stream, buffers=pickled.buffers)
            if len(pickled.stream) > self._inline_bytes:
                pickled = outside(pickled)
            return Verdict.RETURNED, pack_parts(self._divert(pickled))
        except CloudexecError as error:
            return Verdict.REFUSED, pack_failure(error)
        except BaseException as error:
            problem = UnpicklableResult(f"the result, a {type(result).__qualname__}, does not pickle: {shown(error)}")
            problem.__cause__ = error
            return Verdict.REFUSED, pack_failure(problem)

    def _divert(self, pickled: Pickled) -> list[Part]:
        """Parts of a pickle, the large ones in the store. Read once, so a random name does instead of a hash."""
        parts: list[Part] = []
        inline = 0
        pieces: tuple[bytes | memoryview, ...] = (pickled.stream, *pickled.buffers)
        for piece in pieces:
            inline += len(piece)
            if inline > self._inline_bytes and len(piece) >= 1 << 16:
                ref = BlobRef.unhashed(len(piece))
                self._store.put(ref.name, [piece])
                parts.append(ref)
                inline -= len(piece)
            else:
                parts.append(piece)
        return parts

    def _take_output(self, number: int) -> bytes:
        stdout, stderr = self._capture.take()
        if self._output is not None and (stdout or stderr):
            self._output.tell(number, stdout, stderr)
        warned = self._warned.take()
        if not stdout and not stderr and not warned:
            return b""
        try:
            others = [memoryview(stderr), *([memoryview(warned)] if warned else [])]
            return pack_parts(self._divert(Pickled(stdout, others, "")))
        except CloudexecError:  # the store is full: what the call returned matters more
            return pack_parts([stdout[-65536:], stderr[-65536:]])

    def _after_long_call(self) -> None:
        self._capture.repair_input()
        if _has_children():
            self._capture.renew()

    def _peak_rss(self) -> int:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
        if peak > self._peak + _PEAK_STEP:
            reset_peak_memory()  # so that the next call shows its own peak, not this one's
            self._peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
        return peak

    def _fetch(self, ref: BlobRef) -> memoryview:
        return self._store.get(ref.name)


def _own_modules_dir() -> str:
    """A place for a slot that was given none."""
    return os.path.join(os.environ.get("TMPDIR", "/tmp"), f"cloudexec-modules-{os.getpid()}-{os.urandom(6).hex()}")


def _check_versions(batch: Batch) -> None:
    if batch.python != _PYTHON:
        theirs, ours = (".".join(map(str, version)) for version in (batch.python, _PYTHON))
        raise VersionMismatch(f"the client runs Python {theirs}, this worker Python {ours}")
    if batch.pickler:
        import cloudpickle

        if cloudpickle.__version__ != batch.pickler:
            ours = cloudpickle.__version__
            raise VersionMismatch(f"the client uses cloudpickle {batch.pickler}, this worker cloudpickle {ours}")


def _loads_for_sure(result: object) -> bool:
    """Whether unpickling cannot fail, so that trying would be a waste."""
    kind = type(result)
    if kind in (str, bytes):
        return True
    return (
        kind.__module__ == "numpy" and kind.__qualname__ == "ndarray" and not result.dtype.hasobject  # type: ignore[attr-defined]  # it is an array
    )


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
