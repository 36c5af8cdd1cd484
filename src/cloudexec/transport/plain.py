"""One small HTTP request, by itself: for the metadata services that hand out credentials.

Called by:  credentials.py.   Calls: http1.py.
Why apart:  no pool, no signature, no proxy: these services are links away and must never be reached through one.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Final

from cloudexec.transport.endpoints import read_url
from cloudexec.transport.http1 import AnswerReader, BadAnswer
from cloudexec.transport.operation import Reply

_MOST_BYTES: Final = 1 << 20


def request(method: str, url: str, headers: Mapping[str, str], timeout_s: float) -> Reply:
    """Ask, and return the answer whatever its status. Errors: OSError, BadAnswer."""
    target = read_url(url.partition("?")[0])
    query = url.partition("?")[1] + url.partition("?")[2]
    path = "/" + target.base.lstrip("/") + ("/" if url.partition("?")[0].endswith("/") and target.base else "")
    lines = [f"{method} {path}{query} HTTP/1.1", f"Host: {target.authority}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if method != "GET":
        lines.append("Content-Length: 0")
    if any(ord(character) < 0x20 for line in lines for character in line):
        raise BadAnswer("a request with a control character in its head, which could be read as two")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
    with socket.create_connection((target.host, target.port), timeout=timeout_s) as plain:
        if not target.is_tls:
            return _exchange(plain, head, AnswerReader(method))
        from cloudexec.transport.tls import shared_context

        with shared_context().wrap_socket(plain, server_hostname=target.host) as secured:
            return _exchange(secured, head, AnswerReader(method))


def _exchange(connection: socket.socket, head: bytes, reader: AnswerReader) -> Reply:
    connection.sendall(head)
    total = 0
    while True:
        data = connection.recv(65536)
        total += len(data)
        if total > _MOST_BYTES:
            raise BadAnswer("the answer is too long")
        if reader.feed(data) if data else reader.end():
            return reader.reply()
        if not data:
            raise BadAnswer("the answer ended too early")
