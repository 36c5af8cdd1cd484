"""Objects of the R that rpy2 embeds in this process, on their way to a call and back.

Called by: snippet.py, only if rpy2 is in use here; RObject.to_rpy2.   Calls: harness.R, in that R; rds; starting.

    rpy2's object  --opaque() of harness.R, serialize()-->  RDS  --rds.loads-->  RObject
    RObject        --unserialize()-->  rpy2's object

R makes the bytes, none of rpy2's converters has a part in it: they turn NA into numbers, and lose classes and names.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from cloudexec.errors import RConversionError, RMissing
from cloudexec.r import rds
from cloudexec.r.rpy2 import starting
from cloudexec.r.rscript.launching import HARNESS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloudexec.r.robject import RObject

# rpy2's NAs, which are numbers and texts to Python, and the vectors that take them.
_ABSENT: Final = {
    "NAIntegerType": "IntSexpVector",
    "NALogicalType": "BoolSexpVector",
    "NARealType": "FloatSexpVector",
    "NAComplexType": "ComplexSexpVector",
    "NACharacterType": "StrSexpVector",
}
_PYTHONS_OWN: Final = frozenset({int, float, bool, str, bytes, type(None)})
# The value comes in an environment: given as an argument, a call or a name would be evaluated. An error of R's goes
# as text: raised, rpy2 would log it as well.
_DESCRIBE: Final = """function(room) {
  tryCatch(serialize(opaque(get("value", room), ""), NULL, xdr = TRUE, version = 2L), error = conditionMessage)
}"""
_REVIVE: Final = "function(bytes) tryCatch(list(unserialize(bytes)), error = conditionMessage)"


def portable(value: Any, path: str = "value") -> Any:
    """A value without objects of rpy2's: each has become an RObject, at any depth of lists, tuples and dicts.

    Where there is none, the value itself. path: what it is called in errors. Errors: RConversionError.
    """
    from rpy2.rinterface_lib import embedded

    if not embedded.isinitialized():  # so nobody can have an object
        return value
    try:
        return _portable(value, path, frozenset())
    except RecursionError:  # rds has words for it
        return value


def to_rpy2(found: RObject) -> Any:
    """The object in this process's R, as rpy2.robjects has it. R is started if it does not run.

    Errors: RMissing (no R, no rpy2, or one that does not load), RConversionError.
    """
    _ready()
    from rpy2 import rinterface, robjects

    with _turn():
        data = rinterface.ByteSexpVector.from_memoryview(memoryview(found.data))
        revived = _function(_REVIVE)(data)
        if not isinstance(revived, rinterface.ListSexpVector):
            raise RConversionError(f"R cannot read the object: {revived[0]}")
        # The names of rpy2's classes, no conversion to Python's.
        with robjects.default_converter.context():
            return robjects.default_converter.rpy2py(revived[0])


def _portable(value: Any, path: str, around: frozenset[int]) -> Any:
    kind = type(value)
    if kind in (list, tuple, dict):
        if id(value) in around:  # it contains itself, which rds refuses
            return value
        within = around | {id(value)}
        if kind is dict:
            named = {name: _portable(each, f"{path}[{name!r}]", within) for name, each in value.items()}
            return value if all(named[name] is value[name] for name in named) else named
        items = [_portable(each, f"{path}[{number}]", within) for number, each in enumerate(value)]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else kind(items)
    return value if kind in _PYTHONS_OWN else _object(value, path)


def _object(value: Any, path: str) -> Any:
    """The RObject of one of rpy2's objects; NULL is None."""
    from rpy2 import rinterface
    from rpy2.rinterface_lib import openrlib

    if value is rinterface.NULL:
        return None
    if vector := _ABSENT.get(type(value).__name__):
        value = getattr(rinterface, vector)([value])
    if not isinstance(value, rinterface.Sexp):
        return value
    with _turn():
        room = rinterface.baseenv["new.env"]()
        room["value"] = value
        described = _function(_DESCRIBE)(room)
        if not isinstance(described, rinterface.ByteSexpVector):
            raise RConversionError(str(described[0]), path)
        data = bytes(openrlib.ffi.buffer(openrlib.RAW(described.__sexp__._cdata), len(described)))
    return rds.loads(data, path=path)


@lru_cache(maxsize=4)
def _function(code: str) -> Any:
    """A function of R's that sees those of harness.R, which the user does not see."""
    from rpy2 import rinterface

    base = rinterface.baseenv
    room = base["new.env"](parent=base)
    base["sys.source"](rinterface.StrSexpVector([str(HARNESS)]), room)
    return rinterface.evalr(code, envir=room)


@contextmanager
def _turn() -> Iterator[None]:
    """One thread after the other. R measures its stack from the main thread's end, which is no measure in others."""
    from rpy2.rinterface_lib import openrlib

    with openrlib.rlock:
        limit = openrlib.rlib.R_CStackLimit
        if threading.current_thread() is not threading.main_thread():
            openrlib.rlib.R_CStackLimit = openrlib.ffi.cast("uintptr_t", -1)
        try:
            yield
        finally:
            openrlib.rlib.R_CStackLimit = limit


def _ready() -> None:
    """rpy2 is loaded and R runs. Errors: RMissing."""
    try:
        with _own_interrupts():
            starting.start_r(embeds_all=False)
        import rpy2.robjects  # noqa: F401 -- after R's start: it would start one without a limit
    except Exception as error:  # rpy2 raises anything, down to AttributeError and OSError
        what, remedy = starting.remedy_for(error, starting.version_of_r())
        raise RMissing(what, remedy=remedy) from error


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Ctrl-C does afterwards what it did before: rpy2 sets a handler of its own."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGINT, before)
