"""The process: S3, SQS, ECS, Lambda and what else is asked for, behind one endpoint on loopback.

    python -m cloud.emulator [--start-delay S] [--spread] [--scale X] [--concurrency N]

prints one line, {"endpoint": "http://127.0.0.1:…"}, serves until its standard input ends, and says at GET /_bed what
has been asked for so far, by whom, and what goes on. Nothing is checked: no signature, no permission, no limit but
those of messages. All of AWS's clients work with it as far as the operations of its parts go.

Called by: measures.py and its like, through bed.py.   Calls: the other files of this folder.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
import resource
import sys
import time
from functools import partial
from typing import Final
from urllib.parse import parse_qsl

from cloud import account
from cloud.backstage import Backstage
from cloud.bill import CLIENT, Bill
from cloud.door import Answer, Door, Exchange, Request
from cloud.ecs import Ecs
from cloud.fleet import Fleet
from cloud.functions import Functions
from cloud.functions import operation_of as lambda_operation
from cloud.latency import Clock, Latency
from cloud.s3 import S3, operation_of
from cloud.sqs import Sqs, sent_bytes

_TARGETS: Final = {"AmazonSQS": "sqs", "AmazonEC2ContainerServiceV20141113": "ecs", "Logs_20140328": "logs"}
_SCOPE: Final = re.compile(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request")
_LAMBDA: Final = re.compile(r"/20\d\d-\d\d-\d\d/(functions/|account-settings)")


class Emulator:
    """Sorts requests, counts them, lets them take their time."""

    def __init__(self, options: argparse.Namespace, loop: asyncio.AbstractEventLoop, endpoint: str) -> None:
        self._clock = Clock(loop)
        self._latency = Latency(spread=options.spread, scale=options.scale)
        self._bill = Bill()
        backstage = Backstage(self._clock, self._latency, self._bill)
        self._sqs = Sqs(self._clock, self._bill, endpoint)
        self._s3 = S3()
        self._fleet = Fleet(backstage, self._sqs, self._s3, options.start_delay)
        self._ecs = Ecs(self._fleet)
        self._functions = Functions(backstage, self._s3, options.concurrency)

    def enter(self, exchange: Exchange) -> None:
        """A request has come."""
        request = exchange.request
        if request.path == "/_bed":
            exchange.write(Answer("200 OK", json.dumps(self._state()).encode()))
            return
        service, operation = sort(request)
        self._bill.add(CLIENT, service, operation, sent_bytes(operation, request.body) if service == "sqs" else 0)
        half_s = self._latency.of(service, operation) / 2
        reply = partial(self._clock.after, half_s, exchange.write)
        self._clock.after(half_s, self._act, service, operation, exchange, reply)

    def _act(self, service: str, operation: str, exchange: Exchange, reply: partial[None]) -> None:
        request = exchange.request
        if service == "sqs":
            self._sqs.act(operation, exchange, reply)
        elif service == "s3":
            reply(self._s3.act(operation, request))
        elif service == "ecs":
            reply(self._ecs.act(operation, request.body))
        elif service == "lambda":
            self._functions.act(operation, request, reply)
        elif service == "logs":
            reply(Answer("200 OK", b'{"events": []}', "Content-Type: application/x-amz-json-1.1\r\n"))
        else:
            reply(account.act(service, operation, dict(parse_qsl(request.body.decode()))))

    def _state(self) -> dict[str, object]:
        going_on = {"fleet": self._fleet.to_json(), "lambda": self._functions.to_json()}
        return {**self._bill.to_json(), **going_on, "cpu_s": time.process_time()}


def sort(request: Request) -> tuple[str, str]:
    """Service and operation, told apart as the real endpoints do it."""
    prefix, _, operation = request.headers.get("x-amz-target", "").partition(".")
    if operation:
        return _TARGETS.get(prefix, prefix), operation
    if _LAMBDA.match(request.path):
        return "lambda", lambda_operation(request.method, request.path)
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        scope = _SCOPE.search(request.headers.get("authorization", ""))
        return scope[1] if scope else "?", dict(parse_qsl(request.body.decode())).get("Action", "?")
    return "s3", operation_of(request)


async def serve(options: argparse.Namespace) -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(sys.stdin, over.set)  # nobody ever writes to it, so this is its end
    emulators: list[Emulator] = []  # made once the port is known
    server = await loop.create_server(
        lambda: Door(lambda exchange: emulators[0].enter(exchange)), "127.0.0.1", options.port, backlog=4096
    )
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    emulators.append(Emulator(options, loop, endpoint))
    gc.disable()  # a pause would be seen as the client's latency; a run's garbage has few cycles
    print(json.dumps({"endpoint": endpoint}), flush=True)
    await over.wait()
    server.close()


def allow_connections() -> None:
    """As many as the system lets this process have: a thousand invocations are a thousand connections."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description="AWS's answers on loopback, for benchmarks")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--start-delay", type=float, default=1.0, help="seconds until a started task's worker is up")
    parser.add_argument("--spread", action="store_true", help="log-normal latencies instead of fixed ones")
    parser.add_argument("--scale", type=float, default=1.0, help="times all latencies")
    parser.add_argument("--concurrency", type=int, default=1000, help="Lambda's environments")
    allow_connections()
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
