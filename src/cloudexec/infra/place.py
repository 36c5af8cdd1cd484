"""One identity, one region, one stack: where a command acts.

Called by: cli, which makes one; everything in infra.   Calls: backends.clients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, Final

from cloudexec.backends.clients import Clients, translated
from cloudexec.backends.stack import DEFAULT_STACK

_PARTITIONS: Final = {"cn-": "aws-cn", "us-gov-": "aws-us-gov", "eusc-": "aws-eusc"}


class Place:
    """Makes requests and knows for whom. Nothing is asked before somebody needs it."""

    def __init__(self, clients: Clients, stack: str = DEFAULT_STACK) -> None:
        self.clients = clients
        self.stack = stack

    def ask(self, service: str, operation: str, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request, e.g. `ask("s3", "head_bucket", {...})`. Errors: AwsError and its kin, SettingsError."""
        return self.clients.ask(service, operation, request or {}, patient=True)

    def body(self, what: str, reply: Mapping[str, Any], most_bytes: int) -> bytes:
        """The body of an object that `ask` was answered with: `most_bytes` of it, and one more if there are more.
        what: was asked for. Errors: as `ask`."""
        from botocore.exceptions import BotoCoreError

        found = bytearray()
        try:
            # Read until nothing comes: only then does botocore compare the length with what was announced.
            with closing(reply["Body"]) as body:
                while len(found) <= most_bytes and (chunk := body.read(most_bytes + 1 - len(found))):
                    found += chunk
        except BotoCoreError as error:
            raise translated(what, error) from error
        return bytes(found)

    def pages(self, service: str, operation: str, request: Mapping[str, Any], items: str) -> Iterator[Any]:
        """All items of a listing, page by page. items: the member that holds them. Errors: as `ask`."""
        asked = dict(request)
        while True:
            reply = self.ask(service, operation, asked)
            yield from reply.get(items) or ()
            token = next((name for name in ("NextToken", "nextToken") if reply.get(name)), None)
            if token is None:
                return
            asked[token] = reply[token]

    @property
    def region(self) -> str:
        """Errors: SettingsError if there is none."""
        return self.clients.region

    @property
    def partition(self) -> str:
        """`aws`, and what it is called in China, for the US government, and in the European Sovereign Cloud."""
        found = [name for prefix, name in _PARTITIONS.items() if self.region.startswith(prefix)]
        return found[0] if found else "aws"

    def known_regions(self, service: str) -> list[str]:
        """Regions of the place's partition in which botocore knows a service; its list may be older than a region."""
        found = self.clients.session.get_available_regions(service, partition_name=self.partition)
        return [str(name) for name in found]

    @property
    def account_id(self) -> str:
        """Errors: AwsError and its kin."""
        return self.clients.account_id

    def close(self) -> None:
        """Close the connections."""
        self.clients.close()
