"""Batch and outcome: the two messages that every backend carries.

Called by: the backends and engine (client), the slot (worker).   Calls: parts.py for pickles.
Layout:    little-endian; a batch holds each function once, and calls name it by position.
           Texts (environment) are JSON; nothing here pickles or unpickles. A function's modules stand before its code.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from cloudexec.errors import WireError
from cloudexec.ids import BlobRef

_BATCH: Final = struct.Struct("<IIIBBB")
_FUNCTION: Final = struct.Struct("<32sBHI")
_MODULE: Final = struct.Struct("<32sQH")
_CALL: Final = struct.Struct("<QHHHdI")
_OUTCOME: Final = struct.Struct("<QHBdddQ")


class FunctionTraits(NamedTuple):
    """What a worker must know of a function before it unpickles it."""

    stateless: bool = False  # holds nothing that a call could change: one unpickled copy may be reused


class ShippedModule(NamedTuple):
    """A top-level module of the user's that travels along: the blob is a zip file of its sources."""

    name: str
    bundle: BlobRef


class PackedFunction(NamedTuple):
    """A function, ready to travel. `digest` (32 bytes) names it, with its modules, in workers' caches.

    `pickler` is the cloudpickle version that reading it asks for; empty when plain pickle does. `modules` must be in
    place before anything of the call is unpickled.
    """

    digest: bytes
    traits: FunctionTraits
    packed: bytes
    pickler: str = ""
    modules: tuple[ShippedModule, ...] = ()


class PackedCall(NamedTuple):
    """One call of a batch. `timeout_s` 0 means none; `packed` are the parts of (args, kwargs); `attachments` travel
    behind the batch, in the order of the calls."""

    number: int
    attempt: int
    function: PackedFunction
    packed: bytes | memoryview
    timeout_s: float = 0.0
    env: Mapping[str, str] | None = None
    pickler: str = ""
    attachments: Sequence[bytes | bytearray | memoryview] = ()


class Batch(NamedTuple):
    """What a slot receives. `python` is the client's (major, minor); `pickler` the cloudpickle version that
    the client used for anything in it, or empty."""

    calls: list[PackedCall]
    python: tuple[int, int]
    pickler: str


class Verdict(IntEnum):
    """How an attempt ended, as its worker saw it."""

    RETURNED = 0
    RAISED = 1  # the user's exception
    REFUSED = 2  # ours: could not be unpickled, stored, or trusted; trying again will not help


class Outcome(NamedTuple):
    """The end of one attempt. Times are seconds since the epoch on the worker's clock.

    `value` holds packed parts: the pickled result, or a pickled pair (exception, traceback text).
    `peak_rss` is in bytes; 0 where the platform does not tell. `out` holds packed parts of stdout and
    stderr, or is empty when the call printed nothing.
    """

    number: int
    attempt: int
    verdict: Verdict
    started_s: float
    finished_s: float
    cpu_s: float
    peak_rss: int
    value: bytes | memoryview
    out: bytes | memoryview = b""


_VERDICTS: Final = tuple(Verdict)
_OUT_FOLLOWS: Final = 0x80


def encode_batch(
    calls: Sequence[PackedCall], python: tuple[int, int] = sys.version_info[:2], pickler: str = ""
) -> bytes:
    """The body of a BATCH message. `python` and `pickler` are the client's: a worker that passes calls on knows them
    from the batch in which they came."""
    functions: dict[bytes, int] = {}
    envs: dict[str, int] = {}
    function_pieces: list[bytes] = []
    call_pieces: list[bytes | memoryview] = []
    for number, attempt, function, packed, timeout_s, env, call_pickler, _attachments in calls:
        pickler = pickler or function.pickler or call_pickler
        index = functions.get(function.digest)
        if index is None:
            index = functions[function.digest] = len(functions)
            function_pieces += _encode_function(function)
        which = 0 if env is None else envs.setdefault(json.dumps(env, sort_keys=True), len(envs) + 1)
        call_pieces += (_CALL.pack(number, attempt, index, which, timeout_s, len(packed)), packed)
    env_text = json.dumps(list(envs)).encode() if envs else b""
    version = pickler.encode()
    head = _BATCH.pack(len(functions), len(calls), len(env_text), *python, len(version))
    return b"".join([head, version, env_text, *function_pieces, *call_pieces])


def _encode_function(function: PackedFunction) -> list[bytes]:
    modules, packed = function.modules, function.packed
    pieces = [_FUNCTION.pack(function.digest, function.traits.stateless, len(modules), len(packed))]
    for name, bundle in modules:
        text = name.encode()
        pieces += (_MODULE.pack(bundle.digest, bundle.size, len(text)), text)
    pieces.append(packed)
    return pieces


def decode_batch(body: bytes | memoryview) -> Batch:
    """The content of a BATCH message; the calls' packed parts are views into `body`.

    Errors: WireError when the body is damaged.
    """
    view = memoryview(body)
    try:
        n_functions, n_calls, env_bytes, major, minor, version_bytes = _BATCH.unpack_from(view)
        at = _BATCH.size + version_bytes
        pickler = str(view[_BATCH.size : at], "ascii")
        envs = [json.loads(text) for text in json.loads(_slice(view, at, env_bytes).tobytes() or b"[]")]
        calls = list(_read_calls(view, at + env_bytes, n_functions, n_calls, envs))
    except (struct.error, IndexError, ValueError, TypeError, RecursionError) as error:
        raise WireError(f"a batch of {len(body)} bytes is damaged: {error}") from None
    return Batch(calls, (major, minor), pickler)


def _read_calls(
    view: memoryview, at: int, n_functions: int, n_calls: int, envs: list[dict[str, str]]
) -> Iterator[PackedCall]:
    functions = []
    for _ in range(n_functions):
        digest, traits, n_modules, length = _FUNCTION.unpack_from(view, at)
        at += _FUNCTION.size
        modules: tuple[ShippedModule, ...] = ()
        if n_modules:
            modules, at = _read_modules(view, at, n_modules)
        code = bytes(_slice(view, at, length))
        functions.append(PackedFunction(digest, FunctionTraits(stateless=bool(traits)), code, "", modules))
        at += length
    for _ in range(n_calls):
        number, attempt, index, which, timeout_s, length = _CALL.unpack_from(view, at)
        at += _CALL.size
        packed = _slice(view, at, length)
        env = envs[which - 1] if which else None
        yield PackedCall(number, attempt, functions[index], packed, timeout_s, env)
        at += length
    if at != len(view):
        raise ValueError(f"{len(view) - at} bytes stand behind the last call")


def _read_modules(view: memoryview, at: int, n_modules: int) -> tuple[tuple[ShippedModule, ...], int]:
    modules = []
    for _ in range(n_modules):
        digest, size, length = _MODULE.unpack_from(view, at)
        at += _MODULE.size
        modules.append(ShippedModule(str(_slice(view, at, length), "utf-8"), BlobRef(digest, size)))
        at += length
    return tuple(modules), at


def _slice(view: memoryview, at: int, length: int) -> memoryview:
    if at + length > len(view):
        raise ValueError("it ends in the middle")
    return view[at : at + length]


def encode_outcome(outcome: Outcome) -> bytes:
    """The body of an OUTCOME message."""
    number, attempt, verdict, started_s, finished_s, cpu_s, peak_rss, value, out = outcome
    if not out:
        return _OUTCOME.pack(number, attempt, verdict, started_s, finished_s, cpu_s, peak_rss) + value
    head = _OUTCOME.pack(number, attempt, verdict | _OUT_FOLLOWS, started_s, finished_s, cpu_s, peak_rss)
    return b"".join((head, len(out).to_bytes(8, "little"), out, value))


def decode_outcome(body: memoryview) -> Outcome:
    """The outcome in an OUTCOME message; `value` and `out` are views into `body`.

    Errors: WireError when the body is damaged.
    """
    try:
        number, attempt, verdict, started_s, finished_s, cpu_s, peak_rss = _OUTCOME.unpack_from(body)
        at = _OUTCOME.size
        out: bytes | memoryview = b""
        if verdict & _OUT_FOLLOWS:
            end = at + 8 + int.from_bytes(body[at : at + 8], "little")
            if end > len(body):
                raise IndexError("its output ends in the middle")
            out, at = body[at + 8 : end], end
            verdict &= ~_OUT_FOLLOWS
        known = _VERDICTS[verdict]
    except (struct.error, IndexError) as error:
        raise WireError(f"an outcome of {len(body)} bytes is damaged: {error}") from None
    return Outcome(number, attempt, known, started_s, finished_s, cpu_s, peak_rss, body[at:], out)
