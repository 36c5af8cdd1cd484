"""Frames between R and this process: whatever is encoded is read back, and what is none is refused."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.adapters.foreach.frames import Frame, encode, read
from cloudexec.errors import WireError


def reader(data: bytes):
    return io.BytesIO(data).read


@given(st.sampled_from(["TASK", "GOOD"]), st.lists(st.binary(max_size=50)))
def test_what_is_encoded_is_read_back(kind: str, parts: list[bytes]) -> None:
    assert read(reader(b"".join(encode(kind, parts)))) == Frame(kind, tuple(parts))


def test_numbers_and_texts_are_parts_in_utf_8() -> None:
    frame = read(reader(b"".join(encode("NEXT", [12, "é"]))))
    assert (frame.number(0), frame.text(1)) == (12, "é")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n" + bytes(64), id="another protocol"),
        pytest.param(struct.pack(">4sId", b"TASK", 1, -1.0), id="a negative length"),
        pytest.param(struct.pack(">4sId", b"TASK", 1, 0.5), id="half a byte"),
        pytest.param(struct.pack(">4sId", b"TASK", 1, float("nan")), id="no number"),
        pytest.param(struct.pack(">4sId", b"TASK", 1, 1e300), id="more than any memory"),
        pytest.param(struct.pack(">4sI", b"TASK", 1 << 31), id="billions of parts"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        read(reader(data))


def test_a_stranger_may_not_claim_much() -> None:
    with pytest.raises(WireError):
        read(reader(b"".join(encode("HELO", [bytes(600)]))), most_bytes=512)


@pytest.mark.parametrize("wrong", [b"", b"x", b"-1", b"1.5"])
def test_a_number_must_be_one(wrong: bytes) -> None:
    with pytest.raises(WireError):
        Frame("NEXT", (wrong,)).number(0)


def test_a_part_that_is_not_there_is_missed() -> None:
    with pytest.raises(WireError, match="2 parts"):
        Frame("NEXT", (b"1", b"2")).text(2)
