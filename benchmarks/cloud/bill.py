"""Requests by side, service and operation, and what they cost.

Called by: emulator.py for requests over HTTP (the client's), backstage.py for those of simulated workers.
Source:    list prices of us-east-1, as of 2026; only requests are counted, neither compute nor traffic.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

CLIENT: Final = "client"
WORKER: Final = "worker"

_MILLION: Final = 1e6
_SQS: Final = 0.40 / _MILLION  # for each 64 KiB that a request carries
_SQS_UNIT_BYTES: Final = 64 << 10
_S3_WRITE: Final = 5.00 / _MILLION
_S3_READ: Final = 0.40 / _MILLION
_LAMBDA: Final = 0.20 / _MILLION
_S3_READS: Final = frozenset({"GetObject", "HeadObject", "HeadBucket"})
_S3_FREE: Final = frozenset({"DeleteObject", "DeleteObjects"})


def price_of(service: str, operation: str, n_bytes: int) -> float:
    """Dollars for one request that carries `n_bytes` of messages."""
    if service == "sqs":
        return _SQS * max(1, -(-n_bytes // _SQS_UNIT_BYTES))
    if service == "s3":
        return 0.0 if operation in _S3_FREE else _S3_READ if operation in _S3_READS else _S3_WRITE
    return _LAMBDA if service == "lambda" and operation == "Invoke" else 0.0


class Bill:
    """Counts from the start; whoever measures takes differences."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.dollars: dict[str, float] = {CLIENT: 0.0, WORKER: 0.0}

    def add(self, side: str, service: str, operation: str, n_bytes: int = 0) -> None:
        """One request."""
        self.requests[side, service, operation] += 1
        self.dollars[side] += price_of(service, operation, n_bytes)

    def add_carried(self, side: str, n_bytes: int) -> None:
        """An answer of SQS carries messages, too: what they cost beyond the first unit, which `add` has counted."""
        if n_bytes > _SQS_UNIT_BYTES:
            self.dollars[side] += price_of("sqs", "", n_bytes) - _SQS

    def to_json(self) -> dict[str, object]:
        """`{"requests": {"client sqs SendMessageBatch": 3, …}, "dollars": {"client": …, "worker": …}}`."""
        return {"requests": {" ".join(key): n for key, n in self.requests.items()}, "dollars": self.dollars}
