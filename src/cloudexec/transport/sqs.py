"""Build SQS operations: messages in batches of up to ten. Pure.

Called by:  worker, backends.   Calls: operation.py.
Repeating:  a send that is repeated may leave a twin, and SQS makes twins by itself: receivers tell them by their
            content. Messages of a lost receive come back when their visibility is over. Deleting and changing
            visibility are the same twice. Only `purge` is not repeated: SQS takes one a minute.
Partial:    a batch answers 200 even if entries failed. The result of a batch is the list of its failures.
Source:     Amazon SQS API reference, AWS JSON protocol 1.0. The body is the dictionary that boto3 takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from cloudexec.errors import SettingsError
from cloudexec.transport.operation import Operation, Reply, Request

T = TypeVar("T")
MESSAGES_A_BATCH: Final = 10
LONGEST_WAIT_S: Final = 20
_CONTENT_TYPE: Final = ("content-type", "application/x-amz-json-1.0")
_dumps: Final = json.JSONEncoder(separators=(",", ":")).encode


class Message(NamedTuple):
    """A received message; `receipt` deletes it or changes its visibility. `sent_s`: seconds since 1970."""

    id: str
    receipt: str
    body: str
    receive_count: int
    sent_s: float


class EntryFailure(NamedTuple):
    """An entry of a batch that failed; `index` is its place in what was given."""

    index: int  # type: ignore[assignment]  # nobody asks such a tuple where a value stands in it
    code: str
    message: str
    is_our_fault: bool  # repeating it unchanged will not help


def send_messages(
    queue_url: str, bodies: Sequence[str], *, delays_s: Sequence[int] | None = None
) -> Operation[list[EntryFailure]]:
    """Send up to ten messages, together at most 1 MiB; `delays_s` keeps each hidden at first."""
    entries: list[dict[str, Any]] = [{"Id": str(index), "MessageBody": body} for index, body in enumerate(bodies)]
    for entry, delay_s in zip(entries, delays_s or (), strict=delays_s is not None):
        entry["DelaySeconds"] = delay_s
    return _batch("SendMessageBatch", queue_url, entries)


def receive_messages(
    queue_url: str, *, most: int = MESSAGES_A_BATCH, wait_s: int = LONGEST_WAIT_S, visibility_s: int | None = None
) -> Operation[list[Message]]:
    """Take up to `most` messages, waiting up to `wait_s` for the first; nobody else sees them for `visibility_s`."""
    arguments = {
        "QueueUrl": queue_url,
        "MaxNumberOfMessages": most,
        "WaitTimeSeconds": wait_s,
        "MessageSystemAttributeNames": ["ApproximateReceiveCount", "SentTimestamp"],
    }
    if visibility_s is not None:
        arguments["VisibilityTimeout"] = visibility_s
    return _operation("ReceiveMessage", arguments, _messages, wait_s=wait_s)


def delete_messages(queue_url: str, receipts: Sequence[str]) -> Operation[list[EntryFailure]]:
    """Remove up to ten received messages for good."""
    entries = [{"Id": str(index), "ReceiptHandle": receipt} for index, receipt in enumerate(receipts)]
    return _batch("DeleteMessageBatch", queue_url, entries)


def change_visibility(queue_url: str, receipts: Sequence[tuple[str, int]]) -> Operation[list[EntryFailure]]:
    """Hide up to ten received messages for so many seconds from now; 0 gives one back at once."""
    entries = [
        {"Id": str(index), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
        for index, (receipt, seconds) in enumerate(receipts)
    ]
    return _batch("ChangeMessageVisibilityBatch", queue_url, entries)


def get_queue_attributes(queue_url: str, names: Sequence[str] = ("All",)) -> Operation[dict[str, str]]:
    """Attributes by name, for instance `ApproximateNumberOfMessages`."""
    arguments = {"QueueUrl": queue_url, "AttributeNames": list(names)}
    return _operation("GetQueueAttributes", arguments, lambda reply: dict(reply.get("Attributes") or {}))


def purge(queue_url: str) -> Operation[None]:
    """Remove all messages; takes effect within a minute, and SQS takes one a minute."""
    return _operation("PurgeQueue", {"QueueUrl": queue_url}, lambda reply: None, is_safe=False)


def _batch(name: str, queue_url: str, entries: list[dict[str, Any]]) -> Operation[list[EntryFailure]]:
    if not 0 < len(entries) <= MESSAGES_A_BATCH:
        raise SettingsError(f"{len(entries)} entries in one batch", remedy=f"give 1 to {MESSAGES_A_BATCH} entries")
    size = len(entries)
    return _operation(name, {"QueueUrl": queue_url, "Entries": entries}, lambda reply: _failures(reply, size))


def _operation(
    name: str,
    arguments: dict[str, Any],
    read: Callable[[Mapping[str, Any]], T],
    *,
    is_safe: bool = True,
    wait_s: float = 0.0,
) -> Operation[T]:
    def read_json(reply: Reply) -> T:
        return read(json.loads(reply.body) if reply.body else {})

    headers = (_CONTENT_TYPE, ("x-amz-target", "AmazonSQS." + name))
    return Operation(
        name=name,
        request=Request("sqs", "POST", "/", "", headers, (_dumps(arguments).encode(),)),
        read=read_json,
        arguments=arguments,
        read_boto=read,
        is_safe=is_safe,
        wait_s=wait_s,
    )


def _messages(reply: Mapping[str, Any]) -> list[Message]:
    return [_message(item) for item in reply.get("Messages") or ()]


def _message(item: Mapping[str, Any]) -> Message:
    attributes = item.get("Attributes", {})
    return Message(
        item["MessageId"],
        item["ReceiptHandle"],
        item["Body"],
        int(attributes.get("ApproximateReceiveCount", 1)),
        int(attributes.get("SentTimestamp", 0)) / 1000,
    )


def _failures(reply: Mapping[str, Any], size: int) -> list[EntryFailure]:
    """Failures in the order of the entries; an entry that the answer does not mention has failed, too."""
    open_entries = set(range(size)) - {int(entry["Id"]) for entry in reply.get("Successful") or ()}
    failed = {int(entry["Id"]): entry for entry in reply.get("Failed") or ()}
    unmentioned = {"Code": "Unanswered", "Message": "the answer does not mention this entry", "SenderFault": False}
    return [_failure(index, failed.get(index, unmentioned)) for index in sorted(open_entries)]


def _failure(index: int, entry: Mapping[str, Any]) -> EntryFailure:
    return EntryFailure(index, entry["Code"], entry.get("Message") or "", bool(entry.get("SenderFault")))
