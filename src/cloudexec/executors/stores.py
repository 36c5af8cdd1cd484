"""Where a run's blobs go: found when the first one comes, because finding it asks services.

Called by: pulling.py, awslambda.py.   Calls: store.
"""

from __future__ import annotations

from collections.abc import Callable

from cloudexec.ids import BlobRef
from cloudexec.store.s3 import S3Store
from cloudexec.store.uploads import Uploads


class LazyBlobs:
    """A blob book's store, which is found when the first blob comes."""

    def __init__(self, uploads: Callable[[], Uploads]) -> None:
        self._uploads = uploads

    def put_blob(self, content: memoryview) -> BlobRef:
        """See Uploads."""
        return self._uploads().put_blob(content)

    def is_same(self, name: str, content: memoryview) -> bool:
        """See Uploads."""
        return self._uploads().is_same(name, content)

    def delete(self, name: str) -> None:
        """See Uploads."""
        self._uploads().delete(name)


class RunStore:
    """What a backend needs of the store: see backends.pull.backend.BlobStore."""

    def __init__(self, store: S3Store, uploads: Uploads) -> None:
        self._store = store
        self._uploads = uploads

    def get(self, name: str) -> memoryview:
        """See Store.get."""
        return self._store.get(name)

    def is_done(self, name: str) -> bool:
        """See Uploads."""
        return self._uploads.is_done(name)

    def wait(self, names: list[str]) -> None:
        """See Uploads."""
        self._uploads.wait(names)
