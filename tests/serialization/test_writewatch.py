"""The kernel's watch over memory: it must notice every write, whoever makes it, or say that it cannot watch."""

from __future__ import annotations

import mmap
import os

import numpy as np
import pytest

from cloudexec.serialization.blobs import BlobBook
from cloudexec.serialization.writewatch import WriteWatch, open_watch
from cloudexec.store.directory import DirectoryStore
from cloudexec.store.memory import address_of

SIZE = 6_000_000  # neither a whole number of pages nor aligned to one


@pytest.fixture
def watch() -> WriteWatch:
    found = open_watch()
    if found is None:
        pytest.skip("this kernel (before Linux 6.7) or sandbox cannot watch memory; comparing takes its place")
    return found


@pytest.fixture
def array() -> np.ndarray:
    return np.arange(SIZE, dtype=np.uint8)


def arm(watch: WriteWatch, array: np.ndarray):
    watched = watch.arm(array.ctypes.data, array.nbytes)
    assert watched is not None
    return watched


def test_reading_leaves_memory_untouched(watch, array):
    watched = arm(watch, array)
    assert array.sum() >= 0
    assert watch.is_untouched(watched)


def read_into(array: np.ndarray, at: int) -> None:
    """Have the kernel write one byte, as reading a file does."""
    reader, writer = os.pipe()
    os.write(writer, bytes([array[at] ^ 1]))
    os.readv(reader, [memoryview(array)[at : at + 1]])
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda a: a.__setitem__(0, a[0] ^ 1), id="first byte, before the first whole page"),
        pytest.param(lambda a: a.__setitem__(-1, a[-1] ^ 1), id="last byte, behind the last whole page"),
        pytest.param(lambda a: a.__setitem__(SIZE // 2, a[SIZE // 2] ^ 1), id="one byte in the middle"),
        pytest.param(lambda a: a.sort(), id="the same values in another order"),
        pytest.param(lambda a: read_into(a, SIZE // 3), id="the kernel writes, not this process"),
    ],
)
def test_a_write_is_noticed(watch, array, write):
    watched = arm(watch, array)
    write(array)
    assert not watch.is_untouched(watched)


def test_a_write_after_a_fork_is_noticed(watch, array):
    watched = arm(watch, array)
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    assert watch.is_untouched(watched)
    array[SIZE // 2] ^= 1
    assert not watch.is_untouched(watched)


def test_watching_again_ends_the_older_watch_since_what_was_written_before_is_forgotten(watch, array):
    older = arm(watch, array)
    array[SIZE // 2] ^= 1
    newer = arm(watch, array[1_000_000:])
    assert not watch.is_untouched(older)
    assert watch.is_untouched(newer)


def test_freed_memory_that_is_mapped_anew_counts_as_written(watch):
    block = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = address_of(memoryview(block))
    watched = watch.arm(address, SIZE)
    assert watched is not None
    block.close()
    again = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if address_of(memoryview(again)) != address:
        pytest.skip("the kernel gave another address")
    again[SIZE // 2] = 1
    assert not watch.is_untouched(watched)


@pytest.mark.parametrize("kind", ["shared memory", "a private file"])
def test_memory_that_others_can_change_is_not_watched(watch, tmp_path, kind):
    if kind == "shared memory":
        block = mmap.mmap(-1, SIZE, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    else:
        (tmp_path / "file").write_bytes(bytes(SIZE))
        with open(tmp_path / "file", "rb") as file:
            block = mmap.mmap(file.fileno(), SIZE, flags=mmap.MAP_PRIVATE)
    with block:
        assert watch.arm(address_of(memoryview(block)), SIZE) is None


def test_two_books_that_share_an_array_both_see_its_changes(tmp_path, array):
    books = [BlobBook(DirectoryStore([tmp_path / name]), address_of) for name in "ab"]
    view = memoryview(array)
    first = [book.add(view) for book in books]
    assert first[0] == first[1]
    array[SIZE // 2] ^= 1
    changed = books[1].add(view)  # watches anew, and so forgets the write
    assert books[0].add(view) == changed != first[0]


def test_a_book_forgets_watches_whose_owners_are_gone(watch, tmp_path):
    book = BlobBook(DirectoryStore([tmp_path]), address_of)
    for _ in range(5):
        book.add(memoryview(np.random.default_rng(1).integers(0, 255, SIZE, dtype=np.uint8)))
    assert len(book._watched) <= 1
