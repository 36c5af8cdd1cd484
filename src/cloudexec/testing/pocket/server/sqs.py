"""The messages of standard queues: send, receive, delete, change visibility, purge. The queues themselves are moto's.

Called by:  front.py.   Calls: mailbox.py, moto.py for a queue's attributes, faults.py for lost and doubled messages.
Limits:     FIFO queues and the old query protocol go to moto.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import struct
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

from cloudexec.testing.pocket.server.faults import FaultBook
from cloudexec.testing.pocket.server.http import is_gone
from cloudexec.testing.pocket.server.mailbox import Mailbox, Message, QueueDeleted
from cloudexec.testing.pocket.server.moto import Moto
from cloudexec.testing.pocket.server.requests import Answer, Refusal, Request, json_answer

MESSAGE_BYTES: Final = 1024 * 1024
BATCH_ENTRIES: Final = 10
IN_FLIGHT: Final = 120_000
NOT_TEXT: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
ENTRY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")


class Sqs:
    """Answers what concerns messages."""

    def __init__(self, moto: Moto, faults: FaultBook) -> None:
        self._moto = moto
        self._faults = faults
        self._lock = threading.Lock()
        self._mailboxes: dict[tuple[str, str], Mailbox] = {}  # by region and name
        self._operations: dict[str, Callable[[Request, str, dict[str, Any]], dict[str, Any] | None]] = {
            "SendMessage": self._send,
            "SendMessageBatch": self._send_batch,
            "ReceiveMessage": self._receive,
            "DeleteMessage": self._delete,
            "DeleteMessageBatch": self._delete_batch,
            "ChangeMessageVisibility": self._change,
            "ChangeMessageVisibilityBatch": self._change_batch,
            "PurgeQueue": self._purge,
            "GetQueueAttributes": self._attributes,
            "DeleteQueue": self._delete_queue,
        }

    def handles(self, request: Request) -> bool:
        """Whether this request is ours; else it is moto's."""
        if request.service != "sqs" or request.operation not in self._operations:
            return False
        return "x-amz-target" in request.headers and not str(request.json().get("QueueUrl")).endswith(".fifo")

    def answer(self, request: Request) -> Answer:
        """The answer to a request that `handles` accepted."""
        parameters = request.json()
        name = str(parameters.get("QueueUrl", "")).rpartition("/")[2]
        reply = self._operations[request.operation](request, name, parameters)
        if reply is None:
            return Answer(headers=(("x-amzn-RequestId", str(uuid.uuid4())),))
        return json_answer(reply, service="sqs")

    def reset(self) -> None:
        """Forget all messages; the queues go with moto's reset."""
        with self._lock:
            for mailbox in self._mailboxes.values():
                mailbox.close()
            self._mailboxes.clear()

    def mailbox(self, region: str, name: str) -> Mailbox:
        """The messages of a queue that exists."""
        with self._lock:
            return self._mailboxes.setdefault((region, name), Mailbox())

    def post(self, region: str, name: str, body: str) -> None:
        """A message from a service; a Refusal if there is no such queue."""
        request = Request(method="POST", path="/", query="", headers={}, body=b"", service="sqs", region=region)
        self._post(region, name, self._settings(request, name), {"MessageBody": body})

    # --- operations ----------------------------------------------------------------------------

    def _send(self, request: Request, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        settings = self._settings(request, name)
        size = check_entry(parameters)
        if size > MESSAGE_BYTES:
            what = f"One or more parameters are invalid. Reason: Message must be shorter than {MESSAGE_BYTES} bytes."
            raise Refusal("InvalidParameterValue", what)
        return self._post(request.region, name, settings, parameters)

    def _send_batch(self, request: Request, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        settings = self._settings(request, name)
        entries = check_batch(parameters)
        done, failed, total = [], [], 0
        for entry in entries:
            try:
                total += check_entry(entry)
            except Refusal as refusal:
                failed.append(_failure(entry["Id"], refusal.code, refusal.message))
        if total > MESSAGE_BYTES:
            what = f"Batch requests cannot be longer than {MESSAGE_BYTES} bytes. You have sent {total} bytes."
            raise Refusal("BatchRequestTooLong", what)
        refused = {entry["Id"] for entry in failed}
        for entry in entries:
            if entry["Id"] not in refused:
                done.append({"Id": entry["Id"], **self._post(request.region, name, settings, entry)})
        return {"Successful": done, "Failed": failed} if failed else {"Successful": done}

    def _post(self, region: str, name: str, settings: dict[str, str], entry: dict[str, Any]) -> dict[str, Any]:
        body, attributes = entry["MessageBody"], entry.get("MessageAttributes") or {}
        message_id = str(uuid.uuid4())
        delay_s = float(entry.get("DelaySeconds") or settings.get("DelaySeconds") or 0)
        mailbox = self.mailbox(region, name)
        for _ in range(self._faults.deliveries(name)):
            message = Message(id=message_id, body=body, attributes=attributes, sent_ms=int(time.time() * 1000))
            mailbox.put(message, delay_s)
        reply = {"MessageId": message_id, "MD5OfMessageBody": hashlib.md5(body.encode()).hexdigest()}
        if attributes:
            reply["MD5OfMessageAttributes"] = attributes_md5(attributes)
        return reply

    def _receive(self, request: Request, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        settings = self._settings(request, name)
        most = _number(parameters, "MaxNumberOfMessages", 1, 1, 10)
        wait_s = _number(parameters, "WaitTimeSeconds", int(settings.get("ReceiveMessageWaitTimeSeconds") or 0), 0, 20)
        hide_s = _number(parameters, "VisibilityTimeout", int(settings.get("VisibilityTimeout") or 30), 0, 43200)
        mailbox = self.mailbox(request.region, name)
        if mailbox.hidden() >= IN_FLIGHT:
            raise Refusal("OverLimit", "Too many messages in flight", 403)
        connection = request.environ["werkzeug.socket"]
        try:
            taken = mailbox.take(most, wait_s, hide_s, lambda: is_gone(connection))
        except QueueDeleted:
            raise no_queue() from None
        kept = [message for message in taken if not self._redriven(request.region, mailbox, message, settings)]
        shown = [*parameters.get("AttributeNames", []), *parameters.get("MessageSystemAttributeNames", [])]
        wanted = parameters.get("MessageAttributeNames") or []
        return {"Messages": [show(message, shown, wanted) for message in kept]} if kept else {}

    def _redriven(self, region: str, mailbox: Mailbox, message: Message, settings: dict[str, str]) -> bool:
        policy = json.loads(settings.get("RedrivePolicy") or "{}")
        if not policy or message.receipt <= int(policy["maxReceiveCount"]):
            return False
        mailbox.delete(message.key, message.receipt)
        arn = str(policy["deadLetterTargetArn"])
        dead = Message(id=message.id, body=message.body, attributes=message.attributes, sent_ms=message.sent_ms)
        self.mailbox(region, arn.rpartition(":")[2]).put(dead)
        return True

    def _delete(self, request: Request, name: str, parameters: dict[str, Any]) -> None:
        self._settings(request, name)
        key, receipt = read_handle(parameters.get("ReceiptHandle"))
        self.mailbox(request.region, name).delete(key, receipt)

    def _delete_batch(self, request: Request, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        return self._each(request, name, parameters, self._delete)

    def _change(self, request: Request, name: str, parameters: dict[str, Any]) -> None:
        self._settings(request, name)
        key, receipt = read_handle(parameters.get("ReceiptHandle"))
        hide_s = _number(parameters, "VisibilityTimeout", None, 0, 43200)
        if not self.mailbox(request.region, name).change(key, receipt, hide_s):
            what = (
                f"Value {parameters['ReceiptHandle']} for parameter ReceiptHandle is invalid. Reason: Message does "
                "not exist or is not available for visibility timeout change."
            )
            raise Refusal("InvalidParameterValue", what)

    def _change_batch(self, request: Request, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        return self._each(request, name, parameters, self._change)

    def _each(
        self,
        request: Request,
        name: str,
        parameters: dict[str, Any],
        deed: Callable[[Request, str, dict[str, Any]], None],
    ) -> dict[str, Any]:
        self._settings(request, name)
        done, failed = [], []
        for entry in check_batch(parameters):
            try:
                deed(request, name, entry)
                done.append({"Id": entry["Id"]})
            except Refusal as refusal:
                failed.append(_failure(entry["Id"], refusal.code, refusal.message))
        return {"Successful": done, "Failed": failed}

    def _purge(self, request: Request, name: str, parameters: dict[str, Any]) -> None:
        self._settings(request, name)
        self.mailbox(request.region, name).purge()

    def _attributes(self, request: Request, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        reply = self._moto.call("sqs", "GetQueueAttributes", parameters, region=request.region)
        visible, in_flight, delayed = self.mailbox(request.region, name).counts()
        ours = {
            "ApproximateNumberOfMessages": visible,
            "ApproximateNumberOfMessagesNotVisible": in_flight,
            "ApproximateNumberOfMessagesDelayed": delayed,
        }
        told = dict(reply.get("Attributes") or {})
        told.update({attribute: str(count) for attribute, count in ours.items() if attribute in told})
        return {"Attributes": told} if told else {}

    def _delete_queue(self, request: Request, name: str, parameters: dict[str, Any]) -> None:
        self._moto.call("sqs", "DeleteQueue", parameters, region=request.region)
        with self._lock:
            mailbox = self._mailboxes.pop((request.region, name), None)
        if mailbox is not None:
            mailbox.close()

    def _settings(self, request: Request, name: str) -> dict[str, str]:
        """A queue's attributes; an unknown queue is refused."""
        asked = {"QueueUrl": f"http://127.0.0.1/queue/{name}", "AttributeNames": ["All"]}
        return dict(self._moto.kept("sqs", "GetQueueAttributes", asked, region=request.region)["Attributes"])


# --- pure ------------------------------------------------------------------------------------


def no_queue() -> Refusal:
    """A queue that is not there."""
    return Refusal("QueueDoesNotExist", "The specified queue does not exist.")


def check_batch(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of a batch request, refused as a whole where SQS does so."""
    entries = parameters.get("Entries") or []
    if not entries:
        raise Refusal("EmptyBatchRequest", "There should be at least one entry in the request.")
    if len(entries) > BATCH_ENTRIES:
        what = f"Maximum number of entries per request are {BATCH_ENTRIES}. You have sent {len(entries)}."
        raise Refusal("TooManyEntriesInBatchRequest", what)
    ids = [str(entry.get("Id", "")) for entry in entries]
    if not all(ENTRY_ID.fullmatch(name) for name in ids):
        what = "A batch entry id can only contain alphanumeric characters, hyphens and underscores, at most 80."
        raise Refusal("InvalidBatchEntryId", what)
    if len(set(ids)) < len(ids):
        raise Refusal("BatchEntryIdsNotDistinct", "Two or more batch entries in the request have the same Id.")
    return list(entries)


def check_entry(entry: dict[str, Any]) -> int:
    """The bytes of one message with its attributes; what no queue takes is refused."""
    body = entry.get("MessageBody")
    if not isinstance(body, str) or not body:
        raise Refusal("MissingParameter", "The request must contain the parameter MessageBody.")
    if NOT_TEXT.search(body):
        raise Refusal("InvalidMessageContents", "Invalid characters found. Valid unicode characters are #x9 | #xA | …")
    _number(entry, "DelaySeconds", 0, 0, 900)
    size = len(body.encode())
    for name, attribute in (entry.get("MessageAttributes") or {}).items():
        value = attribute.get("StringValue") or base64.b64decode(attribute.get("BinaryValue") or "").decode("latin-1")
        size += len(name.encode()) + len(attribute["DataType"].encode()) + len(value.encode())
    return size


def attributes_md5(attributes: dict[str, Any]) -> str:
    """The checksum that SQS documents: names in order; name, type, kind and value with their lengths."""
    digest = hashlib.md5()
    for name in sorted(attributes):
        attribute = attributes[name]
        text = attribute.get("StringValue")
        value = base64.b64decode(attribute["BinaryValue"]) if text is None else text.encode()
        for part in (name.encode(), attribute["DataType"].encode()):
            digest.update(struct.pack(">I", len(part)) + part)
        digest.update((b"\2" if text is None else b"\1") + struct.pack(">I", len(value)) + value)
    return digest.hexdigest()


def show(message: Message, shown: list[str], wanted: list[str]) -> dict[str, Any]:
    """A message as ReceiveMessage tells it."""
    told: dict[str, Any] = {
        "MessageId": message.id,
        "ReceiptHandle": write_handle(message.key, message.receipt),
        "MD5OfBody": hashlib.md5(message.body.encode()).hexdigest(),
        "Body": message.body,
    }
    known = {
        "ApproximateFirstReceiveTimestamp": str(message.first_received_ms),
        "ApproximateReceiveCount": str(message.receipt),
        "SenderId": "AIDAPOCKET",
        "SentTimestamp": str(message.sent_ms),
    }
    system = {name: value for name, value in known.items() if "All" in shown or name in shown}
    if system:
        told["Attributes"] = system
    named = {name: value for name, value in message.attributes.items() if _matches(name, wanted)}
    if named:
        told.update(MessageAttributes=named, MD5OfMessageAttributes=attributes_md5(named))
    return told


def write_handle(key: str, receipt: int) -> str:
    """The receipt handle of one receive."""
    return base64.urlsafe_b64encode(f"pocket:{key}:{receipt}".encode()).decode()


def read_handle(handle: object) -> tuple[str, int]:
    """Key and receipt of a handle."""
    try:
        mark, key, receipt = base64.urlsafe_b64decode(str(handle)).decode().split(":")
        if mark == "pocket":
            return key, int(receipt)
    except (binascii.Error, ValueError):
        pass
    raise Refusal("ReceiptHandleIsInvalid", f'The input receipt handle "{handle}" is not a valid receipt handle.', 404)


def _matches(name: str, wanted: list[str]) -> bool:
    return any(
        pattern in ("All", ".*", name) or (pattern.endswith(".*") and name.startswith(pattern[:-2]))
        for pattern in wanted
    )


def _number(parameters: dict[str, Any], name: str, default: int | None, least: int, most: int) -> int:
    value = parameters.get(name, default)
    if not isinstance(value, int) or not least <= value <= most:
        what = (
            f"Value {value} for parameter {name} is invalid. Reason: Must be between {least} and {most}, if provided."
        )
        raise Refusal("InvalidParameterValue", what)
    return value


def _failure(entry_id: str, code: str, message: str) -> dict[str, Any]:
    return {"Id": entry_id, "Code": code, "Message": message, "SenderFault": True}
