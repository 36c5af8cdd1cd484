"""Make things go wrong in a pocket AWS: the Python face of its faults.

Called by:  users, as `aws.faults`.   Calls: the server's /_pocket/faults, through `ask`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cloudexec.errors import SettingsError

Ask = Callable[..., Any]
STEPS: Final = ("validate", "create", "update", "delete")
KILL_TIMES: Final = ("before", "mid-call", "after", "idle")


class Faults:
    """What goes wrong from now on. Each rule has a seed, and a `rate`, a number of `times`, or both.

    Without rate and times a rule strikes always. Each method that adds a rule returns the rule's number,
    which `clear` takes. Names of services and operations are botocore's: "ecs", "RunTask".
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    # --- requests ------------------------------------------------------------------------------

    def throttle(
        self,
        service: str | None = None,
        operation: str | None = None,
        *,
        rate: float | None = None,
        times: int | None = None,
        seed: int = 0,
    ) -> int:
        """Refuse requests as the service does it to who asks too often: ThrottlingException, SlowDown, …"""
        return self._add("throttle", service=service, operation=operation, rate=rate, times=times, seed=seed)

    def error(
        self,
        code: str,
        message: str = "",
        *,
        status: int = 400,
        service: str | None = None,
        operation: str | None = None,
        rate: float | None = None,
        times: int | None = None,
        seed: int = 0,
    ) -> int:
        """Refuse requests with any error."""
        more = {"code": code, "message": message, "status": status}
        return self._add("error", service=service, operation=operation, rate=rate, times=times, seed=seed, **more)

    def latency(
        self,
        service: str | None,
        seconds: float,
        jitter: float = 0.0,
        *,
        operation: str | None = None,
        rate: float | None = None,
        times: int | None = None,
        seed: int = 0,
    ) -> int:
        """Hold requests up for `seconds`, give or take `jitter`, before the service acts."""
        more = {"seconds": seconds, "jitter": jitter}
        return self._add("latency", service=service, operation=operation, rate=rate, times=times, seed=seed, **more)

    def reset(
        self,
        service: str | None = None,
        operation: str | None = None,
        *,
        after: bool = False,
        rate: float | None = None,
        times: int | None = None,
        seed: int = 0,
    ) -> int:
        """Break the connection before the service acts, or after it has acted: then only the answer is lost."""
        return self._add("reset", service=service, operation=operation, rate=rate, times=times, seed=seed, after=after)

    def clock(
        self, seconds: float, *, service: str | None = None, rate: float | None = None, times: int | None = None
    ) -> int:
        """Answers carry a Date that is so many seconds later: the client's clock is behind."""
        return self._add("clock", seconds=seconds, service=service, rate=rate, times=times)

    # --- tasks ---------------------------------------------------------------------------------

    def run_task_failures(
        self,
        *,
        reason: str | None = None,
        provider: str | None = None,
        rate: float | None = None,
        times: int | None = None,
        seed: int = 0,
    ) -> int:
        """RunTask answers 200 with `failures` for some of its tasks; `times` counts tasks. The default reason is
        that capacity is unavailable; `RESOURCE:MEMORY` is another. `provider` restricts it, e.g. to "FARGATE_SPOT"."""
        return self._add("run_task_failures", rate=rate, times=times, seed=seed, reason=reason, provider=provider)

    def empty_start(
        self, *, reason: str | None = None, rate: float | None = None, times: int | None = None, seed: int = 0
    ) -> int:
        """Tasks stop with TaskFailedToStart and no containers at all."""
        return self._add("empty_start", rate=rate, times=times, seed=seed, reason=reason)

    def pull_error(
        self, *, reason: str | None = None, rate: float | None = None, times: int | None = None, seed: int = 0
    ) -> int:
        """Tasks stop with TaskFailedToStart because the image cannot be pulled."""
        return self._add("pull_error", rate=rate, times=times, seed=seed, reason=reason)

    def never_start(self, *, rate: float | None = None, times: int | None = None, seed: int = 0) -> int:
        """Tasks stay PENDING until somebody stops them."""
        return self._add("never_start", rate=rate, times=times, seed=seed)

    def stale_describe(self, seconds: float, *, rate: float | None = None, seed: int = 0) -> int:
        """DescribeTasks answers with what was true so many seconds ago; a newer task is MISSING."""
        return self._add("stale_describe", seconds=seconds, rate=rate, seed=seed)

    def interrupt(
        self,
        which: int | str = 1,
        *,
        warning_s: float | None = None,
        provider: str | None = "FARGATE_SPOT",
        seed: int = 0,
    ) -> list[str]:
        """Reclaim spot capacity now: the task of this ARN, or so many running ones by chance; the ARNs that were hit.

        SIGTERM comes at once, SIGKILL after `warning_s`; None means the container's stopTimeout as on Fargate,
        0 no warning at all. `provider=None` takes tasks of any provider.
        """
        asked: dict[str, Any] = {"arn": None, "count": 0, "warning_s": warning_s, "provider": provider, "seed": seed}
        asked["count" if isinstance(which, int) else "arn"] = which
        return list(self._ask("interrupt", **asked))

    def kill(self, arn: str) -> bool:
        """SIGKILL to the main processes of a task; whether there was one."""
        return bool(self._ask("kill", arn=arn))

    def vanish(self, arn: str) -> bool:
        """Kill a task and forget it: DescribeTasks answers MISSING."""
        return bool(self._ask("vanish", arn=arn))

    def expire_credentials(self) -> None:
        """The keys that tasks were given until now are refused from now on; who asks again gets new ones."""
        self._ask("expire")

    # --- messages ------------------------------------------------------------------------------

    def lose_messages(
        self, queue: str = "", *, rate: float | None = None, times: int | None = None, seed: int = 0
    ) -> int:
        """Messages to queues whose name contains `queue` are accepted and never arrive."""
        return self._add("lose_messages", queue=queue, rate=rate, times=times, seed=seed)

    def duplicate_messages(
        self, queue: str = "", *, rate: float | None = None, times: int | None = None, seed: int = 0
    ) -> int:
        """Messages to queues whose name contains `queue` arrive twice; each copy must be deleted."""
        return self._add("duplicate_messages", queue=queue, rate=rate, times=times, seed=seed)

    # --- invocations ---------------------------------------------------------------------------

    def invoke_throttle(
        self,
        *,
        reason: str = "ConcurrentInvocationLimitExceeded",
        retry_after_s: float | None = None,
        rate: float | None = None,
        times: int | None = None,
        seed: int = 0,
    ) -> int:
        """Invoke answers 429 with this `Reason`; CallerRateLimitExceeded is another."""
        more = {"reason": reason, "retry_after_s": retry_after_s}
        return self._add("invoke_throttle", rate=rate, times=times, seed=seed, **more)

    def kill_environment(
        self,
        *,
        when: str = "mid-call",
        delay_s: float = 0.0,
        rate: float | None = None,
        times: int | None = None,
        seed: int = 0,
    ) -> int:
        """SIGKILL to all processes of an environment: `before` it gets its invocation, "mid-call" so many seconds
        after it, `after` the function's end but before its answer gets out, "idle" after its answer is out."""
        if when not in KILL_TIMES:
            what = f"when={when!r} is not one of {', '.join(map(repr, KILL_TIMES))}"
            raise SettingsError(what, remedy="give when='mid-call'")
        return self._add("kill_environment", rate=rate, times=times, seed=seed, when=when, delay_s=delay_s)

    def drop_events(self, *, rate: float | None = None, times: int | None = None, seed: int = 0) -> int:
        """Event invocations, bucket notifications too, are accepted and never run."""
        return self._add("drop_events", rate=rate, times=times, seed=seed)

    def duplicate_events(self, *, rate: float | None = None, times: int | None = None, seed: int = 0) -> int:
        """Event invocations, bucket notifications too, run twice, with one request id."""
        return self._add("duplicate_events", rate=rate, times=times, seed=seed)

    # --- stacks and buckets ----------------------------------------------------------------------

    def fail_resource(
        self,
        logical_id: str,
        *,
        reason: str = 'Resource handler returned message: "Internal failure" (HandlerErrorCode: InternalFailure)',
        stack: str | None = None,
        on: str = "create",
        rate: float | None = None,
        times: int | None = 1,
        seed: int = 0,
    ) -> int:
        """A stack's resource fails with this reason on its "create", "update" or "delete"; `times=None`: always.

        on="validate": before any change, when a change set is made, as with names that others have.
        """
        if on not in STEPS:
            raise SettingsError(f"on={on!r} is not one of {', '.join(map(repr, STEPS))}", remedy="give on='create'")
        more = {"logical_id": logical_id, "reason": reason, "stack": stack, "on": on}
        return self._add("fail_resource", rate=rate, times=times, seed=seed, **more)

    def foreign_bucket(self, name: str) -> int:
        """This bucket's name belongs to another account: who makes it finds it taken, all other requests are 403."""
        return self._add("foreign_bucket", name=name)

    # --- all of them ---------------------------------------------------------------------------

    def clear(self, rule: int | None = None) -> None:
        """End one rule, or all: what they hold up goes on, what they did stays in `fired`."""
        self._ask("faults/clear", rule=rule)

    def fired(self, kind: str | None = None) -> list[dict[str, Any]]:
        """What happened so far, in order: kind, service, operation, task or queue, at_s."""
        return [event for event in self._ask("faults/fired") if kind in (None, event["kind"])]

    def _add(self, kind: str, **details: Any) -> int:
        given = {name: value for name, value in details.items() if value is not None}
        return int(self._ask("faults/add", kind=kind, **given))
