"""Big buffers: written once under their hash, kept while calls need them.

Called by: packer.py (adds), engine through packer (releases).   Calls: a store.
A buffer that comes again from the same address may have changed in between; a call always gets the bytes of the
moment of its submit. Whether it has changed is found out in one of three ways, the quickest that holds:
- within one `map` over lists, ranges and `repeat`, no code of the user runs between the items: once is enough;
- the kernel watches the memory (writewatch.py);
- it is compared with what was written (memcmp, 17 ms for 100 MB).
The first two ask, besides, that the object that owns the memory lives: a temporary's address goes to the next one.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Protocol

from cloudexec.ids import BlobRef
from cloudexec.serialization.writewatch import Watched, open_watch

_IDLE_BYTES: Final = 512 << 20  # unused blobs are kept up to this size, in case the same array comes again
_WATCH_FROM_BYTES: Final = 4 << 20  # smaller ones are compared sooner than watched


class BlobStore(Protocol):
    """What a blob book needs of a store; DirectoryStore has it."""

    def put_blob(self, content: memoryview) -> BlobRef:
        """Write under its hash."""
        ...

    def is_same(self, name: str, content: memoryview) -> bool:
        """Whether exactly these bytes lie under `name`."""
        ...

    def delete(self, name: str) -> None:
        """Remove."""
        ...


class BlobBook:
    """Which blobs are written, where their bytes came from, and how many calls need each. Thread-safe."""

    def __init__(self, store: BlobStore, address_of: AddressOf) -> None:
        self._store = store
        self._address_of = address_of
        self._lock = threading.Lock()
        self._uses: dict[BlobRef, int] = {}
        self._idle: OrderedDict[BlobRef, None] = OrderedDict()
        self._idle_bytes = 0
        self._seen: dict[tuple[int, int], BlobRef] = {}
        self._watched: dict[tuple[int, int], tuple[weakref.ref[Any], Watched]] = {}
        self._orphaned: deque[tuple[int, int]] = deque()
        self._trusting = _Trusting()

    def add(self, content: memoryview) -> BlobRef:
        """The blob of these bytes, with one use more. Errors: StoreFull."""
        place = (self._address_of(content), content.nbytes)
        with self._lock:
            self._forget_orphaned()
            ref = self._seen.get(place)
            if ref is None or not self._is_unchanged(place, content):
                self._watch(place, content)  # before the bytes are read: a write meanwhile must not be missed
                if ref is None or not self._store.is_same(ref.name, content):
                    ref = self._store.put_blob(content)
                    self._seen[place] = ref
            self._trust(place, content)
            self._use(ref)
            return ref

    def add_use(self, refs: Iterable[BlobRef]) -> None:
        """One use more for each of these blobs, which are in use already."""
        with self._lock:
            for ref in refs:
                self._use(ref)

    def release(self, refs: Iterable[BlobRef]) -> None:
        """One use less for each of these blobs."""
        with self._lock:
            for ref in refs:
                self._uses[ref] -= 1
                if not self._uses[ref]:
                    del self._uses[ref]
                    self._idle[ref] = None
                    self._idle_bytes += ref.size
            while self._idle_bytes > _IDLE_BYTES:
                self._drop_oldest()

    @contextmanager
    def trusting(self) -> Iterator[None]:
        """Inside, on this thread, a buffer that was compared once need not be compared again."""
        self._trusting.owners = {}
        try:
            yield
        finally:
            self._trusting.owners = None

    def _is_unchanged(self, place: tuple[int, int], content: memoryview) -> bool:
        """Whether the bytes are known, without reading them, to be those of the last time."""
        if self._is_trusted(place, content):
            return True
        owner, watched = self._watched.get(place, (None, None))
        watch = open_watch() if watched is not None else None
        if owner is None or watched is None or watch is None or owner() is not _owner(content):
            return False
        return watch.is_untouched(watched)

    def _watch(self, place: tuple[int, int], content: memoryview) -> None:
        """Have the kernel watch the bytes from now on, where that is possible and worth it."""
        watch = open_watch() if content.nbytes >= _WATCH_FROM_BYTES else None
        if watch is None:
            return
        self._unwatch(place)
        try:
            # Garbage collection may strike anywhere: the callback only leaves a note for the next `add`.
            owner = weakref.ref(_owner(content), partial(_note, self._orphaned, place))
        except TypeError:  # bytes, for instance: whether they still live cannot be known
            return
        watched = watch.arm(*place)
        if watched is not None:
            self._watched[place] = (owner, watched)

    def _forget_orphaned(self) -> None:
        while self._orphaned:
            place = self._orphaned.popleft()
            entry = self._watched.get(place)
            if entry is not None and entry[0]() is None:  # else a new owner has the place by now
                self._unwatch(place)

    def _unwatch(self, place: tuple[int, int]) -> None:
        entry, watch = self._watched.pop(place, None), open_watch()
        if entry is not None and watch is not None:
            watch.disarm(entry[1])

    def _is_trusted(self, place: tuple[int, int], content: memoryview) -> bool:
        known = (self._trusting.owners or {}).get(place)
        return known is not None and known() is _owner(content)

    def _trust(self, place: tuple[int, int], content: memoryview) -> None:
        if self._trusting.owners is not None:
            try:
                self._trusting.owners[place] = weakref.ref(_owner(content))
            except TypeError:  # bytes, for instance: whether they still live cannot be known
                self._trusting.owners.pop(place, None)

    def _use(self, ref: BlobRef) -> None:
        if ref in self._idle:
            del self._idle[ref]
            self._idle_bytes -= ref.size
        self._uses[ref] = self._uses.get(ref, 0) + 1

    def _drop_oldest(self) -> None:
        ref, _ = self._idle.popitem(last=False)
        self._idle_bytes -= ref.size
        self._seen = {place: known for place, known in self._seen.items() if known != ref}
        self._store.delete(ref.name)


class _Trusting(threading.local):
    """Who owned the buffers that were compared, by place; None where every buffer is compared."""

    owners: dict[tuple[int, int], weakref.ref[Any]] | None = None


def _note(notes: deque[tuple[int, int]], place: tuple[int, int], _gone: object) -> None:
    notes.append(place)


def _owner(content: memoryview) -> object:
    """The object that owns the memory: an array rather than a view of it."""
    owner: object = content.obj
    while (base := getattr(owner, "base", None)) is not None:
        owner = base
    return owner


class AddressOf(Protocol):
    """Where a contiguous buffer lies in memory."""

    def __call__(self, content: memoryview) -> int:
        """The address of its first byte."""
        ...
