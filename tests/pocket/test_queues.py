"""Queues: what SQS promises of messages, and long polls that cost nothing, wake at once and lose nothing."""

import hashlib
import http.client
import json
import socket
import threading
import time

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudexec.testing.pocket.server.mailbox import Mailbox, Message
from cloudexec.testing.pocket.server.sqs import attributes_md5, read_handle, write_handle
from tests.pocket.driving import code_of


def receive(drive, url, **more):
    """The messages of one ReceiveMessage."""
    return drive.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, **more).get("Messages", [])


def test_a_message_is_there_until_it_is_deleted(drive):
    url = drive.queue(VisibilityTimeout="60")
    attributes = {"kind": {"DataType": "String", "StringValue": "x"}}
    sent = drive.sqs.send_message(QueueUrl=url, MessageBody="a body", MessageAttributes=attributes)
    (message,) = receive(drive, url, MessageAttributeNames=["All"], AttributeNames=["All"])
    assert (message["MessageId"], message["Body"]) == (sent["MessageId"], "a body")
    assert message["MessageAttributes"] == attributes
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    assert receive(drive, url) == []
    drive.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    (again,) = receive(drive, url, AttributeNames=["ApproximateReceiveCount"])
    assert again["Attributes"] == {"ApproximateReceiveCount": "2"}
    drive.sqs.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])
    assert drive.aws.queues()[0].bodies == ()


def test_a_message_that_is_not_deleted_comes_back(drive):
    url = drive.queue(VisibilityTimeout="1")
    drive.sqs.send_message(QueueUrl=url, MessageBody="x")
    assert len(receive(drive, url)) == 1
    assert receive(drive, url) == []
    began = time.monotonic()
    assert len(receive(drive, url, WaitTimeSeconds=5)) == 1  # the poll wakes when the time is over
    assert 0.5 < time.monotonic() - began < 3


def test_an_older_receipt_than_the_newest_deletes_nothing_and_says_nothing(drive):
    url = drive.queue()
    drive.sqs.send_message(QueueUrl=url, MessageBody="x")
    (old,) = receive(drive, url, VisibilityTimeout=0)
    (new,) = receive(drive, url)
    drive.sqs.delete_message(QueueUrl=url, ReceiptHandle=old["ReceiptHandle"])
    assert drive.aws.queues()[0].in_flight == 1
    drive.sqs.delete_message(QueueUrl=url, ReceiptHandle=new["ReceiptHandle"])
    drive.sqs.delete_message(QueueUrl=url, ReceiptHandle=new["ReceiptHandle"])  # twice is no error
    assert drive.aws.queues()[0].in_flight == 0


def test_batches_tell_success_and_failure_of_each_entry(drive):
    url = drive.queue()
    entries = [{"Id": str(n), "MessageBody": f"body {n}"} for n in range(9)]
    bad = {"Id": "bad", "MessageBody": "a control character \x01"}
    reply = drive.sqs.send_message_batch(QueueUrl=url, Entries=[*entries, bad])
    assert [entry["Id"] for entry in reply["Successful"]] == [str(n) for n in range(9)]
    assert [(entry["Id"], entry["Code"]) for entry in reply["Failed"]] == [("bad", "InvalidMessageContents")]
    messages = receive(drive, url)
    handles = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages[:8])]
    longer = [{**handle, "VisibilityTimeout": 600} for handle in handles]
    assert len(drive.sqs.change_message_visibility_batch(QueueUrl=url, Entries=longer)["Successful"]) == 8
    reply = drive.sqs.delete_message_batch(QueueUrl=url, Entries=[*handles, {"Id": "x", "ReceiptHandle": "nonsense"}])
    assert len(reply["Successful"]) == 8
    assert [(entry["Id"], entry["Code"]) for entry in reply["Failed"]] == [("x", "ReceiptHandleIsInvalid")]
    assert drive.aws.queues()[0].in_flight == 1


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        pytest.param(range(11), "TooManyEntriesInBatchRequest", id="eleven"),
        pytest.param([1, 1], "BatchEntryIdsNotDistinct", id="the same id twice"),
        pytest.param(["a b"], "InvalidBatchEntryId", id="an id with a space"),
    ],
)
def test_a_batch_is_refused(drive, entries, code):
    url = drive.queue()
    with pytest.raises(ClientError) as error:
        wanted = [{"Id": str(name), "MessageBody": "x"} for name in entries]
        drive.sqs.send_message_batch(QueueUrl=url, Entries=wanted)
    assert code in code_of(error)


def test_a_message_has_at_most_a_mebibyte_and_so_has_a_batch(drive):
    url = drive.queue()
    drive.sqs.send_message(QueueUrl=url, MessageBody="x" * 2**20)
    with pytest.raises(ClientError, match="shorter than 1048576"):
        drive.sqs.send_message(QueueUrl=url, MessageBody="x" * (2**20 + 1))
    half = "é" * 2**18 + "x"  # two bytes each
    with pytest.raises(ClientError) as error:
        drive.sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": n, "MessageBody": half} for n in "ab"])
    assert "BatchRequestTooLong" in code_of(error)


def test_a_queue_that_is_not_there(drive):
    url = drive.queue()
    drive.sqs.delete_queue(QueueUrl=url)
    with pytest.raises(drive.sqs.exceptions.QueueDoesNotExist):
        drive.sqs.send_message(QueueUrl=url, MessageBody="x")


def test_a_fifo_queue_keeps_its_order_and_its_duplicates_out(drive):
    url = drive.queue("in-order.fifo", FifoQueue="true")
    for number in (1, 2, 2, 3):
        drive.sqs.send_message(
            QueueUrl=url, MessageBody=str(number), MessageGroupId="g", MessageDeduplicationId=str(number)
        )
    assert [message["Body"] for message in receive(drive, url)] == ["1", "2", "3"]


def test_a_body_may_hold_any_words(drive):
    url = drive.queue()
    drive.sqs.send_message(QueueUrl=url, MessageBody='{"QueueUrl": "a.fifo"}')
    assert drive.aws.queues()[0].visible == 1


def test_who_waits_at_a_queue_that_is_deleted_is_told_at_once(drive):
    url = drive.queue()
    threading.Timer(0.2, lambda: drive.client("sqs").delete_queue(QueueUrl=url)).start()
    began = time.monotonic()
    with pytest.raises(drive.sqs.exceptions.QueueDoesNotExist):
        receive(drive, url, WaitTimeSeconds=20)
    assert time.monotonic() - began < 5


def test_a_message_that_was_received_too_often_goes_to_the_dead_letter_queue(drive):
    drive.queue("dead")
    policy = {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:dead", "maxReceiveCount": 2}
    url = drive.queue("alive", RedrivePolicy=json.dumps(policy), VisibilityTimeout="0")
    drive.sqs.send_message(QueueUrl=url, MessageBody="poison")
    assert [len(receive(drive, url)) for _ in range(3)] == [1, 1, 0]
    assert {queue.name: queue.bodies for queue in drive.aws.queues()} == {"alive": (), "dead": ("poison",)}


def test_a_queue_counts_what_is_visible_in_flight_and_delayed(drive):
    url = drive.queue()
    for delay_s in (0, 0, 60):
        drive.sqs.send_message(QueueUrl=url, MessageBody="x", DelaySeconds=delay_s)
    drive.sqs.receive_message(QueueUrl=url)
    told = drive.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    names = ("Messages", "MessagesNotVisible", "MessagesDelayed")
    assert [told[f"ApproximateNumberOf{name}"] for name in names] == ["1", "1", "1"]
    drive.sqs.purge_queue(QueueUrl=url)
    assert drive.aws.queues()[0].bodies == ()


def test_a_long_poll_wakes_when_something_is_sent(drive):
    url, sent = drive.queue(), []

    def send():
        sent.append(time.monotonic())
        drive.client("sqs").send_message(QueueUrl=url, MessageBody="x")

    threading.Timer(0.3, send).start()
    assert len(receive(drive, url, WaitTimeSeconds=20)) == 1
    assert time.monotonic() - sent[0] < 2  # about 5 ms on an idle machine


def test_a_long_poll_whose_client_has_gone_swallows_nothing(drive):
    url = drive.queue()
    host, _, port = drive.aws.endpoint_url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port))
    signature = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0"
    headers = {"Authorization": signature, "X-Amz-Target": "AmazonSQS.ReceiveMessage"}
    connection.request("POST", "/", json.dumps({"QueueUrl": url, "WaitTimeSeconds": 20}), headers)
    until = time.monotonic() + 5
    while not drive.aws.requests()["sqs", "ReceiveMessage"]:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert connection.sock is not None
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    drive.sqs.send_message(QueueUrl=url, MessageBody="x")
    assert [message["Body"] for message in receive(drive, url, WaitTimeSeconds=5)] == ["x"]


def test_parked_polls_cost_no_cpu(drive):
    url = drive.queue()
    parked = [threading.Thread(target=receive, args=(drive, url), kwargs={"WaitTimeSeconds": 3}) for _ in range(8)]
    for thread in parked:
        thread.start()
    time.sleep(0.5)

    def cpu_s():
        with open(f"/proc/{drive.aws.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    before = cpu_s()
    time.sleep(2)
    assert cpu_s() - before < 0.5
    for thread in parked:
        thread.join()


# --- the mailbox -----------------------------------------------------------------------------


def here():
    """A client that has not gone."""
    return False


def gone():
    """A client that has."""
    return True


def test_a_message_goes_to_the_next_when_the_first_has_gone():
    box = Mailbox()
    got = []
    waits = [
        threading.Thread(target=lambda who=who: got.extend(box.take(1, 5.0, 30.0, who)), daemon=True)
        for who in (gone, here)
    ]
    for thread in waits:
        thread.start()
    box.put(Message(id="m", body="x"))
    for thread in waits:
        thread.join(10)
    assert [message.id for message in got] == ["m"]


@settings(max_examples=50)
@given(
    deeds=st.lists(st.sampled_from(["put", "take", "delete", "old delete", "show", "hide"]), min_size=1, max_size=60)
)
def test_a_mailbox_keeps_every_message_until_it_is_deleted(deeds):
    """Against a model: the messages that were put and not deleted by their newest receipt."""
    box, alive, held = Mailbox(), {}, []
    for number, deed in enumerate(deeds):
        if deed == "put":
            message = Message(id=str(number), body="x")
            alive[message.key] = message
            box.put(message)
        elif deed == "take":
            held += [(message.key, message.receipt) for message in box.take(2, 0, 100.0, here)]
        elif held and deed == "delete":
            key, receipt = held.pop()
            newest = alive.get(key) is not None and alive[key].receipt == receipt
            box.delete(key, receipt)
            if newest:
                del alive[key]
        elif held and deed == "old delete":
            box.delete(held[0][0], held[0][1] - 1)
        elif held and deed in ("show", "hide"):
            box.change(*held[0], 0.0 if deed == "show" else 100.0)
    assert {message.key for message in box.messages()} == set(alive)
    assert sum(box.counts()) == len(alive)
    for key, receipt in held:
        box.change(key, receipt, 0.0)
    in_flight = box.counts()[1]
    assert len(box.take(1000, 0, 100.0, here)) == len(alive) - in_flight


@given(key=st.from_regex(r"[0-9a-f]{32}", fullmatch=True), receipt=st.integers(1, 10**6))
def test_a_receipt_handle_reads_as_it_was_written(key, receipt):
    assert read_handle(write_handle(key, receipt)) == (key, receipt)


def test_the_checksum_of_attributes_is_the_one_that_aws_documents():
    # Computed by hand from the documented layout: lengths as four bytes, then the bytes; kind 1 is a string.

    expected = hashlib.md5(b"\0\0\0\4name\0\0\0\6String\1\0\0\0\5value").hexdigest()
    assert attributes_md5({"name": {"DataType": "String", "StringValue": "value"}}) == expected
