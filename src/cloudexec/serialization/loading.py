"""Parts back to objects; each load gives objects of its own.

Called by: worker.slot (arguments, functions), engine (results).   Calls: a `fetch` for blobs.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cloudexec.errors import SignatureError, WireError
from cloudexec.ids import Attached, BlobRef
from cloudexec.wire.parts import Part, sole_part, unpack_parts

Content = bytes | bytearray | memoryview
Fetch = Callable[[BlobRef], memoryview]


def load(packed: bytes | memoryview, fetch: Fetch, attachments: Iterable[Content] = ()) -> Any:
    """The object that was pickled into `packed`.

    `fetch` brings a blob's bytes in a buffer that nobody else sees, and so must `attachments` be; small buffers
    are copied here. So arrays are writable, aligned, and never shared between calls.
    Errors: WireError, SignatureError, BlobMissing, and whatever unpickling raises.
    """
    sole = sole_part(packed)
    if sole is not None:
        return pickle.loads(sole)
    stream, *buffers = unpack_parts(packed)
    if isinstance(stream, BlobRef):
        # Whoever can write into the store could have code run here. Large pickles travel by `pickling.outside`.
        raise SignatureError(f"a pickle of {stream.size:,} bytes lies in the store, where nothing protects it")
    attached = iter(attachments)
    return pickle.loads(
        _content(stream, fetch, attached), buffers=[_content(part, fetch, attached) for part in buffers]
    )


def _content(
    part: Part, fetch: Fetch, attached: Iterator[bytes | bytearray | memoryview]
) -> bytes | bytearray | memoryview:
    if isinstance(part, BlobRef):
        return fetch(part)
    if isinstance(part, Attached):
        content = next(attached, None)
        if content is None or len(content) != part.size:
            raise WireError(f"an attachment of {part.size} bytes is missing")
        return content
    return bytearray(part)
