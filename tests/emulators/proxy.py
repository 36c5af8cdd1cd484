"""A proxy that lets the server act and then loses its answer: the client sees a reset connection.

Called by: tests of what must end well although nobody can know, at first, whether the server did it.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DO_RESET = struct.pack("ii", 1, 0)  # linger for no time: closing sends RST instead of FIN


class LosingProxy(ThreadingHTTPServer):
    """Forwards requests unchanged; `loses(method, path)` says whose answers are lost."""

    daemon_threads = True

    def __init__(self, upstream_port: int, loses: Callable[[str, str], bool]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream_port, self.loses = upstream_port, loses
        self.lost: list[tuple[str, str, int]] = []  # method, path, and the status that nobody saw

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LosingProxy

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream_port, timeout=30)
        with contextlib.closing(upstream):
            # The Host header is signed, so it must arrive as it was sent.
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            answer = upstream.getresponse()
            content = answer.read()
        if self.server.loses(self.command, self.path):
            self.server.lost.append((self.command, self.path, answer.status))
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, DO_RESET)
            self.connection.shutdown(socket.SHUT_RD)
            self.connection.close()
            self.close_connection = True
            return
        lines = [f"{k}: {v}" for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection")]
        if self.command != "HEAD" and not answer.getheader("content-length"):
            lines.append(f"content-length: {len(content)}")
        head = "\r\n".join([f"HTTP/1.1 {answer.status} {answer.reason}", *lines, "", ""])
        self.wfile.write(head.encode() + content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def losing(upstream_port: int, loses: Callable[[str, str], bool]) -> Iterator[LosingProxy]:
    """The proxy, running until the end of the block."""
    with LosingProxy(upstream_port, loses) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()
