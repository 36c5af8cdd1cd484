"""Blobs on their way to S3: `submit` goes on at once, and a batch is sent when all that it refers to has arrived.

Called by:  serialization's BlobBook (put_blob, is_same, delete); a backend, before it sends a batch (wait, when_done).
Calls:      the store, from a few threads of its own.

            put_blob --small: copied--> queue, at most 64 MiB --> threads --> store.put --> when_done's callbacks
                     --large: put here and now, because copying it would cost more memory than waiting costs time

An upload that fails is told to whoever waits for it; the next `put_blob` of the same bytes tries again.
"""

from __future__ import annotations

import copy
import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from cloudexec.errors import CloudexecError, ExecutorClosed
from cloudexec.ids import BlobRef
from cloudexec.store.protocol import Bytes

Callback = Callable[[CloudexecError | None], object]
ASIDE_BYTES: Final = 4 << 20  # larger ones are uploaded by the caller
_WAITING_BYTES: Final = 64 << 20  # copies that lie here at most; then the caller waits
_THREADS: Final = 4  # one keeps a connection busy for about 25 ms


class Remote(Protocol):
    """What Uploads needs of a store; S3Store has it."""

    def put(self, name: str, pieces: Sequence[Bytes]) -> None:
        """Write."""
        ...

    def delete(self, name: str) -> None:
        """Remove."""
        ...


class Uploads:
    """Writes blobs in the background, each once. Thread-safe.

    One lock guards everything; neither an upload nor a callback ever runs under it.
    """

    def __init__(self, store: Remote) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._change = threading.Condition(self._lock)  # an upload is over, or there is one more, or all is closed
        self._blobs: dict[str, _Blob] = {}
        self._leaving: set[str] = set()  # is being deleted: an upload of the same would be overtaken
        self._queue: deque[tuple[_Blob, bytes]] = deque()
        self._waiting_bytes = 0
        self._threads: list[threading.Thread] = []
        self._n_idle = 0
        self._is_closed = False

    def put_blob(self, content: memoryview) -> BlobRef:
        """The blob of these bytes; they may change as soon as this returns. Waits while too much is on its way.

        Errors: AwsError for a large one; a small one's comes from `wait`. ExecutorClosed.
        """
        ref = BlobRef(hashlib.sha256(content).digest(), content.nbytes)
        with self._lock:
            self._change.wait_for(lambda: self._is_closed or self._may_begin(ref))
            if self._is_known(ref.name):
                return ref
            if self._is_closed:
                raise ExecutorClosed(f"{ref.name} came after the uploads were closed")
            blob = self._blobs[ref.name] = _Blob(ref.name)
            if ref.size <= ASIDE_BYTES:
                self._enqueue(blob, bytes(content))
                return ref
        self._upload(blob, content)
        if blob.error is not None:
            raise _fresh(blob.error)
        return ref

    def is_same(self, name: str, content: memoryview) -> bool:
        """Whether these bytes are, or will be, under `name`: a blob's name is the hash of its bytes."""
        with self._lock:
            if not self._is_known(name):
                return False
        return name == BlobRef(hashlib.sha256(content).digest(), content.nbytes).name

    def delete(self, name: str) -> None:
        """Remove a blob; one that is on its way arrives first, so that it does not come back."""
        with self._lock:
            while (blob := self._blobs.get(name)) is not None and not blob.is_over:
                self._change.wait()
            self._blobs.pop(name, None)
            self._leaving.add(name)
        try:
            self._store.delete(name)
        finally:
            with self._lock:
                self._leaving.discard(name)
                self._change.notify_all()

    def is_done(self, name: str) -> bool:
        """Whether nothing of it is on its way: it has arrived, has failed, or was never given to these uploads."""
        with self._lock:
            blob = self._blobs.get(name)
            return blob is None or blob.is_over

    def wait(self, names: Iterable[str], timeout_s: float | None = None) -> bool:
        """Until all have arrived; False when that took longer. Errors: what the first of them failed with."""
        with self._lock:
            blobs = [self._blobs[name] for name in names if name in self._blobs]
            if not self._change.wait_for(lambda: all(blob.is_over for blob in blobs), timeout_s):
                return False
        for blob in blobs:
            if blob.error is not None:
                raise _fresh(blob.error)
        return True

    def when_done(self, name: str, callback: Callback) -> None:
        """Call `callback` with None when the blob has arrived, or with the error: at once if it is over already,
        else from a thread of ours. It must not raise and should be quick.
        """
        with self._lock:
            blob = self._blobs.get(name)
            if blob is not None and not blob.is_over:
                blob.callbacks.append(callback)
                return
        callback(None if blob is None or blob.error is None else _fresh(blob.error))

    def close(self, *, abandon: bool = False) -> None:
        """End the threads, after what is queued has been uploaded; or, to `abandon`, after what is under way."""
        with self._lock:
            self._is_closed = True
            dropped = [blob for blob, _ in self._queue] if abandon else []
            if abandon:
                self._queue.clear()
                self._waiting_bytes = 0
            self._change.notify_all()
        for blob in dropped:
            self._settle(blob, ExecutorClosed(f"{blob.name} was still to be uploaded when the executor was closed"))
        for thread in self._threads:
            if thread is not threading.current_thread():  # a callback may close us
                thread.join()

    def _may_begin(self, ref: BlobRef) -> bool:
        if ref.name in self._leaving:
            return False
        has_room = ref.size > ASIDE_BYTES or self._waiting_bytes + ref.size <= _WAITING_BYTES
        return has_room or self._is_known(ref.name)

    def _is_known(self, name: str) -> bool:
        blob = self._blobs.get(name)
        return blob is not None and blob.error is None

    def _enqueue(self, blob: _Blob, content: bytes) -> None:
        self._queue.append((blob, content))
        self._waiting_bytes += len(content)
        if len(self._queue) > self._n_idle and len(self._threads) < _THREADS:
            thread = threading.Thread(target=self._run, name="cloudexec-upload", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._change.notify_all()

    def _run(self) -> None:
        while (item := self._take()) is not None:
            blob, content = item
            self._upload(blob, content)
            with self._lock:
                self._waiting_bytes = max(0, self._waiting_bytes - len(content))
                self._change.notify_all()

    def _take(self) -> tuple[_Blob, bytes] | None:
        with self._lock:
            self._n_idle += 1
            while not self._queue and not self._is_closed:
                self._change.wait()
            self._n_idle -= 1
            return self._queue.popleft() if self._queue else None

    def _upload(self, blob: _Blob, content: Bytes) -> None:
        error: CloudexecError | None = None
        try:
            self._store.put(blob.name, [content])
        except CloudexecError as problem:
            error = problem
        except Exception as problem:  # whoever waits for the blob must hear of it, whatever it was
            error = _described(blob, problem)
        except BaseException as problem:  # Ctrl-C in the caller's thread
            self._settle(blob, _described(blob, problem))
            raise
        self._settle(blob, error)

    def _settle(self, blob: _Blob, error: CloudexecError | None) -> None:
        with self._lock:
            blob.error = error
            blob.is_over = True
            callbacks, blob.callbacks = blob.callbacks, []
            self._change.notify_all()
        for callback in callbacks:
            callback(None if error is None else _fresh(error))


class _Blob:
    """How far one blob has come."""

    __slots__ = ("name", "is_over", "error", "callbacks")

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_over = False
        self.error: CloudexecError | None = None
        self.callbacks: list[Callback] = []


def _described(blob: _Blob, problem: BaseException) -> CloudexecError:
    error = CloudexecError(f"the upload of {blob.name} broke off: {type(problem).__name__}: {problem}")
    error.__cause__ = problem
    return error


def _fresh(error: CloudexecError) -> CloudexecError:
    """An exception object of its own for each who hears of it: tracebacks do not pile up in one."""
    twin = copy.copy(error)
    twin.__cause__ = error
    return twin
