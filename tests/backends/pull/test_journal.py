"""What is written once a second brings back a whole run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.backends.protocol import OutboundCall
from cloudexec.backends.pull.journal import Journal, Restored
from cloudexec.errors import WireError
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import CallOptions, Cause, Retry
from cloudexec.ledger.pace import Estimate
from cloudexec.wire.mail import Report, encode_report
from cloudexec.wire.messages import FunctionTraits, Outcome, PackedFunction, Verdict

FUNCTION = PackedFunction(b"f" * 32, FunctionTraits(stateless=True), b"function", "3.1.2")
OPTIONS = st.builds(
    CallOptions,
    timeout_s=st.none() | st.floats(0.1, 100),
    retry=st.builds(Retry, error=st.integers(0, 3), lost=st.integers(0, 3)),
    env=st.none() | st.dictionaries(st.sampled_from("AB"), st.text(max_size=3)),
    name=st.none() | st.text(max_size=5),
)


def call(number, options=CallOptions(), packed=b"arguments"):  # noqa: B008 - frozen
    return OutboundCall(number, Estimate(), options, FUNCTION, packed, (), "", None)


def restored(*journals):
    found = Restored()
    for journal in journals:
        found.add(memoryview(journal.take()[0]))
    return found


@given(st.lists(st.tuples(OPTIONS, st.binary(max_size=20)), max_size=8))
def test_calls_come_back_with_their_options(described):
    journal = Journal()
    journal.submitted([call(number, *each) for number, each in enumerate(described, 1)])
    found = restored(journal)
    assert {
        number: (packed.function.packed, bytes(packed.packed), options, found.pickler[number])
        for number, (packed, options) in found.calls.items()
    } == {number: (b"function", packed, options, "3.1.2") for number, (options, packed) in enumerate(described, 1)}


def test_what_happened_to_calls_comes_back_and_the_latest_attempt_counts():
    first, second = Journal(), Journal()
    end = LaneEnd(Cause.OOM, "out of memory", 137, error="OutOfMemory", remedy="more")
    first.submitted([call(1), call(2), call(3)])
    first.placed([(1, 1), (2, 1)])
    second.placed([(2, 2)])
    second.cancelled(3)
    second.failed(1, end)
    found = restored(first, second)
    assert (found.placed, found.cancelled, found.failed) == ({1: 1, 2: 2}, {3}, {1: end})


def test_reports_come_back_and_their_receipts_are_free_once_the_entry_is_written():
    journal = Journal()
    report = Report("w", 1, outcomes=[("a", Outcome(1, 1, Verdict.RETURNED, 0.0, 1.0, 0.5, 7, b"value"))])
    journal.heard(encode_report(report), "receipt")
    body, receipts = journal.take()
    assert receipts == ["receipt"]
    assert journal.is_clean
    found = Restored()
    found.add(memoryview(body))
    assert [each.worker for each in found.reports] == ["w"]
    assert bytes(found.reports[0].outcomes[0][1].value) == b"value"


@given(st.integers(0, 10_000))
def test_an_entry_that_is_cut_short_is_a_wire_error(at):
    journal = Journal()
    journal.submitted([call(1)])
    journal.heard(encode_report(Report("w", 1)), "receipt")
    body, _ = journal.take()
    with pytest.raises(WireError):
        Restored().add(memoryview(body)[: at % len(body)])
