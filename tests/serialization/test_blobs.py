"""Large buffers: written once, kept while calls need them, and never taken for what they were."""

import ctypes
import mmap
import os
import subprocess
import sys
import tempfile
import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cloudexec import LocalExecutor
from cloudexec.errors import StoreFull
from cloudexec.serialization import blobs
from cloudexec.serialization.blobs import BlobBook
from cloudexec.store.directory import DirectoryStore
from cloudexec.store.memory import address_of

SIZES = [1000, 1_000_000, 5_000_000]  # compared; compared; watched by the kernel where it can


@pytest.fixture
def store(tmp_path):
    return DirectoryStore([tmp_path])


@pytest.fixture
def book(store):
    return BlobBook(store, address_of)


def view(array):
    return memoryview(array).cast("B")


@pytest.mark.parametrize("size", SIZES)
def test_equal_bytes_at_different_places_are_one_blob(book, store, size):
    assert book.add(view(np.ones(size, "u1"))) == book.add(view(np.ones(size, "u1")))
    assert len(list(store.names())) == 1


WAYS = {
    "an item": lambda array: array.__setitem__(array.size // 2, 7),
    "the first byte": lambda array: array.__setitem__(0, 7),
    "the last byte": lambda array: array.__setitem__(-1, 7),
    "through a view": lambda array: array[10:20].fill(7),
    "in place arithmetic": lambda array: np.add(array, 1, out=array),
    "C code": lambda array: ctypes.memset(array.ctypes.data + array.size // 3, 7, 1),
    "a read from a file": lambda array: read_into(array),
    "through a memoryview": lambda array: memoryview(array).__setitem__(5, 7),
    "a sort": lambda array: (array.__setitem__(0, 9), array.sort()),
}


def read_into(array):
    pipe_in, pipe_out = os.pipe()
    os.write(pipe_out, b"\x07" * 100)
    os.readv(pipe_in, [memoryview(array)[200:300]])
    os.close(pipe_in)
    os.close(pipe_out)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", WAYS)
def test_a_change_in_place_is_noticed(book, store, size, how):
    array = np.zeros(size, "u1")
    before = [book.add(view(array)) for _ in range(3)]
    WAYS[how](array)
    after = book.add(view(array))
    assert len({*before}) == 1
    assert after != before[0]
    assert store.get(before[0].name) == bytes(size)
    assert store.get(after.name) == array.tobytes()


@pytest.mark.parametrize("size", SIZES)
def test_a_change_and_a_change_back_are_noticed(book, size):
    array = np.zeros(size, "u1")
    first = book.add(view(array))
    array[5] = 1
    second = book.add(view(array))
    array[5] = 0
    assert book.add(view(array)) == first != second


@pytest.mark.parametrize("size", SIZES)
def test_a_change_by_another_process_to_shared_memory_is_noticed(book, store, tmp_path, size):
    path = tmp_path.parent / f"{tmp_path.name}-shared"
    path.write_bytes(bytes(size))
    array = np.memmap(path, "u1", "r+")
    before = [book.add(view(array)) for _ in range(2)]
    code = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(500); f.write(b'x')"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    after = book.add(view(array))
    assert after not in before
    assert store.get(after.name)[500:501] == b"x"


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memory without a name is Linux's")
@pytest.mark.parametrize("size", SIZES)
def test_a_change_by_another_process_to_nameless_shared_memory_is_noticed(book, size):
    fd = os.memfd_create("shared")
    os.ftruncate(fd, size)
    array = np.frombuffer(mmap.mmap(fd, size), "u1")
    before = [book.add(view(array)) for _ in range(2)]
    code = f"import os; os.pwrite({fd}, b'x', 3)"
    subprocess.run([sys.executable, "-c", code], check=True, pass_fds=[fd])
    os.close(fd)
    assert book.add(view(array)) not in before


@pytest.mark.parametrize("size", SIZES)
def test_a_temporary_at_the_address_of_another_is_not_taken_for_it(book, store, size):
    for turn in range(6):
        array = np.full(size, turn, "u1")
        ref = book.add(view(array))
        assert store.get(ref.name) == array.tobytes()
        del array


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make", [lambda b: b, lambda b: np.frombuffer(b, "u1")], ids=["bytes", "array"])
def test_also_within_one_map_a_temporary_is_not_taken_for_another(book, store, size, make):
    with book.trusting():
        for turn in range(6):
            content = bytes([turn]) * size
            temporary = make(content)
            del content
            ref = book.add(memoryview(temporary))
            assert store.get(ref.name) == bytes([turn]) * size
            del temporary


def test_within_one_map_other_threads_changes_are_noticed_by_those_threads(book, store):
    array = np.zeros(1_000_000, "u1")
    found = []

    def elsewhere():
        book.add(view(array))
        array[0] = 1
        found.append(book.add(view(array)))

    with book.trusting():
        book.add(view(array))
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(30)
    assert store.get(found[0].name)[0] == 1


def test_trust_ends_with_the_map(book):
    array = np.zeros(1_000_000, "u1")
    with book.trusting():
        before = book.add(view(array))
        book.add(view(array))
    array[0] = 1
    assert book.add(view(array)) != before


def test_a_blob_in_use_stays_however_much_is_idle(book, store, monkeypatch):
    monkeypatch.setattr(blobs, "_IDLE_BYTES", 2500)
    used = book.add(memoryview(b"u" * 1000))
    idle = [book.add(memoryview(bytes([number]) * 1000)) for number in range(5)]
    book.release(idle)
    assert store.size(used.name) == 1000
    assert [store.size(ref.name) for ref in idle] == [None, None, None, 1000, 1000], "the oldest go first"


def test_a_blob_is_kept_until_its_last_use_is_released(book, store, monkeypatch):
    monkeypatch.setattr(blobs, "_IDLE_BYTES", 0)
    content = b"x" * 1000
    ref = book.add(memoryview(content))
    assert book.add(memoryview(content)) == ref
    book.add_use([ref])
    for _ in range(2):
        book.release([ref])
        assert store.size(ref.name) == 1000
    book.release([ref])
    assert store.size(ref.name) is None


def test_a_blob_that_was_dropped_is_written_again(book, store, monkeypatch):
    monkeypatch.setattr(blobs, "_IDLE_BYTES", 0)
    array = np.ones(1_000_000, "u1")
    book.release([book.add(view(array))])
    ref = book.add(view(array))
    assert store.get(ref.name) == array.tobytes()


def test_a_blob_whose_file_was_removed_behind_our_back_is_written_again(book, store):
    array = np.ones(1_000_000, "u1")
    ref = book.add(view(array))
    store.delete(ref.name)
    assert book.add(view(array)) == ref
    assert store.get(ref.name) == array.tobytes()


class TinyStore(DirectoryStore):
    """A directory that has room for one small blob."""

    def put_blob(self, content):
        if content.nbytes > 1000:
            raise StoreFull("no room")
        return super().put_blob(content)


def test_what_the_store_has_no_room_for_is_not_remembered(tmp_path):
    book, array = BlobBook(TinyStore([tmp_path]), address_of), np.ones(2000, "u1")
    for _ in range(2):
        with pytest.raises(StoreFull):
            book.add(view(array))
    book.add(view(array[:500]))


class Keeping(RuleBasedStateMachine):
    """Arrays come, change and go while their blobs are added and released: bytes are always those of the `add`."""

    sizes = st.sampled_from([5_000, 300_000, 4_300_000])

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = DirectoryStore([self.folder.name])
        self.book = BlobBook(self.store, address_of)
        self.arrays = []
        self.uses = []

    def teardown(self):
        self.folder.cleanup()

    @precondition(lambda self: len(self.arrays) < 4)
    @rule(size=sizes, fill=st.integers(0, 3))
    def a_new_array(self, size, fill):
        self.arrays.append(np.full(size, fill, "u1"))

    @precondition(lambda self: self.arrays)
    @rule(which=st.integers(0, 99), at=st.integers(-3, 4_200_000), value=st.integers(0, 3))
    def a_write(self, which, at, value):
        array = self.arrays[which % len(self.arrays)]
        array[at % array.size] = value

    @precondition(lambda self: self.arrays)
    @rule(which=st.integers(0, 99))
    def an_array_goes(self, which):
        self.arrays.pop(which % len(self.arrays))

    @precondition(lambda self: self.arrays)
    @rule(which=st.integers(0, 99), trusting=st.booleans())
    def an_add(self, which, trusting):
        array = self.arrays[which % len(self.arrays)]
        if trusting:
            with self.book.trusting():
                refs = [self.book.add(view(array)) for _ in range(2)]
        else:
            refs = [self.book.add(view(array))]
        for ref in refs:
            assert self.store.get(ref.name) == array.tobytes()
            self.uses.append(ref)

    @precondition(lambda self: self.uses)
    @rule(which=st.integers(0, 99))
    def a_release(self, which):
        self.book.release([self.uses.pop(which % len(self.uses))])

    @invariant()
    def every_blob_in_use_is_there(self):
        assert all(self.store.size(ref.name) == ref.size for ref in self.uses)


Keeping.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
test_a_blob_holds_the_bytes_of_its_add = Keeping.TestCase


def test_when_a_map_is_over_its_functions_large_closure_is_in_use_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(blobs, "_IDLE_BYTES", 0)
    with LocalExecutor(1, store_dir=tmp_path) as executor:
        for turn in range(3):
            array = np.full(3_000_000, turn, "u1")
            assert list(executor.map(lambda at, array=array: array[at], range(4))) == [turn] * 4
        assert executor.submit(int).result(30) == 0
        assert [file for _, _, files in os.walk(tmp_path) for file in files] == []
