"""Parts back to objects; each load gives objects of its own.

Called by: worker.slot (arguments, functions), engine (results).   Calls: a `fetch` for blobs.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from cloudexec.ids import BlobRef
from cloudexec.wire.parts import sole_part, unpack_parts

Fetch = Callable[[BlobRef], memoryview]


def load(packed: bytes | memoryview, fetch: Fetch) -> Any:
    """The object that was pickled into `packed`.

    `fetch` brings a blob's bytes in a buffer that nobody else sees; small buffers are copied here, so that
    arrays are writable, aligned, and never shared between calls.
    Errors: WireError, BlobMissing, and whatever unpickling raises.
    """
    sole = sole_part(packed)
    if sole is not None:
        return pickle.loads(sole)
    stream, *buffers = unpack_parts(packed)
    return pickle.loads(
        fetch(stream) if isinstance(stream, BlobRef) else stream,
        buffers=[fetch(part) if isinstance(part, BlobRef) else bytearray(part) for part in buffers],
    )
