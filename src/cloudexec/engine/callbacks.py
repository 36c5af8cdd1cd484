"""A thread for users' callbacks: they may block, submit, or wait for other calls; the engine must not.

Called by: engine.py.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from cloudexec.future import SIGNALS_WITHIN_S

_log = logging.getLogger("cloudexec")


class CallbackThread:
    """Runs jobs one after another; starts with the first."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def post(self, job: Callable[[], object]) -> None:
        """Run `job` soon; after `close`, at once on this thread."""
        with self._lock:
            if not self._closed:
                self._jobs.put(job)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="cloudexec-callbacks", daemon=True)
                    self._thread.start()
                return
        job()

    def close(self) -> None:
        """End when what was posted has run."""
        with self._lock:
            self._closed = True
            self._jobs.put(None)

    def join(self) -> None:
        """Wait for the end, unless called by a callback itself."""
        if self._thread is not None and self._thread is not threading.current_thread():
            while self._thread.is_alive():
                self._thread.join(SIGNALS_WITHIN_S)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except BaseException:  # e.g. SystemExit; the standard library has logged and dropped any Exception
                _log.exception("a callback raised what would have ended its thread")
            del job  # it holds the future, and so the result
