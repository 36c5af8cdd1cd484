"""The store in local directories: the common specification, and what is its own."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from functools import cache, partial

import pytest

from cloudexec.errors import BlobMissing, SettingsError
from cloudexec.ids import BlobRef
from cloudexec.store.directory import DirectoryStore
from tests.specs.store_spec import StoreSpec

FULL = """
import resource, signal, sys
from cloudexec.errors import StoreFull
from cloudexec.store.directory import DirectoryStore
store = DirectoryStore(sys.argv[2:])
store.put("before", [b"x" * 1000])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # a larger file fails with EFBIG
content = memoryview(bytes(5_000_000))
try:
    {"put": lambda: store.put("large", [content]),
     "put_once": lambda: store.put_once("large", [content]),
     "put_blob": lambda: store.put_blob(content),
     "put_blob, hashed first": lambda: store.put_blob(content[:200_000])}[sys.argv[1]]()
except StoreFull as error:
    print(error.what)
"""


def files_below(*roots):
    """Every file, temporary ones too."""
    return sorted(os.path.join(folder, file) for root in roots for folder, _, files in os.walk(root) for file in files)


def printed_by(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestOneDirectory(StoreSpec):
    @pytest.fixture
    def factory(self, tmp_path):
        return partial(DirectoryStore, [str(tmp_path)])


class TestTwoDirectories(StoreSpec):
    @pytest.fixture
    def factory(self, tmp_path):
        roots = [tmp_path / "fast", tmp_path / "slow"]
        for root in roots:
            root.mkdir()
        return partial(DirectoryStore, [str(root) for root in roots])


class TestFirstDirectoryFull(StoreSpec):
    """A file system without room for a single file."""

    @pytest.fixture
    def factory(self, tmp_path):
        full = tmp_path / "full"
        full.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=1", "tmpfs", full], check=True)
        yield partial(DirectoryStore, [str(full), str(tmp_path / "roomy")])
        subprocess.run(["umount", "-l", full], check=True)

    @pytest.fixture(autouse=True)
    def _may_mount(self):
        if not can_mount():
            pytest.skip("mounting a tiny file system needs root")


@cache
def can_mount():
    probe = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return os.getuid() == 0 and probe.returncode == 0


@pytest.mark.parametrize("how", ["put", "put_once", "put_blob", "put_blob, hashed first"])
@pytest.mark.parametrize("n_roots", [1, 2])
def test_what_has_no_room_is_store_full_and_leaves_nothing_behind(tmp_path, how, n_roots):
    roots = [str(tmp_path / str(number)) for number in range(n_roots)]
    what = printed_by(FULL, how, *roots)
    assert "no room for" in what
    assert all(root in what for root in roots), "it should name every directory that it tried"
    assert files_below(*roots) == [os.path.join(roots[0], "before")]


def test_a_directory_that_fills_up_in_the_middle_is_passed_over(tmp_path):
    if not can_mount():
        pytest.skip("mounting a tiny file system needs root")
    small, roomy = tmp_path / "small", tmp_path / "roomy"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], check=True)
    try:
        store = DirectoryStore([small, roomy])
        store.put("little", [bytes(1000)])
        store.put("large", [bytes(1_000_000)])
        store.put("changing", [b"was small"])
        store.put("changing", [b"y" * 1_000_000])
        assert {os.path.basename(path) for path in files_below(small)} == {"little"}
        assert store.get("large") == bytes(1_000_000)
        assert store.get("changing") == b"y" * 1_000_000
        assert list(store.names()) == ["changing", "large", "little"]
        store.put("large", [b"small now"])
        assert store.get("large") == b"small now"
        assert len(files_below(small, roomy)) == 3
    finally:
        subprocess.run(["umount", "-l", small], check=True)


@pytest.mark.parametrize("size", [0, 1, 100_000, 4 << 20, 10_000_001])
def test_a_blob_lies_under_its_hash(tmp_path, size):
    content = os.urandom(size)
    store = DirectoryStore([tmp_path])
    ref = store.put_blob(memoryview(content))
    assert ref == BlobRef(hashlib.sha256(content).digest(), size)
    assert store.get(ref.name) == content
    assert list(store.names()) == [ref.name]


@pytest.mark.parametrize("size", [1000, 5_000_000])
def test_a_blob_that_is_there_already_stays_one_file(tmp_path, size):
    store = DirectoryStore([tmp_path])
    refs = {store.put_blob(memoryview(bytes(size))) for _ in range(3)}
    assert len(refs) == 1
    assert len(files_below(tmp_path)) == 1


@pytest.mark.parametrize(
    ("there", "content", "same"),
    [
        pytest.param(b"abc", b"abc", True, id="equal"),
        pytest.param(b"abc", b"abd", False, id="last byte differs"),
        pytest.param(b"abc", b"abcd", False, id="longer"),
        pytest.param(b"abc", b"ab", False, id="shorter"),
        pytest.param(b"", b"", True, id="both empty"),
        pytest.param(bytes(20_000_000), bytes(20_000_000), True, id="equal, larger than the window"),
        pytest.param(bytes(20_000_000), bytes(19_999_999) + b"x", False, id="differs behind the window"),
    ],
)
def test_is_same_compares_every_byte(tmp_path, there, content, same):
    store = DirectoryStore([tmp_path])
    store.put("name", [there])
    assert store.is_same("name", memoryview(content)) is same


def test_nothing_is_the_same_as_what_is_not_there(tmp_path):
    assert not DirectoryStore([tmp_path]).is_same("name", memoryview(b""))


def test_files_and_directories_are_for_their_owner_only(tmp_path):
    DirectoryStore([tmp_path]).put("blobs/name", [b"x"])
    assert os.stat(tmp_path / "blobs" / "name").st_mode & 0o777 == 0o600
    assert os.stat(tmp_path / "blobs").st_mode & 0o777 == 0o700


def test_no_descriptor_stays_open(tmp_path):
    store = DirectoryStore([tmp_path])
    before = os.listdir("/proc/self/fd")
    for number in range(50):
        store.put(f"n/{number}", [bytes(100_000)])
        store.put_once(f"n/{number}", [b""])
        kept = store.get(f"n/{number}")
        store.is_same(f"n/{number}", kept)
        with pytest.raises(BlobMissing):
            store.get("missing")
        del kept
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 1


def test_a_hundred_mapped_strings_are_alive_together_under_a_small_limit_of_descriptors(tmp_path):
    store = DirectoryStore([tmp_path])
    store.put("name", [bytes(100_000)])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, len(os.listdir("/proc/self/fd")) + 200), hard))
    try:
        assert len([store.get("name") for _ in range(100)]) == 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_store_needs_a_directory():
    with pytest.raises(SettingsError):
        DirectoryStore([])


def test_the_directory_need_not_exist_yet(tmp_path):
    store = DirectoryStore([tmp_path / "not" / "yet"])
    assert list(store.names()) == []
    assert store.size("name") is None
    store.put("name", [b"x"])
    assert store.get("name") == b"x"
