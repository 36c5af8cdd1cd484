"""What the lean clients make of servers that hesitate, hang up, refuse, or send them elsewhere."""

import asyncio
import functools
import hashlib
import os
import subprocess
import sys
import threading
import time

import pytest

from cloudexec.errors import (
    AccessDenied,
    AwsError,
    ConnectionLost,
    CredentialsExpired,
    NoSuchKey,
    PreconditionFailed,
    Throttled,
)
from cloudexec.transport import s3, sqs
from cloudexec.transport.account import Account
from cloudexec.transport.aio import AsyncClient
from cloudexec.transport.credentials import RenewedCredentials
from cloudexec.transport.retrying import RetryPolicy
from cloudexec.transport.sigv4 import Credentials
from cloudexec.transport.sync import SyncClient
from tests.specs.aws_spec import opened
from tests.transport.scripted import after, and_close, answer, error, half, hang_up, json_error, reset

OWNER = "123456789012"
QUICK = RetryPolicy(attempts=4, throttle_base_s=0.001, fault_base_s=0.001)
GET = s3.get_object("b", "k", owner=OWNER)
PUT = s3.put_object("b", "k", [b"content"], owner=OWNER)
CLAIM = s3.put_object("b", "k", [b"content"], owner=OWNER, if_none_match=True, writer="me")
RECEIVE = sqs.receive_messages("http://q", wait_s=1)
PURGE = sqs.purge("http://q")


@pytest.fixture(params=["sync", "aio"])
def variant(request):
    return request.param


@pytest.fixture
def carry_out(variant):
    """Carry an operation out at a scripted server, with few and quick repeats."""

    def run(server, *operations, account=None, **settings):
        with opened(variant, account or server.account(), **{"policy": QUICK, **settings}) as call:
            return [call(operation) for operation in operations][-1]

    return run


def text_of(found):
    return bytes(found.body)


# --- connections -----------------------------------------------------------------------------


def test_requests_share_one_connection(serve, carry_out):
    server = serve(answer(200, b"x"))
    carry_out(server, GET, GET, GET)
    assert [request.connection for request in server.requests] == [0, 0, 0]


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(and_close(answer(200, b"x")), id="without a word"),
        pytest.param(answer(200, b"x", Connection="close"), id="announced"),
    ],
)
def test_a_connection_that_was_closed_is_not_used_again(serve, carry_out, first):
    server = serve(first, answer(200, b"y"))
    assert text_of(carry_out(server, GET, GET)) == b"y"
    assert [request.connection for request in server.requests] == [0, 1]


def test_an_idle_connection_that_dies_under_a_request_costs_no_attempt(serve, carry_out):
    server = serve(answer(200, b"x"), reset, answer(200, b"y"))
    assert text_of(carry_out(server, GET, GET, policy=RetryPolicy(attempts=1))) == b"y"


def test_a_request_that_may_have_been_carried_out_is_not_repeated_unless_it_is_safe(serve, carry_out):
    server = serve(answer(200, b"{}"), hang_up, answer(200, b"{}"))
    with pytest.raises(ConnectionLost) as caught:
        carry_out(server, RECEIVE, PURGE)
    assert caught.value.ambiguous
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(hang_up, id="closed without an answer"),
        pytest.param(reset, id="reset without an answer"),
        pytest.param(half(answer(200, b"y" * 100)), id="half of an answer"),
        pytest.param(half(answer(200)), id="half of a head"),
    ],
)
def test_a_safe_request_without_an_answer_is_repeated(serve, carry_out, failure):
    server = serve(failure, failure, answer(200, b"whole"))
    assert text_of(carry_out(server, GET)) == b"whole"
    assert len({request.headers["authorization"] for request in server.requests}) <= 3


def test_who_never_gets_an_answer_is_told_so(serve, carry_out):
    server = serve(hang_up)
    with pytest.raises(ConnectionLost, match=r"GetObject s3://b/k: .* \(4 attempts\)") as caught:
        carry_out(server, GET)
    assert caught.value.ambiguous
    assert len(server.requests) == 4


def test_nobody_at_the_port_is_not_ambiguous(serve, carry_out):
    server = serve(answer())
    server.stop()
    with pytest.raises(ConnectionLost, match=f"cannot connect to 127.0.0.1:{server.port}") as caught:
        carry_out(server, PUT)
    assert not caught.value.ambiguous


def test_a_slow_answer_is_given_up(serve, carry_out):
    server = serve(after(0.5, answer()), answer(200, b"quick"))
    assert text_of(carry_out(server, GET, read_timeout_s=0.1)) == b"quick"


def test_a_long_poll_may_take_as_long_as_it_was_asked_to(serve, carry_out):
    server = serve(after(0.3, answer(200, b'{"Messages": []}')))
    assert carry_out(server, RECEIVE, read_timeout_s=0.1) == []
    assert len(server.requests) == 1


def test_a_refusal_before_the_body_was_read_is_the_answer(serve, carry_out):
    server = serve(and_close(error(403, "AccessDenied", "not yours")), reads_bodies=False)
    large = s3.put_object("b", "k", [b"x" * (8 << 20)], owner=OWNER)
    with pytest.raises((AccessDenied, ConnectionLost)):
        carry_out(server, large)  # the kernel may throw the answer away with the unread body: then it is a lost one


def test_a_body_of_many_pieces_arrives_as_one(serve, carry_out):
    pieces = [os.urandom(n) for n in (1, 0, 70_000, 3, 1 << 20)] + [b"y"] * 2000
    server = serve(answer(200, ETag='"e"'))
    assert carry_out(server, s3.put_object("b", "k", pieces, owner=OWNER)) == '"e"'
    (request,) = server.requests
    assert request.body == b"".join(pieces)
    assert request.headers["x-amz-content-sha256"] == hashlib.sha256(request.body).hexdigest()


def test_a_large_answer_is_one_buffer_of_the_callers_own(serve, carry_out):
    body = os.urandom(5 << 20)
    found = carry_out(serve(answer(200, body)), GET)
    assert text_of(found) == body
    found.body[0] ^= 1
    assert isinstance(found.body.obj, bytearray)


def test_closing_ends_a_parked_long_poll(serve):
    server = serve(after(2, answer(200, b"{}")))
    client = SyncClient(server.account(), policy=QUICK)
    threading.Timer(0.2, client.close).start()
    started_s = time.monotonic()
    with pytest.raises(ConnectionLost, match="closed"):
        client.call(RECEIVE)
    assert time.monotonic() - started_s < 1
    with pytest.raises(ConnectionLost, match="closed"):
        client.call(RECEIVE)
    client.close()


def test_threads_have_connections_of_their_own(serve):
    barrier = threading.Barrier(4)

    def meet(connection, request):
        barrier.wait(10)
        return answer(200, b"x")(connection, request)

    server = serve(meet)
    with SyncClient(server.account()) as client:
        threads = [threading.Thread(target=client.call, args=(GET,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(request.connection for request in server.requests) == [0, 1, 2, 3]


FORK = """
import os, sys
from cloudexec.transport import s3
from cloudexec.transport.account import Account
from cloudexec.transport.credentials import fixed
from cloudexec.transport.sync import SyncClient
account = Account("eu-west-1", fixed("a", "b"), endpoints={"s3": sys.argv[1]})
client = SyncClient(account)
call = lambda: client.call(s3.get_object("b", "k", owner=""))
call()
child = os.fork()
call()
if child:
    os.waitpid(child, 0)
    call()
"""


def test_a_forked_child_does_not_use_its_parents_connection(serve):
    server = serve(answer(200, b"x"))
    subprocess.run([sys.executable, "-c", FORK, f"http://127.0.0.1:{server.port}"], check=True, timeout=30)
    assert sorted(request.connection for request in server.requests) == [0, 0, 0, 1]


# --- asyncio ---------------------------------------------------------------------------------


def in_a_fresh_loop(test):
    @functools.wraps(test)
    def run(serve):
        asyncio.run(test(serve))

    return run


@in_a_fresh_loop
async def test_a_cancelled_call_closes_its_connection_and_frees_its_place(serve):
    server = serve(after(5, answer()), answer(200, b"x"))
    async with AsyncClient(server.account(), max_connections=1) as client:
        parked = asyncio.create_task(client.call(RECEIVE))
        while not server.requests:
            await asyncio.sleep(0.01)
        parked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await parked
        found = await asyncio.wait_for(client.call(GET), 2)
        assert text_of(found) == b"x"
    assert [request.connection for request in server.requests] == [0, 1]


@in_a_fresh_loop
async def test_no_more_connections_than_allowed(serve):
    server = serve(answer(200, b"x"))
    async with AsyncClient(server.account(), max_connections=3) as client:
        found = await asyncio.gather(*[client.call(GET) for _ in range(30)])
    assert [text_of(item) for item in found] == [b"x"] * 30
    assert {request.connection for request in server.requests} <= {0, 1, 2}


@in_a_fresh_loop
async def test_closing_the_client_ends_its_calls(serve):
    server = serve(after(1, answer()))
    client = AsyncClient(server.account())
    parked = asyncio.create_task(client.call(RECEIVE))
    while not server.requests:
        await asyncio.sleep(0.01)
    await client.aclose()
    with pytest.raises(ConnectionLost, match="closed"):
        await parked
    with pytest.raises(ConnectionLost, match="closed"):
        await client.call(RECEIVE)
    await client.aclose()


@in_a_fresh_loop
async def test_closing_the_client_ends_its_pauses(serve):
    server = serve(error(503, "SlowDown", Retry_After="20"))
    client = AsyncClient(server.account())
    pausing = asyncio.create_task(client.call(GET))
    while not server.requests:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    await client.aclose()
    with pytest.raises(ConnectionLost, match="closed"):
        await asyncio.wait_for(pausing, 1)


def test_closing_the_client_for_threads_ends_its_pauses(serve):
    client = SyncClient(serve(error(503, "SlowDown", Retry_After="20")).account())
    threading.Timer(0.1, client.close).start()
    started_s = time.monotonic()
    with pytest.raises(ConnectionLost, match="closed"):
        client.call(GET)
    assert time.monotonic() - started_s < 5


@in_a_fresh_loop
async def test_many_throttled_calls_at_once_all_succeed_in_the_end(serve):
    server = serve(*[error(503, "SlowDown")] * 150, answer(200, b"x"))
    policy = RetryPolicy(attempts=30, throttle_base_s=0.001, longest_pause_s=0.1)
    async with AsyncClient(server.account(), policy=policy) as client:
        found = await asyncio.gather(*[client.call(GET) for _ in range(50)])
    assert [text_of(item) for item in found] == [b"x"] * 50


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "kind", "code"),
    [
        pytest.param(error(403, "AccessDenied", "no"), AccessDenied, "AccessDenied", id="denied"),
        pytest.param(error(403, "SignatureDoesNotMatch"), AccessDenied, "SignatureDoesNotMatch", id="signature"),
        pytest.param(error(404, "NoSuchKey"), NoSuchKey, "NoSuchKey", id="absent"),
        pytest.param(error(404, "NoSuchBucket"), AwsError, "NoSuchBucket", id="no bucket"),
        pytest.param(error(412, "PreconditionFailed"), PreconditionFailed, "PreconditionFailed", id="condition"),
        pytest.param(error(400, "InvalidArgument"), AwsError, "InvalidArgument", id="our mistake"),
        pytest.param(answer(403), AccessDenied, "AccessDenied", id="denied without a word"),
        pytest.param(answer(404, b"<html>nginx"), AwsError, "404", id="somebody else's 404"),
    ],
)
def test_a_refusal_is_an_error_with_its_code_and_is_not_repeated(serve, carry_out, refusal, kind, code):
    server = serve(refusal)
    with pytest.raises(kind) as caught:
        carry_out(server, GET)
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("operation", "refusal"),
    [
        pytest.param(GET, error(503, "SlowDown"), id="S3 throttles"),
        pytest.param(GET, error(500, "InternalError"), id="S3 fails"),
        pytest.param(GET, answer(502, b"<html>"), id="a gateway fails"),
        pytest.param(GET, error(400, "RequestTimeout"), id="S3 lost patience with the socket"),
        pytest.param(CLAIM, error(409, "ConditionalRequestConflict"), id="two writers in the same moment"),
        pytest.param(RECEIVE, json_error(400, "RequestThrottled"), id="SQS throttles"),
        pytest.param(PURGE, json_error(400, "ThrottlingException"), id="a throttle has not acted, whatever it was"),
        pytest.param(RECEIVE, answer(503, b""), id="nobody is in"),
    ],
)
def test_what_may_pass_is_repeated(serve, carry_out, operation, refusal):
    body = b"{}" if operation.request.service == "sqs" else b""
    server = serve(refusal, refusal, answer(200, body, ETag='"e"'))
    carry_out(server, operation)
    assert len(server.requests) == 3


def test_a_fault_is_not_repeated_for_what_is_not_safe(serve, carry_out):
    server = serve(json_error(500, "InternalError"))
    with pytest.raises(AwsError, match="InternalError"):
        carry_out(server, PURGE)
    assert len(server.requests) == 1


def test_a_throttle_that_does_not_pass_is_named(serve, carry_out):
    server = serve(error(503, "SlowDown", "reduce your request rate"))
    with pytest.raises(Throttled, match="reduce your request rate") as caught:
        carry_out(server, GET)
    assert (caught.value.status, caught.value.request_id) == (503, "R1")
    assert len(server.requests) == 4


def test_a_success_that_hides_an_error_is_none(serve, carry_out):
    complete = s3.complete_multipart_upload("b", "k", "id", ['"1"'], owner=OWNER)
    success = answer(200, b"<CompleteMultipartUploadResult><ETag>&quot;e&quot;</ETag></CompleteMultipartUploadResult>")
    server = serve(error(200, "InternalError"), success)
    assert carry_out(server, complete) == '"e"'
    assert len(server.requests) == 2


def test_an_answer_that_cannot_be_read_is_an_error_of_its_own(serve, carry_out):
    with pytest.raises(AwsError, match="unreadable answer b'<html>captive portal"):
        carry_out(serve(answer(200, b"<html>captive portal")), RECEIVE)


# --- our own success -------------------------------------------------------------------------


def test_a_412_after_a_lost_answer_is_success_if_the_object_is_ours(serve, carry_out):
    found = answer(200, ETag='"ours"', x_amz_meta_cloudexec_writer="me")
    server = serve(hang_up, error(412, "PreconditionFailed"), found)
    assert carry_out(server, CLAIM) == '"ours"'
    assert [request.line.split()[0] for request in server.requests] == ["PUT", "PUT", "HEAD"]


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(answer(200, ETag='"e"', x_amz_meta_cloudexec_writer="another"), id="another writer's"),
        pytest.param(answer(200, ETag='"e"'), id="nobody says whose"),
        pytest.param(answer(404), id="gone by now"),
    ],
)
def test_a_412_after_a_lost_answer_is_believed_if_the_object_is_not_ours(serve, carry_out, found):
    server = serve(hang_up, error(412, "PreconditionFailed"), found)
    with pytest.raises(PreconditionFailed):
        carry_out(server, CLAIM)


def test_a_412_at_once_is_believed_without_asking(serve, carry_out):
    server = serve(error(412, "PreconditionFailed"))
    with pytest.raises(PreconditionFailed):
        carry_out(server, CLAIM)
    assert len(server.requests) == 1


def test_an_upload_that_is_gone_after_a_lost_answer_has_been_completed_by_us(serve, carry_out):
    complete = s3.complete_multipart_upload("b", "k", "id", ['"1"'], owner=OWNER, writer="me")
    found = answer(200, ETag='"ours"', x_amz_meta_cloudexec_writer="me")
    server = serve(hang_up, error(404, "NoSuchUpload"), found)
    assert carry_out(server, complete) == '"ours"'


# --- identity, clock, place ------------------------------------------------------------------


def renewable(server, *names):
    """An account whose source hands out these access keys, one after another."""
    left = list(names)
    source = RenewedCredentials(lambda: Credentials(left.pop(0) if len(left) > 1 else left[0], "secret"))
    return Account("eu-west-1", source, endpoints=server.account().endpoints)


@pytest.mark.parametrize(
    "refusal",
    [pytest.param(error(400, "ExpiredToken"), id="S3"), pytest.param(json_error(403, "ExpiredToken"), id="SQS")],
)
def test_expired_credentials_are_renewed_once(serve, carry_out, refusal):
    server = serve(refusal, answer(200, b"{}"))
    operation = RECEIVE if b"__type" in refusal.data else GET
    carry_out(server, operation, account=renewable(server, "OLD", "NEW"))
    keys = [request.headers["authorization"].split("Credential=")[1][:3] for request in server.requests]
    assert keys == ["OLD", "NEW"]


@pytest.mark.parametrize("names", [("OLD",), ("OLD", "NEW", "THIRD")])
def test_credentials_that_stay_expired_are_an_error(serve, carry_out, names):
    server = serve(error(400, "ExpiredToken"))
    with pytest.raises(CredentialsExpired):
        carry_out(server, GET, account=renewable(server, *names))
    assert len(server.requests) <= 2


def test_a_wrong_clock_follows_the_services(serve, carry_out):
    server = serve(error(403, "RequestTimeTooSkewed", Date="Fri, 01 Jan 2100 12:00:00 GMT"), answer(200, b"x"))
    carry_out(server, GET, GET)
    stamps = [request.headers["x-amz-date"][:11] for request in server.requests]
    assert stamps[0] != "21000101T12"
    assert stamps[1:] == ["21000101T12"] * 2  # the next request knows it


@pytest.mark.parametrize(
    "redirect",
    [
        pytest.param(error(301, "PermanentRedirect", x_amz_bucket_region="eu-north-1"), id="301"),
        pytest.param(answer(301, x_amz_bucket_region="eu-north-1"), id="301 without a body"),
        pytest.param(error(400, "AuthorizationHeaderMalformed"), id="400 with the region in the body"),
        pytest.param(answer(307, x_amz_bucket_region="eu-north-1"), id="307"),
    ],
)
def test_a_bucket_elsewhere_is_asked_there_from_then_on(serve, carry_out, redirect):
    server = serve(redirect, answer(200, b"x"))
    carry_out(server, GET, GET)
    regions = [request.headers["authorization"].split("/")[2] for request in server.requests]
    assert regions == ["eu-west-1", "eu-north-1", "eu-north-1"]


def test_a_redirect_to_the_same_host_is_followed(serve, carry_out):
    server = serve(lambda c, r: answer(307, Location=f"http://127.0.0.1:{server.port}/b/k")(c, r), answer(200, b"x"))
    assert text_of(carry_out(server, GET)) == b"x"
    assert server.requests[1].line == server.requests[0].line


@pytest.mark.parametrize(
    "redirect",
    [
        pytest.param(answer(307, Location="http://evil.example/b/k"), id="to a host that is not AWS"),
        pytest.param(
            answer(307, Location="http://ec2-1-2-3-4.compute-1.amazonaws.com/b/k"), id="to a machine that AWS rents out"
        ),
        pytest.param(
            answer(307, Location="http://b.s3-website-eu-west-1.amazonaws.com/k"), id="to a site that a bucket serves"
        ),
        pytest.param(answer(301), id="without a place"),
        pytest.param(answer(301, x_amz_bucket_region="eu-west-1"), id="to where we are"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_an_error(serve, carry_out, redirect):
    server = serve(redirect)
    with pytest.raises(AwsError) as caught:
        carry_out(server, GET)
    assert caught.value.status in (301, 307)
    assert len(server.requests) == 1


def test_a_redirect_in_a_circle_ends(serve, carry_out):
    server = serve(
        answer(301, x_amz_bucket_region="eu-north-1"),
        answer(301, x_amz_bucket_region="eu-west-1"),
        answer(301, x_amz_bucket_region="eu-north-1"),
    )
    with pytest.raises(AwsError):
        carry_out(server, GET)
    assert len(server.requests) == 2
