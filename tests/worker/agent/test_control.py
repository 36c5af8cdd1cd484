"""What a worker takes from the control object, and when it holds its client for dead."""

from __future__ import annotations

import pytest

from cloudexec.errors import SignatureError, WireError
from cloudexec.transport.s3replies import S3Object
from cloudexec.wire.envelope import Kind, Seal, new_key
from cloudexec.wire.mail import Control, encode_control
from cloudexec.worker.agent.control import Orders

SEAL = Seal(new_key())


def found(control=None, *, age_s=0.0, seal=SEAL, kind=Kind.CONTROL, etag="e1", keeps_date=True):
    """An answer of the bucket; without a control, the one that nothing has changed."""
    body = b"" if control is None else seal.close(kind, encode_control(control))
    modified_s = 1000.0 if keeps_date or control is not None else None
    return S3Object(
        body=memoryview(bytearray(body)),
        etag=etag,
        size=len(body),
        last_modified_s=modified_s,
        server_date_s=1000.0 + age_s,
        not_modified=control is None,
        metadata={},
    )


def test_the_age_is_taken_from_the_services_clock_and_grows_with_ours():
    orders = Orders(SEAL, "w", now_s=50.0)
    assert orders.silent_for_s(60.0) == 10.0  # nothing was ever there
    orders.read(found(Control(1, "c"), age_s=3.0), now_s=100.0)
    assert orders.silent_for_s(100.0) == 3.0
    assert orders.silent_for_s(120.0) == 23.0


@pytest.mark.parametrize("keeps_date", [True, False])
def test_an_object_that_has_not_changed_grows_older(keeps_date):
    orders = Orders(SEAL, "w", now_s=0.0)
    assert orders.read(found(Control(1, "c")), now_s=0.0)
    assert orders.etag == "e1"
    assert not orders.read(found(age_s=40.0, keeps_date=keeps_date), now_s=5.0)
    assert orders.silent_for_s(5.0) == 40.0


def test_a_client_that_has_detached_is_never_silent():
    orders = Orders(SEAL, "w", now_s=0.0)
    orders.read(found(Control(1, "c", detached=True), age_s=9999.0), now_s=0.0)
    assert orders.silent_for_s(9999.0) == 0.0


@pytest.mark.parametrize(("leave", "then"), [(["w"], True), (["*"], True), (["other"], False), ([], False)])
def test_a_worker_leaves_when_it_is_named(leave, then):
    orders = Orders(SEAL, "w", now_s=0.0)
    orders.read(found(Control(1, "c", stops=[3, 4], leave=leave, n_workers=7)), now_s=0.0)
    assert orders.leave is then
    assert orders.stops == {3, 4}
    assert orders.n_workers == 7


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(found(Control(1, "c", leave=["*"]), seal=Seal(new_key())), SignatureError, id="another key"),
        pytest.param(found(Control(1, "c", leave=["*"]), kind=Kind.JOURNAL), WireError, id="another kind"),
    ],
)
def test_what_is_not_from_the_client_is_no_order_and_no_sign_of_life(answer, error):
    orders = Orders(SEAL, "w", now_s=0.0)
    with pytest.raises(error):
        orders.read(answer, now_s=50.0)
    assert not orders.leave
    assert orders.silent_for_s(50.0) == 50.0
    assert orders.etag is None


def test_an_old_object_that_was_put_back_is_not_obeyed_and_no_sign_of_life():
    """Its signature is right, and its date is new: only its number tells."""
    orders = Orders(SEAL, "w", now_s=0.0)
    orders.read(found(Control(7, "c", stops=[3]), age_s=0.0), now_s=0.0)
    with pytest.raises(WireError, match="order 6"):
        orders.read(found(Control(6, "c", detached=True), age_s=0.0, etag="e2"), now_s=100.0)
    assert orders.stops == {3}
    assert not orders.detached
    assert orders.silent_for_s(100.0) == 100.0
    assert orders.etag == "e1"


def test_the_same_object_with_a_new_date_is_no_sign_of_life():
    orders = Orders(SEAL, "w", now_s=0.0)
    orders.read(found(Control(7, "c"), age_s=5.0), now_s=0.0)
    assert not orders.read(found(Control(7, "c"), age_s=0.0, etag="e2"), now_s=100.0)
    assert not orders.read(found(age_s=0.0), now_s=200.0)
    assert orders.silent_for_s(200.0) == 205.0


def test_a_client_that_takes_over_goes_on_counting():
    orders = Orders(SEAL, "w", now_s=0.0)
    orders.read(found(Control(7, "c", detached=True), age_s=5.0), now_s=0.0)
    assert orders.read(found(Control(8, "d"), age_s=0.0, etag="e2"), now_s=100.0)
    assert not orders.detached
