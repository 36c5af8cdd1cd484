"""Our requests are botocore's, byte for byte: signatures over random requests, and what each operation sends."""

import datetime
import functools
import json
from urllib.parse import parse_qsl, quote

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.serialize
import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.transport import lambdas, s3, sqs
from cloudexec.transport.account import Account
from cloudexec.transport.boto import _BODIES
from cloudexec.transport.encoding import encode_path, encode_query, encode_value
from cloudexec.transport.operation import Request
from cloudexec.transport.sigv4 import Credentials, Signer, hash_of

OWNER = "123456789012"
QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/work"
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
names = st.from_regex(r"\Ax-amz-[a-z0-9-]{1,20}[a-z]\Z").filter(lambda name: name not in OURS)
OURS = {"x-amz-date", "x-amz-security-token", "x-amz-content-sha256"}
moments = st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2099, 12, 31))
credentials = st.builds(Credentials, printable, printable, st.just("") | printable)


def lines_of(head: bytes) -> tuple[str, dict[str, str]]:
    """Request line and headers, names in lower case."""
    request_line, *lines = head.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert len(headers) == len(lines)
    return request_line, headers


def signed_by_botocore(service, region, who, moment, method, url, headers, body, monkeypatch):
    """Headers of the request after botocore has signed it at that moment."""
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *args, **kwargs: moment)
    request = botocore.awsrequest.AWSRequest(method=method, url=url, headers=headers, data=body)
    request.context["payload_signing_enabled"] = True
    kind = botocore.auth.S3SigV4Auth if service == "s3" else botocore.auth.SigV4Auth
    kind(botocore.credentials.Credentials(who.access_key, who.secret_key, who.token or None), service, region).add_auth(
        request
    )
    return {name.lower(): value for name, value in request.headers.items()}


@given(
    service=st.sampled_from(["s3", "sqs"]),
    who=credentials,
    moment=moments,
    method=st.sampled_from(["GET", "PUT", "POST", "HEAD", "DELETE"]),
    path=keys,
    query=st.dictionaries(texts.filter(bool), texts, max_size=4),
    headers=st.dictionaries(names, printable, max_size=4),
    body=st.binary(max_size=200),
)
def test_a_signature_is_botocores(service, who, moment, method, path, query, headers, body):
    if service == "sqs":
        path, query = "", {}  # its requests all go to "/"; others would be normalised twice
    canonical_path, canonical_query = "/" + encode_path(path), encode_query(query)
    url = f"https://host.example{canonical_path}" + (f"?{canonical_query}" if query else "")
    with pytest.MonkeyPatch.context() as monkeypatch:
        theirs = signed_by_botocore(
            service, "eu-west-1", who, moment, method, url, {"Host": "host.example", **headers}, body, monkeypatch
        )
    now_s = moment.replace(tzinfo=datetime.timezone.utc).timestamp()
    ours = Signer(who, "eu-west-1", service).sign(
        method, canonical_path, canonical_query, [("host", "host.example"), *headers.items()], hash_of([body]), now_s
    )
    _, signed = lines_of(b"X\r\n" + ours.encode() + b"\r\n")
    assert signed["authorization"] == theirs["authorization"]
    assert signed["x-amz-date"] == theirs["x-amz-date"]
    assert signed.get("x-amz-security-token") == theirs.get("x-amz-security-token")


@given(st.lists(moments, min_size=1, max_size=6))
def test_a_signer_that_is_used_again_signs_like_a_new_one(moments):
    who = Credentials("A", "S")
    used = Signer(who, "eu-west-1", "s3")
    for moment in moments:
        now_s = moment.replace(tzinfo=datetime.timezone.utc).timestamp()
        arguments = ("GET", "/", "", [("host", "h")], "hash", now_s)
        assert used.sign(*arguments) == Signer(who, "eu-west-1", "s3").sign(*arguments)


@given(texts)
def test_encoding_is_that_of_the_standard_library(text):
    assert encode_path(text) == quote(text, safe="/-._~")
    assert encode_value(text) == quote(text, safe="-._~")


def test_secrets_do_not_show():
    assert "secret" not in repr(Credentials("AKID", "secret-key", "secret-token"))


OPERATIONS = [
    s3.put_object("bucket", "a/ü +%.txt", [b"ab", b"cd"], owner=OWNER, content_type="text/plain"),
    s3.put_object("bucket", "key", [b"x"], owner=OWNER, if_none_match=True),
    s3.put_object("bucket", "key", [b"x"], owner=OWNER, if_match='"etag"', writer="me"),
    s3.put_object("bucket", "key", [], owner=""),
    s3.get_object("bucket", "key", owner=OWNER),
    s3.get_object("bucket", "key", owner=OWNER, if_none_match='"etag"', range=(5, 10)),
    s3.head_object("bucket", "key//double/../dots", owner=OWNER),
    s3.list_objects("bucket", "prefix/ü &", owner=OWNER, start_after="prefix/ü +", max_keys=7),
    s3.list_objects("bucket", "p", owner=""),
    s3.delete_object("bucket", "key", owner=OWNER),
    s3.delete_objects("bucket", ["a", "b&<>", "ü"], owner=OWNER),
    s3.create_multipart_upload("bucket", "key", owner=OWNER, writer="me"),
    s3.upload_part("bucket", "key", "upload/id+=", 3, [b"part"], owner=OWNER),
    s3.complete_multipart_upload("bucket", "key", "id", ['"1"', '"2"'], owner=OWNER, if_none_match=True),
    s3.abort_multipart_upload("bucket", "key", "id", owner=OWNER),
    sqs.send_messages(QUEUE, ["a", "ü"], delays_s=[0, 5]),
    sqs.receive_messages(QUEUE, most=3, wait_s=7, visibility_s=60),
    sqs.delete_messages(QUEUE, ["r1", "r2"]),
    sqs.change_visibility(QUEUE, [("r1", 0), ("r2", 60)]),
    sqs.get_queue_attributes(QUEUE),
    sqs.purge(QUEUE),
    lambdas.invoke("function", b'{"a": 1}', wait_s=900),
    lambdas.invoke("function", b"[]", qualifier="live", tail=False, wait_s=3),
    lambdas.invoke("arn:aws:lambda:eu-west-1:123456789012:function:f", b"{}", qualifier="$LATEST", wait_s=3),
    lambdas.invoke("123456789012:f", b"0", event=True, wait_s=3),
]
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
OPTIONAL = {  # what botocore adds that a service does not need: its own name, and hints for old protocols
    "amz-sdk-invocation-id", "amz-sdk-request", "user-agent", "x-amz-checksum-crc32", "x-amz-sdk-checksum-algorithm",
    "x-amzn-query-mode", "x-amz-user-agent", "accept-encoding", "content-type",
}  # fmt: skip


@pytest.fixture(scope="module")
def botocore_clients():
    session = botocore.session.Session()
    session.set_credentials("AKID", "secret", "token")
    config = botocore.config.Config(
        s3={"addressing_style": "virtual", "payload_signing_enabled": True},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        ignore_configured_endpoint_urls=True,
    )
    clients = {
        service: session.create_client(service, "eu-west-1", config=config) for service in ("s3", "sqs", "lambda")
    }
    yield clients
    for client in clients.values():
        client.close()


class Seen(Exception):
    """Carries the request out of botocore before it is sent."""


def sent_by_botocore(client, operation):
    def look(request, **_):
        raise Seen(request)

    arguments = dict(operation.arguments)
    if operation.name in _BODIES:
        arguments[_BODIES[operation.name]] = b"".join(operation.request.pieces)
    event = f"before-send.{client.meta.service_model.service_name}"
    client.meta.events.register_first(event, look)
    try:
        with pytest.raises(Seen) as caught:
            client._make_api_call(operation.name, arguments)
    finally:
        client.meta.events.unregister(event, look)
    return caught.value.args[0]


@each_operation
def test_an_operation_sends_what_botocore_sends(operation, botocore_clients):
    theirs = sent_by_botocore(botocore_clients[operation.request.service], operation)
    account = Account("eu-west-1", lambda: Credentials("AKID", "secret", "token"))
    target, head = account.sign(operation.request, account.credentials.renew())
    request_line, ours = lines_of(head)
    method, where, _ = request_line.split(" ")
    url, _, query = theirs.url.partition("?")
    assert method == theirs.method
    assert f"https://{target.authority}{where.partition('?')[0]}" == url
    assert sorted(parse_qsl(where.partition("?")[2], keep_blank_values=True)) == sorted(
        parse_qsl(query, keep_blank_values=True)
    )
    headers = {name.lower(): as_text(value) for name, value in theirs.headers.items()}
    changing = OPTIONAL | {"authorization", "x-amz-date", "host", "x-amz-content-sha256", "content-length"}
    if operation.name in ("DeleteObjects", "CompleteMultipartUpload"):
        changing |= {"content-md5"}  # of a body that is spelt differently, or a checksum instead
    assert {n: v for n, v in ours.items() if n not in changing} == {
        n: v for n, v in headers.items() if n not in changing and n != "expect"
    }


functions = st.from_regex(r"[a-zA-Z0-9_.:$/~%+ -]{1,60}", fullmatch=True).filter(lambda name: name not in (".", ".."))


@given(function=functions | keys.filter(lambda name: name not in (".", "..")), qualifier=st.just("") | keys)
def test_an_invocation_goes_where_botocore_sends_it_and_is_signed_as_botocore_signs(function, qualifier):
    operation = lambdas.invoke(function, b"{}", qualifier=qualifier, wait_s=3, trace="Root=1-2;Sampled=0")
    arguments = {name: operation.arguments[name] for name in ("FunctionName", "InvocationType", "LogType")}
    arguments |= {"Qualifier": qualifier} if qualifier else {}
    serializer = botocore.serialize.create_serializer("rest-json", include_validation=False)
    theirs = serializer.serialize_to_request(arguments | {"Payload": b"{}"}, model_of_invoke())
    assert operation.request.path == theirs["url_path"]
    assert dict(parse_qsl(operation.request.query, keep_blank_values=True)) == theirs["query_string"]
    account = Account("eu-west-1", lambda: Credentials("AKID", "secret", "token"), clock=lambda: 1795230000.0)
    request_line, ours = lines_of(account.sign(operation.request, account.credentials.renew())[1])
    where = request_line.split(" ")[1]
    headers = {name: ours[name] for name in ("host", "x-amzn-trace-id", *map(str.lower, theirs["headers"]))}
    with pytest.MonkeyPatch.context() as monkeypatch:
        signed = signed_by_botocore(
            "lambda", "eu-west-1", Credentials("AKID", "secret", "token"),
            datetime.datetime.fromtimestamp(1795230000, datetime.timezone.utc).replace(tzinfo=None),
            "POST", f"https://{ours['host']}{where}", headers, b"{}", monkeypatch,
        )  # fmt: skip
    assert ours["authorization"] == signed["authorization"]
    assert "x-amzn-trace-id" not in ours["authorization"]


@functools.cache
def model_of_invoke():
    return botocore.session.Session().get_service_model("lambda").operation_model("Invoke")


def as_text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


@each_operation
def test_an_operation_has_the_body_that_botocore_sends(operation, botocore_clients):
    theirs = sent_by_botocore(botocore_clients[operation.request.service], operation).body or b""
    ours = b"".join(operation.request.pieces)
    if operation.request.service == "sqs":
        assert json.loads(ours) == json.loads(theirs)
    elif ours.startswith(b"<"):
        assert leaves_of(ours) == leaves_of(theirs)
    else:
        assert ours == (theirs.read() if hasattr(theirs, "read") else theirs)


def leaves_of(xml):
    import xml.etree.ElementTree as ElementTree

    return sorted((element.tag, element.text) for element in ElementTree.fromstring(xml).iter())


@each_operation
def test_an_s3_request_names_the_owner_of_the_bucket_unless_nobody_knows_it(operation):
    if operation.request.service != "s3":
        assert "owner" not in str(operation.request.headers)
        return
    named = dict(operation.request.headers).get("x-amz-expected-bucket-owner")
    assert named == operation.arguments.get("ExpectedBucketOwner")
    assert named in (OWNER, None)


@pytest.mark.parametrize("name", ["put_object", "get_object", "head_object", "list_objects", "delete_object"])
def test_no_builder_of_s3_operations_lets_the_owner_be_forgotten(name):
    with pytest.raises(TypeError, match="owner"):
        getattr(s3, name)("bucket", "key", *([[b""]] if name == "put_object" else []))


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        pytest.param("a\r\nx-evil: 1", "a x-evil: 1", id="a line end cannot begin a header"),
        pytest.param("  a   b ", "a b", id="blanks as the signature counts them"),
    ],
)
def test_a_header_is_one_line(value, sent):
    account = Account("eu-west-1", lambda: Credentials("A", "S"))
    request = Request("s3", "PUT", "/key", headers=(("content-type", value),), bucket="bucket")
    _, head = account.sign(request, account.credentials.renew())
    assert lines_of(head)[1]["content-type"] == sent


@pytest.mark.parametrize(
    ("endpoint", "length", "is_hashed"),
    [
        pytest.param("", 10, True, id="small over TLS"),
        pytest.param("", 100_000, False, id="large over TLS: TLS protects it, a checksum travels along"),
        pytest.param("http://127.0.0.1:1", 100_000, True, id="large without TLS"),
    ],
)
def test_a_body_is_hashed_unless_it_is_large_and_protected(endpoint, length, is_hashed):
    account = Account("eu-west-1", lambda: Credentials("A", "S"), endpoints={"s3": endpoint})
    body = b"x" * length
    operation = s3.put_object("bucket", "key", [body], owner=OWNER)
    _, headers = lines_of(account.sign(operation.request, account.credentials.renew())[1])
    assert headers["x-amz-content-sha256"] == (hash_of([body]) if is_hashed else "UNSIGNED-PAYLOAD")
    assert ("x-amz-checksum-crc32" in headers) is not is_hashed
    assert headers["content-length"] == str(length)
    assert "expect" not in headers
