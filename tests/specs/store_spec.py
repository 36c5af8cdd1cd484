"""What every store promises. A new store is finished when these sentences pass:

    class TestMyStore(StoreSpec):
        @pytest.fixture
        def factory(self): return partial(make_my_store, "where")      # picklable: processes call it

Factories are called in this process and in others; all of their stores must see the same strings.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading

import pytest

from cloudexec.errors import BlobMissing, SettingsError

RACE = """
import pickle, sys
factory = pickle.loads(bytes.fromhex(sys.argv[1]))
store = factory()
print("ready", flush=True)
sys.stdin.readline()
print(store.put_once("race/name", [sys.argv[2].encode() * 1000]))
"""
WRITE_FOREVER = """
import pickle, sys
store = pickle.loads(bytes.fromhex(sys.argv[1]))()
print("ready", flush=True)
while True:
    store.put("whole", [sys.argv[2].encode() * 100_000, sys.argv[2].encode() * 100_000])
"""


def start(code, factory, *arguments):
    """A process that has made its store, and waits for a line."""
    command = [sys.executable, "-c", code, pickle.dumps(factory).hex(), *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=os.getcwd())
    assert process.stdout.readline() == "ready\n"
    return process


class StoreSpec:
    """Inherit, and say with the fixture `factory` how such a store is made."""

    @pytest.fixture
    def store(self, factory):
        return factory()

    @pytest.mark.parametrize(
        ("pieces", "content"),
        [
            pytest.param([b"bytes"], b"bytes", id="one piece"),
            pytest.param([b"a", bytearray(b"b"), memoryview(b"c")], b"abc", id="pieces of every kind"),
            pytest.param([b"", b"x", b""], b"x", id="empty pieces among others"),
            pytest.param([b""], b"", id="an empty piece"),
            pytest.param([], b"", id="no piece at all"),
            pytest.param([bytes(range(256)) * 1000], bytes(range(256)) * 1000, id="every byte"),
        ],
    )
    def test_what_was_put_is_got(self, store, pieces, content):
        store.put("some/name", pieces)
        assert store.get("some/name") == content
        assert store.size("some/name") == len(content)

    def test_a_memoryview_of_items_larger_than_bytes_is_taken_as_bytes(self, store):
        import array

        numbers = array.array("d", [1.0, 2.0])
        store.put("numbers", [memoryview(numbers)])
        assert store.get("numbers") == numbers.tobytes()

    def test_put_replaces(self, store):
        store.put("name", [b"a longer text before"])
        store.put("name", [b"after"])
        assert store.get("name") == b"after"

    def test_put_once_keeps_what_is_there(self, store):
        assert store.put_once("name", [b"first"]) is True
        assert store.put_once("name", [b"second"]) is False
        assert store.get("name") == b"first"

    def test_put_once_keeps_also_what_put_wrote_and_an_empty_string(self, store):
        store.put("name", [])
        assert store.put_once("name", [b"second"]) is False
        assert store.get("name") == b""

    def test_put_once_may_write_again_after_a_delete(self, store):
        store.put_once("name", [b"first"])
        store.delete("name")
        assert store.put_once("name", [b"second"]) is True
        assert store.get("name") == b"second"

    def test_of_eight_processes_that_put_once_together_exactly_one_wins(self, store, factory):
        processes = [start(RACE, factory, str(number)) for number in range(8)]
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=50)[0].strip() for process in processes]
        assert sorted(answers) == ["False"] * 7 + ["True"]
        assert store.get("race/name") == str(answers.index("True")).encode() * 1000

    def test_of_many_threads_that_put_once_together_exactly_one_wins(self, factory):
        barrier, wins = threading.Barrier(8), []

        def write(number):
            mine = factory()
            barrier.wait(30)
            for turn in range(20):
                if mine.put_once(f"turn-{turn}", [b"%d" % number]):
                    wins.append((turn, number))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        store = factory()
        assert sorted(turn for turn, _ in wins) == list(range(20))
        assert all(store.get(f"turn-{turn}") == b"%d" % number for turn, number in wins)

    def test_a_reader_sees_the_old_or_the_new_string_and_nothing_between(self, store, factory):
        writers = [start(WRITE_FOREVER, factory, letter) for letter in "ab"]
        try:
            while store.size("whole") is None:
                pass
            for _ in range(200):
                assert bytes(store.get("whole")) in (b"a" * 200_000, b"b" * 200_000)
        finally:
            for writer in writers:
                writer.kill()
                writer.communicate()

    @pytest.mark.parametrize("size", [100, 1_000_000])
    def test_what_get_returns_is_writable_and_the_callers_own(self, store, size):
        store.put("name", [bytes(size)])
        mine, other = store.get("name"), store.get("name")
        assert not mine.readonly
        mine[:4] = b"mine"
        assert mine[:4] == b"mine"
        assert other == store.get("name") == bytes(size)

    @pytest.mark.parametrize("size", [100, 1_000_000])
    def test_what_get_returned_outlives_the_string_in_the_store(self, store, size):
        content = os.urandom(size)
        store.put("name", [content])
        mine = store.get("name")
        store.put("name", [b"another"])
        store.delete("name")
        assert mine == content

    def test_what_was_put_is_a_copy(self, store):
        content = bytearray(b"before")
        store.put("name", [content])
        content[:] = b"after!"
        assert store.get("name") == b"before"

    def test_what_is_not_there_is_missing(self, store):
        with pytest.raises(BlobMissing, match="no/such-name"):
            store.get("no/such-name")
        assert store.size("no/such-name") is None

    def test_what_was_deleted_is_missing(self, store):
        store.put("name", [b"x"])
        store.delete("name")
        with pytest.raises(BlobMissing):
            store.get("name")
        assert store.size("name") is None
        assert list(store.names()) == []

    def test_deleting_what_is_not_there_is_no_error(self, store):
        store.delete("no/such-name")

    def test_the_beginning_of_a_name_is_no_name(self, store):
        store.put("blobs/a", [b"x"])
        assert store.size("blobs") is None
        with pytest.raises(BlobMissing):
            store.get("blobs")
        store.delete("blobs")
        assert store.get("blobs/a") == b"x"

    NAMES = ("a", "b/1", "b/10", "b/2", "b-x", "b.y", "b0", "B", "_z", "c/d/e")

    @pytest.mark.parametrize("prefix", ["", "b", "b/", "b/1", "c/d/e", "c/d/e/", "zzz"])
    @pytest.mark.parametrize("after", ["", "B", "b/1", "b/15", "c", "zzz"])
    def test_names_come_in_the_order_of_code_points_behind_a_name(self, store, prefix, after):
        for name in self.NAMES:
            store.put(name, [b"x"])
        expected = sorted(name for name in self.NAMES if name.startswith(prefix) and name > after)
        assert list(store.names(prefix, after)) == expected

    def test_an_empty_store_has_no_names(self, store):
        assert list(store.names()) == []

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("", id="empty"),
            pytest.param("/absolute", id="absolute"),
            pytest.param("a//b", id="empty part"),
            pytest.param("a/", id="no last part"),
            pytest.param(".", id="this directory"),
            pytest.param("..", id="the directory above"),
            pytest.param("a/../../b", id="out of the store"),
            pytest.param(".hidden", id="hidden"),
            pytest.param("a/.part-1", id="looks like a temporary"),
            pytest.param("a b", id="blank"),
            pytest.param("a\n", id="newline at the end"),
            pytest.param("a\0b", id="zero byte"),
            pytest.param("ü", id="not ASCII"),
            pytest.param("a\\b", id="backslash"),
        ],
    )
    def test_a_bad_name_is_refused(self, store, name):
        with pytest.raises(SettingsError):
            store.put(name, [b"x"])
        with pytest.raises(SettingsError):
            store.put_once(name, [b"x"])
        with pytest.raises(SettingsError):
            store.get(name)
        with pytest.raises(SettingsError):
            store.size(name)
        with pytest.raises(SettingsError):
            store.delete(name)
        assert list(store.names()) == []

    def test_a_hundred_megabytes_come_back_whole(self, store):
        piece = os.urandom(10_000_000)
        store.put("large", [piece] * 10)
        came = store.get("large")
        assert len(came) == store.size("large") == 100_000_000
        assert all(came[at : at + len(piece)] == piece for at in range(0, len(came), len(piece)))

    def test_many_threads_may_use_one_store(self, store):
        errors = []

        def work(number):
            try:
                for turn in range(50):
                    name = f"t{number}/{turn}"
                    store.put(name, [name.encode()])
                    assert store.get(name) == name.encode()
                    if turn % 2:
                        store.delete(name)
                    list(store.names(f"t{number}/"))
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
        assert errors == []
        assert len(list(store.names())) == 4 * 25
