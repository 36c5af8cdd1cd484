"""A call's arguments as they travel, and as they arrive."""

import os
import pickle
import threading

import numpy as np
import pandas as pd
import pytest

from cloudexec.errors import BlobMissing, StoreFull, UnpicklableArgument
from cloudexec.ids import BlobRef
from cloudexec.serialization import blobs
from cloudexec.serialization.blobs import BlobBook
from cloudexec.serialization.loading import load
from cloudexec.serialization.packer import Packer
from cloudexec.store.directory import DirectoryStore
from cloudexec.store.memory import address_of

INLINE = 100_000


class Transport:
    """A packer and what the other side would do."""

    def __init__(self, root):
        self.store = DirectoryStore([root])
        self.packer = Packer(BlobBook(self.store, address_of), INLINE)

    def pack(self, /, *args, **kwargs):
        return self.packer.pack_arguments(args, kwargs)

    def load(self, packed):
        args, kwargs = load(packed.packed, lambda ref: self.store.get(ref.name))
        return args, kwargs or {}

    def send(self, value):
        """How one argument arrives."""
        ((arrived,), _) = self.load(self.pack(value))
        return arrived

    def blobs(self):
        return list(self.store.names())


@pytest.fixture
def transport(tmp_path):
    return Transport(tmp_path)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        pytest.param((), {}, id="nothing"),
        pytest.param((1, 2.5, True, None, 1j, "text", b"bytes"), {}, id="plain values"),
        pytest.param(("x" * 10_000,), {}, id="a text too long for the short way"),
        pytest.param((), {"fn": 1, "self": 2, "args": 3}, id="keywords that look like ours"),
        pytest.param(([1, {"k": (2,)}],), {"key": {1, 2}}, id="containers"),
        pytest.param(("é\ud800",), {}, id="a lone surrogate"),
        pytest.param((10**1000, float("inf"), -0.0), {}, id="unusual numbers"),
    ],
)
def test_arguments_arrive_as_they_were(transport, args, kwargs):
    assert transport.load(transport.pack(*args, **kwargs)) == (args, kwargs)
    assert transport.blobs() == []


def test_a_subclass_of_a_plain_type_keeps_its_class(transport):
    arrived = transport.send(np.float64(2.5))
    assert type(arrived) is np.float64


def test_equal_objects_that_are_one_arrive_as_one(transport):
    shared = [1]
    args, _ = transport.load(transport.pack(shared, shared))
    assert args[0] is args[1]


LARGE = [
    pytest.param(b"x" * INLINE * 3, id="bytes"),
    pytest.param("ü" * INLINE * 3, id="text"),
    pytest.param(bytearray(b"x" * INLINE * 3), id="bytearray"),
    pytest.param(list(range(INLINE)), id="a list with a long pickle"),
    pytest.param(np.arange(INLINE), id="array"),
]


@pytest.mark.parametrize("value", LARGE)
def test_what_is_large_travels_as_a_blob(transport, value):
    packed = transport.pack(value)
    assert len(packed.packed) < 1000
    assert [ref.name for ref in packed.refs] == transport.blobs()
    ((arrived,), _) = transport.load(packed)
    assert type(arrived) is type(value)
    assert np.array_equal(arrived, value) if isinstance(value, np.ndarray) else arrived == value


@pytest.mark.parametrize("value", LARGE)
def test_what_is_large_is_written_once_however_often_it_is_sent(transport, value):
    refs = {transport.pack(value).refs for _ in range(5)}
    assert len(refs) == 1
    assert len(transport.blobs()) == 1


def test_many_middling_buffers_do_not_swell_the_message(transport):
    arrays = [np.full(10_000, number, dtype=np.float64) for number in range(20)]
    packed = transport.pack(arrays)
    assert len(packed.packed) < INLINE + 100_000
    ((arrived,), _) = transport.load(packed)
    assert all(np.array_equal(a, b) for a, b in zip(arrived, arrays, strict=True))


STRUCTURED = np.zeros(5000, dtype=[("a", "i4"), ("b", "f8", (2,)), ("c", "U3")])
STRUCTURED["a"] = np.arange(5000)
ARRAYS = [
    pytest.param(np.arange(24.0).reshape(2, 3, 4), id="small"),
    pytest.param(np.arange(40_000.0).reshape(200, 200), id="C order"),
    pytest.param(np.asfortranarray(np.arange(40_000.0).reshape(200, 200)), id="Fortran order"),
    pytest.param(np.arange(40_000.0).reshape(200, 200).T, id="transposed"),
    pytest.param(np.arange(80_000.0)[::2], id="strided"),
    pytest.param(np.arange(40_000.0)[::-1], id="reversed"),
    pytest.param(np.arange(80_000.0).reshape(200, 400)[:, :200], id="columns of a larger one"),
    pytest.param(np.arange(40_000.0)[100:], id="a slice"),
    pytest.param(np.array(2.5), id="no dimension"),
    pytest.param(np.empty((0, 3)), id="empty"),
    pytest.param(np.zeros((3, 0, 2), order="F"), id="empty in Fortran order"),
    pytest.param(STRUCTURED, id="structured"),
    pytest.param(np.arange(20_000, dtype=">i4"), id="big-endian"),
    pytest.param(np.arange(20_000).astype("M8[s]"), id="times"),
    pytest.param(np.arange(20_000) % 2 == 0, id="bools"),
    pytest.param(np.array(["ü", "abc"] * 10_000), id="texts"),
    pytest.param(np.arange(20_000, dtype=np.complex128), id="complex"),
    pytest.param(np.arange(20_000, dtype=np.float16), id="halves"),
    pytest.param(np.broadcast_to(np.arange(5.0), (8000, 5)), id="broadcast"),
    pytest.param(np.ma.masked_array(np.arange(20_000), np.arange(20_000) % 3 == 0), id="masked"),
    pytest.param(np.array([None, "x", 2], dtype=object), id="objects"),
]


@pytest.mark.parametrize("array", ARRAYS)
def test_an_array_arrives_equal(transport, array):
    arrived = transport.send(array)
    assert type(arrived) is type(array)
    assert arrived.dtype == array.dtype
    assert arrived.shape == array.shape
    assert np.array_equal(arrived, array)


@pytest.mark.parametrize("array", [param for param in ARRAYS if param.id != "broadcast"])
def test_an_array_arrives_writable_and_nobody_elses(transport, array):
    before = array.copy()
    packed = transport.pack(array)
    ((first,), _), ((second,), _) = transport.load(packed), transport.load(packed)
    assert first.flags.writeable
    first[...] = first.ravel()[:1].reshape(()) if first.size else first
    assert np.array_equal(second, before)
    assert np.array_equal(array, before)


@pytest.mark.parametrize("size", [10, 5_000, 50_000])
def test_an_array_that_its_owner_made_read_only_arrives_read_only_but_alone(transport, size):
    array = np.zeros(size)
    array.flags.writeable = False
    arrived = transport.send(array)
    assert not arrived.flags.writeable
    arrived.copy()[0] = 1  # which is what to do about it


@pytest.mark.parametrize("size", [100, 100_000])
def test_a_data_frame_arrives_equal_and_writable(transport, size):
    frame = pd.DataFrame({"a": np.arange(size), "b": np.arange(size) / 3, "c": ["x", "y"] * (size // 2)})
    arrived = transport.send(frame)
    pd.testing.assert_frame_equal(arrived, frame)
    arrived.loc[0, "b"] = -1.0
    arrived["d"] = arrived["a"] * 2
    assert frame.loc[0, "b"] == 0


def test_a_memoryview_arrives_as_bytes(transport):
    assert transport.send(memoryview(b"view")) == b"view"


def test_a_pickle_buffer_arrives_with_its_bytes(transport):
    content = os.urandom(300_000)
    assert bytes(transport.send(pickle.PickleBuffer(content))) == content


def test_arguments_are_as_of_the_moment_they_were_packed(transport):
    small, middling, large = np.zeros(10), np.zeros(5_000), np.zeros(50_000)
    packed = transport.pack(small, middling, large)
    for array in (small, middling, large):
        array[:] = 1
    args, _ = transport.load(packed)
    assert all(array.max() == 0 for array in args)


def test_a_blob_that_is_gone_is_missing(transport):
    packed = transport.pack(b"x" * INLINE * 2)
    transport.store.delete(packed.refs[0].name)
    with pytest.raises(BlobMissing):
        transport.load(packed)


@pytest.mark.parametrize(
    ("args", "kwargs", "blamed"),
    [
        pytest.param((1, threading.Lock()), {}, r"args\[1\] \(lock\)", id="an argument"),
        pytest.param(({"file": threading.Lock()},), {}, r"args\[0\]\['file'\] \(lock\)", id="in a dict"),
        pytest.param(([1, (2, threading.Lock())],), {}, r"args\[0\]\[1\]\[1\] \(lock\)", id="in a tuple in a list"),
        pytest.param((), {"key": threading.Lock()}, r"key \(lock\)", id="a keyword"),
        pytest.param((), {"key": {"a": {"b": threading.Lock()}}}, r"key\['a'\]\['b'\]", id="deep in a keyword"),
        pytest.param((x for x in ()), {}, "", id="nothing at all"),
        pytest.param(((x for x in ()),), {}, r"args\[0\] \(generator\)", id="a generator"),
    ],
)
def test_an_argument_that_does_not_pickle_is_named(transport, args, kwargs, blamed):
    if not blamed:
        transport.pack(*args, **kwargs)
        return
    with pytest.raises(UnpicklableArgument, match=blamed) as caught:
        transport.pack(*args, **kwargs)
    assert caught.value.__cause__ is not None


def test_a_function_that_does_not_pickle_is_named(transport):
    lock = threading.Lock()

    def uses_the_lock():
        return lock

    with pytest.raises(UnpicklableArgument, match="uses_the_lock"):
        transport.packer.pack_function(uses_the_lock)


class RaisesWhilePickling:
    def __reduce__(self):
        raise ZeroDivisionError("from the user's own code")


def test_an_error_of_the_users_own_pickling_code_is_the_cause(transport):
    with pytest.raises(UnpicklableArgument, match="own code") as caught:
        transport.pack(RaisesWhilePickling())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_large_array_in_a_closure_travels_as_a_blob_once(transport):
    array = np.arange(INLINE)

    def total():
        return array.sum()

    packed = [transport.packer.pack_function(total) for _ in range(3)]
    assert len(transport.blobs()) == 1
    assert len({function.digest for function, _ in packed}) == 1
    function, refs = packed[0]
    assert refs
    again = load(function.packed, lambda ref: transport.store.get(ref.name))
    assert again() == array.sum()


def test_an_array_in_a_closure_that_changes_is_noticed(transport):
    array = np.zeros(INLINE)

    def total():
        return array.sum()

    found = []
    for _ in range(2):
        function, _refs = transport.packer.pack_function(total)
        found.append(load(function.packed, lambda ref: transport.store.get(ref.name))())
        array[0] = 5
    assert found == [0, 5]


def test_several_threads_may_pack_together(transport):
    arrays = [np.full(INLINE, number) for number in range(4)]
    errors = []

    def work(array):
        try:
            for turn in range(20):
                array[0] = turn
                packed = transport.pack(array)
                ((arrived,), _) = transport.load(packed)
                assert np.array_equal(arrived, array)
                transport.packer.release(packed.refs)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(array,)) for array in arrays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert errors == []


def test_a_packed_call_names_its_blobs(transport):
    packed = transport.pack(b"x" * INLINE * 2, b"y" * INLINE * 2)
    assert all(isinstance(ref, BlobRef) for ref in packed.refs)


class RoomForOne(DirectoryStore):
    def put_blob(self, content):
        if list(self.names()):
            raise StoreFull("no room")
        return super().put_blob(content)


def test_a_call_for_which_there_is_no_room_keeps_no_blob_in_use(tmp_path, monkeypatch):
    monkeypatch.setattr(blobs, "_IDLE_BYTES", 0)
    store = RoomForOne([tmp_path])
    packer = Packer(BlobBook(store, address_of), INLINE)
    with pytest.raises(StoreFull):
        packer.pack_arguments((b"x" * INLINE * 2 + b"y", np.zeros(INLINE)), {"more": np.ones(INLINE)})
    assert list(store.names()) == []
