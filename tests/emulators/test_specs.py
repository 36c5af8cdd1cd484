"""The specification of S3 and SQS, and that of stores, on servers that are independent of moto and of each other."""

from __future__ import annotations

import os
from functools import partial

import pytest

from tests.emulators.stores import close_clients, make_store
from tests.specs.aws_spec import ODD_KEYS, VARIANTS, S3Spec, SqsSpec, opened
from tests.specs.store_spec import StoreSpec


@pytest.fixture(params=VARIANTS)
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def seaweedfs_buckets(seaweedfs):
    """One for each client: the first object of a bucket costs 0.2 s."""
    return {variant: seaweedfs.new_bucket() for variant in VARIANTS}


@pytest.fixture(scope="module")
def ministack_bucket(ministack):
    return ministack.new_bucket()


class TestS3OnMinistack(S3Spec):
    @pytest.fixture
    def call(self, ministack, variant):
        with opened(variant, ministack.account()) as call:
            yield call

    @pytest.fixture
    def bucket(self, ministack):
        return ministack.new_bucket()


class TestSqsOnMinistack(SqsSpec):
    @pytest.fixture
    def call(self, ministack, variant):
        with opened(variant, ministack.account()) as call:
            yield call

    @pytest.fixture
    def queue_url(self, ministack):
        return ministack.new_queue()


class TestS3OnSeaweedFS(S3Spec):
    @pytest.fixture
    def call(self, seaweedfs, variant):
        with opened(variant, seaweedfs.account()) as call:
            yield call

    @pytest.fixture
    def bucket(self, seaweedfs_buckets, variant):
        return seaweedfs_buckets[variant]

    @pytest.mark.parametrize("key", [key for key in ODD_KEYS if not key.values[0].endswith("/")])  # a directory there
    def test_an_object_is_there_under_its_key_and_listed_under_it(self, call, bucket, key):
        super().test_an_object_is_there_under_its_key_and_listed_under_it(call, bucket, key)


class TestStoreOnMinistack(StoreSpec):
    @pytest.fixture
    def factory(self, ministack, ministack_bucket):
        yield partial(make_store, ministack.endpoint, ministack_bucket, f"test-{os.urandom(6).hex()}")
        close_clients()
