"""What the boto3 variant adds to the specification that it shares with the others."""

import asyncio
import threading

import boto3
import pytest

from cloudexec.errors import AwsError, ConnectionLost, CredentialsExpired, CredentialsMissing, PreconditionFailed
from cloudexec.transport import s3, sqs
from cloudexec.transport.account import Account, open_async_client, open_client
from cloudexec.transport.boto import _METHODS, AsyncBotoClient, BotoClient, account_of
from cloudexec.transport.credentials import fixed
from cloudexec.transport.retrying import RetryPolicy
from cloudexec.transport.sync import SyncClient
from tests.transport.scripted import answer, error, hang_up

OWNER = "123456789012"
QUICK = RetryPolicy(attempts=3, fault_base_s=0.001)
GET = s3.get_object("b", "k", owner=OWNER)
CLAIM = s3.put_object("b", "k", [b"content"], owner=OWNER, if_none_match=True, writer="me")


def carry_out(server, operation):
    with BotoClient(server.account(), policy=QUICK) as client:
        return client.call(operation)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """botocore's pauses are up to a second each."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0.001)


def test_every_method_exists():
    for service in ("s3", "sqs", "lambda"):
        client = boto3.client(service, region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
        methods = {method for name, method in _METHODS.items() if hasattr(client, method)}
        assert {client.meta.method_to_api_mapping[method] for method in methods} <= set(_METHODS)
        client.close()


def test_a_put_takes_one_round_trip_and_names_the_owner(serve):
    server = serve(answer(200, ETag='"e"'))
    assert carry_out(server, CLAIM) == '"e"'
    (request,) = server.requests
    assert "expect" not in request.headers
    assert request.headers["x-amz-expected-bucket-owner"] == OWNER
    assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256")


def test_a_412_after_a_lost_answer_is_success_if_the_object_is_ours(serve):
    ours = answer(200, ETag='"ours"', x_amz_meta_cloudexec_writer="me")
    assert carry_out(serve(hang_up, error(412, "PreconditionFailed"), ours), CLAIM) == '"ours"'
    other = answer(200, ETag='"e"', x_amz_meta_cloudexec_writer="another")
    with pytest.raises(PreconditionFailed):
        carry_out(serve(hang_up, error(412, "PreconditionFailed"), other), CLAIM)


def test_two_writers_in_the_same_moment_are_asked_to_come_again(serve):
    server = serve(error(409, "ConditionalRequestConflict"), answer(200, ETag='"e"'))
    assert carry_out(server, CLAIM) == '"e"'


def test_a_connection_that_ends_without_an_answer_is_lost(serve):
    server = serve(hang_up)
    with pytest.raises(ConnectionLost) as caught:
        carry_out(server, GET)
    assert caught.value.ambiguous
    assert len(server.requests) == 3


def test_nobody_at_the_port_is_not_ambiguous(serve):
    server = serve(answer())
    server.stop()
    with pytest.raises(ConnectionLost) as caught:
        carry_out(server, GET)
    assert not caught.value.ambiguous


def test_refusals_are_the_same_errors(serve):
    with pytest.raises(CredentialsExpired):
        carry_out(serve(error(400, "ExpiredToken")), GET)
    with pytest.raises(AwsError) as caught:
        carry_out(serve(error(404, "NoSuchBucket", "gone")), GET)
    assert (caught.value.code, caught.value.status) == ("NoSuchBucket", 404)


def test_without_credentials_the_error_says_so(serve):
    def nothing():
        raise CredentialsMissing("no AWS credentials: nothing was tried")

    account = Account("eu-west-1", nothing, endpoints=serve(answer()).account().endpoints)
    with BotoClient(account) as client, pytest.raises(CredentialsMissing):
        client.call(GET)


def test_a_closed_client_says_so(serve):
    client = BotoClient(serve(answer()).account())
    client.close()
    with pytest.raises(ConnectionLost, match="closed"):
        client.call(GET)


def test_a_proxy_is_used_by_itself(serve, monkeypatch):
    proxy = serve(answer(200, b"through the proxy"))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    endpoints = {"s3": "http://s3.example", "sqs": "http://sqs.example"}
    client = open_client(Account("eu-west-1", fixed("a", "b"), endpoints=endpoints))
    assert isinstance(client, BotoClient)
    assert bytes(client.call(GET).body) == b"through the proxy"
    client.close()
    assert proxy.requests[0].line == "GET http://s3.example/b/k HTTP/1.1"
    monkeypatch.setenv("NO_PROXY", "example")
    lean = open_client(Account("eu-west-1", fixed("a", "b"), endpoints=endpoints))
    assert isinstance(lean, SyncClient)
    lean.close()


def test_asyncio_gets_it_in_threads(serve):
    server = serve(answer(200, b"x"))

    async def ask():
        async with open_async_client(server.account(), "boto3", max_connections=2) as client:
            assert isinstance(client, AsyncBotoClient)
            return await asyncio.gather(*[client.call(GET) for _ in range(4)])

    assert [bytes(found.body) for found in asyncio.run(ask())] == [b"x"] * 4


# --- an account from a session ---------------------------------------------------------------


@pytest.fixture
def session(monkeypatch, tmp_path):
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / name))
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "SHARED_CREDENTIALS_FILE").write_text(
        "[work]\naws_access_key_id = PROFILE\naws_secret_access_key = secret\n"
    )
    (tmp_path / "CONFIG_FILE").write_text(
        "[profile work]\nregion = eu-south-1\nservices = local\n[services local]\nsqs =\n  endpoint_url = http://h:9\n"
    )
    return boto3.Session(profile_name="work")


def test_a_profile_gives_region_credentials_and_endpoints(session):
    account = account_of(session, owner=OWNER)
    assert (account.region, account.owner, account.endpoints) == ("eu-south-1", OWNER, {"sqs": "http://h:9"})
    assert account.credentials.renew().access_key == "PROFILE"
    assert account.target("s3", "bucket").host == "bucket.s3.eu-south-1.amazonaws.com"


def test_what_is_given_goes_before_what_is_configured(session):
    account = account_of(session, region="us-east-1", endpoints={"sqs": "http://other:1"})
    assert (account.region, account.endpoints) == ("us-east-1", {"sqs": "http://other:1"})


def test_threads_share_a_client(moto_account, queue_url):
    with BotoClient(moto_account) as client:
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(client.call(sqs.send_messages(queue_url, ["x"]))))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [[]] * 4
