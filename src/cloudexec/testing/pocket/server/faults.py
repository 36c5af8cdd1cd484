"""What goes wrong on demand: rules with seeds of their own, and the list of what they did.

Called by:  front.py (throttles, latency, resets), ecs.py and tasks.py (launches), sqs.py (messages), awslambda/
            (invocations, environments, events), cloudformation/ (resources), control.py.
Calls:      nothing.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

HTTP_KINDS: Final = ("throttle", "error", "latency", "reset", "clock")
TASK_KINDS: Final = ("run_task_failures", "empty_start", "pull_error", "never_start")
MESSAGE_KINDS: Final = ("lose_messages", "duplicate_messages")
LAMBDA_KINDS: Final = ("invoke_throttle", "kill_environment", "drop_events", "duplicate_events")
KINDS: Final = (
    *HTTP_KINDS,
    *TASK_KINDS,
    *MESSAGE_KINDS,
    *LAMBDA_KINDS,
    "stale_describe",
    "fail_resource",
    "foreign_bucket",
)


@dataclass(kw_only=True, eq=False)
class Rule:
    """One kind of trouble: where, how often, and what exactly."""

    id: int
    kind: str
    service: str | None = None
    operation: str | None = None
    rate: float | None = None  # None: always, while `times` lasts
    times: int | None = None  # None: without end
    seed: int = 0
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        self.is_over = threading.Event()

    def concerns(self, service: str, operation: str) -> bool:
        """Whether the rule is about such a request."""
        return self.service in (None, service) and self.operation in (None, operation)

    def strikes(self) -> bool:
        """Throw the dice."""
        if self.times is not None and self.times <= 0:
            return False
        if self.rate is not None and self._dice.random() >= self.rate:
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def hold_up(self) -> None:
        """What a `latency` rule does with a request, unless it is cleared first."""
        seconds, jitter = float(self.details["seconds"]), float(self.details.get("jitter") or 0.0)
        self.is_over.wait(max(0.0, seconds + self._dice.uniform(-jitter, jitter)))


class FaultBook:
    """All rules that hold, and what they did so far."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._fired: list[dict[str, Any]] = []
        self._next = 1

    def add(self, wanted: dict[str, Any]) -> int:
        """Add a rule; its number."""
        common = {
            name: wanted.pop(name) for name in ("service", "operation", "rate", "times", "seed") if name in wanted
        }
        kind = wanted.pop("kind")
        if kind not in KINDS:
            raise ValueError(f"there is no fault {kind!r}")
        with self._lock:
            rule = Rule(id=self._next, kind=kind, details=wanted, **common)
            self._next += 1
            self._rules.append(rule)
            return rule.id

    def clear(self, rule_id: int | None = None) -> None:
        """End one rule, or all of them: what they hold up goes on, what they did stays in the list."""
        with self._lock:
            over = [rule for rule in self._rules if rule_id in (None, rule.id)]
            self._rules = [rule for rule in self._rules if rule not in over]
        for rule in over:
            rule.is_over.set()

    def forget(self) -> None:
        """End all rules and empty the list."""
        self.clear()
        with self._lock:
            self._fired = []

    def fired(self) -> list[dict[str, Any]]:
        """What happened, in order."""
        with self._lock:
            return list(self._fired)

    def note(self, kind: str, **facts: object) -> None:
        """Write down what was done at somebody's word rather than by a rule."""
        with self._lock:
            self._fired.append({"kind": kind, "at_s": time.time(), **facts})

    def strike(self, kinds: tuple[str, ...], *, service: str, operation: str, **facts: object) -> list[Rule]:
        """The rules of these kinds that strike now."""
        if not self._rules:
            return []
        struck = []
        with self._lock:
            for rule in self._rules:
                if rule.kind in kinds and rule.concerns(service, operation) and rule.strikes():
                    struck.append(rule)
                    told = {"kind": rule.kind, "service": service, "operation": operation, "rule": rule.id, **facts}
                    self._fired.append({**told, "at_s": time.time()})
        return struck

    def launch(self, provider: str | None, task: str) -> Rule | None:
        """What goes wrong with one task's launch."""
        rules = [rule for rule in self._rules if rule.kind in TASK_KINDS]
        for rule in rules:
            if rule.details.get("provider") in (None, provider):
                found = self._strike_one(rule, service="ecs", operation="RunTask", task=task, provider=provider)
                if found:
                    return rule
        return None

    def deliveries(self, queue: str) -> int:
        """How often a message that is sent now will be delivered."""
        for rule in [rule for rule in self._rules if rule.kind in MESSAGE_KINDS]:
            about_it = str(rule.details.get("queue") or "") in queue
            if about_it and self._strike_one(rule, service="sqs", operation="SendMessage", queue=queue):
                return 0 if rule.kind == "lose_messages" else 2
        return 1

    def resource(self, *, stack: str, logical_id: str, on: str) -> str | None:
        """The reason why this resource of a stack cannot be made, changed or removed; None if it can."""
        facts = {"stack": stack, "logical_id": logical_id, "on": on}
        for rule in [rule for rule in self._rules if rule.kind == "fail_resource"]:
            is_meant = all(rule.details.get(name) in (None, fact) for name, fact in facts.items())
            if is_meant and self._strike_one(rule, service="cloudformation", **facts):
                return str(rule.details["reason"])
        return None

    def is_foreign(self, bucket: str) -> bool:
        """Whether a bucket belongs to another account."""
        rules = [rule for rule in self._rules if rule.kind == "foreign_bucket" and rule.details["name"] == bucket]
        return any(self._strike_one(rule, service="s3", bucket=bucket) for rule in rules)

    def refuses(self, service: str, operation: str) -> bool:
        """Whether such requests are denied for good."""
        return any(
            rule.kind == "error"
            and str(rule.details.get("code")).startswith("AccessDenied")
            and rule.concerns(service, operation)
            and rule.rate is rule.times is None
            for rule in list(self._rules)
        )

    def staleness_s(self) -> float:
        """How old DescribeTasks' answers are."""
        struck = self.strike(("stale_describe",), service="ecs", operation="DescribeTasks")
        return max((float(rule.details["seconds"]) for rule in struck), default=0.0)

    def _strike_one(self, rule: Rule, **facts: object) -> bool:
        with self._lock:
            if rule not in self._rules or not rule.strikes():
                return False
            self._fired.append({"kind": rule.kind, "rule": rule.id, **facts, "at_s": time.time()})
            return True
