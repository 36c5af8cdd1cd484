"""Gives commands containers of their own, beside an executor's workers.

    submit(Command with a container) --> CoreWithCommands --> second Engine, Ledger --> CommandBackend --> ECS
    submit(anything else)            ----------^------------> the executor's own engine

Called by: ecs.py.   Calls: engine, backends.ecs.commands.
The second engine is made by the first such command: until then nothing is found, asked or started for it. Both number
their calls from one counter, so that a call's id names it within the run.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cloudexec.backends.ecs.commands.backend import CommandBackend, CommandCall
from cloudexec.backends.ecs.commands.containers import Containers
from cloudexec.backends.ecs.commands.orders import Order, order_of
from cloudexec.backends.ecs.driver import Ask
from cloudexec.backends.ecs.launching import Launcher
from cloudexec.backends.ecs.requests import Outfit
from cloudexec.backends.ecs.target import EcsTarget
from cloudexec.command import Command
from cloudexec.engine.engine import Engine
from cloudexec.errors import SettingsError
from cloudexec.executors.base import Core, facts_of
from cloudexec.future import Future
from cloudexec.ids import BlobRef
from cloudexec.ledger.calls import CallOptions
from cloudexec.ledger.ledger import Ledger, Limits
from cloudexec.observe.run import RunFacts

NOT_FOR_COMMANDS: Final = frozenset(
    {"task_definition", "bucket", "execution_role"}
)  # settings that they can do without
_NEVER: Final = float("inf")


@dataclass(frozen=True, kw_only=True)
class CommandPlace:
    """Where commands run, as found: `target` is complete but for what each command names itself."""

    target: EcsTarget
    ask: Ask
    close: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class CommandPlan:
    """What is known before any request. `find` asks AWS for the rest; errors: SettingsError, AwsError and its kin."""

    target: EcsTarget
    outfit: Outfit
    start_timeout_s: float
    find: Callable[[], CommandPlace]


class CoreWithCommands(Core):
    """See Core. A command that names a task definition or an image goes another way than the rest."""

    def __init__(self, *args: Any, commands: CommandPlan, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._plan = commands
        self._making = threading.Lock()
        self._target: EcsTarget | None = None
        self._second: Engine | None = None

    def submit(
        self, options: CallOptions, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        """See Submits.submit."""
        if not (isinstance(fn, Command) and fn.has_container):
            return super().submit(options, fn, args, kwargs)
        if args or kwargs:
            raise SettingsError(f"{fn.text} was submitted with arguments", remedy="put them into the Command's args")
        self._check_open()
        self._order(fn, options, self._plan.target)  # what is wrong with it is said before any request
        engine, target = self._second_engine()
        order = self._order(fn, options, target)
        future: Future[Any] = Future(engine, number := next(self._numbers), time.time())
        call = CommandCall(number, order, options, future)
        future._call = call
        engine.submit([call])
        return future

    def _order(self, command: Command, options: CallOptions, target: EcsTarget) -> Order:
        return order_of(command, target, self._plan.outfit, options.env, options.name or "")

    def _second_engine(self) -> tuple[Engine, EcsTarget]:
        with self._making:
            if self._second is None or self._target is None:
                self._check_open()
                place = self._plan.find()
                self._target = place.target
                self._second = self._made_engine(place)
            if self._second.breakdown is not None:
                raise self._second.breakdown
            return self._second, self._target

    def _made_engine(self, place: CommandPlace) -> Engine:
        run_id, rng = self.engine.run_id, random.Random()
        launcher = Launcher(run_id, os.urandom(4).hex(), rng)
        containers = Containers(launcher, rng, self._plan.start_timeout_s)
        backend = CommandBackend(run_id, place.target.cluster, containers, place.ask, place.close)
        limits = Limits(
            max_lanes=self.max_workers,
            ping_every_s=60.0,
            timeout_grace_s=_NEVER,  # the backend counts from the container's start, which may be long in coming
        )
        return Engine(run_id, Ledger(limits, backend.pace), backend, _release)

    # --- what concerns both engines ---

    def detach(self) -> None:
        """See Core.detach. Errors: SettingsError while commands are open."""
        engine = self._second
        if engine is not None and engine.n_open:
            what = f"{engine.n_open} container commands are open, and nobody could attach to them"
            raise SettingsError(what, remedy="wait for them, or stop them, before detach()")
        super().detach()
        if engine is not None:
            engine.close()
            engine.join()

    def shutdown(self, *, wait: bool, cancel: bool = False, kill: bool = False) -> None:
        """See Submits.shutdown."""
        super().shutdown(wait=False, cancel=cancel, kill=kill)
        with self._making:  # whoever makes it now has not seen that we close
            second = self._second
        if second is not None and second.pid == os.getpid():
            second.close(cancel=cancel, kill=kill)
        if wait:
            super().shutdown(wait=True)
            if second is not None and second.pid == os.getpid():
                second.join()

    def abandon(self) -> None:
        """See Core.abandon."""
        super().abandon()
        if self._second is not None and self._second.pid == os.getpid():
            self._second.close()

    def facts(self) -> RunFacts:
        """See Submits.run. Calls and commands together."""
        first, second = super().facts(), self._second
        if second is None:
            return first
        more = facts_of(second)
        return RunFacts(first.id, *(one + other for one, other in zip(first[1:], more[1:], strict=True)))


def _release(refs: tuple[BlobRef, ...]) -> None:
    """Commands have no blobs."""
