"""Payload and answer of an invocation survive the journey through JSON, and nothing else does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.errors import SignatureError, WireError
from cloudexec.wire.envelope import Kind, Seal, new_key
from cloudexec.wire.invocation import (
    Answer,
    EventHead,
    InvocationSettings,
    decode_answer,
    decode_event,
    encode_answer,
    is_ours,
    open_report,
)

KEY = new_key()
NAMES = st.text(max_size=30)
SETTINGS = st.builds(
    InvocationSettings,
    run_id=NAMES,
    region=NAMES,
    n_slots=st.integers(1, 6),
    python_version=st.just("3.12"),
    bucket=NAMES,
    prefix=NAMES,
    **{name: st.floats(0, 10) for name in InvocationSettings._fields if name.endswith("_s")},
)


@given(SETTINGS, st.binary(max_size=500), NAMES, NAMES)
def test_a_batch_arrives_as_it_was_sent(settings, sealed, name, early):
    event = decode_event(json.loads(EventHead(KEY, settings).with_batch(sealed, name, early)))
    assert (event.key, event.settings, event.batch, event.name, event.early) == (KEY, settings, sealed, name, early)


@given(SETTINGS, NAMES, NAMES)
def test_so_does_the_place_of_a_stored_one(settings, stored, name):
    event = decode_event(json.loads(EventHead(KEY, settings).with_stored(stored, name)))
    assert (event.batch, event.stored, event.name) == (b"", stored, name)


@given(SETTINGS, NAMES)
def test_so_does_the_name_under_which_a_claim_is_tried(settings, name):
    event = decode_event(json.loads(EventHead(KEY, settings).with_probe(name)))
    assert (event.key, event.settings, event.probe) == (KEY, settings, name)
    assert (event.batch, event.stored, event.name) == (b"", "", "")


@given(
    st.one_of(
        st.binary(max_size=500).map(lambda report: Answer(report=report)),
        st.text(min_size=1).map(lambda name: Answer(stored=name)),
        st.text(min_size=1).map(lambda error: Answer(refused_error=error, refused_what="what")),
    )
)
def test_an_answer_arrives_as_it_was_given_however_json_is_written(answer):
    for text in (json.dumps(encode_answer(answer)), json.dumps(encode_answer(answer), indent=1)):
        assert decode_answer(text.encode()) == answer


HEAD = json.loads(EventHead(KEY, InvocationSettings("run", "region", 1, "3.12")).with_batch(b"x"))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"cloudexec": 2}, id="another format"),
        pytest.param({"settings": {"run_id": "run"}}, id="settings are missing"),
        pytest.param({"settings": {**HEAD["settings"], "unknown": 1}}, id="settings of another version"),
        pytest.param({"batch": "###"}, id="no base64"),
        pytest.param({"key": "ab"}, id="a short key"),
        pytest.param({"key": "zz" * 32}, id="a key of other letters"),
        pytest.param({"key": 5}, id="a number for a key"),
    ],
)
def test_a_damaged_payload_is_refused_without_quoting_the_key(change):
    with pytest.raises(WireError) as caught:
        decode_event({**HEAD, **change})
    assert KEY.hex() not in str(caught.value)
    assert str(change.get("key", "no key")) not in str(caught.value)


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b'"text"', b"{}", b'{"report": "###"}', b'{"refused": 1}'])
def test_what_is_no_answer_of_a_worker_is_refused_with_its_beginning(payload):
    with pytest.raises(WireError, match="none of a cloudexec worker"):
        decode_answer(payload)


def test_events_of_others_are_told_apart():
    assert is_ours(HEAD)
    assert not is_ours({"Records": []})
    assert not is_ours("text")


def test_only_a_report_with_the_runs_own_signature_is_opened():
    seal = Seal(KEY)
    assert bytes(open_report(seal, seal.close(Kind.REPORT, b"body"))) == b"body"
    with pytest.raises(SignatureError):
        open_report(seal, Seal(new_key()).close(Kind.REPORT, b"body"))
    with pytest.raises(SignatureError):
        open_report(seal, seal.close(Kind.BATCH, b"body"))
