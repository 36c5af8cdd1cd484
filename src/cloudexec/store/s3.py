"""A store in an S3 bucket: the objects below a prefix.

Called by:  executors, backends and workers in the cloud.   Implements: protocol.Store; serialization's BlobStore.
Calls:      a transport's client, transfers.py for what is large.
Repeats:    the client repeats what was lost or throttled. A conditional write that it repeats may meet its own
            success; it knows that by the writer's token (transport/s3.py), so `put_once` is right even then.
Large:      above 16 MiB written in parts, above 32 MiB read in ranges, several at a time. An upload that fails is
            aborted; a client that dies in between leaves parts to the bucket's lifecycle rule.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from cloudexec.errors import AwsError, BlobMissing, NoSuchKey, PreconditionFailed
from cloudexec.ids import BlobRef
from cloudexec.store.names import checked
from cloudexec.store.protocol import Bytes
from cloudexec.store.transfers import cut, part_bytes_of, ranges, together
from cloudexec.transport import s3
from cloudexec.transport.account import Client
from cloudexec.transport.operation import total_bytes

MULTIPART_ABOVE_BYTES: Final = 16 << 20
_FIRST_RANGE_BYTES: Final = 32 << 20
_RANGE_BYTES: Final = 16 << 20
_ATTEMPTS: Final = 3
# Of two uploads of one name that end together, S3 asks one to begin anew: the parts themselves are gone then.
_BEGIN_ANEW: Final = frozenset({"ConditionalRequestConflict", "NoSuchUpload"})


class S3Store:
    """Objects of `bucket` whose keys start with `prefix`; `owner` is the account that the bucket must belong to."""

    def __init__(self, client: Client, bucket: str, prefix: str, owner: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._owner = owner
        self._lock = threading.Lock()
        self._written: set[str] = set()  # blobs: a name says what the bytes are, so one upload is enough

    @property
    def where(self) -> str:
        """For people."""
        return f"s3://{self._bucket}/{self._prefix}"

    def put(self, name: str, pieces: Sequence[Bytes]) -> None:
        """See Store.put. Errors: AwsError; nothing of the string is there then, unless its answer was lost."""
        self._put(self._key(name), _as_bytes(pieces), once=False)

    def put_once(self, name: str, pieces: Sequence[Bytes]) -> bool:
        """See Store.put_once."""
        plain = _as_bytes(pieces)
        if total_bytes(plain) > MULTIPART_ABOVE_BYTES and self.size(name) is not None:
            return False  # before all parts are sent in vain
        try:
            self._put(self._key(name), plain, once=True)
        except PreconditionFailed:
            return False
        return True

    def put_blob(self, content: memoryview) -> BlobRef:
        """Write `content` under its hash, unless this store has done so before."""
        ref = BlobRef(hashlib.sha256(content).digest(), content.nbytes)
        if not self.has_written(ref.name):
            self.put(ref.name, [content])
            with self._lock:
                self._written.add(ref.name)
        return ref

    def has_written(self, name: str) -> bool:
        """Whether `put_blob` has written it, and nobody has deleted it here since."""
        with self._lock:
            return name in self._written

    def is_same(self, name: str, content: memoryview) -> bool:
        """Whether `put_blob` wrote exactly these bytes under `name`; asks nobody, because the name is their hash."""
        return self.has_written(name) and name == BlobRef(hashlib.sha256(content).digest(), content.nbytes).name

    def get(self, name: str) -> memoryview:
        """See Store.get. A large string that is replaced while it is read is read again."""
        key = self._key(name)
        try:
            for _ in range(_ATTEMPTS):
                if (content := self._get(key)) is not None:
                    return content
        except NoSuchKey as error:
            raise BlobMissing(f"{name} is not in {self.where}") from error
        raise BlobMissing(
            f"{name} in {self.where} was replaced or cut short at each of {_ATTEMPTS} attempts to read it"
        )

    def size(self, name: str) -> int | None:
        """See Store.size."""
        operation = s3.head_object(self._bucket, self._key(name), owner=self._owner)
        try:
            return self._client.call(operation).size
        except NoSuchKey:
            return None

    def delete(self, name: str) -> None:
        """See Store.delete."""
        self._client.call(s3.delete_object(self._bucket, self._key(name), owner=self._owner))
        self._forget([name])

    def delete_many(self, names: Sequence[str]) -> None:
        """Remove all of them, a thousand with each request. Errors: AwsError names one that is still there."""
        for at in range(0, len(names), s3.KEYS_A_DELETE):
            some = names[at : at + s3.KEYS_A_DELETE]
            self._delete([self._key(name) for name in some])
            self._forget(some)

    def names(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """See Store.names. A thousand are fetched at a time, when they are asked for."""
        start_after = self._prefix + after if after else ""
        while True:
            page = self._client.call(
                s3.list_objects(self._bucket, self._prefix + prefix, owner=self._owner, start_after=start_after)
            )
            for found in page.objects:
                yield found.key[len(self._prefix) :]
            if not page.is_truncated:
                return
            start_after = page.objects[-1].key

    def _key(self, name: str) -> str:
        return self._prefix + checked(name)

    def _put(self, key: str, pieces: Sequence[Bytes], *, once: bool) -> None:
        if total_bytes(pieces) <= MULTIPART_ABOVE_BYTES:
            self._client.call(s3.put_object(self._bucket, key, pieces, owner=self._owner, if_none_match=once))
            return
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._upload(key, pieces, once=once)
                return
            except AwsError as error:
                if error.code not in _BEGIN_ANEW or attempt == _ATTEMPTS:
                    raise

    def _upload(self, key: str, pieces: Sequence[Bytes], *, once: bool) -> None:
        writer = s3.new_writer()
        upload = self._client.call(s3.create_multipart_upload(self._bucket, key, owner=self._owner, writer=writer))
        try:
            etags = self._send_parts(key, upload, pieces)
            self._client.call(
                s3.complete_multipart_upload(
                    self._bucket, key, upload, etags, owner=self._owner, if_none_match=once, writer=writer
                )
            )
        except BaseException:
            # Parts cost as much as objects, but no listing shows them.
            with contextlib.suppress(AwsError):
                self._client.call(s3.abort_multipart_upload(self._bucket, key, upload, owner=self._owner))
            raise

    def _send_parts(self, key: str, upload: str, pieces: Sequence[Bytes]) -> list[str]:
        parts = list(cut(pieces, part_bytes_of(total_bytes(pieces))))
        etags = [""] * len(parts)

        def send(number: int, part: list[memoryview]) -> None:
            operation = s3.upload_part(self._bucket, key, upload, number, part, owner=self._owner)
            etags[number - 1] = self._client.call(operation)

        together([partial(send, number, part) for number, part in enumerate(parts, 1)])
        return etags

    def _get(self, key: str) -> memoryview | None:
        """The object; None if something of it did not come, or if it was replaced while its ranges were read."""
        first = self._range(key, 0, _FIRST_RANGE_BYTES)
        if len(first.body) != min(first.size, _FIRST_RANGE_BYTES):
            return None
        if first.size <= _FIRST_RANGE_BYTES:
            return first.body
        whole = memoryview(bytearray(first.size))
        whole[:_FIRST_RANGE_BYTES] = first.body
        strange: list[tuple[int, int]] = []

        def fetch(start: int, end: int) -> None:
            found = self._range(key, start, end)
            if found.etag == first.etag and len(found.body) == end - start:
                whole[start:end] = found.body
            else:
                strange.append((start, end))

        together([partial(fetch, *each) for each in ranges(first.size, _RANGE_BYTES, _FIRST_RANGE_BYTES)])
        return None if strange else whole

    def _range(self, key: str, start: int, end: int) -> s3.S3Object:
        try:
            return self._client.call(s3.get_object(self._bucket, key, owner=self._owner, range=(start, end)))
        except AwsError as error:
            if error.code != "InvalidRange":
                raise
            # It has no byte at `start`: it is empty, or has become so.
            return self._client.call(s3.get_object(self._bucket, key, owner=self._owner))

    def _delete(self, keys: Sequence[str]) -> None:
        for _ in range(_ATTEMPTS):
            failures = self._client.call(s3.delete_objects(self._bucket, keys, owner=self._owner))
            if not failures:
                return
            keys = [failure.key for failure in failures]
        first = failures[0]
        raise AwsError(
            f"S3 did not delete {len(failures)} objects, s3://{self._bucket}/{first.key} among them: {first.message}",
            first.code,
        )

    def _forget(self, names: Sequence[str]) -> None:
        with self._lock:
            self._written.difference_update(names)


def _as_bytes(pieces: Sequence[Bytes]) -> list[Bytes]:
    """The same bytes, in views whose length is their number."""
    return [piece if isinstance(piece, bytes) else memoryview(piece).cast("B") for piece in pieces]
