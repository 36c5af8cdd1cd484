"""What S3 and SQS do for us, on every server and with every client of the transport.

    class TestS3OnMyServer(S3Spec):
        @pytest.fixture
        def call(self): ...      # operation -> result, e.g. `client.call`; see `opened` for every variant
        @pytest.fixture
        def bucket(self): ...    # an empty bucket

    class TestSqsOnMyServer(SqsSpec):                 # `call`, and `queue_url` of an empty queue

`VARIANTS` names the clients; `opened(variant, account)` is a context that gives `call`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest

from cloudexec.errors import AwsError, NoSuchKey, PreconditionFailed
from cloudexec.transport import s3, sqs
from cloudexec.transport.aio import AsyncClient
from cloudexec.transport.boto import BotoClient
from cloudexec.transport.sync import SyncClient

VARIANTS = ("sync", "aio", "boto")
ODD_KEYS = [
    pytest.param("plain/key.txt", id="plain"),
    pytest.param("with blank and+plus", id="blank and plus"),
    pytest.param("percent%20sign%", id="percent"),
    pytest.param("ünï/çødé/日本/🦊", id="beyond ASCII"),
    pytest.param("a&b<c>\"d'e", id="what XML escapes"),
    pytest.param("~tilde_under-dash.dot!*'()", id="punctuation"),
    pytest.param("trailing/", id="trailing slash"),
    pytest.param("q?x=1#frag;a=b,c:d@e$f", id="what URLs reserve"),
]


@contextlib.contextmanager
def opened(variant, account, **settings):
    """A function that carries operations out with the client named `variant`."""
    if variant == "aio":
        with in_a_loop(account, **settings) as call:
            yield call
        return
    client = {"sync": SyncClient, "boto": BotoClient}[variant](account, **settings)
    try:
        yield client.call
    finally:
        client.close()


@contextlib.contextmanager
def in_a_loop(account, **settings):
    """An AsyncClient on an event loop of its own thread, called from this one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=50)

    async def make():
        return AsyncClient(account, **settings)

    client = run(make())
    try:
        yield lambda operation: run(client.call(operation))
    finally:
        run(client.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class S3Spec:
    """Objects, conditions, pages and multipart uploads."""

    owner = "123456789012"

    def put(self, call, bucket, key, *pieces, **more):
        return call(s3.put_object(bucket, key, pieces, owner=self.owner, **more))

    def get(self, call, bucket, key, **more):
        return call(s3.get_object(bucket, key, owner=self.owner, **more))

    @pytest.mark.parametrize("key", ODD_KEYS)
    def test_an_object_is_there_under_its_key_and_listed_under_it(self, call, bucket, key):
        etag = self.put(call, bucket, key, b"content")
        found = self.get(call, bucket, key)
        assert (bytes(found.body), found.etag, found.size) == (b"content", etag, 7)
        page = call(s3.list_objects(bucket, key, owner=self.owner))
        assert [(item.key, item.size, item.etag) for item in page.objects] == [(key, 7, etag)]

    @pytest.mark.parametrize(
        ("pieces", "content"),
        [
            pytest.param([], b"", id="nothing"),
            pytest.param([b""], b"", id="an empty piece"),
            pytest.param([b"a", bytearray(b"b"), memoryview(b"c")], b"abc", id="pieces of every kind"),
            pytest.param([b"x" * 300_000, b"y" * 500_000], b"x" * 300_000 + b"y" * 500_000, id="large"),
        ],
    )
    def test_the_pieces_are_one_object(self, call, bucket, pieces, content):
        self.put(call, bucket, "pieces", *pieces)
        assert bytes(self.get(call, bucket, "pieces").body) == content

    def test_what_is_read_belongs_to_the_reader(self, call, bucket):
        self.put(call, bucket, "mine", b"abc")
        body = self.get(call, bucket, "mine").body
        body[0] = ord("x")
        assert bytes(body) == b"xbc"
        assert bytes(self.get(call, bucket, "mine").body) == b"abc"

    def test_times_are_on_the_services_clock(self, call, bucket):
        self.put(call, bucket, "now", b"")
        found = call(s3.head_object(bucket, "now", owner=self.owner))
        assert abs(found.server_date_s - time.time()) < 10
        assert abs(found.last_modified_s - found.server_date_s) < 10

    def test_a_head_tells_the_size_without_the_body(self, call, bucket):
        etag = self.put(call, bucket, "headed", b"12345")
        found = call(s3.head_object(bucket, "headed", owner=self.owner))
        assert (found.size, found.etag, bytes(found.body)) == (5, etag, b"")

    @pytest.mark.parametrize("operation", [s3.get_object, s3.head_object])
    def test_an_absent_object_is_a_lookup_error(self, call, bucket, operation):
        with pytest.raises(NoSuchKey) as caught:
            call(operation(bucket, "absent", owner=self.owner))
        assert isinstance(caught.value, LookupError)
        assert (caught.value.code, caught.value.status) == ("NoSuchKey", 404)
        assert f"s3://{bucket}/absent" in str(caught.value)

    def test_an_absent_bucket_is_no_absent_object(self, call, bucket):
        with pytest.raises(AwsError) as caught:
            self.get(call, bucket + "-absent", "key")
        assert not isinstance(caught.value, NoSuchKey)
        assert caught.value.code == "NoSuchBucket"

    def test_a_range_is_a_part_of_the_object(self, call, bucket):
        self.put(call, bucket, "ranged", b"0123456789")
        assert bytes(self.get(call, bucket, "ranged", range=(2, 5)).body) == b"234"

    def test_an_unchanged_object_is_not_sent_again(self, call, bucket):
        etag = self.put(call, bucket, "unchanged", b"content")
        found = self.get(call, bucket, "unchanged", if_none_match=etag)
        assert found.not_modified
        assert bytes(found.body) == b""
        self.put(call, bucket, "unchanged", b"changed")
        found = self.get(call, bucket, "unchanged", if_none_match=etag)
        assert not found.not_modified
        assert bytes(found.body) == b"changed"

    def test_only_the_first_of_two_writers_creates_the_object(self, call, bucket):
        self.put(call, bucket, "claim", b"first", if_none_match=True)
        with pytest.raises(PreconditionFailed):
            self.put(call, bucket, "claim", b"second", if_none_match=True)
        assert bytes(self.get(call, bucket, "claim").body) == b"first"

    def test_only_who_knows_the_last_state_replaces_it(self, call, bucket):
        first = self.put(call, bucket, "state", b"1")
        second = self.put(call, bucket, "state", b"2", if_match=first)
        assert first != second
        with pytest.raises(PreconditionFailed):
            self.put(call, bucket, "state", b"3", if_match=first)
        assert bytes(self.get(call, bucket, "state").body) == b"2"

    def test_pages_follow_each_other_in_the_order_of_keys(self, call, bucket):
        keys = sorted([f"list/{n:02}" for n in range(7)] + ["list/a b", "list/ä"], key=str.encode)
        for key in [*keys, "other/x"]:
            self.put(call, bucket, key, b"")
        seen, after, is_truncated = [], "", True
        while is_truncated:
            page = call(s3.list_objects(bucket, "list/", owner=self.owner, start_after=after, max_keys=4))
            assert len(page.objects) <= 4
            seen += [item.key for item in page.objects]
            after, is_truncated = seen[-1], page.is_truncated
        assert seen == keys

    def test_a_listing_without_objects_is_an_empty_page(self, call, bucket):
        page = call(s3.list_objects(bucket, "none/", owner=self.owner))
        assert (page.objects, page.is_truncated) == ([], False)

    def test_listed_times_are_readable(self, call, bucket):
        self.put(call, bucket, "timed", b"")
        (item,) = call(s3.list_objects(bucket, "timed", owner=self.owner)).objects
        assert abs(item.last_modified_s - time.time()) < 10

    def test_deleting_what_is_not_there_is_no_error(self, call, bucket):
        self.put(call, bucket, "gone", b"")
        call(s3.delete_object(bucket, "gone", owner=self.owner))
        call(s3.delete_object(bucket, "gone", owner=self.owner))
        with pytest.raises(NoSuchKey):
            self.get(call, bucket, "gone")

    def test_many_objects_are_deleted_at_once(self, call, bucket):
        keys = ["many/1", "many/a & b", "many/ü<>"]
        for key in [*keys, "many/stays"]:
            self.put(call, bucket, key, b"")
        assert call(s3.delete_objects(bucket, [*keys, "many/never was"], owner=self.owner)) == []
        page = call(s3.list_objects(bucket, "many/", owner=self.owner))
        assert [item.key for item in page.objects] == ["many/stays"]

    def test_parts_become_one_object(self, call, bucket):
        parts = [b"a" * (5 << 20), b"b" * 10]
        upload = call(s3.create_multipart_upload(bucket, "parts", owner=self.owner))
        etags = [
            call(s3.upload_part(bucket, "parts", upload, number, [part], owner=self.owner))
            for number, part in enumerate(parts, 1)
        ]
        etag = call(s3.complete_multipart_upload(bucket, "parts", upload, etags, owner=self.owner))
        found = self.get(call, bucket, "parts")
        assert found.etag == etag
        assert bytes(found.body) == b"".join(parts)

    def test_an_aborted_upload_leaves_nothing(self, call, bucket):
        upload = call(s3.create_multipart_upload(bucket, "aborted", owner=self.owner))
        call(s3.upload_part(bucket, "aborted", upload, 1, [b"x"], owner=self.owner))
        call(s3.abort_multipart_upload(bucket, "aborted", upload, owner=self.owner))
        with pytest.raises(NoSuchKey):
            self.get(call, bucket, "aborted")

    def test_an_upload_in_parts_does_not_replace_what_it_must_not(self, call, bucket):
        self.put(call, bucket, "taken", b"first")
        upload = call(s3.create_multipart_upload(bucket, "taken", owner=self.owner))
        etag = call(s3.upload_part(bucket, "taken", upload, 1, [b"second"], owner=self.owner))
        with pytest.raises(PreconditionFailed):
            call(s3.complete_multipart_upload(bucket, "taken", upload, [etag], owner=self.owner, if_none_match=True))
        assert bytes(self.get(call, bucket, "taken").body) == b"first"


class SqsSpec:
    """Messages in batches, visibility, and failures inside a success."""

    def receive(self, call, queue_url, **more):
        return call(sqs.receive_messages(queue_url, **{"wait_s": 0, **more}))

    def test_what_was_sent_is_received_and_gone_when_deleted(self, call, queue_url):
        bodies = {"one", "zwölf 🦊", '{"json": "\\"quoted\\""}', "<&>"}
        assert call(sqs.send_messages(queue_url, sorted(bodies))) == []
        found = []
        while len(found) < 4:
            found += self.receive(call, queue_url, wait_s=1)
        assert {message.body for message in found} == bodies
        assert {message.receive_count for message in found} == {1}
        assert all(abs(message.sent_s - time.time()) < 10 for message in found)
        assert call(sqs.delete_messages(queue_url, [message.receipt for message in found])) == []
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        assert call(sqs.get_queue_attributes(queue_url, names)) == dict.fromkeys(names, "0")

    def test_an_empty_queue_answers_without_messages(self, call, queue_url):
        assert self.receive(call, queue_url) == []

    def test_a_long_poll_ends_when_a_message_comes(self, call, queue_url):
        timer = threading.Timer(0.3, call, [sqs.send_messages(queue_url, ["late"])])
        timer.start()
        started_s = time.monotonic()
        (message,) = self.receive(call, queue_url, wait_s=20)
        assert message.body == "late"
        assert 0.2 < time.monotonic() - started_s < 10
        timer.join()

    def test_a_delayed_message_is_not_there_at_once(self, call, queue_url):
        assert call(sqs.send_messages(queue_url, ["now", "later"], delays_s=[0, 900])) == []
        assert [message.body for message in self.receive(call, queue_url, wait_s=1)] == ["now"]
        assert self.receive(call, queue_url) == []

    def test_a_message_that_is_given_back_comes_again(self, call, queue_url):
        call(sqs.send_messages(queue_url, ["again"]))
        (first,) = self.receive(call, queue_url, wait_s=1, visibility_s=600)
        assert self.receive(call, queue_url) == []
        assert call(sqs.change_visibility(queue_url, [(first.receipt, 0)])) == []
        (second,) = self.receive(call, queue_url, wait_s=1)
        assert (second.id, second.body, second.receive_count) == (first.id, "again", 2)

    def test_failures_of_a_batch_name_their_entries(self, call, queue_url):
        call(sqs.send_messages(queue_url, ["kept"]))
        (message,) = self.receive(call, queue_url, wait_s=1)
        failures = call(sqs.delete_messages(queue_url, ["no receipt", message.receipt, "nor this"]))
        assert [failure.index for failure in failures] == [0, 2]
        assert all(failure.code == "ReceiptHandleIsInvalid" for failure in failures)
        assert all(failure.is_our_fault for failure in failures)

    def test_a_queue_that_is_not_there_is_named(self, call, queue_url):
        with pytest.raises(AwsError) as caught:
            self.receive(call, queue_url + "-absent")
        assert caught.value.code == "QueueDoesNotExist"
        assert f"{queue_url}-absent" in str(caught.value)

    def test_a_purged_queue_is_empty(self, call, queue_url):
        call(sqs.send_messages(queue_url, ["a", "b"]))
        call(sqs.purge(queue_url))
        assert self.receive(call, queue_url) == []
