"""Environments by function: warm ones are used again, new ones are made, idle ones are frozen and in the end reaped.

Called by:  invoke.py and events.py, through `take` and `give_back`; plane.py.   Calls: environment.py, launching.py.

  take:       the idle environment used last; else a new one, if concurrency and ramp allow it; else Throttled
  janitor:    freezes what has been idle for FREEZE_AFTER_S, ends what has been idle for `lambda_idle_s`
  watcher:    kills a busy environment that has grown above its function's memory
              Both sleep while there is nothing to look at.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cloudexec.testing.pocket.server.awslambda.environment import Environment
from cloudexec.testing.pocket.server.awslambda.functions import Function
from cloudexec.testing.pocket.server.awslambda.launching import CannotExecute, Launching
from cloudexec.testing.pocket.server.awslambda.records import LogBook, Tally
from cloudexec.testing.pocket.server.memory import anonymous_bytes, descendants, proportional_bytes
from cloudexec.testing.pocket.settings import PocketSettings

ACCOUNT_REASON: Final = "ConcurrentInvocationLimitExceeded"
RESERVED_REASON: Final = "ReservedFunctionConcurrentInvocationLimitExceeded"
RAMP_WINDOW_S: Final = 10.0
FREEZE_AFTER_S: Final = 0.02  # the runtime asks for the next invocation meanwhile
LOOK_EVERY_S: Final = 0.1
SHARE: Final = 20  # watch for no more than a twentieth of the time
END_S: Final = 5.0
KILL_AGAIN_S: Final = 0.05


class Throttled(Exception):
    """No environment may be had now. Arguments: the reason, as Lambda names it; seconds until it may help to ask."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason, retry_after_s)
        self.reason, self.retry_after_s = reason, retry_after_s


class Ramp:
    """How many environments one function may still be given; a token bucket."""

    def __init__(self, per_window: int, now_s: float) -> None:
        self._most, self._tokens, self._as_of_s = float(per_window), float(per_window), now_s

    def take(self, now_s: float) -> bool:
        """Whether one more may be made."""
        grown = self._tokens + (now_s - self._as_of_s) * self._most / RAMP_WINDOW_S
        self._tokens, self._as_of_s = min(self._most, grown), now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Pool:
    """All environments of all functions."""

    def __init__(
        self,
        *,
        settings: PocketSettings,
        launching: Launching,
        log: LogBook,
        tally: Tally,
        reserved: Callable[[Function], int | None],
        unreserved: Callable[[], int],
    ) -> None:
        self._settings, self._launching, self._log, self._tally = settings, launching, log, tally
        self._reserved, self._unreserved = reserved, unreserved
        self._changed = threading.Condition()
        self._all: dict[str, Environment] = {}
        self._idle: defaultdict[tuple[str, str], list[Environment]] = defaultdict(list)  # by ARN and version
        self._busy: Counter[str] = Counter()  # by ARN
        self._n_unreserved = 0  # of those
        self._ramps: dict[str, Ramp] = {}
        self._is_over = False
        self._some_busy, self._wake = threading.Event(), threading.Event()
        self._next_look_s = math.inf  # when the janitor looks again
        threading.Thread(target=self._tidy, name="janitor", daemon=True).start()
        if settings.memory_limits:
            threading.Thread(target=self._watch, name="memory", daemon=True).start()

    # --- one invocation ------------------------------------------------------------------------

    def take(self, function: Function) -> Environment:
        """An environment for one invocation, started if it is new; Throttled if there may be none."""
        outdated: list[Environment] = []
        with self._changed:
            is_reserved = self._admit(function)
            environment = self._warm(function, outdated)
            if environment is None:
                if not self._ramp(function).take(time.monotonic()):
                    raise Throttled(ACCOUNT_REASON, RAMP_WINDOW_S / max(1, self._settings.lambda_ramp))
                environment = self._new(function)
            environment.is_reserved = is_reserved
            self._busy[function.arn] += 1
            self._n_unreserved += not is_reserved
        self._some_busy.set()
        for old in outdated:
            self._end(old)
        if environment.pid is None:
            self._start(environment)
        return environment

    def _admit(self, function: Function) -> bool:
        """Whether it runs within its own, reserved concurrency; Throttled if it may not run."""
        reserved = self._reserved(function)
        if reserved is not None:
            if self._busy[function.arn] >= reserved:
                raise Throttled(RESERVED_REASON)
        elif self._n_unreserved >= self._unreserved():
            raise Throttled(ACCOUNT_REASON)
        return reserved is not None

    def _warm(self, function: Function, outdated: list[Environment]) -> Environment | None:
        idle = self._idle[function.arn, function.version]
        while idle:
            environment = idle.pop()
            if environment.function.revision == function.revision and environment.claim():
                return environment
            outdated.append(environment)
        return None

    def _ramp(self, function: Function) -> Ramp:
        if function.arn not in self._ramps:
            self._ramps[function.arn] = Ramp(self._settings.lambda_ramp, time.monotonic())
        return self._ramps[function.arn]

    def _new(self, function: Function) -> Environment:
        stream = f"{time.strftime('%Y/%m/%d', time.gmtime())}/[{function.version}]"
        region, group = function.region, function.log_group
        environment = Environment(function, stream, lambda name, line: self._log.write((region, group, name), line))
        self._all[environment.id] = environment
        self._tally.count(function.name, "cold_starts")
        return environment

    def _start(self, environment: Environment) -> None:
        try:
            if self._settings.lambda_cold_s:
                time.sleep(self._settings.lambda_cold_s)
            launch = self._launching.launch(environment.function, environment)
            try:
                environment.start(launch)
            except OSError as error:
                what = f"fork/exec {launch.argv[0]}: {os.strerror(error.errno or 0).lower()}"
                raise CannotExecute(what) from error
        except BaseException:
            self.give_back(environment)
            raise

    def give_back(self, environment: Environment) -> None:
        """After an invocation: the environment is idle, or gone."""
        arn = environment.function.arn
        is_alive = environment.is_alive
        with self._changed:
            self._busy[arn] -= 1
            self._n_unreserved -= not environment.is_reserved
            keep = is_alive and not self._is_over and environment.id in self._all
            if keep:
                environment.rest()
                self._idle[arn, environment.function.version].append(environment)
            is_early = self._next_look_s > time.monotonic() + FREEZE_AFTER_S
        if not keep:
            self._end(environment)
        elif is_early:
            self._wake.set()

    def _end(self, environment: Environment) -> None:
        environment.end()
        with self._changed:
            self._all.pop(environment.id, None)
            self._changed.notify_all()

    # --- in the background ---------------------------------------------------------------------

    def _tidy(self) -> None:
        """Freeze and reap what is idle."""
        while not self._is_over:
            self._wake.clear()
            with self._changed:
                idle = [env for envs in self._idle.values() for env in envs]
                # Under the lock: who comes back right now must not go by an earlier time that nobody waits for.
                self._next_look_s = min((self._due_s(env) for env in idle), default=math.inf)
            pause_s = self._next_look_s - time.monotonic()
            if pause_s > 0:
                self._wake.wait(None if pause_s == math.inf else pause_s)
                continue
            now_s = time.monotonic()
            for environment in idle:
                if now_s - environment.idle_since_s >= self._settings.lambda_idle_s:
                    self._reap(environment)
                elif now_s >= self._due_s(environment):
                    environment.freeze()

    def _due_s(self, environment: Environment) -> float:
        """When something is to be done with an idle environment."""
        freezes = self._settings.lambda_freeze and environment.can_freeze
        pause_s = FREEZE_AFTER_S if freezes else self._settings.lambda_idle_s
        return environment.idle_since_s + min(pause_s, self._settings.lambda_idle_s)

    def _reap(self, environment: Environment) -> None:
        with self._changed:
            idle = self._idle[environment.function.arn, environment.function.version]
            if environment not in idle:
                return
            idle.remove(environment)
        self._end(environment)

    def _watch(self) -> None:
        """Kill what grows above its memory."""
        while not self._is_over:
            self._some_busy.wait()
            with self._changed:
                busy = [env for env in self._all.values() if env.is_busy]
                if not busy and not self._is_over:
                    self._some_busy.clear()
            began_s = time.monotonic()
            for environment in busy:
                _enforce(environment)
            time.sleep(max(LOOK_EVERY_S, SHARE * (time.monotonic() - began_s)))

    # --- from outside --------------------------------------------------------------------------

    def views(self) -> list[dict[str, Any]]:
        """All environments, oldest first."""
        with self._changed:
            return [
                {
                    "id": env.id,
                    "function": env.function.name,
                    "version": env.function.version,
                    "pid": env.pid,
                    "state": env.state,
                    "n_invocations": env.n_invocations,
                }
                for env in self._all.values()
            ]

    def retire(self, arn: str | None = None) -> None:
        """End what is idle: of one function, or all of it."""
        with self._changed:
            retired = []
            for (of, _), idle in self._idle.items():
                if arn in (None, of):
                    retired += idle
                    idle.clear()
        for environment in retired:
            self._end(environment)

    def n_busy(self) -> int:
        """How many invocations run."""
        with self._changed:
            return sum(self._busy.values())

    def empty(self) -> None:
        """Kill everything; who waits for an invocation is told that its environment was killed."""
        deadline_s = time.monotonic() + END_S
        while time.monotonic() < deadline_s:  # what is just being started dies the second time
            self.retire()
            with self._changed:
                busy = [env for env in self._all.values() if env.is_busy]
            for environment in busy:
                environment.kill()
            with self._changed:
                if self._changed.wait_for(lambda: not self._all, KILL_AGAIN_S):
                    break
        with self._changed:
            self._ramps.clear()

    def close(self) -> None:
        """The server ends."""
        with self._changed:
            self._is_over = True
        self._wake.set()
        self._some_busy.set()
        self.empty()


def _enforce(environment: Environment) -> None:
    limit_bytes, pid = environment.memory_limit_bytes, environment.pid
    if limit_bytes is None or pid is None or not environment.is_busy:
        return
    family = descendants(pid)
    used_bytes = sum(anonymous_bytes(member) for member in family)
    if used_bytes > limit_bytes:
        used_bytes = sum(proportional_bytes(member) for member in family)
    environment.peak_bytes = max(environment.peak_bytes, used_bytes)
    if used_bytes > limit_bytes:
        environment.over_memory = True
        environment.kill()


def make_root(root: Path) -> Path:
    """The directory of functions and their environments."""
    directory = root / "functions"
    directory.mkdir()
    return directory
