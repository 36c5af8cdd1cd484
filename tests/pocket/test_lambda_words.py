"""Lambda's pure parts: HTTP of the Runtime API, references to functions, the trace header, the lines of the log."""

import json
import socket
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.testing.pocket.server.awslambda import words
from cloudexec.testing.pocket.server.awslambda.functions import parse_reference
from cloudexec.testing.pocket.server.awslambda.invoke import check_payload
from cloudexec.testing.pocket.server.awslambda.runtime_api import Connection, Said
from cloudexec.testing.pocket.server.requests import Refusal, lambda_operation

# --- the Runtime API's HTTP ----------------------------------------------------------------------

bodies = st.binary(max_size=300)


def plain(body):
    return b"POST /a HTTP/1.1\r\nContent-Length: %d\r\nX-A: b\r\n\r\n%s" % (len(body), body)


def chunked(body, size):
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    head = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\nTrailer: x\r\n\r\n"


@given(
    requests=st.lists(st.tuples(bodies, st.integers(0, 50)), min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 400), max_size=6),
)
def test_requests_are_read_however_their_bytes_arrive(requests, cuts):
    data = b"".join(chunked(body, size) if size else plain(body) for body, size in requests)
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        connection, said = Connection(_Tcp(ours)), []
        for cut in [*cuts, len(data)]:
            piece, data = data[:cut], data[cut:]
            theirs.sendall(piece)
            assert connection.receive()
            while (one := connection.take()) is not None:
                said.append(one)
        assert [one.body for one in said] == [body for body, _ in requests]
        assert {(one.method, one.path, one.headers["x-a"]) for one in said} == {("POST", "/a", "b")}


class _Tcp:
    """A socket pair's end that takes TCP's options."""

    def __init__(self, sock):
        self._sock = sock

    def setsockopt(self, *args):
        pass

    def __getattr__(self, name):
        return getattr(self._sock, name)


def test_a_connection_that_ends_is_told_after_what_it_said():
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours:
        connection = Connection(_Tcp(ours))
        theirs.sendall(b"GET /next HTTP/1.1\r\n\r\n")
        theirs.close()
        assert not connection.receive()
        assert connection.take() == Said(method="GET", path="/next")
        assert connection.take() is None


def test_an_answer_to_a_runtime_that_does_not_read_is_given_up():
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert not Connection(_Tcp(ours)).answer(200, b"x" * 10_000_000, {}, 0.05)


# --- references ----------------------------------------------------------------------------------

ARN = "arn:aws:lambda:us-east-1:123456789012:function:f"


@pytest.mark.parametrize(
    ("name", "qualifier", "meant"),
    [
        pytest.param("f", "", ("f", ""), id="name"),
        pytest.param("f", "7", ("f", "7"), id="name and qualifier"),
        pytest.param("f:prod", "", ("f", "prod"), id="name with a qualifier in it"),
        pytest.param("f:prod", "prod", ("f", "prod"), id="the same twice"),
        pytest.param("123456789012:function:f", "", ("f", ""), id="partial ARN"),
        pytest.param(ARN, "", ("f", ""), id="ARN"),
        pytest.param(f"{ARN}:$LATEST", "", ("f", "$LATEST"), id="ARN with a qualifier"),
    ],
)
def test_a_reference_means(name, qualifier, meant):
    assert parse_reference(name, qualifier) == meant


def test_two_qualifiers_contradict_each_other():
    with pytest.raises(Refusal, match="does not match"):
        parse_reference("f:prod", "test")


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", "/2015-03-31/functions/f/invocations", "Invoke"),
        ("POST", f"/2015-03-31/functions/{ARN}/invocations", "Invoke"),
        ("POST", "/2015-03-31/functions", "CreateFunction"),
        ("POST", "/2015-03-31/functions/", "CreateFunction"),
        ("GET", "/2015-03-31/functions/invocations", "GetFunction"),
        ("GET", "/2016-08-19/account-settings/", "GetAccountSettings"),
        ("DELETE", "/2015-03-31/functions/f/policy/from-s3", "RemovePermission"),
        ("GET", f"/2017-03-31/tags/{ARN}", "ListTags"),
        ("GET", "/2015-03-31/something-else", "GET /2015-03-31/something-else"),
    ],
)
def test_requests_have_the_names_of_the_api(method, path, operation):
    assert lambda_operation(method, path) == operation


# --- payloads ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "code"), [(100, None), (101, "RequestTooLargeException")])
def test_a_payload_has_a_limit(size, code):
    payload = b'"' + b"x" * (size - 2) + b'"'
    if code is None:
        check_payload(payload, 100)
    else:
        with pytest.raises(Refusal, match=code):
            check_payload(payload, 100)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"errorType": "Runtime.ImportModuleError", "errorMessage": "x"}', "Runtime.ImportModuleError"),
        (b"no json", "Runtime.Unknown"),
        (b"[]", "Runtime.Unknown"),
        (b'{"errorMessage": "without a type"}', "Runtime.Unknown"),
    ],
)
def test_an_init_error_keeps_its_type_and_gets_the_request_id(body, kind):
    told = json.loads(words.init_error_payload(body, "an-id"))
    assert (told["errorType"], told["requestId"], words.init_error_type(body)) == (kind, "an-id", kind)


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "raise SystemExit(0)", "import os; os.kill(os.getpid(), 15)"])
def test_every_end_of_a_process_has_words(code):
    ended = subprocess.run(["python3", "-c", code], check=False).returncode
    said = {3: "exit status 3", 0: "without providing a reason", -15: "signal: terminated"}[ended]
    assert words.exit_words(ended).endswith(said)


def test_a_report_bills_init_and_rounds_up():
    line = words.report_line("id", duration_s=0.0101, init_s=0.2, memory_mb=128, used_mb=30, trouble="")
    assert line == (
        "REPORT RequestId: id\tDuration: 10.10 ms\tBilled Duration: 211 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 30 MB\tInit Duration: 200.00 ms\t"
    )


# --- the trace header ----------------------------------------------------------------------------

names = st.text("0123456789abcdef", min_size=8, max_size=8)


@given(chain=st.lists(names, max_size=40))
def test_the_trace_counts_how_often_each_function_was_in_the_chain(chain):
    trace = ""
    for position, name in enumerate(chain):
        assert words.hops(trace, name) == chain[:position].count(name)
        trace = words.next_trace(trace, name, "1-root")
    assert not chain or trace.startswith("Root=1-root;")


@given(st.text(max_size=60))
def test_any_trace_header_can_be_read(trace):
    assert words.hops(trace, "0" * 8) >= 0
    assert words.hops(words.next_trace(trace, "f" * 8, "1-r"), "f" * 8) >= 1
