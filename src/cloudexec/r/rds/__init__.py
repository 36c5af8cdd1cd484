"""Python values to and from R's serialization format (RDS: XDR, version 2, not compressed).

Called by: snippet.py (checks arguments), the engines (write requests, read replies), robject.py.
Calls:     describing.py → encoding.py on the way to R; parsing.py → values.py on the way back.

    value  →  describe: nodes  →  encoded: bytes         refused values are found in the first step, which `check` is
    bytes  →  parsed: items    →  Reader: value          nothing is evaluated, and no length is believed unseen

What becomes what stands in docs/r.md, in a table made from the tests of this folder. NumPy and pandas are imported only
where a value needs them.
"""

from __future__ import annotations

from typing import Any

from cloudexec.errors import RConversionError
from cloudexec.r.rds.describing import describe
from cloudexec.r.rds.encoding import encoded
from cloudexec.r.rds.faults import refuse
from cloudexec.r.rds.parsing import parsed
from cloudexec.r.rds.scans import checking
from cloudexec.r.rds.values import Reader

__all__ = ["check", "dumps", "loads"]


def dumps(value: object, *, path: str = "value") -> bytes:
    """One RDS stream. path: what the value is called in errors. Errors: RConversionError."""
    return encoded(describe(value, path))


def check(value: object, path: str = "value") -> None:
    """Raise what `dumps` would, without writing. Answers about large arrays are remembered while these live."""
    with checking():
        describe(value, path)


def loads(data: bytes | bytearray | memoryview, *, simplify: bool = True, path: str = "value") -> Any:
    """The value in a stream. simplify: vectors of length 1 become scalars. Errors: RConversionError."""
    view = memoryview(data).cast("B")
    try:
        return Reader(simplify).value(parsed(view), path)
    except RConversionError:
        raise
    except (ValueError, KeyError, RecursionError) as error:
        refuse(f"the RDS data is damaged, or not what R writes: {error}", path)
