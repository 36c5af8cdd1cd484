"""LocalExecutor: the real worker in processes on this machine.

Called by: users.   Calls: base.py, backends.local.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from cloudexec.backends.local.backend import LocalBackend
from cloudexec.backends.local.scratch import make_roots, remove_roots
from cloudexec.engine.engine import Engine
from cloudexec.executors.base import CloudExecutor, Core, OnError, checked_env
from cloudexec.executors.settings import checked_initializer, positive, positive_or_none
from cloudexec.ids import new_run_id
from cloudexec.ledger.calls import CallOptions, Retry
from cloudexec.ledger.ledger import Ledger, Limits
from cloudexec.serialization.blobs import BlobBook
from cloudexec.serialization.packer import Packer
from cloudexec.store.directory import DirectoryStore
from cloudexec.store.memory import address_of
from cloudexec.wire.control import Setup
from cloudexec.wire.envelope import Seal, new_key

if TYPE_CHECKING:
    from cloudexec.serialization.shipping import Modules

INLINE_BYTES: Final = 1 << 20  # of an argument: a pipe carries this as fast as a file does
RESULT_INLINE_BYTES: Final = 1 << 17  # results are signed whole, which takes longer than a file


class LocalExecutor(CloudExecutor):
    """Runs calls in worker processes on this machine; made for development and unit tests, and fast.

    max_workers: calls at once; the CPUs that this process may use by default.
    initializer, initargs: run in each process before its first call; an error breaks the executor.
    max_tasks_per_child: calls after which a process is replaced by a fresh one.
    timeout_s, retries, env, name: defaults for all calls, see `with_options`.
    store_dir: where large arguments and results lie meanwhile; shared memory by default, then the temporary
    directory. on_error: see CloudExecutor. modules: None, as workers import from where this process does; or what is
    to travel as it does to a cloud: "auto", or names and paths of modules (docs/modules.md).

    Nothing is started before the first call. Functions and arguments may be lambdas, local classes, and whatever
    else cloudpickle takes. Errors: SettingsError.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
        timeout_s: float | None = None,
        retries: int | Retry = Retry(),  # noqa: B008 - frozen
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        store_dir: str | os.PathLike[str] | None = None,
        modules: Modules = None,
        on_error: OnError = "wait",
    ) -> None:
        n_workers = usable_cpus() if max_workers is None else positive("max_workers", max_workers)
        max_tasks = positive_or_none("max_tasks_per_child", max_tasks_per_child)
        initializer = checked_initializer(initializer)
        options = CallOptions(
            timeout_s=timeout_s, retry=Retry.of(retries), env=checked_env(env) if env else None, name=name
        )
        run = _Run(None if store_dir is None else os.fspath(store_dir), modules)
        try:
            core = run.core(n_workers, max_tasks, initializer, initargs)
            super().__init__(core, options, on_error)
        except BaseException:  # a wrong setting leaves nothing behind
            run.abandon()
            raise


class _Run:
    """Puts together what one run needs."""

    def __init__(self, store_dir: str | None, modules: Modules) -> None:
        self._id = new_run_id()
        self._key = new_key()
        self._store = DirectoryStore(make_roots(self._id, store_dir))
        self._packer = Packer(BlobBook(self._store, address_of), INLINE_BYTES, modules)
        self._backend: LocalBackend | None = None

    def core(
        self,
        max_workers: int,
        max_tasks: int | None,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
    ) -> Core:
        """The executor's inside."""
        packed = self._packer.pack_initializer(initializer, initargs)[0] if initializer else b""

        def setup_for(worker_id: str) -> Setup:
            return Setup(
                run_id=self._id,
                worker_id=worker_id,
                key_hex=self._key.hex(),
                client_pid=os.getpid(),
                store_roots=list(self._store.roots),
                python_path=[path or os.getcwd() for path in sys.path],
                python_version="{}.{}".format(*sys.version_info[:2]),
                max_tasks_per_child=max_tasks or 0,
                initializer=base64.b64encode(packed).decode(),
                inline_bytes=RESULT_INLINE_BYTES,
            )

        backend = self._backend = LocalBackend(setup_for, Seal(self._key), self._store)
        ledger = Ledger(Limits(max_lanes=max_workers, max_tasks_per_lane=max_tasks), backend.pace)
        return Core(Engine(self._id, ledger, backend, self._packer.release), self._packer, max_workers)

    def abandon(self) -> None:
        """Remove what was made, for an executor that will not be."""
        if self._backend is not None:
            self._backend.stop(0.0)
        else:
            remove_roots([*self._store.roots])


def usable_cpus() -> int:
    """CPUs that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
