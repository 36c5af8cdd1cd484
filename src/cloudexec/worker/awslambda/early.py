"""What became of a part of a batch, told before its end: its client need not wait for the longest call.

Called by: entry.py, which makes it; crew.py.   Calls: a courier.
Objects:   events/NAME.N.early, N from 1: sealed reports of what has ended, or was given back, since the one before.
           The answer tells everything once more, so nothing is lost if nobody reads them.
"""

from __future__ import annotations

from collections.abc import Callable

from cloudexec.errors import AwsError
from cloudexec.transport import s3
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.invocation import InvocationSettings
from cloudexec.wire.mail import Report, encode_report
from cloudexec.worker.agent.couriers import Courier
from cloudexec.worker.agent.place import say


class Early:
    """The early reports of the batch `name`. `courier_for`: who carries them; asked when there is one."""

    def __init__(
        self, name: str, settings: InvocationSettings, seal: Seal, courier_for: Callable[[], Courier], now_s: float
    ) -> None:
        self._name = name
        self._settings = settings
        self._seal = seal
        self._courier_for = courier_for
        self._count = 0
        self.next_s = now_s + settings.early_after_s

    def wait(self, now_s: float) -> None:
        """Until the next one."""
        self.next_s = now_s + self._settings.early_after_s

    def tell(self, report: Report) -> None:
        """Have it written."""
        self._count += 1
        settings = self._settings
        key = f"{settings.prefix}/events/{self._name}.{self._count}.early"
        sealed = self._seal.close(Kind.REPORT, encode_report(report._replace(number=self._count)))
        self._courier_for().carry(s3.put_object(settings.bucket, key, [sealed], owner=settings.owner), _note)


def _note(answer: str | AwsError) -> None:
    if isinstance(answer, AwsError):
        say(f"an early report could not be written: {answer}")
