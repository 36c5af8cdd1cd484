"""Blobs on their way: what is promised to callers, to waiters, and at the end."""

from __future__ import annotations

import hashlib
import os
import threading
import time

import pytest

from cloudexec.errors import CloudexecError, ConnectionLost, ExecutorClosed
from cloudexec.ids import BlobRef
from cloudexec.store.directory import DirectoryStore
from cloudexec.store.uploads import ASIDE_BYTES, Uploads

MIB = 1 << 20
PATIENCE_S = 20


class Gate:
    """A store whose writes wait until they are let through, and fail as often as they are told to."""

    def __init__(self, store):
        self._store = store
        self._open = threading.Event()
        self.failures = []
        self.begun, self.ended, self.threads = [], [], set()

    def let_through(self):
        self._open.set()

    def put(self, name, pieces):
        self.begun.append(name)
        self.threads.add(threading.current_thread())
        assert self._open.wait(PATIENCE_S)
        if self.failures:
            raise self.failures.pop()
        self._store.put(name, pieces)
        self.ended.append(name)

    def delete(self, name):
        self._store.delete(name)


@pytest.fixture
def store(tmp_path):
    return DirectoryStore([tmp_path])


@pytest.fixture
def gate(store):
    return Gate(store)


@pytest.fixture
def uploads(gate):
    uploads = Uploads(gate)
    yield uploads
    gate.let_through()
    uploads.close()


def name_of(content):
    return BlobRef(hashlib.sha256(content).digest(), len(content)).name


def in_thread(function, *arguments):
    """A thread that is at it."""
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def eventually(condition):
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.002)


def test_a_small_blob_is_on_its_way_when_put_returns_and_may_change_then(uploads, gate, store):
    content = bytearray(b"before")
    ref = uploads.put_blob(memoryview(content))
    content[:] = b"after!"
    assert ref == BlobRef(hashlib.sha256(b"before").digest(), 6)
    assert not uploads.is_done(ref.name)
    gate.let_through()
    assert uploads.wait([ref.name])
    assert uploads.is_done(ref.name)
    assert store.get(ref.name) == b"before"


def test_a_large_blob_has_arrived_when_put_returns(uploads, gate, store):
    gate.let_through()
    content = os.urandom(ASIDE_BYTES + 1)
    ref = uploads.put_blob(memoryview(content))
    assert uploads.is_done(ref.name)
    assert store.get(ref.name) == content
    assert gate.threads == {threading.current_thread()}


def test_a_blob_is_uploaded_once_though_it_is_put_often_meanwhile_and_later(uploads, gate):
    content = memoryview(b"content")
    name = uploads.put_blob(content).name
    uploads.put_blob(content)
    gate.let_through()
    uploads.wait([name])
    uploads.put_blob(content)
    uploads.wait([name])
    assert gate.begun == [name]


def test_several_are_under_way_at_once_on_few_threads(uploads, gate):
    names = [uploads.put_blob(memoryview(b"%d" % number)).name for number in range(20)]
    eventually(lambda: len(gate.begun) == 4)
    gate.let_through()
    assert uploads.wait(names)
    assert len(gate.threads) <= 4
    assert sorted(gate.ended) == sorted(names)


def test_waiting_is_for_the_named_blobs_only_and_only_so_long(uploads, gate):
    name = uploads.put_blob(memoryview(b"content")).name
    assert uploads.wait([]) is True
    assert uploads.wait(["blobs/somebody-elses"]) is True
    assert uploads.wait([name], timeout_s=0.01) is False


def test_the_caller_waits_while_too_much_is_on_its_way(uploads, gate):
    pieces = [bytes([number]) * (4 * MIB) for number in range(17)]
    for piece in pieces[:16]:
        uploads.put_blob(memoryview(piece))
    refs = []
    thread = in_thread(lambda: refs.append(uploads.put_blob(memoryview(pieces[16]))))
    thread.join(0.1)
    assert not refs, "16 blobs of 4 MiB are all that may wait"
    uploads.put_blob(memoryview(pieces[0]))  # known already: needs no room
    gate.let_through()
    thread.join(PATIENCE_S)
    assert uploads.wait([refs[0].name])


def test_a_caller_who_waits_for_room_is_sent_away_when_all_is_closed(gate):
    uploads = Uploads(gate)
    for number in range(16):
        uploads.put_blob(memoryview(bytes([number]) * (4 * MIB)))
    errors = []

    def put():
        try:
            uploads.put_blob(memoryview(b"x" * MIB))
        except ExecutorClosed as error:
            errors.append(error)

    thread = in_thread(put)
    eventually(lambda: len(gate.begun) == 4)
    closing = in_thread(uploads.close)
    thread.join(PATIENCE_S)
    assert len(errors) == 1
    gate.let_through()
    closing.join(PATIENCE_S)
    assert len(gate.ended) == 16


# --- failures ----------------------------------------------------------------------------------


def test_a_failure_is_raised_to_each_who_waits_as_an_exception_of_its_own(uploads, gate):
    gate.failures.append(ConnectionLost("the network is down", True))
    good, bad = (uploads.put_blob(memoryview(content)).name for content in (b"good", b"bad"))
    heard = []
    uploads.when_done(good, heard.append)
    uploads.when_done(bad, heard.append)
    gate.let_through()
    eventually(lambda: len(heard) == 2)
    failed = good if good not in gate.ended else bad
    raised = []
    for _ in range(2):
        with pytest.raises(ConnectionLost, match="network is down") as caught:
            uploads.wait([good, bad])
        raised.append(caught.value)
    told = [error for error in heard if error is not None]
    assert len({id(error) for error in (*raised, *told)}) == 3
    assert raised[0].ambiguous is True
    assert uploads.is_done(failed)


def test_after_a_failure_the_same_bytes_are_tried_again(uploads, gate, store):
    gate.failures.append(ConnectionLost("the network is down", True))
    gate.let_through()
    name = uploads.put_blob(memoryview(b"content")).name
    with pytest.raises(ConnectionLost):
        uploads.wait([name])
    assert not uploads.is_same(name, memoryview(b"content"))
    uploads.put_blob(memoryview(b"content"))
    assert uploads.wait([name])
    assert store.get(name) == b"content"


def test_the_failure_of_a_large_one_is_the_callers(uploads, gate):
    gate.failures.append(ConnectionLost("the network is down", True))
    gate.let_through()
    content = memoryview(bytes(ASIDE_BYTES + 1))
    with pytest.raises(ConnectionLost):
        uploads.put_blob(content)
    assert uploads.wait([uploads.put_blob(content).name])


def test_an_error_that_is_not_ours_reaches_the_waiter_and_the_threads_go_on(uploads, gate):
    gate.failures.append(ZeroDivisionError("surprise"))
    gate.let_through()
    name = uploads.put_blob(memoryview(b"content")).name
    with pytest.raises(CloudexecError, match="ZeroDivisionError: surprise"):
        uploads.wait([name])
    others = [uploads.put_blob(memoryview(b"%d" % number)).name for number in range(10)]
    assert uploads.wait(others)


# --- callbacks ---------------------------------------------------------------------------------


def test_a_callback_comes_at_once_for_what_is_done_and_for_what_is_not_ours(uploads, gate):
    gate.let_through()
    name = uploads.put_blob(memoryview(b"content")).name
    uploads.wait([name])
    heard = []
    uploads.when_done(name, heard.append)
    uploads.when_done("blobs/somebody-elses", heard.append)
    assert heard == [None, None]


def test_a_callback_may_use_the_uploads(uploads, gate):
    name, heard = uploads.put_blob(memoryview(b"first")).name, []
    uploads.when_done(name, lambda _: heard.append(uploads.put_blob(memoryview(b"second")).name))
    gate.let_through()
    eventually(lambda: heard)
    assert uploads.wait(heard)


# --- the blob book's part ----------------------------------------------------------------------


def test_is_same_compares_by_hash_also_while_the_blob_is_on_its_way(uploads, gate):
    name = uploads.put_blob(memoryview(b"content")).name
    assert uploads.is_same(name, memoryview(b"content"))
    assert not uploads.is_same(name, memoryview(b"changed"))
    assert not uploads.is_same(name_of(b"other"), memoryview(b"other"))


def test_a_blob_that_is_deleted_while_it_is_on_its_way_does_not_come_back(uploads, gate, store):
    name = uploads.put_blob(memoryview(b"content")).name
    thread = in_thread(uploads.delete, name)
    thread.join(0.05)
    assert thread.is_alive()
    gate.let_through()
    thread.join(PATIENCE_S)
    assert store.size(name) is None
    uploads.put_blob(memoryview(b"content"))
    uploads.wait([name])
    assert store.get(name) == b"content"


# --- the end -----------------------------------------------------------------------------------


def test_closing_uploads_what_is_queued_and_ends_the_threads(gate):
    uploads = Uploads(gate)
    names = [uploads.put_blob(memoryview(b"%d" % number)).name for number in range(20)]
    gate.let_through()
    uploads.close()
    assert sorted(gate.ended) == sorted(names)
    assert not [thread for thread in threading.enumerate() if thread.name == "cloudexec-upload"]
    with pytest.raises(ExecutorClosed):
        uploads.put_blob(memoryview(b"too late"))
    assert uploads.put_blob(memoryview(b"1")).name == name_of(b"1"), "what is there already may be asked for"


def test_abandoning_drops_what_is_queued_and_tells_whoever_waits(gate):
    uploads = Uploads(gate)
    names = [uploads.put_blob(memoryview(b"%d" % number)).name for number in range(20)]
    eventually(lambda: len(gate.begun) == 4)
    heard = []
    uploads.when_done(names[-1], heard.append)
    closing = in_thread(lambda: uploads.close(abandon=True))
    eventually(lambda: heard)
    gate.let_through()
    closing.join(PATIENCE_S)
    assert len(gate.ended) == 4
    with pytest.raises(ExecutorClosed, match="still to be uploaded"):
        uploads.wait(names)
    assert isinstance(heard[0], ExecutorClosed)


def test_uploads_that_were_never_used_have_no_threads(gate):
    before = threading.active_count()
    uploads = Uploads(gate)
    assert threading.active_count() == before
    uploads.close()
    uploads.close()
