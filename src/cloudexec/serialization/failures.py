"""Exceptions on their way from the worker to the future, with their remote traceback.

Called by: worker.slot (packs), engine (loads).   Calls: pickling.py, loading.py.
"""

from __future__ import annotations

import pickle
import traceback
from typing import Final

from cloudexec.errors import CallExited, RemoteError, RemoteTraceback, ResultUnreadable
from cloudexec.serialization.loading import Fetch, load
from cloudexec.serialization.pickling import dumps
from cloudexec.wire.parts import pack_parts

_FRAMES_MOST: Final = 200  # the last ones of each traceback; showing all of an endless recursion takes seconds
_TEXT_MOST: Final = 64 * 1024  # characters of a traceback that travel
_LEAVING: Final = (SystemExit, KeyboardInterrupt, GeneratorExit)


def pack_failure(error: BaseException, own_frames: int = 0) -> bytes:
    """Packed parts of (exception, traceback text); the first `own_frames` frames are ours, and left out.

    What would not arrive as it left becomes a RemoteError that describes it. Never raises, whatever the
    exception's own methods do.
    """
    text = _traceback_text(error, own_frames)
    if isinstance(error, _LEAVING):
        code = error.code if isinstance(error, SystemExit) else None
        code = code if isinstance(code, (int, str, type(None))) else repr(code)
        shown = f"SystemExit({code!r})" if isinstance(error, SystemExit) else type(error).__name__
        error = CallExited(f"the function raised {shown}", code)
    packed = _pack_checked(error, text)
    if packed is None:
        packed = _pack_checked(_described(error), text)
    return packed if packed is not None else pack_parts([pickle.dumps((RemoteError("?", "?", "?"), text), 5)])


def load_failure(packed: bytes | memoryview, fetch: Fetch) -> BaseException:
    """The exception to set on the future; its `__cause__` shows the remote traceback."""
    try:
        error, text = load(packed, fetch)
    except BaseException as problem:  # the user's code may even try to leave Python
        error = ResultUnreadable(f"the call raised an exception that cannot be unpickled here: {shown(problem)}")
        error.__cause__ = problem
        return error
    if not isinstance(error, BaseException):
        return ResultUnreadable(f"the call's exception unpickled as a {type(error).__qualname__} here")
    BaseException.__setattr__(error, "__cause__", RemoteTraceback(text))  # its class may refuse, e.g. a frozen one
    return error


def shown(error: BaseException) -> str:
    """The exception's `repr`, or what its class lets us have instead."""
    for show in (repr, str):
        try:
            return show(error)[:_TEXT_MOST]
        except BaseException:  # whatever the user's code does
            continue
    return f"{type(error).__qualname__}(?)"


def _pack_checked(error: BaseException, text: str) -> bytes | None:
    """Pack, and see that it unpickles as the same type."""
    try:
        pickled = dumps((error, text))
        again, _ = pickle.loads(pickled.stream, buffers=pickled.buffers)
        if type(again) is not type(error):
            return None
        str(again)  # what cannot be shown helps nobody
        return pack_parts([pickled.stream, *pickled.buffers])
    except BaseException:
        return None


def _described(error: BaseException) -> RemoteError:
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}"
    message = _text_of(error)
    return RemoteError(f"{name}: {message}", name, message)


def _text_of(error: BaseException) -> str:
    for show in (str, repr):
        try:
            return show(error)[:_TEXT_MOST]
        except BaseException:
            continue
    return "<its __str__ and __repr__ raise>"


def _traceback_text(error: BaseException, own_frames: int) -> str:
    try:
        frames = error.__traceback__
        for _ in range(own_frames):
            frames = frames.tb_next if frames else None
        text = "".join(traceback.format_exception(type(error), error, frames, limit=-_FRAMES_MOST))
    except BaseException:
        text = f"{type(error).__qualname__} (its traceback cannot be shown)\n"
    return text if len(text) <= _TEXT_MOST else f"{text[: _TEXT_MOST // 2]}\n...\n{text[-_TEXT_MOST // 2 :]}"
