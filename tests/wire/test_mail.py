"""What clients and cloud workers say to each other survives the journey, and nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.errors import SignatureError, WireError
from cloudexec.wire.envelope import Kind, Seal, new_key
from cloudexec.wire.mail import (
    Control,
    LaneStart,
    LaneStop,
    Report,
    WorkerSettings,
    decode_control,
    decode_report,
    encode_control,
    encode_report,
    from_text,
    to_text,
)
from cloudexec.wire.messages import Outcome, Verdict

NUMBERS = st.integers(1, 2**63)
LANES = st.text(min_size=1, max_size=20)
OUTCOMES = st.builds(
    Outcome,
    NUMBERS,
    st.integers(1, 1000),
    st.sampled_from(Verdict),
    st.just(1.5),
    st.just(2.5),
    st.just(0.5),
    st.integers(0, 2**40),
    st.binary(max_size=50),
    st.binary(max_size=50),
)
REPORTS = st.builds(
    Report,
    worker=st.text(min_size=1),
    number=NUMBERS,
    up=st.lists(st.builds(LaneStart, LANES, st.integers(0, 99)), max_size=3),
    down=st.lists(
        st.builds(LaneStop, LANES, st.integers(-15, 255), st.text(), NUMBERS, NUMBERS, st.text(), st.lists(NUMBERS)),
        max_size=3,
    ),
    outcomes=st.lists(st.tuples(LANES, OUTCOMES), max_size=5),
    held=st.none() | st.dictionaries(LANES, st.lists(NUMBERS, max_size=3), max_size=3),
    receipts=st.dictionaries(st.text(), st.lists(NUMBERS), max_size=3),
    requeued=st.lists(st.tuples(NUMBERS, st.integers(1, 9)), max_size=3),
    dropped=st.lists(NUMBERS, max_size=3),
    leaving=st.text(),
    failed_start=st.booleans(),
    facts=st.dictionaries(st.text(), st.text(), max_size=3),
)
SETTINGS = WorkerSettings("r1", "eu-west-1", "https://w", "https://o", "bucket", "123456789012", "p", 4, "3.13")


@given(REPORTS)
def test_a_report_survives_the_journey(report):
    seal = Seal(new_key())
    again = decode_report(from_text(seal, Kind.REPORT, to_text(seal, Kind.REPORT, encode_report(report))))
    for name, said, heard in zip(report._fields, report, again, strict=True):
        if name == "outcomes":
            heard = [(lane, o._replace(value=bytes(o.value), out=bytes(o.out))) for lane, o in heard]
        assert type(said)(heard) == said if said is not None else heard is None


def test_holding_nothing_is_not_the_same_as_saying_nothing():
    assert decode_report(memoryview(encode_report(Report("w", 1, held={})))).held == {}
    assert decode_report(memoryview(encode_report(Report("w", 1)))).held is None


@given(REPORTS, st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_report_is_a_wire_error_or_reads_as_some_report(report, at, byte):
    body = bytearray(encode_report(report))
    body[at % len(body)] = byte
    try:
        decode_report(memoryview(body))
    except WireError:
        pass


def test_control_and_settings_survive_the_journey():
    control = Control(3, "c", stops=[1, 2], leave=["*"], detached=True, n_workers=7)
    assert decode_control(memoryview(encode_control(control))) == control
    assert WorkerSettings.from_json(SETTINGS.to_json()) == SETTINGS


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("not base64!", WireError, id="not base64"),
        pytest.param(to_text(Seal(bytes(32)), Kind.REPORT, b"x"), SignatureError, id="signed with another key"),
        pytest.param(to_text(Seal(b"k" * 32), Kind.BATCH, b"x"), WireError, id="of another kind"),
    ],
)
def test_what_is_not_a_message_of_this_run_is_refused(text, error):
    with pytest.raises(error):
        from_text(Seal(b"k" * 32), Kind.REPORT, text)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run_id": 1, "nobody": 2}'])
def test_damaged_settings_are_an_error(text):
    with pytest.raises(WireError, match="CLOUDEXEC_WORKER"):
        WorkerSettings.from_json(text)
