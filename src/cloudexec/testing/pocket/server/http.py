"""HTTP/1.1 with keep-alive for the front, and connections that break on demand.

Called by:  serve.py, which starts it.   Calls: front.py, for every request.
Reason:     moto's own server closes the connection after each answer, and sends headers and body apart, which
            costs a delayed acknowledgement of 40 ms each time.
"""

from __future__ import annotations

import io
import logging
import socket
import struct
import traceback
from http.client import responses
from typing import Any, Final, Protocol, cast
from urllib.parse import unquote

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import ThreadedWSGIServer

from cloudexec.testing.pocket.server.requests import Answer, Request, operation_of, signer

log = logging.getLogger(__name__)
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time: close() sends RST


class BreakConnection(Exception):
    """What the front raises to break the connection instead of answering."""


class Front(Protocol):
    """What answers requests."""

    def answer(self, request: Request) -> Answer:
        """The answer to send; may raise BreakConnection."""


class Handler(MotoRequestHandler):  # type: ignore[misc]  # moto is not typed here
    """One connection; requests follow each other on it until the client closes it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave together

    def handle_expect_100(self) -> bool:
        """The client waits for this line before it sends the body."""
        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.wfile.flush()
        return True

    def run_wsgi(self) -> None:
        """Read one request, have it answered, send the answer."""
        request = self.read_request()
        try:
            answer = cast("Server", self.server).front.answer(request)
        except BreakConnection:
            cast("Server", self.server).broken.add(id(self.connection))
            self.close_connection = True
            return
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            answer = Answer(status=500, body=traceback.format_exc().encode())
        self.send_answer(answer)

    def read_request(self) -> Request:
        """The whole request; its body is read even when nobody wants it, because the next request follows it."""
        environ: dict[str, Any] = self.make_environ()
        if environ.pop("wsgi.input_terminated", False):
            environ.pop("HTTP_TRANSFER_ENCODING", None)
            body = environ["wsgi.input"].read()
        else:
            n_bytes = int(environ.get("CONTENT_LENGTH") or 0)
            body = self.rfile.read(n_bytes)
            if len(body) < n_bytes:
                raise ConnectionResetError("the client has gone in mid-request")  # nobody has asked anything
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        headers = {name.lower(): value for name, value in self.headers.items()}
        path, _, query = self.path.partition("?")
        path = unquote(path)
        access_key, region, service = signer(headers, query)
        return Request(
            method=self.command,
            path=path,
            query=query,
            headers=headers,
            body=body,
            environ=environ,
            service=service,
            region=region,
            access_key=access_key,
            operation=operation_of(service, self.command, path, query, headers, body),
        )

    def send_answer(self, answer: Answer) -> None:
        """Status, headers and body in one piece."""
        lines = [f"HTTP/1.1 {answer.status} {responses.get(answer.status, 'Unknown')}"]
        names = set()
        for name, value in answer.headers:
            if name.lower() not in ("connection", "transfer-encoding"):
                names.add(name.lower())
                lines.append(f"{name}: {value}")
        if "content-length" not in names and answer.status not in (204, 304):
            lines.append(f"Content-Length: {len(answer.body)}")
        if "date" not in names:
            lines.append(f"Date: {self.date_time_string()}")
        lines.append("Connection: close" if self.close_connection else "Connection: keep-alive")
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.wfile.flush()

    def log_message(self, *args: object) -> None:
        """Nothing: `PocketAWS.requests` is the log."""


class Server(ThreadedWSGIServer):  # type: ignore[misc]  # werkzeug is not followed here
    """One thread for each connection."""

    front: Front

    def __init__(self, port: int) -> None:
        self.broken: set[int] = set()
        with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:  # an error is ours to tell
            port = listener.getsockname()[1]
            super().__init__("127.0.0.1", port, None, handler=Handler, fd=listener.fileno())

    def shutdown_request(self, request: socket.socket) -> None:
        """Close a connection; one that a fault has broken ends with a reset instead of an orderly end."""
        if id(request) in self.broken:
            self.broken.discard(id(request))
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            request.close()
        else:
            super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in mid-request is no event."""
        log.debug("connection from %s ended", client_address, exc_info=True)


def is_gone(connection: socket.socket) -> bool:
    """Whether the client has closed its end; nothing is read that belongs to a next request."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
