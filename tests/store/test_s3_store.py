"""The store in S3: the common specification, and what is its own: parts, ranges, owners, pages."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest

from cloudexec.errors import AwsError, BlobMissing, ConnectionLost
from cloudexec.ids import BlobRef
from cloudexec.store.s3 import S3Store
from tests.specs.store_spec import StoreSpec
from tests.store.s3_stores import BUCKET, OWNER

MIB = 1 << 20


class Watching:
    """A client that notes the operations, and does something before some of them."""

    def __init__(self, client, before=lambda operation, earlier: None):
        self._client, self._before = client, before
        self._lock = threading.Lock()
        self.operations = []

    def call(self, operation):
        with self._lock:
            earlier = sum(seen.name == operation.name for seen in self.operations)
            self.operations.append(operation)
        self._before(operation, earlier)
        return self._client.call(operation)

    def close(self):
        self._client.close()

    @property
    def names(self):
        return [operation.name for operation in self.operations]


@pytest.fixture
def prefix():
    return f"test-{os.urandom(6).hex()}/runs/r1"


@pytest.fixture
def watched(s3_client, prefix):
    """A function that makes a store whose client is watched; returns both."""

    def make(before=lambda operation, earlier: None):
        client = Watching(s3_client, before)
        return S3Store(client, BUCKET, prefix, OWNER), client

    return make


@pytest.fixture
def left_behind(boto, prefix):
    """A function that tells what is under the prefix: keys of objects, and of uploads that were never ended."""

    def look():
        objects = boto.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        uploads = boto.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return [found["Key"] for found in objects] + [
            found["Key"] for found in uploads if found["Key"].startswith(prefix)
        ]

    return look


def broken(what):
    return ConnectionLost(f"{what} broke", False)


class TestS3Store(StoreSpec):
    @pytest.fixture
    def factory(self, make_s3_store):
        return make_s3_store


# --- parts and ranges --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "requests"),
    [
        pytest.param(16 * MIB, ["PutObject"], id="as much as one request takes"),
        pytest.param(
            16 * MIB + 1,
            ["CompleteMultipartUpload", "CreateMultipartUpload", *["UploadPart"] * 3],
            id="one byte more, which is a part by itself",
        ),
        pytest.param(
            33 * MIB, ["CompleteMultipartUpload", "CreateMultipartUpload", *["UploadPart"] * 5], id="five parts"
        ),
    ],
)
def test_what_is_large_travels_in_parts(watched, left_behind, prefix, size, requests):
    store, client = watched()
    content = os.urandom(size)
    pieces = [content[: 5 * MIB], content[5 * MIB : 5 * MIB + 1], b"", content[5 * MIB + 1 :]]
    store.put("large", pieces)
    assert sorted(client.names) == requests
    assert store.get("large") == content
    assert left_behind() == [f"{prefix}/large"]


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("failing", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_an_upload_that_fails_leaves_nothing_behind(watched, left_behind, failing, once):
    def fail(operation, earlier):
        if operation.name == failing:
            raise broken(failing)

    store, _ = watched(fail)
    put = store.put_once if once else store.put
    with pytest.raises(ConnectionLost, match=failing):
        put("large", [bytes(20 * MIB)])
    assert left_behind() == []


def test_an_upload_that_fails_stops_sending_parts(watched):
    def fail(operation, earlier):
        if operation.name == "UploadPart" and earlier == 1:
            raise broken("a part")

    store, client = watched(fail)
    with pytest.raises(ConnectionLost):
        store.put("large", [bytes(8 * MIB)] * 16)
    assert client.names[-1] == "AbortMultipartUpload"
    assert client.names.count("UploadPart") < 16


def test_an_interrupt_of_the_caller_leaves_nothing_behind(watched, left_behind):
    main = threading.current_thread()

    def interrupt(operation, earlier):
        if operation.name == "UploadPart" and threading.current_thread() is main:
            raise KeyboardInterrupt

    store, _ = watched(interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.put("large", [bytes(40 * MIB)])
    assert left_behind() == []
    assert not [thread for thread in threading.enumerate() if thread.name == "cloudexec-transfer"]


def test_a_large_put_once_of_a_taken_name_sends_nothing(watched):
    store, client = watched()
    store.put("large", [b"first"])
    assert store.put_once("large", [bytes(20 * MIB)]) is False
    assert client.names == ["PutObject", "HeadObject"]


def test_of_two_large_put_onces_the_later_one_loses_and_leaves_nothing_behind(watched, s3_client, left_behind, prefix):
    other = S3Store(s3_client, BUCKET, prefix, OWNER)

    def be_quicker(operation, earlier):
        if operation.name == "CompleteMultipartUpload":
            assert other.put_once("large", [b"mine"])

    store, _ = watched(be_quicker)
    assert store.put_once("large", [bytes(20 * MIB)]) is False
    assert store.get("large") == b"mine"
    assert left_behind() == [f"{prefix}/large"]


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "NoSuchUpload"])
def test_an_upload_that_s3_asks_to_begin_anew_is_begun_anew(watched, left_behind, prefix, code):
    def conflict(operation, earlier):
        if operation.name == "CompleteMultipartUpload" and earlier == 0:
            raise AwsError("another upload ended in the same moment", code, 409)

    store, client = watched(conflict)
    assert store.put_once("large", [bytes(20 * MIB)]) is True
    assert client.names.count("CreateMultipartUpload") == 2
    assert left_behind() == [f"{prefix}/large"]


def test_an_upload_that_is_asked_to_begin_anew_again_and_again_fails(watched, left_behind):
    def conflict(operation, earlier):
        if operation.name == "CompleteMultipartUpload":
            raise AwsError("another upload ended in the same moment", "ConditionalRequestConflict", 409)

    store, client = watched(conflict)
    with pytest.raises(AwsError, match="same moment"):
        store.put_once("large", [bytes(20 * MIB)])
    assert client.names.count("CreateMultipartUpload") == 3
    assert left_behind() == []


@pytest.mark.parametrize(
    ("size", "n_requests"),
    [
        pytest.param(32 * MIB, 1, id="as much as one range holds"),
        pytest.param(32 * MIB + 1, 2, id="one byte more"),
        pytest.param(60 * MIB, 3, id="three ranges"),
    ],
)
def test_what_is_large_is_read_in_ranges(watched, size, n_requests):
    store, client = watched()
    content = os.urandom(size)
    store.put("large", [content])
    client.operations.clear()
    assert store.get("large") == content
    assert client.names == ["GetObject"] * n_requests


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(b"b" * (40 * MIB), id="as long"),
        pytest.param(b"b" * (50 * MIB), id="longer"),
        pytest.param(b"b" * (33 * MIB), id="shorter"),
        pytest.param(b"b", id="so short that the next range is outside"),
        pytest.param(b"", id="empty"),
    ],
)
def test_a_large_string_that_is_replaced_while_it_is_read_is_read_again(watched, s3_client, prefix, later):
    other = S3Store(s3_client, BUCKET, prefix, OWNER)

    def replace(operation, earlier):
        if operation.name == "GetObject" and earlier == 1:
            other.put("large", [later])

    store, _ = watched(replace)
    other.put("large", [b"a" * (40 * MIB)])
    assert store.get("large") == later


def test_a_large_string_that_disappears_while_it_is_read_is_missing(watched, s3_client, prefix):
    def remove(operation, earlier):
        if operation.name == "GetObject" and earlier == 1:
            S3Store(s3_client, BUCKET, prefix, OWNER).delete("large")

    store, _ = watched(remove)
    store.put("large", [bytes(40 * MIB)])
    with pytest.raises(BlobMissing, match="large"):
        store.get("large")


def test_a_large_string_that_is_replaced_at_every_look_is_given_up(watched, s3_client, prefix):
    other = S3Store(s3_client, BUCKET, prefix, OWNER)

    def replace(operation, earlier):
        if operation.name == "GetObject" and earlier % 2:
            other.put("large", [os.urandom(33 * MIB)])

    store, _ = watched(replace)
    other.put("large", [bytes(33 * MIB)])
    with pytest.raises(BlobMissing, match="replaced or cut short at each of 3 attempts"):
        store.get("large")


# --- every request -----------------------------------------------------------------------------


def test_every_request_names_the_owner_of_the_bucket_and_stays_below_the_prefix(watched, prefix):
    store, client = watched()
    store.put("name", [b"x"])
    store.put_once("other", [b"x"])
    store.put("large", [bytes(40 * MIB)])
    store.get("large")
    store.get("name")
    store.size("name")
    store.put_blob(memoryview(b"blob"))
    list(store.names("n"))
    store.delete("name")
    store.delete_many(["other", "large"])
    assert len(set(client.names)) == 9, "each kind of request should have been made"
    for operation in client.operations:
        assert ("x-amz-expected-bucket-owner", OWNER) in operation.request.headers, operation.name
        assert operation.request.bucket == BUCKET
        keys = [operation.arguments.get("Key", operation.arguments.get("Prefix"))]
        if operation.name == "DeleteObjects":
            keys = [found["Key"] for found in operation.arguments["Delete"]["Objects"]]
        assert all(key.startswith(f"{prefix}/") for key in keys), operation.name


@pytest.mark.parametrize("given", ["a/b", "a/b/", "/a/b", "/a/b/"])
def test_a_prefix_is_the_same_with_and_without_slashes_around_it(s3_client, given):
    assert S3Store(s3_client, BUCKET, given, OWNER).where == f"s3://{BUCKET}/a/b/"


def test_stores_of_two_prefixes_see_nothing_of_each_other(s3_client, prefix):
    one, two = (S3Store(s3_client, BUCKET, f"{prefix}-{number}", OWNER) for number in "12")
    one.put("name", [b"one"])
    two.put("other", [b"two"])
    assert (list(one.names()), list(two.names())) == (["name"], ["other"])


def test_without_a_bucket_the_error_is_that_of_aws_and_not_a_missing_blob(s3_client):
    store = S3Store(s3_client, "no-such-bucket", "p", OWNER)
    with pytest.raises(AwsError) as caught:
        store.get("name")
    assert caught.value.code == "NoSuchBucket"


def test_many_are_deleted_with_one_request(watched, left_behind, prefix):
    store, client = watched()
    names = [f"n{number}" for number in range(5)]
    for name in names:
        store.put(name, [b"x"])
    client.operations.clear()
    store.delete_many([*names[:4], "never-there"])
    store.delete_many([])
    assert client.names == ["DeleteObjects"]
    assert left_behind() == [f"{prefix}/n4"]


# --- blobs -------------------------------------------------------------------------------------


def test_a_blob_lies_under_its_hash_and_is_sent_once(watched):
    store, client = watched()
    content = os.urandom(1000)
    refs = {store.put_blob(memoryview(content)) for _ in range(3)}
    assert refs == {BlobRef(hashlib.sha256(content).digest(), 1000)}
    assert client.names == ["PutObject"]
    assert store.get(refs.pop().name) == content


def test_a_blob_that_was_deleted_is_sent_again(watched):
    store, _ = watched()
    for delete in (store.delete, lambda name: store.delete_many([name])):
        ref = store.put_blob(memoryview(b"content"))
        delete(ref.name)
        assert not store.has_written(ref.name)
        store.put_blob(memoryview(b"content"))
        assert store.get(ref.name) == b"content"


def test_a_blob_that_could_not_be_sent_is_sent_again(watched):
    def fail_once(operation, earlier):
        if operation.name == "PutObject" and earlier == 0:
            raise broken("the first")

    store, _ = watched(fail_once)
    with pytest.raises(ConnectionLost):
        store.put_blob(memoryview(b"content"))
    ref = store.put_blob(memoryview(b"content"))
    assert store.get(ref.name) == b"content"


def test_is_same_knows_the_bytes_by_their_hash_and_asks_nobody(watched):
    store, client = watched()
    ref = store.put_blob(memoryview(b"content"))
    client.operations.clear()
    assert store.is_same(ref.name, memoryview(b"content"))
    assert not store.is_same(ref.name, memoryview(b"changed"))
    assert not store.is_same(BlobRef(hashlib.sha256(b"other").digest(), 5).name, memoryview(b"other"))
    assert client.names == []
