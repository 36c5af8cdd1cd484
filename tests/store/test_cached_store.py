"""The store that keeps blobs in local directories: the common specification, and what is its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from functools import cache, partial

import pytest

from cloudexec.errors import BlobMissing
from cloudexec.ids import BlobRef
from cloudexec.store.cached import CachedStore
from cloudexec.store.directory import DirectoryStore
from tests.specs.store_spec import StoreSpec
from tests.store.s3_stores import make_cached_store

FETCH_TOGETHER = """
import sys
from cloudexec.store.cached import CachedStore
from cloudexec.store.directory import DirectoryStore
from tests.store.test_cached_store import Counting
remote, cache, name, log = sys.argv[1:]
store = CachedStore(Counting(DirectoryStore([remote]), log, delay_s=0.2), [cache], 1 << 30)
print("ready", flush=True)
sys.stdin.readline()
print(len(store.get(name)))
"""


class Counting:
    """A store that notes in a file what is read from it, and takes its time."""

    def __init__(self, store, log, delay_s=0.0):
        self._store, self._log, self._delay_s = store, log, delay_s

    def get(self, name):
        with open(self._log, "a") as log:
            log.write(f"{name}\n")
        time.sleep(self._delay_s)
        return self._store.get(name)

    def __getattr__(self, name):
        return getattr(self._store, name)


@pytest.fixture
def remote(tmp_path):
    return DirectoryStore([tmp_path / "remote"])


@pytest.fixture
def reads(tmp_path):
    """A function that tells which names were read from the remote store."""

    def look():
        log = tmp_path / "reads"
        return log.read_text().split() if log.exists() else []

    return look


@pytest.fixture
def make_cached(tmp_path, remote):
    def make(most_bytes=1 << 30, roots=None):
        return CachedStore(Counting(remote, tmp_path / "reads"), roots or [tmp_path / "cache"], most_bytes)

    return make


@cache
def can_mount():
    probe = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return os.getuid() == 0 and probe.returncode == 0


@pytest.fixture
def small_disk(tmp_path):
    """A directory on a disk of 256 KiB."""
    if not can_mount():
        pytest.skip("mounting a tiny file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], check=True)
    yield small
    subprocess.run(["umount", "-l", small], check=True)


def blob_of(store, content):
    return store.put_blob(memoryview(content)).name


def kept_in(*roots):
    return sorted(os.listdir(root / "blobs")[at] for root in roots for at in range(len(os.listdir(root / "blobs"))))


class TestCachedS3Store(StoreSpec):
    @pytest.fixture
    def factory(self, make_s3_store, tmp_path):
        url, prefix = make_s3_store.args
        return partial(make_cached_store, url, prefix, str(tmp_path))


class TestCachedDirectoryStore(StoreSpec):
    """The quick one: whatever fails here fails without a network, too."""

    @pytest.fixture
    def factory(self, tmp_path):
        return partial(CachedStore, DirectoryStore([tmp_path / "remote"]), [str(tmp_path / "cache")], 1 << 30)


@pytest.mark.parametrize("size", [0, 10, 100_000])
def test_a_blob_is_fetched_once(make_cached, remote, reads, size):
    content = os.urandom(size)
    name = blob_of(remote, content)
    for store in (make_cached(), make_cached()):
        assert store.get(name) == content
        assert store.get(name) == content
    assert reads() == [name]


def test_of_eight_processes_that_want_a_blob_one_fetches_it(tmp_path, remote, reads):
    name = blob_of(remote, bytes(500_000))
    command = [sys.executable, "-c", FETCH_TOGETHER, tmp_path / "remote", tmp_path / "cache", name, tmp_path / "reads"]
    slots = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=os.getcwd())
        for _ in range(8)
    ]
    assert all(slot.stdout.readline() == "ready\n" for slot in slots)
    for slot in slots:
        slot.stdin.write("go\n")
        slot.stdin.flush()
    assert [slot.communicate(timeout=50)[0] for slot in slots] == ["500000\n"] * 8
    assert reads() == [name]


def test_of_many_threads_that_want_a_blob_one_fetches_it(make_cached, remote, reads):
    store, name, sizes = make_cached(), blob_of(remote, bytes(100_000)), []
    threads = [threading.Thread(target=lambda: sizes.append(len(store.get(name)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [100_000] * 8
    assert reads() == [name]


def test_a_slot_that_dies_while_it_fetches_does_not_hold_up_the_others(tmp_path, remote, make_cached, reads):
    name = blob_of(remote, bytes(500_000))
    command = [sys.executable, "-c", FETCH_TOGETHER.replace("0.2", "60"), tmp_path / "remote", tmp_path / "cache", name]
    slot = subprocess.Popen(
        [*command, tmp_path / "reads"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    slot.stdin.write("go\n")
    slot.stdin.flush()
    while not reads():
        time.sleep(0.01)
    threading.Timer(0.2, slot.kill).start()
    assert len(make_cached().get(name)) == 500_000
    slot.communicate()
    assert slot.returncode == -9


def test_what_each_reader_gets_is_its_own(make_cached, remote):
    store, name = make_cached(), blob_of(remote, bytes(100_000))
    first, second = store.get(name), store.get(name)
    first[:4] = second[4:8] = b"mine"
    assert store.get(name) == bytes(100_000)


# --- what is kept ------------------------------------------------------------------------------


def test_results_under_random_names_and_all_other_strings_are_not_kept(make_cached, remote, reads, tmp_path):
    store, names = make_cached(), [BlobRef.unhashed(5).name, "blobs/short", "journal/00000001", "control"]
    for name in names:
        remote.put(name, [b"first"])
        assert store.get(name) == b"first"
        remote.put(name, [b"later"])
        assert store.get(name) == b"later"
    assert len(reads()) == 8
    assert not (tmp_path / "cache").exists()


def test_a_blob_with_other_bytes_than_its_hash_promises_is_refused_and_not_kept(make_cached, remote, reads):
    name = BlobRef(hashlib.sha256(b"right").digest(), 5).name
    remote.put(name, [b"wrong"])
    with pytest.raises(BlobMissing, match="other bytes than its hash promises"):
        make_cached().get(name)
    assert reads() == [name, name], "it may have been damaged on its way: one more try"
    remote.put(name, [b"right"])
    assert make_cached().get(name) == b"right"


def test_what_is_missing_is_not_remembered(make_cached, remote):
    store, name = make_cached(), BlobRef(hashlib.sha256(b"content").digest(), 7).name
    with pytest.raises(BlobMissing, match=name):
        store.get(name)
    remote.put(name, [b"content"])
    assert store.get(name) == b"content"


def test_what_is_written_goes_to_the_remote_store_alone(make_cached, remote, tmp_path):
    store = make_cached()
    content = b"content"
    name = BlobRef(hashlib.sha256(content).digest(), len(content)).name
    store.put(name, [content])
    assert store.put_once("once", [b"x"])
    assert (remote.get(name), remote.get("once")) == (content, b"x")
    assert not (tmp_path / "cache").exists()


def test_what_is_deleted_is_gone_here_and_there(make_cached, remote):
    store, name = make_cached(), blob_of(remote, b"content")
    store.get(name)
    store.delete(name)
    with pytest.raises(BlobMissing):
        store.get(name)
    assert remote.size(name) is None


# --- room --------------------------------------------------------------------------------------


def test_the_blobs_that_were_not_read_for_the_longest_time_make_room(make_cached, remote, reads, tmp_path):
    store = make_cached(most_bytes=3000)
    a, b, c, d = (blob_of(remote, letter * 1000) for letter in (b"a", b"b", b"c", b"d"))
    for name in (a, b, c, a, d):
        store.get(name)
        time.sleep(0.01)  # a file's times are as fine as the kernel's tick
    assert kept_in(tmp_path / "cache") == sorted(name.removeprefix("blobs/") for name in (a, c, d))
    assert store.get(b) == b"b" * 1000
    assert reads() == [a, b, c, d, b]


def test_what_was_read_outlives_its_making_room(make_cached, remote):
    store = make_cached(most_bytes=150_000)
    first = store.get(blob_of(remote, b"a" * 100_000))
    store.get(blob_of(remote, b"b" * 100_000))
    assert first == b"a" * 100_000


def test_a_blob_larger_than_the_whole_cache_passes_through_and_drives_nothing_out(make_cached, remote, tmp_path):
    store = make_cached(most_bytes=3000)
    small, large = blob_of(remote, b"a" * 1000), blob_of(remote, b"b" * 3001)
    assert store.get(small) == b"a" * 1000
    assert store.get(large) == b"b" * 3001
    assert kept_in(tmp_path / "cache") == [small.removeprefix("blobs/")]


def test_what_a_full_disk_does_not_take_comes_into_memory(make_cached, remote, reads, small_disk):
    store = make_cached(roots=[small_disk])
    name = blob_of(remote, bytes(1_000_000))
    for _ in range(2):
        mine = store.get(name)
        mine[:4] = b"mine"
    assert store.get(name) == bytes(1_000_000)
    assert reads() == [name] * 3
    assert [file for _, _, files in os.walk(small_disk / "blobs") for file in files] == []


def test_what_the_first_directory_does_not_take_goes_to_the_second(make_cached, remote, reads, small_disk, tmp_path):
    store = make_cached(roots=[small_disk, tmp_path / "roomy"])
    name = blob_of(remote, bytes(1_000_000))
    assert store.get(name) == store.get(name) == bytes(1_000_000)
    assert reads() == [name]
    assert kept_in(tmp_path / "roomy") == [name.removeprefix("blobs/")]


def test_without_a_place_to_keep_anything_every_read_is_remote(make_cached, remote, reads, tmp_path):
    (tmp_path / "file").write_text("not a directory")
    store, name = make_cached(roots=[tmp_path / "file"]), blob_of(remote, b"content")
    assert store.get(name) == store.get(name) == b"content"
    assert reads() == [name, name]


def test_no_descriptor_stays_open(make_cached, remote):
    store = make_cached(most_bytes=300_000)
    names = [blob_of(remote, os.urandom(100_000)) for _ in range(5)]
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(4):
        for name in names:
            store.get(name)
    assert len(os.listdir("/proc/self/fd")) <= before + 1
