"""The numbers of R's serialization format: types, flags and the bit patterns that mean NA.

Called by: every module of this folder.   Calls: nothing.
Source:    R internals, "Serialization Formats"; Rinternals.h. All words are big-endian (XDR).
"""

from __future__ import annotations

import struct
from typing import Final

HEADER: Final = b"X\n" + struct.pack(">3i", 2, 0x00030500, 0x00020300)  # version 2; written by 3.5.0, read by 2.3.0

# Types of objects.
SYMBOL: Final = 1
PAIRLIST: Final = 2
CLOSURE: Final = 3
ENVIRONMENT: Final = 4
PROMISE: Final = 5
LANGUAGE: Final = 6
SPECIAL: Final = 7
BUILTIN: Final = 8
CHARSXP: Final = 9
LOGICAL: Final = 10
INTEGER: Final = 13
DOUBLE: Final = 14
COMPLEX: Final = 15
CHARACTER: Final = 16
DOTS: Final = 17
LIST: Final = 19
EXPRESSION: Final = 20
BYTECODE: Final = 21
POINTER: Final = 22
WEAKREF: Final = 23
RAW: Final = 24
S4: Final = 25
ALTREP: Final = 238
PERSISTENT: Final = 247
PACKAGE: Final = 248
NAMESPACE: Final = 249
NULL: Final = 254
REFERENCE: Final = 255

SINGLETONS: Final = {  # without contents
    241: "the base environment",
    242: "the empty environment",
    250: "the base namespace",
    251: "a missing argument",
    252: "an unbound value",
    253: "the global environment",
}
TYPE_NAMES: Final = {
    **SINGLETONS,
    SYMBOL: "a symbol",
    PAIRLIST: "a pairlist",
    CLOSURE: "a function",
    ENVIRONMENT: "an environment",
    PROMISE: "a promise",
    LANGUAGE: "a call",
    SPECIAL: "a primitive function",
    BUILTIN: "a primitive function",
    DOTS: "the dots of a call",
    EXPRESSION: "an expression",
    BYTECODE: "byte code",
    POINTER: "an external pointer",
    WEAKREF: "a weak reference",
    S4: "an S4 object",
    ALTREP: "a compact vector",
    PERSISTENT: "a persistent name",
    PACKAGE: "a package",
    NAMESPACE: "a namespace",
}

ITEM_BYTES: Final = {LOGICAL: 4, INTEGER: 4, DOUBLE: 8, COMPLEX: 16, RAW: 1}
VECTORS: Final = frozenset({*ITEM_BYTES, CHARACTER})

# Flags beside the type.
IS_OBJECT: Final = 1 << 8
HAS_ATTRIBUTES: Final = 1 << 9
HAS_TAG: Final = 1 << 10
TAGGED_PAIR: Final = PAIRLIST | HAS_TAG

# A string is four bytes of flags, which tell its encoding, then its length, then its bytes.
ASCII_FLAGS: Final = CHARSXP | 64 << 12
UTF8_FLAGS: Final = CHARSXP | 8 << 12
LATIN1: Final = 4 << 12
BYTES: Final = 2 << 12
ASCII_HEAD: Final = struct.pack(">I", ASCII_FLAGS)
UTF8_HEAD: Final = struct.pack(">I", UTF8_FLAGS)
NA_STRING: Final = struct.pack(">Ii", CHARSXP, -1)

NA_INTEGER: Final = -(2**31)  # also of logical vectors
NA_REAL_BITS: Final = 0x7FF00000000007A2  # R looks at the low word: 1954
NA_REAL: Final = struct.pack(">Q", NA_REAL_BITS)
QUIET_BIT: Final = 1 << 51  # of a NaN
NA_INTEGER64: Final = -(2**63)
EXACT: Final = 2**53  # doubles hold every integer up to here
SHORTEST_LONG_VECTOR: Final = 2**31  # its length needs two words more

DEEPEST: Final = 150  # lists within lists, either way: far above what is meant, far below Python's own limit

OPAQUE_CLASS: Final = "cloudexec_rds"
