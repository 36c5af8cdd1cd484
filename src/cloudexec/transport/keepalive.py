"""Make the kernel probe a connection on which nothing happens.

Called by:  sync.py and aio.py, for every connection.
Why:        the answer to a long invocation or poll comes after minutes of silence. NAT gateways forget a silent
            connection after 350 s, and the kernel's own first probe comes after two hours.
"""

from __future__ import annotations

import socket
from typing import Final, Protocol

FIRST_PROBE_S: Final = 60
PROBE_EVERY_S: Final = 15


class _Socket(Protocol):
    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


def _known(*options: tuple[str, int]) -> tuple[tuple[int, int], ...]:
    return tuple((getattr(socket, name), value) for name, value in options if hasattr(socket, name))


_OPTIONS: Final = _known(
    ("TCP_KEEPIDLE", FIRST_PROBE_S),
    ("TCP_KEEPALIVE", FIRST_PROBE_S),  # macOS's name for it
    ("TCP_KEEPINTVL", PROBE_EVERY_S),
)


def keep_alive(connected: _Socket) -> None:
    """Probe after a minute of silence, and every quarter of a minute from then on."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _OPTIONS:
        connected.setsockopt(socket.IPPROTO_TCP, option, value)
