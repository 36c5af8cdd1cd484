"""A pickle with its out-of-band buffers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.errors import WireError
from cloudexec.ids import Attached, BlobRef
from cloudexec.wire.parts import attached_sizes, pack_parts, sole_part, unpack_parts

blob_refs = st.builds(BlobRef, st.binary(min_size=32, max_size=32), st.integers(0, 2**63))
inline_parts = st.binary(max_size=50)
part_lists = st.lists(inline_parts | blob_refs | st.builds(Attached, st.integers(0, 2**40)), max_size=6)


@given(part_lists)
def test_parts_come_back_as_they_were_packed(parts):
    assert unpack_parts(pack_parts(parts)) == parts


@given(st.lists(inline_parts, max_size=6), st.sampled_from([bytes, bytearray, memoryview]))
def test_a_part_may_lie_in_any_buffer(parts, container):
    assert unpack_parts(pack_parts([container(part) for part in parts])) == parts


@given(part_lists)
def test_the_sole_inline_part_is_found_without_unpacking(parts):
    sole = sole_part(pack_parts(parts))
    if len(parts) == 1 and isinstance(parts[0], bytes):
        assert sole == parts[0]
    else:
        assert sole is None


@given(part_lists, st.data())
def test_parts_cut_short_are_damaged(parts, data):
    packed = pack_parts(parts)
    with pytest.raises(WireError):
        unpack_parts(packed[: data.draw(st.integers(0, len(packed) - 1))])


@given(part_lists, st.binary(min_size=1, max_size=9))
def test_parts_with_something_behind_them_are_damaged(parts, more):
    with pytest.raises(WireError):
        unpack_parts(pack_parts(parts) + more)


@given(part_lists, st.data())
def test_a_changed_byte_raises_nothing_but_wire_error(parts, data):
    packed = bytearray(pack_parts(parts))
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        unpack_parts(packed)
    except WireError:
        pass


@given(st.binary(max_size=60))
def test_random_bytes_raise_nothing_but_wire_error(data):
    try:
        unpack_parts(data)
        sole_part(data)
    except WireError:
        pass


def test_an_inline_part_is_a_view_and_no_copy():
    packed = bytearray(pack_parts([b"first", b"second"]))
    second = unpack_parts(packed)[1]
    packed[-6:] = b"SECOND"
    assert second == b"SECOND"


def test_a_pickle_may_have_more_than_65535_buffers():
    parts = [b"x"] * 70_000
    assert unpack_parts(pack_parts(parts)) == parts


@given(part_lists)
def test_the_sizes_of_attachments_are_told_in_their_order(parts):
    assert attached_sizes(pack_parts(parts)) == [part.size for part in parts if isinstance(part, Attached)]


@given(st.binary(max_size=60))
def test_random_bytes_have_no_attachments_and_raise_nothing(data):
    attached_sizes(data)
