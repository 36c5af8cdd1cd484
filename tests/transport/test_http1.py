"""How answers are read: every form of a body, whatever pieces it arrives in; what is refused."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.transport.http1 import MOST_HEAD_BYTES, AnswerReader, BadAnswer

OK = b"HTTP/1.1 200 OK\r\n"


def read(stream, method="GET", cuts=(), is_ended=False):
    """The reader after it was fed the stream in pieces; `None` if the answer was never complete."""
    reader = AnswerReader(method)
    is_complete = False
    bounds = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for start, end in itertools.pairwise(bounds):
        data = stream[start:end]
        while data and not is_complete:
            room = reader.room()
            if room is None:
                is_complete, data = reader.feed(data), b""
            else:
                count = min(len(room), len(data))
                room[:count] = data[:count]
                is_complete, data = reader.filled(count), data[count:]
    if is_ended and not is_complete:
        is_complete = reader.end()
    return reader if is_complete else None


@pytest.mark.parametrize(
    ("stream", "method", "status", "body", "stays"),
    [
        pytest.param(OK + b"Content-Length: 3\r\n\r\nabc", "GET", 200, b"abc", True, id="a length"),
        pytest.param(OK + b"content-length:3\r\n\r\nabc", "GET", 200, b"abc", True, id="another spelling"),
        pytest.param(OK + b"Content-Length: 0\r\n\r\n", "PUT", 200, b"", True, id="nothing"),
        pytest.param(OK + b"Content-Length: 9\r\n\r\n", "HEAD", 200, b"", True, id="HEAD has no body"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", "DELETE", 204, b"", True, id="204 has no body"),
        pytest.param(b"HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n", "GET", 304, b"", True, id="304 has no body"),
        pytest.param(b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "GET", 200, b"", True, id="no reason"),
        pytest.param(
            OK + b"Connection: Close\r\nContent-Length: 1\r\n\r\na", "GET", 200, b"a", False, id="closed afterwards"
        ),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", "GET", 200, b"a", False, id="HTTP/1.0 closes"),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", "GET", 200, b"a", True,
            id="HTTP/1.0 that stays",
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", "GET", 200, b"abcde", True,
            id="chunks",
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nTrailer: x\r\n\r\n", "GET", 200, b"a", True,
            id="chunks with a trailer",
        ),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", "PUT", 200, b"a", True,
            id="100 Continue comes first",
        ),
        pytest.param(OK + b"\r\nuntil the end", "GET", 200, b"until the end", False, id="until the connection ends"),
        pytest.param(OK + b"Content-Length: 1\r\n\r\nab", "GET", 200, b"a", False, id="more than was asked for"),
    ],
)  # fmt: skip
@given(cuts=st.lists(st.integers(0, 300), max_size=8))
def test_an_answer_is_the_same_in_whatever_pieces_it_arrives(stream, method, status, body, stays, cuts):
    reader = read(stream, method, cuts, is_ended=b"until the end" in stream)
    assert reader is not None
    reply = reader.reply()
    assert (reply.status, bytes(reply.body)) == (status, body)
    if not (body == b"a" and stream.endswith(b"ab")):  # bytes that come later are seen on the idle connection
        assert reader.stays is stays


@given(
    body=st.binary(max_size=3000), chunks=st.lists(st.integers(1, 500), max_size=9), cuts=st.lists(st.integers(0, 9999))
)
def test_any_body_in_any_chunks_is_put_together(body, chunks, cuts):
    stream, at = OK + b"Transfer-Encoding: chunked\r\n\r\n", 0
    for size in [*chunks, len(body)]:
        part = body[at : at + size]
        at += len(part)
        stream += b"%x\r\n%s\r\n" % (len(part), part) if part else b""
    reader = read(stream + b"0\r\n\r\n", cuts=cuts)
    assert bytes(reader.reply().body) == body
    plain = read(OK + b"Content-Length: %d\r\n\r\n%s" % (len(body), body), cuts=cuts)
    assert bytes(plain.reply().body) == body


def test_repeated_headers_are_joined_and_names_are_in_lower_case():
    reader = read(OK + b'X-A: 1\r\nx-a:  2 \r\nETag: "e"\r\nContent-Length: 0\r\n\r\n')
    assert reader.reply().headers == {"x-a": "1, 2", "etag": '"e"', "content-length": "0"}


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", id="another protocol"),
        pytest.param(b"HTTP/2 200\r\n\r\n", id="another version"),
        pytest.param(b"HTTP/1.1 20 OK\r\n\r\n", id="no status"),
        pytest.param(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", id="two lengths"),
        pytest.param(OK + b"Content-Length: -1\r\n\r\n", id="a negative length"),
        pytest.param(OK + b"Content-Length: 1_0\r\n\r\n", id="a length that only Python reads"),
        pytest.param(OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", id="length and chunks"),
        pytest.param(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", id="an encoding that nobody asked for"),
        pytest.param(OK + b"no colon\r\n\r\n", id="no header"),
        pytest.param(OK + b" folded: x\r\n\r\n", id="a folded line"),
        pytest.param(OK + b"name : x\r\n\r\n", id="a blank behind the name"),
        pytest.param(OK + b"a: x\nb: y\r\n\r\n", id="a bare line feed"),
        pytest.param(OK + b"a: " + b"x" * MOST_HEAD_BYTES, id="a head without end"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", id="a chunk without size"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", id="a chunk of negative size"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", id="a chunk that is longer than it says"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 9999, id="a chunk's head without end"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(stream):
    with pytest.raises(BadAnswer):
        read(stream)


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-", id="in the head"),
        pytest.param(OK + b"Content-Length: 5\r\n\r\nab", id="in the body"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", id="in a chunk"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", id="before the last chunk"),
    ],
)
@given(cuts=st.lists(st.integers(0, 100), max_size=4))
def test_an_answer_that_ends_too_early_is_never_complete(stream, cuts):
    assert read(stream, cuts=cuts, is_ended=True) is None


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_garbage_is_refused_or_waited_for_but_never_another_error(stream, cuts):
    try:
        read(OK + stream, cuts=cuts, is_ended=True)
    except BadAnswer:
        pass


def test_whether_an_answer_has_begun_is_known():
    reader = AnswerReader("GET")
    assert not reader.has_begun
    reader.feed(b"H")
    assert reader.has_begun
