"""What a request costs the client: CPU of the lean clients beside boto3's, against a server that does nothing.

    python benchmarks/transport.py [--rounds 5] [--calls 400] [--quick] [--json FILE]

The server is a process of its own and answers from memory at once, so that the figures are the client's CPU alone. Each
figure is a median over rounds, in which the clients take turns. `ratio` is boto3's figure over ours: 15 must hold for a
small PUT and GET, 40 is what we are after. An Invoke on asyncio may cost 60 µs, with 1,000 in flight as with 32.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final

from cloudexec.transport import lambdas, s3, sqs
from cloudexec.transport.account import Account
from cloudexec.transport.aio import AsyncClient
from cloudexec.transport.boto import BotoClient
from cloudexec.transport.credentials import fixed
from cloudexec.transport.limits import raise_descriptor_limit
from cloudexec.transport.operation import Operation
from cloudexec.transport.sync import SyncClient

OWNER: Final = "123456789012"
GATE: Final = 15.0
BEST: Final = 40.0
INVOKE_GATE_US: Final = 60.0
MOST_IN_FLIGHT: Final = 1000
KIB: Final = b"x" * 1024
BODIES: Final = ["x" * 1024] * 10
HEADERS: Final = (
    "x-amz-request-id: 0A49CE4060975EAC\r\nx-amz-id-2: K2H6N7ZGQT6WHCEG\r\nDate: Sat, 21 Nov 2026 03:00:00 GMT\r\n"
    'Last-Modified: Sat, 21 Nov 2026 03:00:00 GMT\r\nETag: "b54357faf0632cce46e942fa68356b38"\r\nServer: AmazonS3\r\n'
)
INVOKED: Final = (
    "x-amzn-RequestId: 0a49ce40-6097-5eac-8a3f-1f0a49ce4060\r\nX-Amz-Executed-Version: 7\r\n"
    f"x-amzn-Remapped-Content-Length: 0\r\nX-Amz-Log-Result: {'U1RBUlQg' * 40}\r\n"
    "X-Amzn-Trace-Id: Root=1-65f0-1;Sampled=0\r\nContent-Type: application/json\r\n"
)
FUNCTION: Final = "arn:aws:lambda:eu-west-1:123456789012:function:cloudexec"


# --- the server ------------------------------------------------------------------------------


def page_of(n_keys: int) -> bytes:
    """A page of a listing."""
    item = (
        "<Contents><Key>runs/r20261121-052301-9f3a1c/journal/{:08}</Key><LastModified>2026-11-21T03:00:00.000Z"
        "</LastModified><ETag>&quot;b54357faf0632cce46e942fa68356b38&quot;</ETag><Size>1024</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )
    head = '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    about = "<Name>bucket</Name><Prefix></Prefix><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
    return (head + about + "".join([item.format(n) for n in range(n_keys)]) + "</ListBucketResult>").encode()


def messages_of(bodies: list[str]) -> bytes:
    """The answer to ReceiveMessage."""
    attributes = {"ApproximateReceiveCount": "1", "SentTimestamp": "1795230000000"}
    messages = [
        {"MessageId": str(n), "ReceiptHandle": "r" * 180, "Body": body, "Attributes": attributes}
        for n, body in enumerate(bodies)
    ]
    return json.dumps({"Messages": messages}).encode()


def whole(body: bytes, more: str = "") -> bytes:
    """An answer as it goes over the wire."""
    return f"HTTP/1.1 200 OK\r\n{HEADERS}{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


ANSWERS: Final = {
    "PUT": whole(b""),
    "GET": whole(KIB, "Content-Type: binary/octet-stream\r\n"),
    "LIST": whole(page_of(1000), "Content-Type: application/xml\r\n"),
    "SendMessageBatch": whole(json.dumps({"Successful": [{"Id": str(n)} for n in range(10)], "Failed": []}).encode()),
    "ReceiveMessage": whole(messages_of(BODIES)),
    "Invoke": whole(KIB, INVOKED),
}


class Instant(asyncio.Protocol):
    """Answers each request from memory, as soon as it is whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) >= end + 4 + length:
            self._buffer = b""
            self._transport.write(ANSWERS[kind_of(head)])


def kind_of(head: bytes) -> str:
    """Which answer a request gets."""
    if b"/functions/" in head.split(b"\r\n", 1)[0]:
        return "Invoke"
    for name in ("SendMessageBatch", "ReceiveMessage"):
        if b"amazonsqs." + name.lower().encode() in head:
            return name
    return "PUT" if head.startswith(b"put") else "LIST" if b"list-type=2" in head.split(b"\r\n", 1)[0] else "GET"


def serve(out: Connection) -> None:
    """Run the server; its port goes through the pipe."""

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", 0, backlog=MOST_IN_FLIGHT)
        out.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


# --- the measures ----------------------------------------------------------------------------

MEASURES: Final[dict[str, tuple[Callable[[], list[Operation[Any]]], float]]] = {  # with the share of calls they make
    "PUT 1 KiB + GET 1 KiB": (
        lambda: [s3.put_object("bucket", "k/1", [KIB], owner=OWNER), s3.get_object("bucket", "k/1", owner=OWNER)],
        1.0,
    ),
    "SQS send 10 × 1 KiB": (lambda: [sqs.send_messages("http://q/1/work", BODIES)], 1.0),
    "SQS receive 10 × 1 KiB": (lambda: [sqs.receive_messages("http://q/1/work", wait_s=0)], 1.0),
    "Invoke with 1 KiB": (lambda: [invocation()], 1.0),
    "LIST of 1,000 keys": (lambda: [s3.list_objects("bucket", "runs/", owner=OWNER)], 0.05),
}


def cpu_us(run: Callable[[], None], n_calls: int) -> float:
    """CPU of this process, in µs a call of `run`, which makes them all."""
    gc.collect()
    before = time.process_time()
    run()
    return (time.process_time() - before) / n_calls * 1e6


def invocation() -> Operation[Any]:
    """An Invoke as the backend sends it."""
    return lambdas.invoke(FUNCTION, KIB, qualifier="live", wait_s=900)


def with_call(call: Callable[[Operation[Any]], Any], build: Callable[[], list[Operation[Any]]], n: int) -> float:
    """CPU of a client for threads; building the operations is part of it."""

    def run() -> None:
        for _ in range(n):
            for operation in build():
                call(operation)

    return cpu_us(run, n)


def with_loop(
    loop: asyncio.AbstractEventLoop,
    client: AsyncClient,
    build: Callable[[], list[Operation[Any]]],
    n: int,
    most: int = 32,
) -> float:
    """CPU of the asyncio client, by default with 32 calls in flight as in an engine."""

    async def one(count: int) -> None:
        for _ in range(count):
            for operation in build():
                await client.call(operation)

    async def everything() -> None:
        lanes = min(most, n)
        await asyncio.gather(*[one(n // lanes + (lane < n % lanes)) for lane in range(lanes)])

    return cpu_us(lambda: loop.run_until_complete(everything()), n)


def measure(port: int, rounds: int, n_calls: int) -> dict[str, dict[str, list[float]]]:
    """All figures: measure, client, rounds."""
    url = f"http://127.0.0.1:{port}"
    account = Account("eu-west-1", fixed("AKID", "secret"), endpoints={"s3": url, "sqs": url, "lambda": url})
    loop = asyncio.new_event_loop()

    async def make() -> AsyncClient:
        return AsyncClient(account, max_connections=MOST_IN_FLIGHT)

    lean, boto, aio = SyncClient(account), BotoClient(account), loop.run_until_complete(make())
    figures: dict[str, dict[str, list[float]]] = {}
    try:
        for at in range(rounds + 1):
            for name, (build, share) in MEASURES.items():
                n = max(3, int(n_calls * share))
                found = {
                    "sync": with_call(lean.call, build, n),
                    "asyncio": with_loop(loop, aio, build, n),
                    "boto3": with_call(boto.call, build, max(3, n // 5)),
                }
                if name.startswith("Invoke"):
                    found["1,000 in flight"] = with_loop(loop, aio, build, 3 * MOST_IN_FLIGHT, MOST_IN_FLIGHT)
                for client, figure in found.items():
                    if at:  # the first round warms up
                        figures.setdefault(name, {}).setdefault(client, []).append(figure)
    finally:
        lean.close()
        boto.close()
        loop.run_until_complete(aio.aclose())
        loop.close()
    return figures


def table(figures: dict[str, dict[str, list[float]]]) -> str:
    """The figures for people."""
    lines = ["| CPU µs | sync | asyncio | boto3 | ratio sync | ratio asyncio |", "|---|---|---|---|---|---|"]
    for name, by_client in figures.items():
        sync, aio, boto = (statistics.median(by_client[client]) for client in ("sync", "asyncio", "boto3"))
        lines.append(f"| {name} | {sync:,.0f} | {aio:,.0f} | {boto:,.0f} | {boto / sync:.1f} × | {boto / aio:.1f} × |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="does it run? one round of few calls")
    parser.add_argument("--json", help="every single figure, in a file")
    options = parser.parse_args()
    if raise_descriptor_limit(MOST_IN_FLIGHT) < MOST_IN_FLIGHT:
        raise SystemExit(f"{MOST_IN_FLIGHT} connections need a higher limit of open files: ulimit -Hn")
    receiver, sender = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(sender,), daemon=True)
    server.start()
    try:
        rounds, n_calls = (1, 40) if options.quick else (options.rounds, options.calls)
        figures = measure(receiver.recv(), rounds, n_calls)
    finally:
        server.terminate()
        server.join()
    print(f"Python {platform.python_version()}, medians of {rounds} rounds\n")
    print(table(figures))
    first = figures["PUT 1 KiB + GET 1 KiB"]
    ratio = statistics.median(first["boto3"]) / statistics.median(first["sync"])
    verdict = "best" if ratio >= BEST else "gate held" if ratio >= GATE else "MISSED"
    print(f"\nPUT + GET: {ratio:.1f} × less CPU than boto3 (gate {GATE:.0f} ×, best {BEST:.0f} ×): {verdict}")
    by_client = figures["Invoke with 1 KiB"]
    few, many = (statistics.median(by_client[client]) for client in ("asyncio", "1,000 in flight"))
    verdict = "gate held" if max(few, many) <= INVOKE_GATE_US else "MISSED"
    print(
        f"Invoke on asyncio: {few:.0f} µs, {many:.0f} µs with 1,000 in flight (gate {INVOKE_GATE_US:.0f} µs): {verdict}"
    )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
