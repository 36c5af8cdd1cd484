"""A store that keeps blobs in local directories: of all slots of a worker, one fetches a blob, once.

Called by:  workers in the cloud.   Implements: protocol.Store.   Calls: the remote store, a DirectoryStore.
Kept:       what lies under the hash of its bytes, and nothing else: under such a name there is never anything new.
            Everything that comes is compared with its name, once, before it is kept.
Room:       above `most_bytes` the blobs that nobody has read for the longest time go. What has no room at all, because
            of the limit or because the disk is full, is fetched into memory.
Locks:      of files (flock), because slots are processes; the kernel lets go of them when a slot dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from cloudexec.errors import BlobMissing, StoreFull
from cloudexec.ids import digest_in
from cloudexec.store.directory import DirectoryStore
from cloudexec.store.protocol import Bytes, Store

_LOCKS: Final = ".locks"  # no name of a store begins with a dot
_ROOM: Final = "room"
_ATTEMPTS: Final = 2


class CachedStore:
    """`remote`, with its blobs kept below `roots` (fastest first), `most_bytes` in all.

    attic: a directory with what was kept for other runs, whose calls may have changed it. A blob from there is copied,
    compared with its name, and the copy kept.
    """

    def __init__(
        self, remote: Store, roots: Sequence[str | os.PathLike[str]], most_bytes: int, attic: str = ""
    ) -> None:
        self._remote = remote
        self._local = DirectoryStore(roots)
        self._attic = DirectoryStore([attic]) if attic else None
        self._most_bytes = most_bytes

    @property
    def remote(self) -> Store:
        """The store behind."""
        return self._remote

    def get(self, name: str) -> memoryview:
        """See Store.get. Errors: BlobMissing, also for a blob that does not have the hash that it should."""
        digest = digest_in(name)
        if digest is None:
            return self._remote.get(name)
        kept = self._kept(name)
        if kept is not None:
            return kept
        with self._lock(name):
            kept = self._kept(name)  # somebody fetched it while we waited
            if kept is not None:
                return kept
            content = self._from_attic(name, digest) or self._fetch(name, digest)
            self._keep(name, content)
        # The mapping of the file shares its memory with all slots; the buffer at hand would be ours alone.
        return self._kept(name) or content

    def put(self, name: str, pieces: Sequence[Bytes]) -> None:
        """See Store.put."""
        self._remote.put(name, pieces)

    def put_once(self, name: str, pieces: Sequence[Bytes]) -> bool:
        """See Store.put_once."""
        return self._remote.put_once(name, pieces)

    def size(self, name: str) -> int | None:
        """See Store.size."""
        return self._remote.size(name)

    def delete(self, name: str) -> None:
        """See Store.delete. Other workers may still have it."""
        self._remote.delete(name)
        self._local.delete(name)

    def names(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """See Store.names."""
        return self._remote.names(prefix, after)

    def _kept(self, name: str) -> memoryview | None:
        try:
            content = self._local.get(name)
        except BlobMissing:
            return None
        for root in self._local.roots:
            with contextlib.suppress(OSError):
                os.utime(f"{root}/{name}")  # "used just now", for _make_room; access times are often off
        return content

    def _from_attic(self, name: str, digest: bytes) -> memoryview | None:
        """What lies there under that name, if it is what the name says; it is gone from there afterwards."""
        if self._attic is None:
            return None
        try:
            # Copied first: somebody who still has the file open could change it after the comparison.
            content = memoryview(bytearray(self._attic.get(name)))
        except (BlobMissing, OSError):
            return None
        with contextlib.suppress(OSError):
            self._attic.delete(name)
        return content if hashlib.sha256(content).digest() == digest else None

    def _fetch(self, name: str, digest: bytes) -> memoryview:
        for _ in range(_ATTEMPTS):
            content = self._remote.get(name)
            if hashlib.sha256(content).digest() == digest:
                return content
        raise BlobMissing(f"{name} came with other bytes than its hash promises, {_ATTEMPTS} times")

    def _keep(self, name: str, content: memoryview) -> None:
        """Keep it if there is room; without, every slot fetches for itself."""
        if content.nbytes > self._most_bytes:
            return
        with self._lock(_ROOM):
            self._make_room(content.nbytes)
            with contextlib.suppress(StoreFull, OSError):
                self._local.put(name, [content])

    def _make_room(self, n_bytes: int) -> None:
        blobs = sorted(_blobs_below([*self._local.roots, *(self._attic.roots if self._attic else ())]))
        used = sum(blob.n_bytes for blob in blobs)
        for blob in blobs:
            if used + n_bytes <= self._most_bytes:
                return
            with contextlib.suppress(OSError):
                os.unlink(blob.path)  # whoever has it mapped keeps it
            used -= blob.n_bytes

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """One of 257 locks: that for making room, or that of all blobs whose hash begins with the same byte."""
        fd = _open_lock(os.path.join(self._local.roots[0], _LOCKS), name.rpartition("/")[2][:2])
        try:
            if fd is not None:
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            if fd is not None:
                os.close(fd)


def _open_lock(folder: str, file: str) -> int | None:
    """None on a full or read-only disk: then nothing is kept there, and there is nothing to agree on."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        return os.open(os.path.join(folder, file), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None


class _Kept(NamedTuple):
    """A file of the cache; the one that was read least recently sorts first."""

    used_ns: int
    path: str
    n_bytes: int


def _blobs_below(roots: Sequence[str]) -> Iterator[_Kept]:
    for root in roots:
        with contextlib.suppress(OSError), os.scandir(f"{root}/blobs") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # somebody else made room
                    status = entry.stat()
                    yield _Kept(status.st_mtime_ns, entry.path, status.st_size)
