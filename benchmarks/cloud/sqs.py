"""SQS's JSON protocol in front of the queues.

Called by: emulator.py.   Calls: queues.py.
A parked receive whose client has gone is over at once: it takes no message along.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from cloud.bill import CLIENT, Bill
from cloud.door import Answer, Exchange
from cloud.latency import Clock
from cloud.queues import Message, Queue

MOST_BYTES: Final = 1 << 20  # of one request's messages
MOST_ENTRIES: Final = 10
_JSON: Final = "Content-Type: application/x-amz-json-1.0\r\n"

Reply = Callable[[Answer], None]


class Refused(Exception):
    """A request that SQS refuses; arguments: the name of the error, its name in the old protocol, a text."""

    def answer(self) -> Answer:
        """What the client gets."""
        kind, legacy, text = self.args
        body = json.dumps({"__type": f"com.amazonaws.sqs#{kind}", "message": text}).encode()
        lines = f"{_JSON}x-amzn-query-error: AWS.SimpleQueueService.{legacy};Sender\r\n"
        return Answer("400 Bad Request", body, lines)


class Sqs:
    """All queues of the account."""

    def __init__(self, clock: Clock, bill: Bill, endpoint: str) -> None:
        self._clock = clock
        self._bill = bill
        self._endpoint = endpoint
        self._queues: dict[str, Queue] = {}

    def queue(self, url: str) -> Queue:
        """The queue of a URL, or of a name. Errors: Refused."""
        name = url.rsplit("/", 1)[-1]
        if name not in self._queues:
            raise Refused("QueueDoesNotExist", "NonExistentQueue", f"there is no queue {name}")
        return self._queues[name]

    def act(self, operation: str, exchange: Exchange, reply: Reply) -> None:
        """Do what was asked, and reply: now, or when a message has come."""
        asked = json.loads(exchange.request.body or b"{}")
        try:
            if operation == "ReceiveMessage":
                self._receive(asked, exchange, reply)
            elif operation in _OPERATIONS:
                reply(_answer(_OPERATIONS[operation](self, asked)))
            else:
                raise Refused("UnsupportedOperation", "UnsupportedOperation", operation)
        except Refused as refused:
            reply(refused.answer())

    def _receive(self, asked: dict[str, Any], exchange: Exchange, reply: Reply) -> None:
        queue = self.queue(asked["QueueUrl"])
        most = min(MOST_ENTRIES, asked.get("MaxNumberOfMessages", 1))
        if not exchange.is_open:
            return
        deliver = partial(self._deliver, reply)
        poll = queue.receive(most, asked.get("WaitTimeSeconds", 0), asked.get("VisibilityTimeout"), deliver)

        def gone() -> None:
            poll.is_over = True

        exchange.when_gone = gone

    def _deliver(self, reply: Reply, messages: Sequence[Message]) -> None:
        self._bill.add_carried(CLIENT, sum(len(message.body) for message in messages))
        reply(_answer({"Messages": [_told(message) for message in messages]} if messages else {}))

    def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["QueueName"]
        if name not in self._queues:
            visibility_s = float(asked.get("Attributes", {}).get("VisibilityTimeout", 30))
            self._queues[name] = Queue(self._clock, f"{self._endpoint}/123456789012/{name}", visibility_s)
        return {"QueueUrl": self._queues[name].url}

    def _url(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"QueueUrl": self.queue(asked["QueueName"]).url}

    def _list(self, asked: dict[str, Any]) -> dict[str, Any]:
        prefix = asked.get("QueueNamePrefix", "")
        return {"QueueUrls": [queue.url for name, queue in self._queues.items() if name.startswith(prefix)]}

    def _send(self, asked: dict[str, Any]) -> dict[str, Any]:
        body = asked["MessageBody"]
        (message,) = self.queue(asked["QueueUrl"]).send([body], asked.get("DelaySeconds", 0))
        return {"MessageId": message.id, "MD5OfMessageBody": message.digest}

    def _send_batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        queue, entries = self.queue(asked["QueueUrl"]), asked["Entries"]
        bodies = [entry["MessageBody"] for entry in entries]
        if len(bodies) > MOST_ENTRIES or sum(map(len, bodies)) > MOST_BYTES:
            raise Refused("BatchRequestTooLong", "BatchRequestTooLong", "more than 10 entries or 1 MiB")
        sent = queue.send(bodies, max(entry.get("DelaySeconds", 0) for entry in entries))
        return {
            "Successful": [
                {"Id": entry["Id"], "MessageId": message.id, "MD5OfMessageBody": message.digest}
                for entry, message in zip(entries, sent, strict=True)
            ],
            "Failed": [],
        }

    def _delete(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.queue(asked["QueueUrl"]).delete(int(asked["ReceiptHandle"]))
        return {}

    def _delete_batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        queue = self.queue(asked["QueueUrl"])
        for entry in asked["Entries"]:
            queue.delete(int(entry["ReceiptHandle"]))
        return {"Successful": [{"Id": entry["Id"]} for entry in asked["Entries"]], "Failed": []}

    def _change_batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        queue = self.queue(asked["QueueUrl"])
        done, failed = [], []
        for entry in asked["Entries"]:
            if queue.change_visibility(int(entry["ReceiptHandle"]), entry["VisibilityTimeout"]):
                done.append({"Id": entry["Id"]})
            else:
                failed.append({"Id": entry["Id"], "Code": "MessageNotInflight", "SenderFault": True})
        return {"Successful": done, "Failed": failed}

    def _attributes(self, asked: dict[str, Any]) -> dict[str, Any]:
        queue = self.queue(asked["QueueUrl"])
        name = queue.url.rsplit("/", 1)[-1]
        attributes = {
            "ApproximateNumberOfMessages": str(queue.n_ready),
            "ApproximateNumberOfMessagesNotVisible": str(queue.n_taken),
            "ApproximateNumberOfMessagesDelayed": "0",
            "VisibilityTimeout": f"{queue.visibility_s:.0f}",
            "QueueArn": f"arn:aws:sqs:us-east-1:123456789012:{name}",
        }
        wanted = asked.get("AttributeNames") or []
        return {"Attributes": {key: value for key, value in attributes.items() if key in wanted or "All" in wanted}}

    def _set_attributes(self, asked: dict[str, Any]) -> dict[str, Any]:
        queue = self.queue(asked["QueueUrl"])
        queue.visibility_s = float(asked.get("Attributes", {}).get("VisibilityTimeout", queue.visibility_s))
        return {}

    def _nothing(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.queue(asked["QueueUrl"])
        return {}

    def _drop(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._queues.pop(self.queue(asked["QueueUrl"]).url.rsplit("/", 1)[-1])
        return {}


_OPERATIONS: Final[dict[str, Callable[[Sqs, dict[str, Any]], dict[str, Any]]]] = {
    "CreateQueue": Sqs._create,
    "GetQueueUrl": Sqs._url,
    "ListQueues": Sqs._list,
    "SendMessage": Sqs._send,
    "SendMessageBatch": Sqs._send_batch,
    "DeleteMessage": Sqs._delete,
    "DeleteMessageBatch": Sqs._delete_batch,
    "ChangeMessageVisibilityBatch": Sqs._change_batch,
    "GetQueueAttributes": Sqs._attributes,
    "SetQueueAttributes": Sqs._set_attributes,
    "TagQueue": Sqs._nothing,
    "DeleteQueue": Sqs._drop,
}


def sent_bytes(operation: str, body: bytes) -> int:
    """What a request carries, as the service bills it: near enough, JSON included."""
    return len(body) if operation.startswith("SendMessage") else 0


def _told(message: Message) -> dict[str, Any]:
    return {
        "MessageId": message.id,
        "ReceiptHandle": str(message.receipt),
        "MD5OfBody": message.digest,
        "Body": message.body,
        "Attributes": {
            "ApproximateReceiveCount": str(message.takes),
            "SentTimestamp": str(int(message.sent_s * 1000)),
        },
    }


def _answer(content: dict[str, Any]) -> Answer:
    return Answer("200 OK", json.dumps(content).encode(), _JSON)
