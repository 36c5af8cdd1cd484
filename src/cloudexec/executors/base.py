"""What every executor does: submit, map, options, shutdown.

Called by: users; local.py derives from it, and so will the others.   Calls: serialization, engine, future.
A call is packed on the caller's thread, so it gets its arguments as they were at the moment of `submit`.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Mapping as MappingType
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, TypeVar

from cloudexec.backends.protocol import OutboundCall
from cloudexec.engine.engine import Engine
from cloudexec.errors import (
    CloudexecError,
    ExecutorClosed,
    ExecutorForked,
    ExecutorNotPicklable,
    SettingsError,
)
from cloudexec.executors.mapping import Harvest, Mapping, zipped
from cloudexec.future import Future
from cloudexec.ids import BlobRef
from cloudexec.ledger.calls import CallOptions, Retry
from cloudexec.ledger.pace import Estimate
from cloudexec.observe.run import RunFacts
from cloudexec.serialization.functions import arguments_hook
from cloudexec.serialization.packer import Packer

if TYPE_CHECKING:
    from cloudexec.serialization.explaining import Explanation

P = ParamSpec("P")
T = TypeVar("T")

OnError = Literal["wait", "cancel", "kill"]
_ON_ERROR: Final = ("wait", "cancel", "kill")


class Submits(Executor):
    """`submit` and `map` with certain options: an executor, or a view of one."""

    _core: Core
    _options: CallOptions

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule `fn(*args, **kwargs)` and return its future.

        What cannot be pickled becomes the future's exception (UnpicklableArgument).
        Errors: ExecutorClosed after shutdown, a BrokenExecutor when no worker can be used any more.
        """
        return self._core.submit(self._options, fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Results of `fn` over the inputs, in their order.

        Calls are submitted at once; with `buffersize`, at most so many are open and inputs are read as results are
        taken, so that inputs may be endless. `chunksize` calls travel together; None adapts to how long they take.
        `timeout` counts seconds from this call.
        Errors: SettingsError; on its turn a call's own exception, or TimeoutError: then the rest is cancelled.
        """
        if chunksize is not None and chunksize < 1:
            raise SettingsError("chunksize must be >= 1.")
        if buffersize is not None and (not isinstance(buffersize, int) or buffersize < 1):
            kind = SettingsError if isinstance(buffersize, int) else TypeError
            raise kind("buffersize must be None or >= 1.")
        options = self._options if chunksize is None else replace(self._options, batch=chunksize)
        return self._core.map(options, fn, iterables, timeout, buffersize, self._owner())

    def with_options(
        self,
        *,
        timeout_s: float | None = None,
        retries: int | Retry | None = None,
        env: MappingType[str, str] | None = None,
        name: str | None = None,
    ) -> View:
        """The same executor, with other options for what is submitted through the view.

        timeout_s: a call that runs longer is killed (CallTimeout). retries: an int for whatever the call does
        wrong, or a Retry by cause. env: environment variables for the call, added to those of the executor.
        name: stands in errors and logs. Options that are not given stay as they are. Errors: SettingsError.
        """
        changes: dict[str, Any] = {}
        if timeout_s is not None:
            changes["timeout_s"] = timeout_s
        if retries is not None:
            changes["retry"] = Retry.of(retries)
        if env is not None:
            changes["env"] = {**(self._options.env or {}), **checked_env(env)}
        if name is not None:
            changes["name"] = name
        return View(self._owner(), replace(self._options, **changes))

    def explain(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Explanation:
        """What would travel if `fn(*args, **kwargs)` were submitted, and why: print it. Nothing runs."""
        from cloudexec.serialization.explaining import explain_function

        return explain_function(self._core.packer, fn, args, kwargs)

    def _owner(self) -> CloudExecutor:
        raise NotImplementedError

    @property
    def run(self) -> RunFacts:
        """The run's id and counts, as of now."""
        return self._core.facts()

    @property
    def max_workers(self) -> int:
        """How many calls can run at once."""
        return self._core.max_workers

    @property
    def _max_workers(self) -> int:  # dask and others read this
        return self._core.max_workers

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; end when the open ones are over. `cancel_futures`: drop what has not started."""
        self._core.shutdown(wait=wait, cancel=cancel_futures)

    def terminate_workers(self) -> None:
        """Kill running calls (CallStopped), cancel the others, and shut down without waiting."""
        self._core.shutdown(wait=False, cancel=True, kill=True)

    kill_workers = terminate_workers

    def __reduce__(self) -> str:
        raise ExecutorNotPicklable(f"{self!r} cannot be pickled")


class View(Submits):
    """An executor seen with other options. Shutting it down shuts the executor down."""

    def __init__(self, executor: CloudExecutor, options: CallOptions) -> None:
        self._executor = executor  # which lives as long as its views
        self._core = executor._core
        self._options = options

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> Literal[False]:
        return self._executor.__exit__(kind, error, frames)

    def __repr__(self) -> str:
        return f"<view of {self._core!r}>"

    def _owner(self) -> CloudExecutor:
        return self._executor


class CloudExecutor(Submits):
    """Base of all executors. on_error: what `__exit__` does with open calls when the body raised: "wait" for them
    (as the standard library does), "cancel" what has not started, or "kill" all. Ctrl-C always kills."""

    def __init__(self, core: Core, options: CallOptions, on_error: OnError) -> None:
        if on_error not in _ON_ERROR:
            raise SettingsError(f"on_error={on_error!r} is unknown", remedy=f"use one of {', '.join(_ON_ERROR)}")
        self._core = core
        self._options = options
        self._on_error = on_error
        # A forgotten executor ends by itself, once its calls are over.
        self._finalizer = weakref.finalize(self, core.abandon)
        self._finalizer.atexit = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> Literal[False]:
        what = "wait" if kind is None else self._on_error if issubclass(kind, Exception) else "kill"
        try:
            self._core.shutdown(wait=True, cancel=what != "wait", kill=what == "kill")
        except KeyboardInterrupt:
            self._core.shutdown(wait=True, cancel=True, kill=True)  # soon over; a second Ctrl-C does not wait
            raise
        return False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core!r}>"

    def _owner(self) -> CloudExecutor:
        return self


class Core:
    """What an executor and its views share.

    attach: whether buffers travel beside messages (pipes) or in them (queues). prepare: called before the first
    submission; may raise what is wrong with the settings.
    """

    def __init__(
        self,
        engine: Engine,
        packer: Packer,
        max_workers: int,
        *,
        attach: bool = True,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        self.engine = engine
        self.packer = packer
        self.max_workers = max_workers
        self._attach = attach
        self._prepare = prepare
        self._numbers = count(1)
        self._estimates: dict[int, Estimate] = {}
        self._closed = False

    def submit(
        self, options: CallOptions, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        """See Submits.submit."""
        self._check_usable()
        future: Future[Any] = Future(self.engine, number := next(self._numbers), time.time())
        refs: tuple[BlobRef, ...] = ()
        try:
            if (hook := arguments_hook(fn)) is not None:
                args, kwargs = hook(args, kwargs)
            function, refs = self.packer.pack_function(fn)
            packed = self.packer.pack_arguments(args, kwargs, attach=self._attach)
            if packed.modules:
                function = self.packer.with_modules(function, packed.modules)
        except CloudexecError as error:
            self.packer.release(refs)
            self.engine.counts["failed"] += 1
            future.set_exception(error)
            return future
        call = OutboundCall(
            number,
            self._estimate(fn),
            options,
            function,
            packed.packed,
            refs + packed.refs,
            packed.pickler,
            future,
            packed.attachments,
        )
        future._call = call
        self.engine.submit([call])
        return future

    def map(
        self,
        options: CallOptions,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        timeout_s: float | None,
        window: int | None,
        executor: CloudExecutor,
    ) -> Iterator[Any]:
        """See Submits.map."""
        self._check_usable()
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        inputs, pure = zipped(iterables)
        function = self._packed_or_error(fn)
        make_calls = partial(self._make_calls, options, fn, function, pure)
        release = partial(self.packer.release, () if isinstance(function, CloudexecError) else function[1])
        # With a window the iterator goes on submitting, so it keeps the executor from being collected.
        submit = self._submit_open if window is None else partial(self._submit_open, executor=executor)
        mapping = Mapping(make_calls, submit, self.engine.drop, release, inputs, pure, window, deadline_s)
        return mapping.results()

    def warm(self) -> None:
        """Have workers started before the first submission."""
        self._check_usable()
        self.engine.warm(self.max_workers)

    def detach(self) -> None:
        """Leave the run to its workers. Errors: ExecutorClosed; SettingsError while calls run in larger ones."""
        self._check_usable()
        if n_lent := self.engine.n_lent:
            what = f"{n_lent} calls that ran out of memory run in larger containers, and nobody could attach to them"
            raise SettingsError(what, remedy="wait for them, or stop them, before detach()")
        self._closed = True
        self.engine.detach()

    def restore(self, calls: list[OutboundCall]) -> list[Future[Any]]:
        """Futures for calls of an earlier client; later calls are numbered on from theirs."""
        now_s = time.time()
        futures = []
        for call in calls:
            future: Future[Any] = Future(self.engine, call.number, now_s)
            future._call = call
            call.sink = future
            futures.append(future)
        self._numbers = count(max((call.number for call in calls), default=0) + 1)
        return futures

    def _make_calls(
        self,
        options: CallOptions,
        fn: Callable[..., Any],
        packed_function: tuple[Any, tuple[Any, ...]] | CloudexecError,
        pure: bool,
        arguments: list[tuple[Any, ...]],
        harvest: Harvest,
    ) -> list[OutboundCall | CloudexecError]:
        """Calls for `arguments`; an error takes the place of one that cannot be packed."""
        if isinstance(packed_function, CloudexecError):
            self.engine.counts["failed"] += len(arguments)
            return [packed_function] * len(arguments)
        function, function_refs = packed_function
        estimate, pack, numbers = self._estimate(fn), self.packer.pack_arguments, self._numbers
        hook = arguments_hook(fn)
        calls: list[OutboundCall | CloudexecError] = []
        with self.packer.trusting() if pure else nullcontext():
            for args in arguments:
                try:
                    if hook is not None:
                        args, _ = hook(args, {})
                    packed, refs, pickler, attachments, modules = pack(args, {}, attach=self._attach)
                except CloudexecError as error:
                    self.engine.counts["failed"] += 1
                    calls.append(error)
                    continue
                if function_refs:
                    self.packer.add_use(function_refs)
                    refs += function_refs
                called = self.packer.with_modules(function, modules) if modules else function
                calls.append(
                    OutboundCall(next(numbers), estimate, options, called, packed, refs, pickler, harvest, attachments)
                )
        return calls

    def _packed_or_error(self, fn: Callable[..., Any]) -> tuple[Any, tuple[Any, ...]] | CloudexecError:
        try:
            return self.packer.pack_function(fn)
        except CloudexecError as error:
            return error

    def _submit_open(self, calls: list[OutboundCall], executor: CloudExecutor | None = None) -> None:
        self._check_usable()
        self.engine.submit(calls)

    def _estimate(self, fn: Callable[..., Any]) -> Estimate:
        while isinstance(fn, partial):
            fn = fn.func
        key = id(getattr(fn, "__code__", fn))  # an id that is used again only mixes two estimates for a while
        found = self._estimates.get(key)
        if found is None:
            found = self._estimates[key] = Estimate()
        return found

    def _check_usable(self) -> None:
        self._check_open()
        if self._prepare is not None:
            self._prepare()
            self._prepare = None

    def _check_open(self) -> None:
        if self.engine.pid != os.getpid():
            raise ExecutorForked(f"run {self.engine.run_id} belongs to process {self.engine.pid}, this is a fork")
        if self.engine.breakdown is not None:
            raise self.engine.breakdown
        if self._closed or self.engine.is_closing:
            raise ExecutorClosed

    def shutdown(self, *, wait: bool, cancel: bool = False, kill: bool = False) -> None:
        """See Submits.shutdown."""
        if self.engine.pid != os.getpid():
            return
        self._closed = True
        self.engine.close(cancel=cancel, kill=kill)
        if wait:
            self.engine.join()

    def abandon(self) -> None:
        """The executor was collected as garbage."""
        if not self._closed and self.engine.pid == os.getpid():
            self._closed = True
            self.engine.close()

    def facts(self) -> RunFacts:
        """See Submits.run."""
        return facts_of(self.engine)

    def __repr__(self) -> str:
        state = " closed" if self._closed else ""
        return f"max_workers={self.max_workers}{state} {self.facts()!r}"


def facts_of(engine: Engine) -> RunFacts:
    """What an engine's counters say."""
    counts = dict(engine.counts)
    running = 0 if engine.pid != os.getpid() else engine.n_running()
    return RunFacts(
        id=engine.run_id,
        pending=max(0, engine.n_open - running),
        running=running,
        done=counts.get("done", 0),
        failed=counts.get("failed", 0),
        cancelled=counts.get("cancelled", 0),
        batches=engine.ledger.placed_batches,
        slots=engine.ledger.n_lanes,
    )


def checked_env(env: MappingType[str, str]) -> dict[str, str]:
    """Environment variables as the operating system takes them. Errors: SettingsError."""
    if not isinstance(env, MappingType):
        raise SettingsError(f"env={env!r} is not a mapping", remedy="give a dict of names and values")
    for key, value in env.items():
        if not isinstance(key, str) or not isinstance(value, str):
            what = f"env[{key!r}]={value!r} is not text"
            raise SettingsError(what, remedy="give names and values as str")
        if not key or "=" in key or "\0" in key + value:
            raise SettingsError(f"{key!r} is not a name of an environment variable")
    return dict(env)
