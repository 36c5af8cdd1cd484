"""Reports that come from a queue, which does not keep their order."""

import time

import pytest

from cloudexec.backends.protocol import LaneUp, Requeued, Taken, WorkerDown
from cloudexec.backends.pull.inbox import Inbox
from cloudexec.backends.pull.loop import EngineLoop
from cloudexec.backends.pull.news import News
from cloudexec.wire.envelope import Kind, Seal, new_key
from cloudexec.wire.mail import LaneStart, Report, encode_report, to_text

SEAL = Seal(new_key())
HELLO = Report("w", 1, up=[LaneStart("a", 0)], held={"a": [7]})
PUT_BACK = Report("w", 2, requeued=[(7, 2)])
GOODBYE = Report("w", 3, leaving="it was told to by SIGTERM")


async def no_blobs(ref):
    raise AssertionError(f"{ref} is not asked for")


@pytest.fixture
def hears():
    """Have an inbox take reports, and wait; the events that come of it."""
    loop, events = EngineLoop(), []
    inbox = Inbox("run", SEAL, News(), lambda report, found: events.extend(found))
    inbox.open(loop, no_blobs)

    def hear(*reports, wait_s=0.0):
        for report in reports:
            assert inbox.take(to_text(SEAL, Kind.REPORT, encode_report(report))) is not None
        until_s = time.monotonic() + wait_s
        while time.monotonic() < until_s and not any(isinstance(event, WorkerDown) for event in events):
            loop.run_for(0.05)
        return [type(event) for event in events]

    yield hear
    loop.complete(loop.cancel_all())
    loop.close()


def test_a_goodbye_in_its_place_is_read_at_once(hears):
    assert hears(HELLO, PUT_BACK, GOODBYE) == [LaneUp, Taken, Requeued, WorkerDown]


def test_a_goodbye_waits_for_what_it_has_overtaken(hears):
    """Else calls that were put back in good order would count as lost with their worker."""
    assert hears(HELLO, GOODBYE) == [LaneUp, Taken]
    assert hears(PUT_BACK, wait_s=10.0) == [LaneUp, Taken, Requeued, WorkerDown]


def test_a_goodbye_does_not_wait_for_ever(hears):
    assert hears(HELLO, GOODBYE, wait_s=10.0) == [LaneUp, Taken, WorkerDown]


def test_what_is_not_sealed_with_the_runs_key_is_no_report(hears):
    inbox = Inbox("run", SEAL, News(), lambda report, found: pytest.fail("it was read"))
    assert inbox.take(to_text(Seal(new_key()), Kind.REPORT, encode_report(HELLO))) is None
    assert inbox.take(to_text(SEAL, Kind.BATCH, encode_report(HELLO))) is None
