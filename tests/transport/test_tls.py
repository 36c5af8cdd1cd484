"""Over TLS: who is trusted, whose name it must be, and that nothing is lost."""

import os
import ssl
import subprocess
from types import SimpleNamespace

import pytest

from cloudexec.errors import ConnectionLost, SettingsError
from cloudexec.transport import s3
from cloudexec.transport.account import Account
from cloudexec.transport.credentials import fixed
from cloudexec.transport.retrying import RetryPolicy
from cloudexec.transport.tls import shared_context
from tests.specs.aws_spec import opened
from tests.transport.scripted import after, and_close, answer, half, hang_up

QUICK = RetryPolicy(attempts=3, fault_base_s=0.001)
GET = s3.get_object("b", "k", owner="")


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make_authority(directory, name):
    key, bundle = directory / f"{name}.key", directory / f"{name}.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key)]
    usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]  # Python 3.13 asks for it
    openssl("req", "-x509", *curve, "-out", str(bundle), "-days", "2", "-subj", f"/CN={name}", *usage)
    return key, bundle


def make_server_context(directory, authority, name, names):
    key, request, certificate = (directory / f"{name}.{kind}" for kind in ("key", "csr", "crt"))
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key)]
    openssl("req", *curve, "-out", str(request), "-subj", "/CN=server")
    (directory / f"{name}.ext").write_text(f"subjectAltName={names}\nauthorityKeyIdentifier=keyid\n")
    signer = ["-CA", str(authority[1]), "-CAkey", str(authority[0]), "-CAcreateserial", "-days", "2"]
    openssl(
        "x509", "-req", "-in", str(request), *signer, "-extfile", f"{directory / name}.ext", "-out", str(certificate)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pki")
    ours, strangers = make_authority(directory, "ours"), make_authority(directory, "strangers")
    return SimpleNamespace(
        ours=str(ours[1]),
        strangers=str(strangers[1]),
        server=make_server_context(directory, ours, "right", "IP:127.0.0.1"),
        misnamed=make_server_context(directory, ours, "wrong", "DNS:other.example"),
    )


@pytest.fixture(params=["sync", "aio", "boto"])
def variant(request):
    return request.param


@pytest.fixture(params=["sync", "aio"])
def lean(request):
    return request.param


def test_a_server_with_a_certificate_of_the_named_authority_is_trusted(serve, pki, variant):
    server = serve(answer(200, b"secured"), tls=pki.server)
    with opened(variant, server.account(ca_bundle=pki.ours), policy=QUICK) as call:
        assert bytes(call(GET).body) == b"secured"
        call(GET)
    assert [request.connection for request in server.requests] == [0, 0]


@pytest.mark.parametrize(
    ("context", "bundle"),
    [
        pytest.param("server", "strangers", id="another authority"),
        pytest.param("server", "", id="the system's authorities do not know it"),
        pytest.param("misnamed", "ours", id="another name"),
    ],
)
def test_a_server_that_cannot_prove_its_name_gets_no_request(serve, pki, variant, context, bundle):
    server = serve(answer(), tls=getattr(pki, context))
    ca_bundle = getattr(pki, bundle) if bundle else ""
    with (
        opened(variant, server.account(ca_bundle=ca_bundle), policy=QUICK) as call,
        pytest.raises(ConnectionLost, match=r"certificate verify failed|doesn't match") as caught,
    ):
        call(GET)
    assert not caught.value.ambiguous
    assert server.requests == []


def test_a_large_body_goes_unhashed_with_a_checksum_and_comes_back_whole(serve, pki, lean):
    body = os.urandom(3 << 20)
    server = serve(answer(200, ETag='"e"'), answer(200, body), tls=pki.server)
    with opened(lean, server.account(ca_bundle=pki.ours), policy=QUICK) as call:
        call(s3.put_object("b", "k", [body[:100], body[100:]], owner=""))
        assert bytes(call(GET).body) == body
    assert server.requests[0].body == body
    assert server.requests[0].headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"


@pytest.mark.parametrize("failure", [and_close(answer(200, b"x")), hang_up, half(answer(200, b"y" * 99))])
def test_a_connection_that_ends_is_replaced(serve, pki, lean, failure):
    server = serve(answer(200, b"a"), failure, answer(200, b"b"), tls=pki.server)
    with opened(lean, server.account(ca_bundle=pki.ours), policy=QUICK) as call:
        for _ in range(3):
            last = call(GET)
    assert bytes(last.body) == b"b"


def test_a_slow_answer_is_given_up(serve, pki, lean):
    server = serve(after(0.5, answer()), answer(200, b"quick"), tls=pki.server)
    with opened(lean, server.account(ca_bundle=pki.ours), policy=QUICK, read_timeout_s=0.1) as call:
        assert bytes(call(GET).body) == b"quick"


def test_there_is_one_context_for_each_bundle(pki):
    assert shared_context(pki.ours) is shared_context(pki.ours)
    assert shared_context(pki.ours) is not shared_context()
    assert shared_context().verify_mode is ssl.CERT_REQUIRED
    assert shared_context().check_hostname


def test_a_bundle_that_is_none_is_named(tmp_path):
    (tmp_path / "empty.pem").write_text("no certificate")
    for path in ("/nonexistent.pem", str(tmp_path / "empty.pem")):
        with pytest.raises(SettingsError, match="AWS_CA_BUNDLE"):
            shared_context(path)


def test_plain_http_to_a_tls_port_is_no_answer(serve, pki, lean):
    server = serve(answer(), tls=pki.server)
    account = Account("eu-west-1", fixed("a", "b"), endpoints={"s3": f"http://127.0.0.1:{server.port}"})
    with opened(lean, account, policy=QUICK) as call, pytest.raises(ConnectionLost):
        call(GET)
