"""What the transport and the store make of faults in AWS's own words, of lost answers, and of what was tampered with.

microburst answers instead of the server; the proxy lets the server act and loses its answer; SeaweedFS checks
signatures, dates and bodies.
"""

from __future__ import annotations

import contextlib
import os
import random
import ssl
import subprocess
import threading
import time

import pytest

from cloudexec.errors import (
    AccessDenied,
    AwsError,
    CredentialsExpired,
    NoSuchKey,
    PreconditionFailed,
    Throttled,
)
from cloudexec.store.s3 import S3Store
from cloudexec.transport import s3, sqs
from cloudexec.transport.account import Account
from cloudexec.transport.retrying import RetryPolicy
from cloudexec.transport.sigv4 import Credentials
from cloudexec.transport.sync import SyncClient
from tests.emulators.proxy import proxied
from tests.emulators.stores import OWNER
from tests.specs.aws_spec import VARIANTS, opened

QUICK = RetryPolicy(throttle_base_s=0.02, fault_base_s=0.01)
MIB = 1 << 20


@pytest.fixture(params=VARIANTS)
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def bucket(ministack):
    return ministack.new_bucket()


@pytest.fixture
def key():
    return f"key-{os.urandom(6).hex()}"


def put(bucket, key, *pieces, **more):
    return s3.put_object(bucket, key, pieces, owner=OWNER, **more)


def get(bucket, key):
    return s3.get_object(bucket, key, owner=OWNER)


# --- faults in AWS's own words -----------------------------------------------------------------


@pytest.fixture
def call(microburst, weather, variant):
    policy = {} if variant == "boto" else {"policy": QUICK}  # boto3's pauses are its own
    with opened(variant, microburst.account(), **policy) as call:
        yield call


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"error": {"code": "SlowDown", "status": 503}}, id="S3 asks to slow down"),
        pytest.param({"error": {"code": "InternalError", "status": 500}}, id="internal error"),
        pytest.param({"error": {"code": "RequestTimeout", "status": 400}}, id="the request took S3 too long to read"),
        pytest.param({"error": {"code": "ConditionalRequestConflict", "status": 409}}, id="somebody writes it, too"),
        pytest.param({"reset": True}, id="connection reset"),
    ],
)
def test_a_passing_fault_of_s3_is_not_seen(call, weather, bucket, key, fault):
    before = len(weather.fired())
    weather.set({"service": "s3", "operation": "PutObject", "times": 2, **fault})
    call(put(bucket, key, b"content"))
    assert len(weather.fired(before)) == 2
    assert call(get(bucket, key)).body == b"content"


def test_half_an_answer_is_asked_for_again(call, weather, bucket, key):
    content = os.urandom(MIB)
    call(put(bucket, key, content))
    weather.set({"service": "s3", "operation": "GetObject", "times": 1, "response": {"abort_frac": 0.5}})
    assert call(get(bucket, key)).body == content


@pytest.mark.parametrize("size", [MIB, 40 * MIB])
def test_an_answer_that_claims_to_be_whole_and_is_not_is_asked_for_again_by_the_store(
    microburst, weather, bucket, size
):
    content = os.urandom(size)
    with opened_store(microburst.account(), bucket) as store:
        store.put("name", [content])
        weather.set({"service": "s3", "operation": "GetObject", "times": 1, "response": {"truncate_frac": 0.5}})
        assert store.get("name") == content


@pytest.mark.parametrize("code", ["RequestThrottled", "ThrottlingException"])
@pytest.mark.parametrize("lean", ["sync", "aio"])  # boto3 is shown a prefix here that SQS does not have
def test_a_passing_throttle_of_sqs_is_not_seen(microburst, weather, ministack, lean, code):
    queue_url = ministack.new_queue()
    before = len(weather.fired())
    with opened(lean, microburst.account(), policy=QUICK) as call:
        weather.set({"service": "sqs", "times": 2, "error": {"code": code, "status": 400}})
        assert call(sqs.send_messages(queue_url, ["content"])) == []
        assert len(weather.fired(before)) == 2
        (message,) = call(sqs.receive_messages(queue_url, wait_s=1))
    assert message.body == "content"


def test_a_throttle_that_does_not_pass_is_named(microburst, weather, bucket, key):
    weather.set({"service": "s3", "error": {"code": "SlowDown", "status": 503}})
    policy = RetryPolicy(attempts=3, throttle_base_s=0.01)
    with opened("sync", microburst.account(), policy=policy) as call, pytest.raises(Throttled) as caught:
        call(put(bucket, key, b"content"))
    assert (caught.value.code, caught.value.status) == ("SlowDown", 503)


def test_an_expired_token_is_renewed_once(microburst, weather, bucket, key):
    asked = []

    def fresh():
        asked.append(time.monotonic())
        return Credentials("test", "test", token=f"token {len(asked)}")

    url = microburst.endpoint.url
    with opened("sync", Account("us-east-1", fresh, endpoints={"s3": url}), policy=QUICK) as call:
        weather.set({"service": "s3", "times": 1, "error": {"code": "ExpiredToken", "status": 400}})
        call(put(bucket, key, b"content"))
        assert len(asked) == 2
        weather.set({"service": "s3", "error": {"code": "ExpiredToken", "status": 400}})
        with pytest.raises(CredentialsExpired):
            call(put(bucket, key, b"content"))


def test_a_store_in_bad_weather_loses_nothing_and_doubles_nothing(microburst, weather, bucket):
    weather.set(
        {"service": "s3", "probability": 0.06, "error": {"code": "SlowDown", "status": 503}},
        {"service": "s3", "probability": 0.03, "error": {"code": "InternalError", "status": 500}},
        {"service": "s3", "probability": 0.03, "reset": True},
    )
    with opened_store(microburst.account(), bucket) as store:
        wins = []

        def work(number):
            for turn in range(30):
                store.put(f"own/{number}-{turn}", [b"%d %d" % (number, turn)])
                if store.put_once(f"shared/{turn}", [b"%d" % number]):
                    wins.append((turn, number))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(turn for turn, _ in wins) == list(range(30)), "of each four writers one has won, and knows it"
        assert all(store.get(f"shared/{turn}") == b"%d" % number for turn, number in wins)
        assert len(list(store.names("own/"))) == 120
        store.delete_many(list(store.names()))
        assert list(store.names()) == []


# --- lost answers: the server did it -----------------------------------------------------------


@contextlib.contextmanager
def opened_store(account, bucket):
    client = SyncClient(account, policy=QUICK)
    with contextlib.closing(client):
        yield S3Store(client, bucket, f"test-{os.urandom(6).hex()}", OWNER)


def the_first(*methods):
    """Loses the answer to the first request of each method."""
    left = list(methods)

    def loses(method, path):
        if method in left:
            left.remove(method)
            return True
        return False

    return loses


def test_a_conditional_put_whose_answer_is_lost_is_the_success_of_its_writer(ministack, bucket, key, variant):
    with (
        proxied(ministack.endpoint.port, loses=the_first("PUT")) as proxy,
        opened(variant, ministack.account(url=proxy.url)) as call,
    ):
        etag = call(put(bucket, key, b"mine", if_none_match=True))
        assert proxy.lost == [("PUT", 200)]
        found = call(get(bucket, key))
    assert (found.body, found.etag) == (b"mine", etag)


def test_a_conditional_put_that_came_too_late_stays_a_failure_though_an_answer_was_lost(
    ministack, bucket, key, variant
):
    with opened("sync", ministack.account()) as call:
        call(put(bucket, key, b"theirs", if_none_match=True))
    with (
        proxied(ministack.endpoint.port, loses=the_first("PUT")) as proxy,
        opened(variant, ministack.account(url=proxy.url)) as call,
    ):
        with pytest.raises(PreconditionFailed):
            call(put(bucket, key, b"mine", if_none_match=True))
        assert proxy.lost == [("PUT", 412)]
        assert call(get(bucket, key)).body == b"theirs"


def test_a_replacement_whose_answer_is_lost_is_the_success_of_its_writer(ministack, bucket, key, variant):
    with proxied(ministack.endpoint.port) as proxy, opened(variant, ministack.account(url=proxy.url)) as call:
        before = call(put(bucket, key, b"before"))
        proxy.loses = the_first("PUT")
        call(put(bucket, key, b"after", if_match=before))
        assert proxy.lost == [("PUT", 200)]
        assert call(get(bucket, key)).body == b"after"


def test_put_once_is_right_though_every_third_answer_is_lost(ministack, bucket):
    luck = random.Random(20261121)
    with (
        proxied(ministack.endpoint.port, loses=lambda method, path: luck.random() < 0.3) as proxy,
        opened_store(ministack.account(url=proxy.url), bucket) as store,
    ):
        for turn in range(60):
            assert store.put_once(f"turn-{turn}", [b"first %d" % turn]) is True
            assert store.put_once(f"turn-{turn}", [b"second"]) is False
        assert all(store.get(f"turn-{turn}") == b"first %d" % turn for turn in range(60))
        assert len(proxy.lost) > 40


def test_a_large_put_once_is_right_though_the_answer_to_its_completion_is_lost(ministack, bucket):
    content = os.urandom(20 * MIB)

    def loses(method, path):
        return method == "POST" and "uploadId=" in path and not proxy.lost

    with (
        proxied(ministack.endpoint.port, loses=loses) as proxy,
        opened_store(ministack.account(url=proxy.url), bucket) as store,
    ):
        assert store.put_once("large", [content]) is True
        assert proxy.lost == [("POST", 200)]
        assert store.get("large") == content
        assert list(store.names()) == ["large"]
    assert not ministack.boto("s3").list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_a_delete_whose_answer_is_lost_is_done(ministack, bucket, key, variant):
    with (
        proxied(ministack.endpoint.port, loses=the_first("DELETE")) as proxy,
        opened(variant, ministack.account(url=proxy.url)) as call,
    ):
        call(put(bucket, key, b"content"))
        call(s3.delete_object(bucket, key, owner=OWNER))
        with pytest.raises(NoSuchKey):
            call(get(bucket, key))


def test_a_message_whose_answer_is_lost_is_there_once_or_twice(ministack, variant):
    queue_url = ministack.new_queue()
    with (
        proxied(ministack.endpoint.port, loses=the_first("POST")) as proxy,
        opened(variant, ministack.account(url=proxy.url)) as call,
    ):
        assert call(sqs.send_messages(queue_url, ["content"])) == []
        found = call(sqs.receive_messages(queue_url, wait_s=1))
    assert proxy.lost == [("POST", 200)]
    assert {message.body for message in found} == {"content"}
    assert len(found) in (1, 2)


def test_messages_whose_receipt_is_lost_come_again(ministack, variant):
    queue_url = ministack.new_queue()
    with proxied(ministack.endpoint.port) as proxy, opened(variant, ministack.account(url=proxy.url)) as call:
        call(sqs.send_messages(queue_url, ["content"]))
        proxy.loses = the_first("POST")
        (message,) = call(sqs.receive_messages(queue_url, wait_s=10, visibility_s=1))
    assert (message.body, message.receive_count) == ("content", 2)


# --- signatures, as a server sees them that checks ----------------------------------------------


@pytest.fixture(scope="module")
def guarded(seaweedfs):
    """A bucket whose server checks."""
    return seaweedfs.new_bucket()


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda bucket: put(bucket, "key", b"content"), id="put"),
        pytest.param(lambda bucket: get(bucket, "key"), id="get"),
        pytest.param(lambda bucket: s3.list_objects(bucket, "", owner=OWNER), id="list"),
        pytest.param(lambda bucket: s3.delete_objects(bucket, ["key"], owner=OWNER), id="delete many"),
    ],
)
def test_a_wrong_secret_is_refused(seaweedfs, guarded, variant, operation):
    with opened(variant, seaweedfs.account(secret_key="wrong")) as call, pytest.raises(AccessDenied):
        call(operation(guarded))


@pytest.mark.parametrize(
    "alters",
    [
        pytest.param(lambda path, body: (path + "x", body), id="another key"),
        pytest.param(lambda path, body: (path + "?acl", body), id="another question"),
    ],
)
def test_a_request_that_is_altered_on_its_way_is_refused(seaweedfs, guarded, key, variant, alters):
    with (
        proxied(seaweedfs.endpoint.port, alters=alters) as proxy,
        opened(variant, seaweedfs.account(url=proxy.url)) as call,
        pytest.raises(AwsError) as caught,
    ):
        call(put(guarded, key, b"content"))
    assert caught.value.status in (400, 403)
    with opened("sync", seaweedfs.account()) as call:
        assert call(s3.list_objects(guarded, key, owner=OWNER)).objects == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Of 127.0.0.1, signed by itself: the file, and a server's context with it."""
    folder = tmp_path_factory.mktemp("certificate")
    names = [
        "-subj",
        "/CN=127.0.0.1",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "keyUsage=critical,digitalSignature,keyCertSign",
    ]
    files = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *curve, *files, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return str(folder / "cert.pem"), context


@pytest.mark.parametrize("lean", ["sync", "aio"])
@pytest.mark.parametrize("is_altered", [False, True])
def test_a_body_that_tls_protects_has_a_checksum_which_the_server_compares(
    seaweedfs, guarded, key, certificate, lean, is_altered
):
    """Over TLS large bodies are not hashed for the signature; then S3 itself has to see whether all arrived."""
    content = b"content" * 20_000
    file, context = certificate

    def alters(path, body):
        return path, body.replace(b"content", b"Content") if is_altered else body

    with proxied(seaweedfs.endpoint.port, alters=alters, tls=context) as proxy:
        account = seaweedfs.account(url=proxy.url)
        account.ca_bundle = file
        with opened(lean, account) as call:
            if is_altered:
                with pytest.raises(AwsError) as caught:
                    call(put(guarded, key, content))
                assert caught.value.code == "BadDigest"
            else:
                call(put(guarded, key, content))
                assert call(get(guarded, key)).body == content


def test_a_wrong_clock_is_set_by_the_services(seaweedfs, guarded, key):
    """Signatures are good for a quarter of an hour; the server's own clock mends one that is off by more."""
    endpoint = seaweedfs.endpoint
    keys = Credentials(endpoint.access_key, endpoint.secret_key)
    for off_s in (-7200, 7200):
        account = Account(
            "us-east-1", lambda: keys, endpoints={"s3": endpoint.url}, clock=lambda off_s=off_s: time.time() + off_s
        )
        with opened("sync", account) as call:
            call(put(guarded, key, b"content"))
            assert call(get(guarded, key)).body == b"content"


def test_a_store_works_on_a_server_that_checks(seaweedfs, guarded):
    with opened_store(seaweedfs.account(), guarded) as store:
        content = os.urandom(40 * MIB)
        store.put("large", [content])
        assert store.put_once("large", [b"x"]) is False
        assert store.get("large") == content
        store.put("small/1", [b"1"])
        assert list(store.names()) == ["large", "small/1"]
        assert list(store.names("small/")) == ["small/1"]
        store.delete_many(["large", "small/1"])
        assert list(store.names()) == []
