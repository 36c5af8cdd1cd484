"""Stores on an emulator; other processes make them, too, so they are made by name."""

from __future__ import annotations

from cloudexec.store.s3 import S3Store
from cloudexec.transport.account import Account
from cloudexec.transport.credentials import fixed
from cloudexec.transport.sync import SyncClient

OWNER = "123456789012"  # asked for on every request; no emulator checks it

_clients = []


def make_store(endpoint, bucket, prefix):
    keys = fixed(endpoint.access_key, endpoint.secret_key)
    account = Account(endpoint.region, keys, endpoints={"s3": endpoint.url, "sqs": endpoint.url})
    client = SyncClient(account)
    _clients.append(client)
    return S3Store(client, bucket, prefix, OWNER)


def close_clients():
    """Those of all stores that this process has made."""
    while _clients:
        _clients.pop().close()
