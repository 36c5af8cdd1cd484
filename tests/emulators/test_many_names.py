"""More objects than one answer or one delete holds."""

from __future__ import annotations

import contextlib
import os

import pytest

from cloudexec.store.s3 import S3Store
from tests.emulators.stores import OWNER
from tests.specs.aws_spec import VARIANTS, opened


class Counting:
    """A client that counts what it is asked."""

    def __init__(self, call):
        self._call = call
        self.asked = []

    def call(self, operation):
        self.asked.append(operation.name)
        return self._call(operation)

    def close(self): ...


@pytest.fixture(scope="module")
def bucket(ministack):
    return ministack.new_bucket()


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant != "aio"])
def test_names_come_a_thousand_at_a_time_when_they_are_asked_for_and_go_a_thousand_at_a_time(
    ministack, bucket, variant
):
    expected = [f"n/{number:04}" for number in range(2001)]
    with opened(variant, ministack.account()) as call:
        client = Counting(call)
        store = S3Store(client, bucket, f"test-{os.urandom(6).hex()}", OWNER)
        with opened("sync", ministack.account()) as quick:
            prepared = S3Store(Counting(quick), bucket, store.where.partition(bucket)[2], OWNER)
            for name in expected:
                prepared.put(name, [])
        names = store.names()
        assert client.asked == [], "nothing is fetched before the first is asked for"
        with contextlib.closing(names):
            assert [next(names) for _ in range(1000)] == expected[:1000]
            assert client.asked == ["ListObjectsV2"]
            assert list(names) == expected[1000:]
        assert client.asked == ["ListObjectsV2"] * 3
        store.delete_many(expected)
        assert client.asked[3:] == ["DeleteObjects"] * 3
        assert list(store.names()) == []


def test_the_store_is_the_same_through_boto3(ministack, bucket):
    with opened("boto", ministack.account()) as call:
        store = S3Store(Counting(call), bucket, f"test-{os.urandom(6).hex()}", OWNER)
        content = os.urandom(40 << 20)
        store.put("large", [memoryview(content)[: 5 << 20], memoryview(content)[5 << 20 :]])
        assert store.get("large") == content
        assert store.put_once("large", [b"x"]) is False
        assert store.put_once("empty", []) is True
        assert (store.get("empty"), store.size("empty"), store.size("none")) == (b"", 0, None)
        mine = store.get("large")
        mine[:4] = b"mine"
        assert store.get("large") == content
