"""One way to drive each executor: ours, ProcessPoolExecutor, loky, joblib.

Called by: measures.py.   Calls: the executors, each imported only in the process that measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, as_completed
from typing import Any, Final, Protocol

N_WORKERS: Final = 2

Fn = Callable[..., Any]
Arguments = Sequence[tuple[Any, ...]]


class Peer(Protocol):
    """What a measure asks of an executor; each method waits for all its calls."""

    def call(self, fn: Fn, *args: Any) -> Any:
        """One call."""
        ...

    def map(self, fn: Fn, *iterables: Iterable[Any], **options: Any) -> list[Any]:
        """All results in order, by the peer's own `map`."""
        ...

    def submit_all(self, fn: Fn, arguments: Arguments) -> list[Any]:
        """One `submit` a call, then all results in order."""
        ...

    def in_order_of_completion(self, fn: Fn, arguments: Arguments) -> list[Any]:
        """One `submit` a call, then results as they come."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...


class FuturesPeer:
    """Any `concurrent.futures.Executor`."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def call(self, fn: Fn, *args: Any) -> Any:
        """See Peer."""
        return self.submit(fn, *args).result()

    def map(self, fn: Fn, *iterables: Iterable[Any], **options: Any) -> list[Any]:
        """See Peer."""
        return list(self.executor.map(fn, *iterables, **options))

    def submit_all(self, fn: Fn, arguments: Arguments) -> list[Any]:
        """See Peer."""
        futures = [self.submit(fn, *args) for args in arguments]
        return [future.result() for future in futures]

    def in_order_of_completion(self, fn: Fn, arguments: Arguments) -> list[Any]:
        """See Peer."""
        futures = [self.submit(fn, *args) for args in arguments]
        return [future.result() for future in as_completed(futures)]

    def submit(self, fn: Fn, *args: Any) -> Future[Any]:
        """A future."""
        return self.executor.submit(fn, *args)

    def close(self) -> None:
        """See Peer."""
        self.executor.shutdown(wait=True, cancel_futures=True)


class LokyPeer(FuturesPeer):
    """loky, whose `shutdown` has arguments of its own."""

    def close(self) -> None:
        """See Peer."""
        self.executor.shutdown(wait=True, kill_workers=True)  # type: ignore[call-arg]  # loky's own


class JoblibPeer:
    """joblib.Parallel, kept open between calls; it has no futures."""

    def __init__(self) -> None:
        import joblib

        self._delayed = joblib.delayed
        self._parallel = joblib.Parallel(n_jobs=N_WORKERS)
        self._unordered = joblib.Parallel(n_jobs=N_WORKERS, return_as="generator_unordered")
        self._parallel.__enter__()

    def call(self, fn: Fn, *args: Any) -> Any:
        """See Peer."""
        return self.submit_all(fn, [args])[0]

    def map(self, fn: Fn, *iterables: Iterable[Any], **options: Any) -> list[Any]:
        """See Peer."""
        assert not options
        return self.submit_all(fn, zip(*iterables, strict=False))

    def submit_all(self, fn: Fn, arguments: Iterable[tuple[Any, ...]]) -> list[Any]:
        """See Peer."""
        delayed = self._delayed(fn)
        return list(self._parallel(delayed(*args) for args in arguments))

    def in_order_of_completion(self, fn: Fn, arguments: Arguments) -> list[Any]:
        """See Peer."""
        delayed = self._delayed(fn)
        return list(self._unordered(delayed(*args) for args in arguments))

    def close(self) -> None:
        """See Peer."""
        self._parallel.__exit__(None, None, None)


def open_ours() -> FuturesPeer:
    """LocalExecutor."""
    from cloudexec import LocalExecutor

    return FuturesPeer(LocalExecutor(N_WORKERS))


def open_process_pool() -> FuturesPeer:
    """ProcessPoolExecutor, which is fastest with fork."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    return FuturesPeer(ProcessPoolExecutor(N_WORKERS, mp_context=get_context("fork")))


def open_loky() -> FuturesPeer:
    """loky's reusable executor."""
    import loky

    return LokyPeer(loky.get_reusable_executor(max_workers=N_WORKERS))


OPEN: Final[dict[str, Callable[[], Peer]]] = {
    "ours": open_ours,
    "ProcessPool": open_process_pool,
    "loky": open_loky,
    "joblib": JoblibPeer,
}
