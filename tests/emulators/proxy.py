"""A proxy that lets the server act and then loses its answer, or alters a request on its way.

Called by: tests of what must end well although nobody can know, at first, whether the server did it; and of what
           must not be accepted.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DO_RESET = struct.pack("ii", 1, 0)  # linger for no time: closing sends RST instead of FIN
HOP = frozenset({"transfer-encoding", "connection", "content-length"})


class Proxy(ThreadingHTTPServer):
    """`loses(method, path)`: whether this answer is lost. `alters(path, body)`: what arrives instead."""

    daemon_threads = True

    def __init__(self, upstream_port: int, loses: Loses, alters: Alters, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.upstream_port, self.loses, self.alters = upstream_port, loses, alters
        self.lost: list[tuple[str, int]] = []  # method, and the status that nobody saw
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path, altered = self.server.alters(self.path, body)
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream_port, timeout=30)
        with contextlib.closing(upstream):
            # All headers as they were sent, Host included: they are signed.
            upstream.request(self.command, path, altered, dict(self.headers.items()))
            answer = upstream.getresponse()
            content = answer.read()
        if self.server.loses(self.command, self.path):
            self.server.lost.append((self.command, answer.status))
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, DO_RESET)
            self.connection.close()
            self.close_connection = True
            return
        lines = [f"{name}: {value}" for name, value in answer.getheaders() if name.lower() not in HOP]
        length = answer.getheader("content-length") if self.command == "HEAD" else len(content)
        head = "\r\n".join([f"HTTP/1.1 {answer.status} {answer.reason}", *lines, f"content-length: {length}", "", ""])
        self.wfile.write(head.encode("latin-1") + content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward

    def log_message(self, *_: object) -> None: ...


Loses = Callable[[str, str], bool]
Alters = Callable[[str, bytes], tuple[str, bytes]]


@contextlib.contextmanager
def proxied(
    port: int,
    *,
    loses: Loses = lambda method, path: False,
    alters: Alters = lambda path, body: (path, body),
    tls: ssl.SSLContext | None = None,
) -> Iterator[Proxy]:
    """The proxy before that port, which itself speaks plain HTTP; running until the end of the block."""
    with Proxy(port, loses, alters, tls) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()
