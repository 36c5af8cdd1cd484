"""The client's side of serialization: a call becomes bytes and blobs, on the caller's thread.

Called by: executors.   Calls: functions.py, pickling.py, blobs.py; shipping.py where modules travel.
What a call receives is what its arguments were at the moment of `submit`: bytes are taken then and there.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cloudexec.errors import CloudexecError, UnpicklableArgument
from cloudexec.ids import Attached, BlobRef
from cloudexec.serialization.blobs import BlobBook
from cloudexec.serialization.functions import FunctionBook, name_of
from cloudexec.serialization.pickling import PROTOCOL, Pickled, dumps, outside
from cloudexec.wire.messages import FunctionTraits, PackedCall, PackedFunction, ShippedModule, encode_batch
from cloudexec.wire.parts import DIGEST_BYTES, Part, pack_parts

if TYPE_CHECKING:
    from cloudexec.serialization.shipping import Modules, Shipping

_NUMBERS: Final = frozenset({int, float, complex, bool, type(None)})
_FUNCTION_INLINE: Final = 1 << 16  # a function goes along in each batch: a large one is worth a blob
_SMALL: Final = 1 << 16
_TEXTS: Final = frozenset({str, bytes})
_PLAIN_MOST: Final = 8192  # characters of text that may take the short way

AddPiece = Callable[[bytes | memoryview, list[BlobRef]], BlobRef]


class PackedArguments(NamedTuple):
    """Packed parts of (args, kwargs), the blobs among them, the cloudpickle version they ask for, the buffers that
    are to be attached (copies: they show the moment of packing), and the modules that must travel with them."""

    packed: bytes
    refs: tuple[BlobRef, ...] = ()
    pickler: str = ""
    attachments: tuple[bytes, ...] = ()
    modules: tuple[ShippedModule, ...] = ()


class Packer:
    """Packs functions and arguments for one executor. Thread-safe.

    inline_bytes: what is larger travels as a blob. modules: see Shipping.
    Errors: SettingsError when `modules` names what cannot travel.
    """

    def __init__(self, blobs: BlobBook, inline_bytes: int, modules: Modules = None) -> None:
        self._blobs = blobs
        self._inline_bytes = inline_bytes
        self.shipping = _open_shipping(modules, blobs)
        self._function_inline = min(inline_bytes, _FUNCTION_INLINE)
        self._functions = FunctionBook(self._divert_function, self.shipping)
        self._lock = threading.RLock()  # pickling may run the user's code, which may submit

    def keep_inline(self, n_bytes: int) -> None:
        """There is nowhere to put blobs: up to so many bytes travel in messages after all."""
        self._inline_bytes = self._function_inline = n_bytes

    def pack_function(self, function: object) -> tuple[PackedFunction, tuple[BlobRef, ...]]:
        """The function ready to travel, and its blobs (one use of each belongs to the caller).

        Errors: UnpicklableArgument, StoreFull.
        """
        try:
            with self._lock:
                return self._functions.pack(function)
        except CloudexecError:
            raise
        except Exception as error:
            raise UnpicklableArgument(f"the function {name_of(function)} cannot be pickled: {error}") from error

    def pack_arguments(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, attach: bool = False
    ) -> PackedArguments:
        """The arguments ready to travel; one use of each blob belongs to the caller.

        attach: whether buffers may be attached to the message that will carry them.
        Errors: UnpicklableArgument (names the argument), StoreFull.
        """
        if not kwargs and _are_plain(args):
            return PackedArguments(pack_parts((pickle.dumps((args, None), PROTOCOL),)))
        try:
            pickled = dumps((args, kwargs))
        except CloudexecError:
            raise
        except Exception as error:
            which = _first_unpicklable(args, kwargs)
            raise UnpicklableArgument(f"{which} cannot be pickled: {error}") from error
        modules = self.shipping.for_arguments(pickled) if self.shipping is not None else ()
        parts, refs = self._divert(pickled)
        attachments = _detach(parts) if attach and len(parts) > 1 else ()
        return PackedArguments(pack_parts(parts), refs, pickled.pickler, attachments, modules)

    def with_modules(self, function: PackedFunction, modules: tuple[ShippedModule, ...]) -> PackedFunction:
        """The function for a call whose arguments need these modules."""
        return function if self.shipping is None else self.shipping.joined(function, modules)

    def pack_initializer(
        self, initializer: Callable[..., object], initargs: tuple[Any, ...]
    ) -> tuple[bytes, tuple[BlobRef, ...]]:
        """What a slot reads before its first call: a batch of one call, whose arguments are all that is to be run; and
        the blobs that this asks for, which stay in use.

        Errors: those of pack_arguments.
        """
        packed = self.pack_arguments((), {"initializer": initializer, "initargs": tuple(initargs)})
        nothing = PackedFunction(bytes(DIGEST_BYTES), FunctionTraits(), b"", packed.pickler)
        if self.shipping is not None:
            nothing = self.shipping.joined(nothing, self.shipping.always())
        call = PackedCall(1, 1, self.with_modules(nothing, packed.modules), packed.packed)
        return encode_batch([call]), (*packed.refs, *(module.bundle for module in call.function.modules))

    def check(self, arguments: tuple[Any, ...]) -> None:
        """See that arguments can be pickled, without keeping anything. Errors: UnpicklableArgument."""
        try:
            dumps(arguments)
        except Exception as error:
            which = _first_unpicklable(arguments, {})
            raise UnpicklableArgument(f"{which} cannot be pickled: {error}") from error

    def add_use(self, refs: tuple[BlobRef, ...]) -> None:
        """One more call needs these blobs."""
        if refs:
            self._blobs.add_use(refs)

    def release(self, refs: tuple[BlobRef, ...]) -> None:
        """A call that needed these blobs is over."""
        if refs:
            self._blobs.release(refs)

    @contextmanager
    def trusting(self) -> Iterator[None]:
        """See BlobBook.trusting."""
        with self._blobs.trusting():
            yield

    def blob_sizes(self, pickled: Pickled, *, is_function: bool) -> list[int]:
        """How many bytes each blob would have that a pickle is split into; none is written."""
        most = self._function_inline if is_function else self._inline_bytes

        def pretend(piece: bytes | memoryview, _before: list[BlobRef]) -> BlobRef:
            return BlobRef(b"", len(piece))

        return [ref.size for ref in self._divert(pickled, most, pretend)[1]]

    def _divert_function(self, pickled: Pickled) -> tuple[list[Part], tuple[BlobRef, ...]]:
        return self._divert(pickled, self._function_inline)

    def _divert(
        self, pickled: Pickled, inline_bytes: int | None = None, add: AddPiece | None = None
    ) -> tuple[list[Part], tuple[BlobRef, ...]]:
        """The parts of a pickle; large ones, and small ones when their sum is large, go to blobs."""
        most = self._inline_bytes if inline_bytes is None else inline_bytes
        if len(pickled.stream) > most:
            pickled = outside(pickled)
        parts: list[Part] = []
        refs: list[BlobRef] = []
        inline = 0
        pieces: tuple[bytes | memoryview, ...] = (pickled.stream, *pickled.buffers)
        for piece in pieces:
            size = len(piece)
            inline += size
            if size > most or (inline > most and size >= min(most, _SMALL)):
                refs.append((add or self._add)(piece, refs))
                parts.append(refs[-1])
                inline -= size
            else:
                parts.append(piece)
        return parts, tuple(refs)

    def _add(self, piece: bytes | memoryview, before: list[BlobRef]) -> BlobRef:
        """The blob of a piece; without room for it, the uses of those `before` it are given back."""
        try:
            return self._blobs.add(memoryview(piece))
        except CloudexecError:
            self.release(tuple(before))
            raise


def _open_shipping(modules: Modules, blobs: BlobBook) -> Shipping | None:
    """None where no module travels: that saves the import, too."""
    if modules is None or (not isinstance(modules, str) and not modules):
        return None
    from cloudexec.serialization.shipping import Shipping

    return Shipping(modules, blobs.add)


def _detach(parts: list[Part]) -> tuple[bytes, ...]:
    """Copy the buffers out of `parts`, and leave marks in their places."""
    attachments = []
    for index, part in enumerate(parts):
        if isinstance(part, memoryview):
            attachments.append(bytes(part))
            parts[index] = Attached(len(part))
    return tuple(attachments)


def _are_plain(args: tuple[Any, ...]) -> bool:
    """Whether plain pickle does, and quickly: numbers and short texts."""
    for arg in args:
        kind = type(arg)
        if kind not in _NUMBERS and (kind not in _TEXTS or len(arg) > _PLAIN_MOST):
            return False
    return True


def _first_unpicklable(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Names the argument that is to blame, e.g. `args[0]['file']`."""
    for index, value in enumerate(args):
        if path := _blame(value, f"args[{index}]"):
            return path
    for key, value in kwargs.items():
        if path := _blame(value, key):
            return path
    return "an argument"


def _blame(value: object, path: str) -> str:
    try:
        dumps(value)
    except Exception:
        items: Any = ()
        if type(value) is dict:
            items = ((f"[{key!r}]", item) for key, item in value.items())
        elif type(value) in (list, tuple):
            items = ((f"[{index}]", item) for index, item in enumerate(value))  # type: ignore[arg-type, var-annotated]  # a list or tuple
        for step, item in items:
            if deeper := _blame(item, path + step):
                return deeper
        return f"{path} ({type(value).__qualname__})"
    return ""
