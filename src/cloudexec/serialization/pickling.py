"""Plain pickle where that is right, cloudpickle where it is needed.

Called by: functions.py, packer.py, failures.py.   Calls: cloudpickle, imported on first need (11 ms).
Why:       plain pickle is six times faster, but names everything in `__main__` by reference, which no worker
           can resolve. So plain pickle goes first, and its output counts only if `__main__` is not in it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, Final, NamedTuple

from cloudexec.errors import SignatureError
from cloudexec.serialization.mainglobals import MainGlobals

PROTOCOL: Final = 5
_BUFFER_FROM_BYTES: Final = 16 * 1024  # smaller buffers are cheaper inside the pickle
_MAIN: Final = (b"__main__", b"__mp_main__")


class Pickled(NamedTuple):
    """A pickle, its out-of-band buffers in order, the cloudpickle version that reading it asks for, and the code
    that travels in it by value."""

    stream: bytes
    buffers: list[memoryview]
    pickler: str
    codes: tuple[CodeType, ...] = ()


def dumps(obj: object) -> Pickled:
    """Pickle `obj`; buffers of 16 KiB and more stay outside the stream, uncopied.

    Errors: whatever the object's own reduction raises, or cloudpickle's PicklingError and TypeError.
    """
    if not pickles_modules_by_value():
        buffers: list[memoryview] = []
        try:
            stream = pickle.dumps(obj, PROTOCOL, buffer_callback=_collector(buffers))
        except Exception:
            pass
        else:
            if not any(name in stream for name in _MAIN):
                return Pickled(stream, buffers, "")
    return _cloudpickle_dumps(obj)


def outside(pickled: Pickled) -> Pickled:
    """The same, with the stream as a buffer of a tiny new one that knows its hash.

    A large stream lies in the store, where no signature protects it, and yet it is unpickled. The new stream travels
    signed, and refuses what does not have the hash.
    """
    digest = hashlib.sha256(pickled.stream).digest()
    contents: tuple[bytes | memoryview, ...] = (pickled.stream, *pickled.buffers)
    pieces = [pickle.PickleBuffer(content) for content in contents]
    buffers: list[memoryview] = []
    stream = pickle.dumps(_Outside((digest, *pieces)), PROTOCOL, buffer_callback=lambda b: buffers.append(b.raw()))
    return Pickled(stream, buffers, pickled.pickler, pickled.codes)


class _Outside(tuple[Any, ...]):
    """Pickles as a call of `load_outside`."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return load_outside, tuple(self)


def load_outside(digest: bytes, stream: Any, *buffers: Any) -> Any:
    """What `outside` took apart. Errors: SignatureError."""
    if hashlib.sha256(stream).digest() != digest:
        raise SignatureError(f"a pickle of {len(stream):,} bytes from the store is not the one that was sent")
    return pickle.loads(stream, buffers=buffers)


def _collector(buffers: list[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    """A buffer callback: True keeps a buffer inside the stream."""

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: let pickle decide
            return True
        if raw.nbytes < _BUFFER_FROM_BYTES:
            return True
        buffers.append(raw)
        return False

    return keep_inside


def pickles_modules_by_value() -> bool:
    """Whether the user registered modules with cloudpickle.register_pickle_by_value."""
    module = sys.modules.get("cloudpickle")
    return module is not None and bool(module.list_registry_pickle_by_value())


@functools.cache
def _pickler_class() -> Any:
    """cloudpickle's pickler, which knows cached functions of a script, too, and notes code that it pickles."""
    from collections import ChainMap

    import cloudpickle

    table = ChainMap({functools._lru_cache_wrapper: _reduce_cached}, cloudpickle.Pickler.dispatch_table)
    reduce_code = table[CodeType]

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
        def __init__(self, file: io.BytesIO, codes: list[CodeType], **options: Any) -> None:
            def note(code: CodeType) -> Any:
                codes.append(code)
                return reduce_code(code)

            self.dispatch_table = table.new_child({CodeType: note})  # pickle reads it when it is initialized
            super().__init__(file, **options)

    return Pickler


def _reduce_cached(cached: Any) -> Any:
    """How an `lru_cache` function travels: by name if a worker can import it, else anew, with an empty cache."""
    if cached.__module__ not in ("__main__", "__mp_main__") and "<locals>" not in cached.__qualname__:
        return cached.__reduce__()
    return _cache_again, (cached.__wrapped__, cached.cache_parameters())


def _cache_again(function: Any, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _cloudpickle_dumps(obj: object) -> Pickled:
    import cloudpickle

    buffers: list[memoryview] = []
    codes: list[CodeType] = []
    with io.BytesIO() as file:
        pickler: Any = _pickler_class()(file, codes, protocol=PROTOCOL, buffer_callback=_collector(buffers))
        main = sys.modules["__main__"].__dict__
        pickler.globals_ref[id(main)] = MainGlobals.of(main)
        pickler.dump(obj)
        return Pickled(file.getvalue(), buffers, cloudpickle.__version__, tuple(codes))
