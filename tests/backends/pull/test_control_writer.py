"""Who writes the control object owns the run: conditional writes, answers that get lost, and clients that take over."""

import asyncio

import pytest

from cloudexec.backends.pull.control import ControlWriter, Hold, claim, client_name, is_dead_here, read_control
from cloudexec.errors import ConnectionLost, PreconditionFailed, RunTakenOver
from cloudexec.transport.s3replies import S3Object
from cloudexec.wire.envelope import Seal, new_key

SEAL = Seal(new_key())


class Bucket:
    """One object with conditional writes. `faults`: for each write to come, "" or what happens to it.

    lost: it is written, its answer is not. late: its answer is lost, and it is written just before the next one.
    """

    def __init__(self):
        self.body, self.etag = None, 0
        self.faults = []
        self.late = []

    def call(self, operation):
        asked = operation.arguments
        if operation.name == "GetObject":
            same = asked.get("IfNoneMatch") == str(self.etag)
            return S3Object(memoryview(bytearray(self.body)), str(self.etag), len(self.body), 0.0, 0.0, same, {})
        for earlier in self.late:
            self._put(earlier)
        fault = self.faults.pop(0) if self.faults else ""
        self.late = [operation] if fault == "late" else []
        if not fault or fault == "lost":
            self._put(operation)
        if fault:
            raise ConnectionLost("no answer", True)
        return str(self.etag)

    def _put(self, operation):
        asked = operation.arguments
        expected = asked.get("IfMatch")
        if (expected is None and self.body is not None) or (expected is not None and expected != str(self.etag)):
            raise PreconditionFailed("somebody else was here")
        self.body, self.etag = b"".join(bytes(piece) for piece in operation.request.pieces), self.etag + 1

    @property
    def control(self):
        return read_control(SEAL, self.body)


class AsyncBucket:
    """The same for asyncio."""

    def __init__(self, bucket):
        self.bucket = bucket

    async def call(self, operation):
        return self.bucket.call(operation)


@pytest.fixture
def bucket():
    return Bucket()


def writer(bucket, hold=None):
    return ControlWriter(AsyncBucket(bucket), SEAL, "b", "control", "", hold)


def attach(bucket, etag, number):
    """What a client does that takes the run over."""
    return writer(bucket, claim(bucket, SEAL, "b", "control", "", Hold(etag, number)))


def test_a_write_whose_answer_was_lost_is_known_for_our_own(bucket):
    async def story():
        one = writer(bucket)
        await one.write()
        bucket.faults = ["lost"]
        with pytest.raises(ConnectionLost):
            await one.write()
        await one.write()
        assert bucket.control.number == 3

    asyncio.run(story())


def test_a_write_that_arrives_late_does_not_stand_for_the_next_one(bucket):
    """Else a client that detaches would leave an object behind that says nothing of it, and its workers would end."""

    async def story():
        one = writer(bucket)
        await one.write()
        bucket.faults = ["late"]
        with pytest.raises(ConnectionLost):
            await one.write()
        one.detach()
        await one.write()
        assert bucket.control.detached

    asyncio.run(story())


def test_two_clients_of_one_process_do_not_take_each_other_for_themselves(bucket):
    async def story():
        first = writer(bucket)
        await first.write()
        second = attach(bucket, "1", 1)
        await second.write()
        for look in (first.check, first.write):
            with pytest.raises(RunTakenOver):
                await look()
        await second.check()
        await second.write()

    asyncio.run(story())


def test_numbers_rise_from_client_to_client(bucket):
    async def story():
        first = writer(bucket)
        for _ in range(5):
            await first.write()
        second = attach(bucket, "5", 5)
        assert bucket.control.number == 6
        await second.write()
        assert bucket.control.number == 7

    asyncio.run(story())


def test_of_two_that_attach_at_once_one_is_refused(bucket):
    asyncio.run(writer(bucket).write())
    attach(bucket, "1", 1)
    with pytest.raises(PreconditionFailed):
        attach(bucket, "1", 1)


def test_a_name_tells_whether_its_process_lives():
    host, pid, began = client_name().split("/")
    assert not is_dead_here(f"{client_name()}/0123456789abcdef")
    assert is_dead_here(f"{host}/{pid}/{int(began) + 1}/0123456789abcdef")
    assert not is_dead_here(f"elsewhere/{pid}/{int(began) + 1}/0123456789abcdef")
