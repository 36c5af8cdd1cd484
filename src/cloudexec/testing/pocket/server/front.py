"""Every request passes here: it is counted, meets the faults, and goes to the plane that answers it.

Called by:  http.py.   Calls: faults.py, control.py, the planes, moto.py.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import Counter, defaultdict
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any, Protocol

from cloudexec.testing.pocket.server.control import Control
from cloudexec.testing.pocket.server.faults import FaultBook
from cloudexec.testing.pocket.server.http import BreakConnection
from cloudexec.testing.pocket.server.moto import Moto
from cloudexec.testing.pocket.server.requests import (
    Answer,
    Refusal,
    Request,
    error_answer,
    expired_answer,
    throttle_answer,
)


class Plane(Protocol):
    """What answers some of a service's requests instead of moto."""

    def handles(self, request: Request) -> bool:
        """Whether this request is the plane's."""

    def answer(self, request: Request) -> Answer:
        """The answer; may raise a Refusal."""


class Journal:
    """How often what was asked; on demand every request with its headers.

    record_to: a directory for what principals have asked since the server's start; nothing is written without one.
    """

    def __init__(self, *, keep: bool, record_to: str = "") -> None:
        self.keep = keep
        self._record_to = record_to
        self._own_name = (
            f"pocket-{uuid.uuid4().hex}.json"  # process ids come again, and a later server's would replace it
        )
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._asked: defaultdict[str, Counter[str]] = defaultdict(Counter)  # by principal; `clear` leaves it
        self._records: list[dict[str, Any]] = []

    def note(self, request: Request, principal: str) -> None:
        """Count a request."""
        with self._lock:
            self._counts[request.service, request.operation] += 1
            self._asked[principal][f"{request.service}:{request.operation}"] += 1
            if self.keep:
                record = {name: getattr(request, name) for name in ("service", "operation", "method", "path", "query")}
                told = {"principal": principal, "headers": request.headers, "at_s": time.time()}
                self._records.append({**record, **told})

    def write(self) -> None:
        """Put down who has asked what, as {principal: {"service:Operation": how often}}; a later one replaces it."""
        if not self._record_to:
            return
        with self._lock:
            text = json.dumps(self._asked)
        path = Path(self._record_to, self._own_name)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(text)
        new.replace(path)  # who reads meanwhile reads the older one

    def told(self) -> dict[str, Any]:
        """Everything noted so far."""
        with self._lock:
            counts = [[service, operation, count] for (service, operation), count in sorted(self._counts.items())]
            return {"counts": counts, "records": list(self._records)}

    def clear(self) -> None:
        """Begin anew."""
        with self._lock:
            self._counts.clear()
            self._records.clear()


class Front:
    """Answers every request that reaches the server."""

    def __init__(
        self, *, moto: Moto, planes: list[Plane], faults: FaultBook, journal: Journal, control: Control
    ) -> None:
        self._moto, self._planes, self._faults = moto, planes, faults
        self._journal, self._control = journal, control

    def answer(self, request: Request) -> Answer:
        """The answer to send; BreakConnection instead of one where a fault says so."""
        if request.path.startswith("/_pocket/"):
            return self._control.answer(request)
        if request.region and request.region not in self._moto.regions:
            raise BreakConnection  # on AWS there would be no such host
        self._journal.note(request, self._control.credentials.principal_of(request.access_key))
        refused, breaks_after = self._trouble(request)
        if refused is None and self._control.credentials.is_expired(request.access_key):
            refused = expired_answer(request.service)
        answer = refused or self._of_another_account(request) or self._act(request)
        if breaks_after:
            raise BreakConnection
        return self._dated(request, answer)

    def _trouble(self, request: Request) -> tuple[Answer | None, bool]:
        """What the faults make of a request: an answer instead of the service's, and whether its answer is lost."""
        refused, breaks_after = None, False
        kinds = ("latency", "throttle", "error", "reset")
        for rule in self._faults.strike(kinds, service=request.service, operation=request.operation):
            if rule.kind == "latency":
                rule.hold_up()
            elif rule.kind == "throttle":
                refused = throttle_answer(request.service)
            elif rule.kind == "error":
                code, message = str(rule.details["code"]), str(rule.details.get("message") or "")
                refused = error_answer(request.service, code, message, int(rule.details.get("status") or 400))
            elif rule.details.get("after"):
                breaks_after = True
            else:
                raise BreakConnection
        return refused, breaks_after

    def _of_another_account(self, request: Request) -> Answer | None:
        """What S3 answers of a bucket that is somebody else's; None if it is not."""
        if request.service != "s3" or not self._faults.is_foreign(request.path.lstrip("/").partition("/")[0]):
            return None
        if request.operation == "CreateBucket":
            what = (
                "The requested bucket name is not available. The bucket namespace is shared by all users of the system."
            )
            more = "Please select a different name and try again."
            return error_answer("s3", "BucketAlreadyExists", f"{what} {more}", 409)
        return error_answer("s3", "AccessDenied", "Access Denied", 403)

    def _dated(self, request: Request, answer: Answer) -> Answer:
        """With the time of a clock that runs ahead, where a fault says so."""
        for rule in self._faults.strike(("clock",), service=request.service, operation=request.operation):
            kept = tuple((name, text) for name, text in answer.headers if name.lower() != "date")
            date = formatdate(time.time() + float(rule.details["seconds"]), usegmt=True)
            return replace(answer, headers=(*kept, ("Date", date)))
        return answer

    def _act(self, request: Request) -> Answer:
        try:
            for plane in self._planes:
                if plane.handles(request):
                    return plane.answer(request)
            return self._moto.answer(request)
        except Refusal as refusal:
            return error_answer(request.service, refusal.code, refusal.message, refusal.status, **refusal.members)
