"""A server on loopback that does with each request what a script says: answer, hesitate, hang up."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading

from cloudexec.transport.account import Account
from cloudexec.transport.credentials import fixed


class Served:
    """One request as it arrived; `connection` counts connections from 0."""

    def __init__(self, head, body, connection, stopping):
        self.line, *lines = head.decode("latin-1").split("\r\n")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.body = body
        self.connection = connection
        self.stopping = stopping


def answer(status=200, body=b"", **headers):
    """Answer; underscores in header names stand for dashes."""
    lines = [f"HTTP/1.1 {status} X", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    lines.append(f"Content-Length: {len(body)}")
    data = "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def act(connection, request):
        connection.sendall(data if not request.line.startswith("HEAD") else data.removesuffix(body))
        return True

    act.data = data
    return act


def error(status, code, message="", **headers):
    """Answer as S3 refuses."""
    said = f"<Code>{code}</Code><Message>{message}</Message><Region>eu-north-1</Region>"
    body = f"<?xml version='1.0'?><Error>{said}</Error>"
    return answer(status, body.encode(), x_amz_request_id="R1", **headers)


def json_error(status, code, message=""):
    """Answer as SQS refuses."""
    return answer(status, b'{"__type":"com.amazonaws.sqs#%s","message":"%s"}' % (code.encode(), message.encode()))


def lambda_error(status, code, message="why & how", reason=None, **headers):
    """Answer as Lambda refuses: the code in a header, with a place behind it."""
    said = {"Type": "User", "message": message} | ({"Reason": reason} if reason else {})
    about = {"x_amzn_errortype": f"{code}:http://internal.amazon.com/coral/", "x_amzn_RequestId": "R1"}
    return answer(status, json.dumps(said).encode(), **about, **headers)


def hang_up(connection, request):
    """Close without an answer, after the request has been read: the service may have acted."""
    return False


def reset(connection, request):
    """The same, with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def half(full):
    """Send half of an answer, then close."""

    def act(connection, request):
        connection.sendall(full.data[: len(full.data) // 2])
        return False

    return act


def and_close(action):
    """Act, then close without having said so: the client's idle connection is stale."""

    def act(connection, request):
        action(connection, request)
        return False

    return act


def after(delay_s, action):
    """Hesitate."""

    def act(connection, request):
        request.stopping.wait(delay_s)
        return action(connection, request)

    return act


class Scripted:
    """Takes one action a request, in the order in which requests arrive; the last one is repeated."""

    def __init__(self, *actions, tls=None, reads_bodies=True, port=0):
        self._actions = list(actions)
        self._reads_bodies = reads_bodies
        self._tls = tls
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._connections = []
        self.requests = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def account(self, **more):
        url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"
        return Account("eu-west-1", fixed("AKID", "secret"), endpoints={"s3": url, "sqs": url, "lambda": url}, **more)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with self._lock:
                    self._connections.append(connection)
                    number = len(self._connections) - 1
                thread = threading.Thread(target=self._serve, args=(connection, number))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection, number):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            if self._tls:
                connection = stack.enter_context(self._tls.wrap_socket(connection, server_side=True))
            buffer = b""
            while True:
                while b"\r\n\r\n" not in buffer:
                    data = connection.recv(65536)
                    if not data:
                        return
                    buffer += data
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                request = Served(head, b"", number, self._stopping)
                length = int(request.headers.get("content-length", 0)) if self._reads_bodies else 0
                while len(buffer) < length:
                    buffer += connection.recv(1 << 20)
                request.body, buffer = buffer[:length], buffer[length:]
                with self._lock:
                    self.requests.append(request)
                    action = self._actions.pop(0) if len(self._actions) > 1 else self._actions[0]
                if not action(connection, request):
                    return

    def stop(self):
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
