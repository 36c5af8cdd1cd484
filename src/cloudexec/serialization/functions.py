"""Each function is pickled once, as long as it has not changed.

Called by: packer.py.   Calls: pickling, stability, shipping.
Why:       pickling the same function for each of 10,000 calls takes 0.5 s and 62 MB (facts: perf §3).
"""

from __future__ import annotations

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloudexec.ids import BlobRef
from cloudexec.serialization.pickling import Pickled, dumps, pickles_modules_by_value
from cloudexec.serialization.stability import Named, Watch, is_bare_builtin, is_importable, watch
from cloudexec.wire.messages import FunctionTraits, PackedFunction, ShippedModule
from cloudexec.wire.parts import Part, pack_parts

if TYPE_CHECKING:
    from cloudexec.serialization.shipping import Shipping

_MOST_KNOWN: Final = 512

ArgumentsHook = Callable[[tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]
Divert = Callable[[Pickled], tuple[list[Part], tuple[BlobRef, ...]]]


_NAMED: Final = Named()


class FunctionBook:
    """Packed functions by object and by bytes. Not thread-safe: packer.py holds the lock."""

    def __init__(self, divert: Divert, shipping: Shipping | None = None) -> None:
        self._divert = divert
        self._shipping = shipping
        self._by_object: OrderedDict[int, tuple[weakref.ref[Any], Watch | Named, PackedFunction]] = OrderedDict()
        self._by_bytes: OrderedDict[bytes, PackedFunction] = OrderedDict()

    def pack(self, function: object) -> tuple[PackedFunction, tuple[BlobRef, ...]]:
        """The function ready to travel, and the blobs that it needs.

        Errors: those of pickling and shipping.
        """
        known = self._known(function)
        if known is not None:
            return known, ()
        pickled = dumps(function)
        modules = self._shipping.for_function(pickled) if self._shipping is not None else ()
        if not pickled.buffers and pickled.stream in self._by_bytes:
            known = self._by_bytes[pickled.stream]
            if known.modules == modules:
                self._remember(function, pickled, _notes_on(function, pickled), known)
                return known, ()
        notes = _notes_on(function, pickled)
        parts, refs = self._divert(pickled)
        packed_parts = pack_parts(parts)
        digest = hashlib.sha256(packed_parts).digest()
        if modules:
            digest = digest_with(digest, modules)
        traits = FunctionTraits(stateless=_is_stateless(function, pickled, notes))
        packed = PackedFunction(digest, traits, packed_parts, pickled.pickler, modules)
        if not refs and (self._shipping is None or self._shipping.knows_all(pickled.codes)):
            self._remember(function, pickled, notes, packed)
        return packed, refs

    def _known(self, function: object) -> PackedFunction | None:
        entry = self._by_object.get(id(function))
        if entry is None or entry[0]() is not function or not entry[1].holds(function):
            return None
        if pickles_modules_by_value():  # registered since then
            return None
        packed = entry[2]
        if packed.modules and self._shipping is not None and not self._shipping.is_current(packed.modules):
            return None
        return packed

    def _remember(
        self, function: object, pickled: Pickled, notes: Watch | Named | None, packed: PackedFunction
    ) -> None:
        if not pickled.buffers:
            self._by_bytes[pickled.stream] = packed
            if len(self._by_bytes) > _MOST_KNOWN:
                self._by_bytes.popitem(last=False)
        if notes is not None:
            key, book = id(function), self._by_object
            forget = weakref.ref(function, lambda _gone: book.pop(key, None))
            book[key] = (forget, notes, packed)
            if len(book) > _MOST_KNOWN:
                book.popitem(last=False)


def digest_with(digest: bytes, modules: tuple[ShippedModule, ...]) -> bytes:
    """The name of a function together with its modules: another version of these makes another function."""
    return hashlib.sha256(digest + b"".join(module.bundle.digest for module in modules)).digest()


def _notes_on(function: object, pickled: Pickled) -> Watch | Named | None:
    """What tells whether the pickle of this very object may be used again; None if nothing can."""
    if pickled.pickler:
        return watch(function)
    return _NAMED if is_importable(function) else None


def _is_stateless(function: object, pickled: Pickled, notes: Watch | Named | None) -> bool:
    """Whether a worker may call one unpickled copy again and again."""
    if pickled.pickler:
        return isinstance(notes, Watch) and notes.stateless
    return is_importable(function) or is_bare_builtin(function)


def name_of(function: object) -> str:
    """A short name of a callable for messages."""
    if isinstance(function, partial):
        return f"partial({name_of(function.func)})"
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).replace("<locals>.", "")


def arguments_hook(fn: Callable[..., Any]) -> ArgumentsHook | None:
    """What a callable makes of arguments before they travel: its `__cloudexec_arguments__(args, kwargs)`.

    It returns the arguments to send, and raises a CloudexecError, which is the exception of that future alone, if the
    call could not take them. An R snippet has one.
    """
    if isinstance(fn, partial):
        inner = arguments_hook(fn.func)
        if inner is None:
            return None
        bound, named = fn.args, fn.keywords

        def through(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            sent, sent_named = inner((*bound, *args), {**named, **kwargs})
            return sent[len(bound) :], {name: sent_named[name] for name in kwargs}

        return through
    hook: ArgumentsHook | None = getattr(fn, "__cloudexec_arguments__", None)
    return hook
