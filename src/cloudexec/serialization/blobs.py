"""Big buffers: written once under their hash, kept while calls need them.

Called by: packer.py (adds), engine through packer (releases).   Calls: a store.
A buffer that comes again from the same address may have changed in between. It is compared with what was written
(memcmp: 5 ms for 100 MB) before the blob is used again, so a call always gets the bytes of the moment of its submit.
Within one `map` over lists, ranges and `repeat`, no code of the user runs between the items: one comparison will do,
as long as the object that owns the memory lives. A temporary's address may be given to the next one.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from cloudexec.ids import BlobRef

_IDLE_BYTES: Final = 512 << 20  # unused blobs are kept up to this size, in case the same array comes again


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
        self._trusting = _Trusting()

    def add(self, content: memoryview) -> BlobRef:
        """The blob of these bytes, with one use more. Errors: StoreFull."""
        place = (self._address_of(content), content.nbytes)
        with self._lock:
            ref = self._seen.get(place)
            if ref is None or not (self._is_trusted(place, content) or self._store.is_same(ref.name, content)):
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
