"""The store that a slot opens: directories, or a bucket with directories in front of it.

Called by: slot.py; worker/agent, for the initializer; supervisor.py, to import ahead of the forks.
Imports:   what a bucket asks for is imported only where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from cloudexec.store.directory import DirectoryStore
from cloudexec.store.protocol import Store

S3: Final = "s3"
_CACHE_BYTES: Final = 8 << 30  # of blobs kept on a worker's disk; Fargate gives 20 GiB in all


def s3_place(bucket: str, owner: str, prefix: str, region: str) -> dict[str, str]:
    """Where blobs lie, for Setup.store. Besides, it may say `attic` and `cache_bytes`: see CachedStore."""
    return {"kind": S3, "bucket": bucket, "owner": owner, "prefix": prefix, "region": region}


def open_store(roots: Sequence[str], place: Mapping[str, str]) -> Store:
    """The store at `place`, with `roots` as its cache; only `roots` if `place` is empty.

    Credentials and endpoints come from the environment, as everywhere in a worker. Nothing is connected yet.
    """
    if not place:
        return DirectoryStore(roots)
    import os

    from cloudexec.store.cached import CachedStore
    from cloudexec.store.s3 import S3Store
    from cloudexec.transport.account import Account, open_client

    account = Account.from_environment({**os.environ, "AWS_REGION": place["region"]}, owner=place["owner"])
    remote = S3Store(open_client(account), place["bucket"], place["prefix"], place["owner"])
    most_bytes = int(place.get("cache_bytes", _CACHE_BYTES))
    return CachedStore(remote, roots, most_bytes, attic=place.get("attic", ""))


def import_ahead(place: Mapping[str, str]) -> None:
    """Import what `open_store` will: once in the supervisor instead of once in each slot."""
    if place:
        import cloudexec.store.cached
        import cloudexec.store.s3
        import cloudexec.transport.sync  # noqa: F401 - importing is all that is wanted
