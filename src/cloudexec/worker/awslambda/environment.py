"""What one Lambda environment keeps from one invocation to the next: the slots of a run, clients, caches.

Called by: entry.py, events.py, jobs.py.   Calls: crew.py; a transport's client.
One run at a time: an invocation of another run, or with other settings, ends the slots of the one before.
"""

from __future__ import annotations

import base64
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import cloudexec
from cloudexec.wire.envelope import Seal, new_key
from cloudexec.wire.invocation import MOST_SEALED, Event, InvocationSettings
from cloudexec.worker.agent.couriers import Courier, Inbox
from cloudexec.worker.agent.place import age_of_process_s, say
from cloudexec.worker.awslambda.ahead import launch
from cloudexec.worker.awslambda.caches import Caches
from cloudexec.worker.awslambda.crew import Crew, setup_of
from cloudexec.worker.awslambda.early import Early
from cloudexec.worker.awslambda.request import Request
from cloudexec.worker.awslambda.room import Room
from cloudexec.worker.awslambda.watch import Watch
from cloudexec.worker.host.process import Launch
from cloudexec.worker.stores import open_store, s3_place

if TYPE_CHECKING:
    from cloudexec.store.s3 import S3Store
    from cloudexec.transport.account import Client

_NO_LIMIT: Final = 1 << 62
_ANSWER_BYTES: Final = 16_384  # what a report takes besides its outcomes, and more
_Identity = tuple[bytes, InvocationSettings]


class Environment:
    """The only one of its process. `caches`: its directories."""

    def __init__(self, caches: Caches | None = None) -> None:
        self.caches = caches or Caches()
        self.worker = ""
        self.n_invocations = 0
        self.init_s = 0.0
        self.own_key = new_key()  # of what it runs for no executor
        self._told_facts = ""  # the run that was told last
        self._ahead: Launch | None = None
        self._crew: Crew | None = None
        self._identity: _Identity | None = None
        self._root = ""
        self._inbox: Inbox | None = None
        self._clients: dict[tuple[str, str], Client] = {}
        self._couriers: dict[tuple[str, str, str], Courier] = {}

    def take_over(self, ahead: Launch) -> None:
        """Here is a supervisor for the first run, started before there is one. The environment is ready now."""
        self._ahead = ahead
        self.init_s = age_of_process_s()

    def begin(self, request: Request) -> None:
        """An invocation begins."""
        self.n_invocations += 1
        if not self.worker:
            self.worker = request.log_stream.rpartition("/")[2].rpartition("]")[2] or f"w{os.urandom(8).hex()}"

    # --- slots ---

    def crew_for(self, key: bytes, settings: InvocationSettings) -> Crew:
        """The slots of this run; those of another one are ended. Errors: CloudexecError if its initializer cannot be
        read; OSError if nothing can be written to the temporary directory."""
        identity = (key, settings)
        if self._crew is not None and self._identity == identity and not self._crew.is_over:
            return self._crew
        self.dismiss()
        began_s = time.monotonic()
        self._root = self.caches.new_root()
        place = self._place_of(settings)
        setup = setup_of(
            key,
            settings.run_id,
            [self._root],
            store=place,
            max_tasks=settings.max_tasks_per_child,
            initializer=self._initializer(settings, place),
            inline_bytes=settings.inline_bytes if place else _NO_LIMIT,
            log_as=settings.run_id if settings.log_output else "",
        )
        watch = self._watch_for(settings, Seal(key)) if place else None
        room = None if place else Room(MOST_SEALED - _ANSWER_BYTES, settings.n_slots)
        self._crew = Crew(setup, settings.n_slots, self.worker, self._launch, watch, room)
        self._identity = identity
        self._crew.start()
        say(f"serves run {settings.run_id} with {settings.n_slots} slots after {time.monotonic() - began_s:.3f} s")
        return self._crew

    def dismiss(self) -> None:
        """End the slots that are there."""
        crew, self._crew, self._identity = self._crew, None, None
        if crew is not None:
            crew.close()
        if self._root:
            self.caches.retire(self._root)
            self._root = ""

    def close(self) -> None:
        """End all processes."""
        self.dismiss()
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.discard()
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def _launch(self) -> Launch:
        ahead, self._ahead = self._ahead, None
        return ahead or launch()

    def _place_of(self, settings: InvocationSettings) -> dict[str, str]:
        if not settings.bucket:
            return {}
        place = s3_place(settings.bucket, settings.owner, settings.prefix, settings.region)
        return {**place, "attic": self.caches.attic, "cache_bytes": str(self.caches.most_bytes)}

    def _initializer(self, settings: InvocationSettings, place: Mapping[str, str]) -> str:
        name = settings.initializer_blob
        if not name:
            return settings.initializer
        name = name if "/" in name else f"blobs/{name}"
        content = open_store([self._root], place).get(name)  # compared with its name, which is its hash
        return base64.b64encode(content).decode("ascii")

    def _watch_for(self, settings: InvocationSettings, seal: Seal) -> Watch:
        courier_for = self.courier_for("watcher", settings.region, settings.owner)
        return Watch(settings, seal, self.worker, self.inbox, courier_for)

    def early_for(self, said: Event) -> Early | None:
        """How the batch tells before its end; None if nobody would look."""
        settings = said.settings
        if not said.early or not settings.bucket:
            return None
        courier_for = self.courier_for("teller", settings.region, settings.owner)
        return Early(said.early, settings, Seal(said.key), courier_for, time.monotonic())

    # --- requests ---

    @property
    def inbox(self) -> Inbox:
        """Where couriers leave answers."""
        if self._inbox is None:
            self._inbox = Inbox()
        return self._inbox

    def courier_for(self, name: str, region: str, owner: str) -> Callable[[], Courier]:
        """How to get the courier of this name, who is one thread."""

        def find() -> Courier:
            found = self._couriers.get((name, region, owner))
            if found is None:
                found = self._couriers[name, region, owner] = Courier(name, self.client(region, owner), self.inbox)
            return found

        return find

    def client(self, region: str, owner: str) -> Client:
        """A client that is kept. Errors: SettingsError, CredentialsMissing."""
        from cloudexec.transport.account import Account, open_client

        found = self._clients.get((region, owner))
        if found is None:
            environ = {**os.environ, "AWS_REGION": region}
            found = self._clients[region, owner] = open_client(Account.from_environment(environ, owner=owner))
        return found

    def store(self, settings: InvocationSettings) -> S3Store:
        """The run's objects."""
        from cloudexec.store.s3 import S3Store

        return S3Store(self.client(settings.region, settings.owner), settings.bucket, settings.prefix, settings.owner)

    # --- facts ---

    def facts(self, request: Request, run_id: str) -> dict[str, str]:
        """What a client may want to know of this environment; told in the first report of a run. `cold`: it is new."""
        if self._told_facts == run_id:
            return {}
        is_cold = not self._told_facts
        self._told_facts = run_id
        affinity = getattr(os, "sched_getaffinity", None)
        return {
            "python": "{}.{}.{}".format(*sys.version_info[:3]),
            "cloudexec": cloudexec.__version__,
            "arch": os.uname().machine,
            "cpus": str(len(affinity(0)) if affinity is not None else os.cpu_count() or 1),
            "memory_mb": request.memory_mb,
            "init_s": f"{self.init_s:.3f}",
            "cold": "true" if is_cold else "false",
        }


ENVIRONMENT: Final = Environment()
