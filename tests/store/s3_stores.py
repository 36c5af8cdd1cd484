"""Stores in an S3 on loopback; other processes make them, too, so everything here is found by name."""

from __future__ import annotations

from cloudexec.store.cached import CachedStore
from cloudexec.store.s3 import S3Store
from cloudexec.transport.account import Account
from cloudexec.transport.sigv4 import Credentials
from cloudexec.transport.sync import SyncClient

BUCKET = "store-tests"
OWNER = "123456789012"  # moto's account
TEST_KEYS = Credentials("test", "test")

_clients = []


def client_of(url, keys=TEST_KEYS, **options):
    """The lean client, on an endpoint."""
    account = Account("us-east-1", lambda: keys, endpoints={"s3": url, "sqs": url})
    return SyncClient(account, **options)


def make_store(url, prefix):
    _clients.append(client_of(url))
    return S3Store(_clients[-1], BUCKET, prefix, OWNER)


def make_cached_store(url, prefix, root):
    return CachedStore(make_store(url, prefix), [root], 1 << 30)


def close_clients():
    """Those of all stores that this process has made."""
    while _clients:
        _clients.pop().close()
