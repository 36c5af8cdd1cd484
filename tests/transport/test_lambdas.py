"""Invoke: what its answers become, and that nothing is ever invoked twice behind the caller's back."""

import asyncio
import base64
import json
import socket
import threading
import time

import pytest

from cloudexec.errors import AccessDenied, AwsError, ConnectionLost, SettingsError, Throttled
from cloudexec.transport import lambdas, s3
from cloudexec.transport.account import Account
from cloudexec.transport.aio import AsyncClient
from cloudexec.transport.boto import BotoClient
from cloudexec.transport.credentials import RenewedCredentials
from cloudexec.transport.retrying import RetryPolicy
from cloudexec.transport.sigv4 import Credentials
from cloudexec.transport.sync import SyncClient
from tests.specs.aws_spec import opened
from tests.transport.scripted import after, and_close, answer, half, hang_up, lambda_error, reset

QUICK = RetryPolicy(attempts=4, throttle_base_s=0.001, fault_base_s=0.001)
INVOKE = lambdas.invoke("my-function", b'{"n": 1}', wait_s=5)
GET = s3.get_object("b", "k", owner="")
DONE = answer(
    200,
    b'{"report": "x"}',
    x_amzn_RequestId="R1",
    X_Amz_Executed_Version="7",
    X_Amz_Log_Result=base64.b64encode("…START\nfünf\n".encode()[1:]).decode(),
)
RETURNED = lambdas.Invocation(200, "", "\ufffd\ufffdSTART\nfünf\n", b'{"report": "x"}', "R1", "7")


@pytest.fixture(params=["sync", "aio", "boto"])
def variant(request):
    return request.param


@pytest.fixture
def carry_out(variant):
    """Carry operations out at a scripted server, with few and quick repeats of what may be repeated."""

    def run(server, *operations, account=None, **settings):
        with opened(variant, account or server.account(), **{"policy": QUICK, **settings}) as call:
            return [call(operation) for operation in operations][-1]

    return run


@pytest.fixture(params=["sync", "aio"])
def lean(request):
    return request.param


# --- answers ---------------------------------------------------------------------------------


def test_what_a_function_returned(serve, carry_out):
    server = serve(DONE)
    assert carry_out(server, INVOKE) == RETURNED
    (request,) = server.requests
    assert request.line == "POST /2015-03-31/functions/my-function/invocations HTTP/1.1"
    assert request.body == b'{"n": 1}'
    assert request.headers["x-amz-invocation-type"] == "RequestResponse"
    assert request.headers["x-amz-log-type"] == "Tail"
    assert "/eu-west-1/lambda/aws4_request" in request.headers["authorization"]
    assert "content-type" not in request.headers


def test_a_function_that_failed_is_an_answer_and_no_error(serve, carry_out):
    said = json.dumps({"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out after 3.00 seconds"}).encode()
    found = carry_out(serve(answer(200, said, X_Amz_Function_Error="Unhandled")), INVOKE)
    assert (found.status, found.function_error, found.payload) == (200, "Unhandled", said)
    assert (found.log_tail, found.request_id, found.version) == ("", found.request_id, "")


def test_an_event_is_accepted_without_an_answer(serve, carry_out):
    server = serve(answer(202))
    event = lambdas.invoke("f", b"{}", qualifier="live", event=True, wait_s=0)
    found = carry_out(server, event)
    assert (found.status, found.function_error, found.payload) == (202, "", b"")
    (request,) = server.requests
    assert request.line.split(" ")[1] == "/2015-03-31/functions/f/invocations?Qualifier=live"
    assert request.headers["x-amz-invocation-type"] == "Event"
    assert "x-amz-log-type" not in request.headers  # Lambda refuses it


def test_the_log_is_not_asked_for_in_vain(serve, carry_out):
    server = serve(answer(200, b"1"))
    carry_out(server, lambdas.invoke("f", b"{}", tail=False, wait_s=1))
    assert "x-amz-log-type" not in server.requests[0].headers


def test_an_arn_is_one_part_of_the_path(serve, carry_out):
    server = serve(answer(200, b"1"))
    carry_out(server, lambdas.invoke("arn:aws:lambda:eu-west-1:123456789012:function:f", b"{}", wait_s=1))
    part = "arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Af"
    assert server.requests[0].line.split(" ")[1] == f"/2015-03-31/functions/{part}/invocations"


def test_the_trace_travels_unsigned(serve, carry_out):
    server = serve(answer(200, b"1"))
    trace = "Root=1-65f-1;Parent=53995c3f42cd8ad8;Sampled=0;Lineage=a87bd80c:0"
    carry_out(server, lambdas.invoke("f", b"{}", wait_s=1, trace=trace), INVOKE)
    first, second = server.requests
    assert first.headers["x-amzn-trace-id"] == trace
    assert "x-amzn-trace-id" not in first.headers["authorization"]
    assert "x-amzn-trace-id" not in second.headers


def test_a_large_payload_and_answer_arrive_whole(serve, carry_out):
    body = b"[" + b"1," * 1_500_000 + b"1]"
    server = serve(answer(200, body))
    assert carry_out(server, lambdas.invoke("f", body, wait_s=5)).payload == body
    assert server.requests[0].body == body


@pytest.mark.parametrize("function", ["", ".", ".."])
def test_what_would_be_another_path_is_no_function(function):
    with pytest.raises(SettingsError, match="function"):
        lambdas.invoke(function, b"{}", wait_s=1)


@pytest.mark.parametrize("trace", ["Root=1\r\nx-evil: 1", "Root=ü", " "])
def test_a_trace_is_the_text_of_a_header(trace):
    with pytest.raises(SettingsError, match="trace"):
        lambdas.invoke("f", b"{}", wait_s=1, trace=trace)


# --- refusals: one request, and the caller hears of it ---------------------------------------


@pytest.mark.parametrize(
    "reason",
    [
        "ConcurrentInvocationLimitExceeded",
        "ReservedFunctionConcurrentInvocationLimitExceeded",
        "FunctionInvocationRateLimitExceeded",
        "ReservedFunctionInvocationRateLimitExceeded",
        "CallerRateLimitExceeded",
        "ConcurrentSnapshotCreateLimitExceeded",
    ],
)
def test_a_throttle_is_raised_at_once_with_its_reason(serve, carry_out, reason):
    server = serve(lambda_error(429, "TooManyRequestsException", "Rate Exceeded.", reason, Retry_After="1"))
    with pytest.raises(Throttled, match="Rate Exceeded") as caught:
        carry_out(server, INVOKE)
    assert (caught.value.reason, caught.value.retry_after_s) == (reason, 1.0)
    assert (caught.value.code, caught.value.status) == ("TooManyRequestsException", 429)
    assert caught.value.request_id == "R1"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("refusal", "kind", "code"),
    [
        pytest.param(lambda_error(413, "RequestTooLargeException"), AwsError, "RequestTooLargeException", id="413"),
        pytest.param(lambda_error(404, "ResourceNotFoundException"), AwsError, "ResourceNotFoundException", id="404"),
        pytest.param(lambda_error(403, "AccessDeniedException"), AccessDenied, "AccessDeniedException", id="403"),
        pytest.param(lambda_error(409, "ResourceConflictException"), AwsError, "ResourceConflictException", id="409"),
        pytest.param(
            lambda_error(400, "RecursiveInvocationException"), AwsError, "RecursiveInvocationException", id="400"
        ),
        pytest.param(lambda_error(500, "ServiceException"), AwsError, "ServiceException", id="500: it may have run"),
        pytest.param(lambda_error(502, "KMSAccessDeniedException"), AwsError, "KMSAccessDeniedException", id="502"),
        pytest.param(answer(503), AwsError, "503", id="503 without a word: it may have run"),
        pytest.param(answer(504, b"<html>"), AwsError, "504", id="a gateway lost patience: it may have run"),
    ],
)  # fmt: skip
def test_a_refusal_is_raised_at_once_with_its_code(serve, carry_out, refusal, kind, code):
    server = serve(refusal)
    with pytest.raises(kind) as caught:
        carry_out(server, INVOKE)
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert "Invoke my-function: " in str(caught.value)
    assert len(server.requests) == 1


# --- lost answers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(hang_up, id="closed after the request"),
        pytest.param(reset, id="reset after the request"),
        pytest.param(half(answer(200, b"y" * 1000)), id="half of an answer"),
        pytest.param(half(answer(200)), id="half of a head"),
    ],
)
def test_a_lost_answer_is_ambiguous_and_nothing_is_invoked_again(serve, carry_out, failure):
    server = serve(failure, DONE)
    with pytest.raises(ConnectionLost, match="Invoke my-function") as caught:
        carry_out(server, INVOKE)
    assert caught.value.ambiguous
    assert len(server.requests) == 1


def test_an_idle_connection_that_dies_under_an_invocation_is_ambiguous_too(serve, carry_out):
    server = serve(DONE, reset, DONE)
    with pytest.raises(ConnectionLost) as caught:
        carry_out(server, INVOKE, INVOKE)
    assert caught.value.ambiguous
    assert len(server.requests) == 2


def test_an_answer_may_take_as_long_as_the_function_and_no_longer(serve, lean):
    patient, hasty = (lambdas.invoke("f", b"{}", wait_s=wait_s) for wait_s in (5, 0.1))
    server = serve(after(0.4, DONE))
    with opened(lean, server.account(), policy=QUICK, read_timeout_s=0.1) as call:
        assert call(patient).status == 200
        with pytest.raises(ConnectionLost, match=r"no answer in 0\.2 s") as caught:
            call(hasty)
    assert caught.value.ambiguous
    assert len(server.requests) == 2


def test_a_client_of_boto3_waits_at_least_as_long_as_the_function_may_run(serve):
    with BotoClient(serve(DONE).account(), policy=QUICK, read_timeout_s=7) as client:
        for wait_s, waits_s in ((0, 27), (45, 67), (900, 907), (1000, 1007)):
            config = client._client(lambdas.invoke("f", b"{}", wait_s=wait_s)).meta.config
            assert config.read_timeout == waits_s
            assert config.retries["total_max_attempts"] == 1
        assert client._client(GET).meta.config.retries["total_max_attempts"] == QUICK.attempts


# --- what certainly did not reach AWS --------------------------------------------------------


def refuse_until(server_of, delay_s):
    """A port that refuses connections at first; its server, once it listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    started = []
    timer = threading.Timer(delay_s, lambda: started.append(server_of(port)))
    timer.start()
    return port, timer, started


def test_a_refused_connection_is_tried_again(serve, carry_out, monkeypatch):
    port, timer, started = refuse_until(lambda port: serve(DONE, port=port), 0.15)
    account = Account(
        "eu-west-1", RenewedCredentials(lambda: Credentials("A", "S")), endpoints={"lambda": f"http://127.0.0.1:{port}"}
    )
    policy = RetryPolicy(attempts=60, fault_base_s=0.05, longest_pause_s=0.05)
    assert carry_out(None, INVOKE, account=account, policy=policy) == RETURNED
    timer.join()
    assert len(started[0].requests) == 1


def test_nobody_at_the_port_is_not_ambiguous(serve, carry_out):
    server = serve(DONE)
    server.stop()
    with pytest.raises(ConnectionLost) as caught:
        carry_out(server, INVOKE)
    assert not caught.value.ambiguous


def renewable(server, *names):
    """An account whose source hands out these access keys, one after another."""
    left = list(names)
    source = RenewedCredentials(lambda: Credentials(left.pop(0) if len(left) > 1 else left[0], "secret"))
    return Account("eu-west-1", source, endpoints=server.account().endpoints)


def test_expired_credentials_are_renewed_once(serve, lean):
    server = serve(lambda_error(403, "ExpiredTokenException"), DONE)
    with opened(lean, renewable(server, "OLD", "NEW"), policy=QUICK) as call:
        assert call(INVOKE) == RETURNED
    keys = [request.headers["authorization"].split("Credential=")[1][:3] for request in server.requests]
    assert keys == ["OLD", "NEW"]


def test_a_wrong_clock_follows_lambdas_once(serve, lean):
    said = "Signature expired: 20261121T000000Z is now earlier than 21000101T115500Z"
    skewed = lambda_error(403, "InvalidSignatureException", said, Date="Fri, 01 Jan 2100 12:00:00 GMT")
    server = serve(skewed, DONE)
    with opened(lean, server.account(), policy=QUICK) as call:
        assert call(INVOKE) == RETURNED
    assert [request.headers["x-amz-date"][:11] == "21000101T12" for request in server.requests] == [False, True]
    server = serve(skewed)
    with opened(lean, server.account(), policy=QUICK) as call, pytest.raises(AwsError, match="SignatureExpired"):
        call(INVOKE)
    assert len(server.requests) == 2


# --- connections -----------------------------------------------------------------------------


def test_invocations_share_a_connection_that_is_fresh(serve, carry_out):
    server = serve(DONE)
    carry_out(server, INVOKE, INVOKE, INVOKE)
    assert [request.connection for request in server.requests] == [0, 0, 0]


def test_an_invocation_does_not_trust_a_connection_that_was_idle_for_long(serve, lean):
    server = serve(DONE)
    with opened(lean, server.account(), policy=QUICK, fresh_idle_s=0.1) as call:
        call(INVOKE)
        time.sleep(0.15)
        call(INVOKE)
        call(INVOKE)
    assert [request.connection for request in server.requests] == [0, 1, 1]


def test_what_is_safe_uses_it_all_the_same(serve, lean):
    server = serve(answer(200, b"x"))
    with opened(lean, server.account(), policy=QUICK, fresh_idle_s=0.1) as call:
        call(GET)
        time.sleep(0.15)
        call(GET)
    assert [request.connection for request in server.requests] == [0, 0]


def test_a_connection_that_was_closed_while_idle_costs_no_invocation(serve, variant):
    server = serve(and_close(DONE), DONE)
    with opened(variant, server.account(), policy=QUICK) as call:
        call(INVOKE)
        time.sleep(0.05)  # until its end has been heard of
        assert call(INVOKE) == RETURNED
    assert [request.connection for request in server.requests] == [0, 1]


def test_a_cancelled_invocation_closes_its_connection(serve):
    closed = threading.Event()

    def park(connection, request):
        if not connection.recv(1):
            closed.set()
        return False

    async def cancel():
        server = serve(park, DONE)
        async with AsyncClient(server.account(), policy=QUICK) as client:
            parked = asyncio.create_task(client.call(INVOKE))
            while not server.requests:
                await asyncio.sleep(0.005)
            parked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await parked
            assert await asyncio.to_thread(closed.wait, 5)
            assert await client.call(INVOKE) == RETURNED
        assert [request.connection for request in server.requests] == [0, 1]

    asyncio.run(cancel())


def test_one_timer_serves_the_longest_and_the_shortest_wait(serve):
    """The time limit of a request is its own, though its connection has carried others before it."""

    async def wait():
        server = serve(DONE, after(0.5, DONE))
        async with AsyncClient(server.account(), policy=QUICK, read_timeout_s=0.1) as client:
            await client.call(lambdas.invoke("f", b"{}", wait_s=900))
            started_s = time.monotonic()
            with pytest.raises(ConnectionLost, match=r"no answer in 0\.1 s"):
                await client.call(lambdas.invoke("f", b"{}", wait_s=0))
            assert time.monotonic() - started_s < 0.45
        server = serve(DONE, after(0.3, DONE))
        async with AsyncClient(server.account(), policy=QUICK, read_timeout_s=0.1) as client:
            await client.call(lambdas.invoke("f", b"{}", wait_s=0))
            assert (await client.call(lambdas.invoke("f", b"{}", wait_s=5))).status == 200
        assert {request.connection for request in server.requests} == {0}

    asyncio.run(wait())


def test_hundreds_in_flight_at_once(serve):
    """All of them wait at the same time, each on a connection of its own."""
    together = threading.Barrier(200)

    def meet(connection, request):
        together.wait(20)
        return DONE(connection, request)

    async def burst():
        async with AsyncClient(serve(meet).account(), policy=QUICK, max_connections=10_000) as client:
            return await asyncio.gather(*[client.call(INVOKE) for _ in range(200)])

    assert asyncio.run(burst()) == [RETURNED] * 200


def test_throttles_of_many_do_not_take_connections_away(serve):
    throttle = lambda_error(429, "TooManyRequestsException", reason="CallerRateLimitExceeded")
    server = serve(*[throttle] * 20, DONE)

    async def storm():
        async with AsyncClient(server.account(), policy=QUICK, max_connections=4) as client:
            found = await asyncio.gather(*[client.call(INVOKE) for _ in range(20)], return_exceptions=True)
            assert {type(error) for error in found} == {Throttled}
            assert await client.call(INVOKE) == RETURNED

    asyncio.run(storm())
    assert {request.connection for request in server.requests} <= {0, 1, 2, 3}


# --- probes ----------------------------------------------------------------------------------


def probes_of(connected):
    """Whether there are probes, the first after how many seconds, and then how often."""
    return (
        bool(connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)),
        connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    )


needs_linux = pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="the platform cannot say when to probe")


@needs_linux
def test_silent_connections_are_probed_before_a_nat_forgets_them(serve):
    server = serve(DONE)
    with SyncClient(server.account()) as client:
        client.call(INVOKE)
        ((connection,),) = client._idle.values()
        assert probes_of(connection._socket) == (True, 60, 15)

    async def look():
        async with AsyncClient(server.account()) as client:
            await client.call(INVOKE)
            (connection,) = client._open
            assert probes_of(connection._transport.get_extra_info("socket")) == (True, 60, 15)

    asyncio.run(look())
