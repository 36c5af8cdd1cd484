"""Look names of hosts up once for all connections that are opened in the same moments.

Called by:  aio.py.
Why:        a burst opens a thousand connections. With a lookup for each, they would wait in line for the event loop's
            few threads; and a VPC's resolver drops what is above 1,024 packets a second, which stalls for seconds.
Order:      each connection begins with another address, as it would if the name service had shuffled them for it.
"""

from __future__ import annotations

import asyncio
import socket
from itertools import count
from time import monotonic
from typing import Any, Final

KEPT_S: Final = 5.0
_Lookup = asyncio.Future[list[Any]]


class Addresses:
    """Addresses of hosts, for one event loop."""

    def __init__(self) -> None:
        self._lookups: dict[tuple[str, int], tuple[float, _Lookup]] = {}
        self._turns = count()
        self._is_closed = False

    async def of(self, host: str, port: int) -> list[str]:
        """All addresses, the one to try first in front. Errors: OSError."""
        if ":" in host or host.replace(".", "").isdigit():
            return [host]  # it is one
        begun_s, lookup = self._lookups.get((host, port), (0.0, None))
        if lookup is None or (lookup.done() and (monotonic() - begun_s > KEPT_S or _has_failed(lookup))):
            lookup = self._begin(host, port)
        try:
            found = await asyncio.shield(lookup)  # it is not one waiter's to cancel
        except asyncio.CancelledError:
            if lookup.cancelled():
                raise OSError("the client was closed") from None
            raise
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        first = next(self._turns) % len(addresses)
        return addresses[first:] + addresses[:first]

    def close(self) -> None:
        """End lookups that are under way; no other will begin."""
        self._is_closed = True
        for _, lookup in self._lookups.values():
            lookup.cancel()

    def _begin(self, host: str, port: int) -> _Lookup:
        if self._is_closed:
            raise OSError("the client was closed")
        loop = asyncio.get_running_loop()
        lookup: _Lookup = asyncio.ensure_future(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        lookup.add_done_callback(_has_failed)  # somebody has to look at its exception, even if all waiters are gone
        self._lookups[host, port] = monotonic(), lookup
        return lookup


def _has_failed(lookup: _Lookup) -> bool:
    return lookup.cancelled() or lookup.exception() is not None
