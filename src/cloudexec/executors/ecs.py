"""ECSExecutor: the worker in containers on Fargate, Fargate Spot, or capacity of your own.

Called by: users.   Calls: pulling.py, backends.ecs.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final, Literal

from cloudexec.backends.clients import Clients
from cloudexec.backends.ecs.commands.definitions import with_roles
from cloudexec.backends.ecs.commands.orders import base_of
from cloudexec.backends.ecs.discovery import EcsPlace, complete, settle
from cloudexec.backends.ecs.driver import EcsFleet
from cloudexec.backends.ecs.fleet import Fleet
from cloudexec.backends.ecs.launching import Launcher
from cloudexec.backends.ecs.requests import PARENT_TAG, Outfit
from cloudexec.backends.ecs.sizes import Size
from cloudexec.backends.ecs.target import EcsTarget, Fallback, ProviderShare
from cloudexec.backends.ecs.watching import ROUND_S
from cloudexec.backends.pull.control import client_name
from cloudexec.backends.pull.home import Home
from cloudexec.executors.base import CloudExecutor, OnError, checked_env
from cloudexec.executors.commands import NOT_FOR_COMMANDS, CommandPlace, CommandPlan, CoreWithCommands
from cloudexec.executors.pulling import Found, Place, PullingRun, PullSettings, find_run, take_over_run
from cloudexec.executors.runkeys import RunKey
from cloudexec.executors.settings import checked_initializer, positive, positive_or_none, seconds
from cloudexec.future import Future
from cloudexec.ids import new_run_id
from cloudexec.ledger.calls import CallOptions, Retry
from cloudexec.observe.recorder import Recorder
from cloudexec.observe.summary import Where
from cloudexec.transport.account import Account, open_client
from cloudexec.transport.boto import account_of
from cloudexec.wire.envelope import Seal, new_key

MAX_WORKERS: Final = 10
PREFIX: Final = "cloudexec"
BACKEND: Final = "ecs"
_LARGER_SHARE: Final = 4  # one in so many workers may be of a larger size
Strategy = Sequence[Mapping[str, Any] | ProviderShare]


class ECSExecutor(CloudExecutor):
    """Runs calls in containers on ECS: pooled workers that take calls from a queue.

    Where: cluster, task_definition (or image, with vcpu and memory_mib, for one that is registered), subnets,
    security_groups, assign_public_ip, bucket, region, profile or session, endpoint_url. What is not given comes from
    the environment (CLOUDEXEC_CLUSTER, ...), `~/.config/cloudexec/config.toml`, or the deployed stack.

    How much: max_workers is the number of calls at once, 10 by default; slots of them share a container (one per
    vCPU by default). spot=True asks for Fargate Spot, but for on_demand_base containers; fallback says what happens
    where there is none: "on_demand" (the default) or "wait". launch_type or capacity_provider_strategy name other
    capacity.

    oom_sizes=[(2, 8192), (4, 16384)], each (vcpu, memory_mib): a call that runs out of memory is run again in a
    container of the next size, one call to a container, instead of failing. A quarter of max_workers may run so.

    How long: a container ends after idle_timeout_s without work, takes no new calls after max_lifetime_s, and ends
    when the client has shown no sign of life for client_timeout_s. A container that has not reported within
    start_timeout_s counts as a failed start; three in a row break the executor.

    initializer, initargs, max_tasks_per_child, timeout_s, retries, env, name, on_error: as for LocalExecutor.
    modules: local modules that travel along, "auto" by default. tags: on everything that is made. log_output: what
    calls print goes to the containers' log, too, each line with its call's id in front. tuning: intervals of workers by
    name, see docs/ecs.md.

    Nothing is asked of AWS before the first submission, unless warm=True, which starts the containers at once.
    Errors: SettingsError.
    """

    def __init__(
        self,
        cluster: str | None = None,
        *,
        max_workers: int | None = None,
        task_definition: str | None = None,
        image: str | None = None,
        container: str | None = None,
        vcpu: float | None = None,
        memory_mib: int | None = None,
        slots: int | None = None,
        oom_sizes: Sequence[tuple[float, int]] | None = None,
        spot: bool | None = None,
        on_demand_base: int | None = None,
        fallback: Literal["on_demand", "wait"] | None = None,
        capacity_provider_strategy: Strategy | None = None,
        launch_type: str | None = None,
        subnets: Sequence[str] | None = None,
        security_groups: Sequence[str] | None = None,
        assign_public_ip: bool | None = None,
        arch: str | None = None,
        task_role: str | None = None,
        execution_role: str | None = None,
        log_group: str | None = None,
        ephemeral_gib: int | None = None,
        bucket: str | None = None,
        prefix: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        session: Any = None,
        endpoint_url: str | None = None,
        stack: str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
        modules: Any = "auto",
        timeout_s: float | None = None,
        retries: int | Retry = Retry(),  # noqa: B008 - frozen
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        idle_timeout_s: float = 120.0,
        max_lifetime_s: float = 86_400.0,
        client_timeout_s: float = 600.0,
        start_timeout_s: float = 300.0,
        on_error: OnError = "wait",
        warm: bool = False,
        log_output: bool = True,
        tuning: Mapping[str, float] | None = None,
    ) -> None:
        given = {
            "cluster": cluster,
            "task_definition": task_definition,
            "image": image,
            "container": container,
            "vcpu": vcpu,
            "memory_mib": memory_mib,
            "slots": slots,
            "oom_sizes": oom_sizes or None,
            "arch": arch,
            "launch_type": launch_type,
            "capacity_provider_strategy": capacity_provider_strategy,
            "spot": spot,
            "on_demand_base": on_demand_base,
            "fallback": fallback,
            "subnets": subnets,
            "security_groups": security_groups,
            "assign_public_ip": assign_public_ip,
            "task_role": task_role,
            "execution_role": execution_role,
            "log_group": log_group,
            "ephemeral_gib": ephemeral_gib,
            "bucket": bucket,
            "prefix": prefix,
            "region": region,
            "stack": stack,
            "endpoint_url": endpoint_url,
            "aws_profile": profile,
            "tags": tags,
        }
        found = settle(given, os.environ)
        n_workers = MAX_WORKERS if max_workers is None else positive("max_workers", max_workers)
        settings = PullSettings(
            max_workers=n_workers,
            n_slots=min(found.target.n_slots, n_workers),
            max_tasks=positive_or_none("max_tasks_per_child", max_tasks_per_child),
            initializer=checked_initializer(initializer),
            initargs=tuple(initargs),
            modules=modules,
            start_timeout_s=seconds("start_timeout_s", start_timeout_s),
            log_output=bool(log_output),
            tuning={
                "idle_s": seconds("idle_timeout_s", idle_timeout_s),
                "lifetime_s": seconds("max_lifetime_s", max_lifetime_s),
                "stale_s": seconds("client_timeout_s", client_timeout_s),
                **(tuning or {}),
            },
        )
        options = CallOptions(
            timeout_s=timeout_s, retry=Retry.of(retries), env=checked_env(env) if env else None, name=name
        )
        run_id = new_run_id()
        finder = _Finder(run_id, found, session, settings, name or "")
        run = PullingRun(
            run_id, new_key(), finder.recorder, settings, finder.place, larger=finder.larger, tried=finder.tried
        )
        self._set_up(run, finder, options, on_error)
        if warm:
            self._core.warm()

    def _set_up(self, run: PullingRun, finder: _Finder, options: CallOptions, on_error: OnError) -> None:
        self._run = run
        self._restored: list[Future[Any]] = []
        super().__init__(run.core(partial(CoreWithCommands, commands=finder.commands())), options, on_error)

    @property
    def futures(self) -> list[Future[Any]]:
        """Futures of the calls that were there when this executor attached, in the order of their submission."""
        return list(self._restored)

    def detach(self) -> str:
        """Leave the run to its workers, and this executor: its open futures end with RunDetached.

        What has not been sent is sent first. Returns the run's id, for `attach`. Workers go on until the queue is
        empty and they have been idle for idle_timeout_s; results wait four days.
        """
        self._core.detach()
        return self._run.id

    @classmethod
    def attach(
        cls,
        run_id: str,
        *,
        key: str | None = None,
        bucket: str | None = None,
        prefix: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        session: Any = None,
        endpoint_url: str | None = None,
        take_over: bool = False,
        on_error: OnError = "wait",
    ) -> ECSExecutor:
        """Go on with a run that another client has detached from, or died in the middle of.

        `futures` holds all its calls, those that are over included. Where the run lies and its key are read from this
        user's files; on another machine give `bucket` and `key` (see `run_key`). take_over: also if its client seems
        alive, whose futures then fail. Errors: RunMissing, RunBusy, SignatureError.
        """
        known = RunKey.of(run_id, key, bucket, prefix, region, profile, endpoint_url)
        found = _found(known, session, take_over)
        settings = PullSettings.of_record(found.record)
        place = EcsPlace(
            target=target_of(found.record.fleet),
            bucket=known.bucket,
            prefix=known.prefix,
            aws_profile=known.profile,
            endpoint_url=known.endpoint_url,
            sources={},
        )
        finder = _Finder(run_id, place, session, settings, found.record.name)
        run = PullingRun(
            run_id,
            bytes.fromhex(known.key_hex),
            finder.recorder,
            settings,
            finder.place,
            adopted=found,
            larger=finder.larger,
            tried=finder.tried,
        )
        executor = cls.__new__(cls)
        executor._set_up(run, finder, CallOptions(), on_error)
        executor._restored = take_over_run(run, executor._core, found)
        return executor

    @property
    def run_key(self) -> str:
        """The run's key, for attaching on another machine. Keep it safe: it signs what is unpickled here."""
        return self._run.key.hex()


class _Finder:
    """Finds out, when a run begins, where it lives and who may start its tasks."""

    def __init__(
        self,
        run_id: str,
        found: EcsPlace,
        session: Any,
        settings: PullSettings,
        name: str,
        parent: PullingRun | None = None,
    ) -> None:
        parent_id = parent.root.id if parent is not None else ""
        self.recorder = parent.recorder if parent is not None else Recorder(run_id, BACKEND, settings.max_workers)
        self._run_id = run_id
        self._found = found
        self._session = session
        self._settings = settings
        self._name = name
        self._parent_id = parent_id
        self._outfit = Outfit(run_id=run_id, parent_id=parent_id, name=name, client=client_name())

    @property
    def tried(self) -> str:
        """The sizes in which a call has been that ran out of memory in the last one."""
        target = self._found.target
        first = target.known_size
        shown = [first.shown if first is not None else "the task definition's size"]
        shown += [size.shown for size in target.oom_sizes]
        return "; ".join(shown) if target.oom_sizes else ""

    @property
    def larger(self) -> Callable[[PullingRun], PullingRun] | None:
        """Makes the run in which calls are tried again that ran out of memory; None if there is no larger size."""
        return self._larger_run if self._found.target.oom_sizes else None

    def _larger_run(self, parent: PullingRun) -> PullingRun:
        found, settings = self._found, self._settings
        (size, *rest) = found.target.oom_sizes
        n_workers = max(1, settings.max_workers // _LARGER_SHARE) if self._parent_id == "" else settings.max_workers
        changes: dict[str, Any] = {
            "vcpu": size.vcpu,
            "memory_mib": size.memory_mib,
            "slots": 1,
            "oom_sizes": tuple(rest),
        }
        sources = {**found.sources, **dict.fromkeys(changes, "oom_sizes")} if found.sources else {}
        finder = _Finder(
            run_id := new_run_id(),
            replace(found, target=replace(found.target, **changes), sources=sources),
            self._session,
            replace(settings, max_workers=n_workers, n_slots=1),
            self._name,
            parent,
        )
        return PullingRun(
            run_id, new_key(), finder.recorder, finder._settings, finder.place, larger=finder.larger, parent=parent
        )

    def commands(self) -> CommandPlan:
        """How commands get containers of their own."""
        return CommandPlan(
            target=base_of(self._found.target),
            outfit=self._outfit,
            start_timeout_s=self._settings.start_timeout_s,
            find=self._command_place,
        )

    def _command_place(self) -> CommandPlace:
        """Commands need no bucket and no task definition of workers. Errors: SettingsError, AwsError and its kin."""
        clients = self._clients()
        found = complete(self._found, clients.ask, os.environ, optional=NOT_FOR_COMMANDS)
        target = with_roles(replace(found.target, region=clients.region), clients.ask)
        return CommandPlace(target=target, ask=clients.ask, close=clients.close)

    def _clients(self) -> Clients:
        found = self._found
        return Clients(
            session=self._session,
            region=found.target.region,
            profile=found.aws_profile,
            endpoint_url=found.endpoint_url,
        )

    def place(self) -> Place:
        """Ask AWS for what is not known. Errors: SettingsError, AwsError and its kin."""
        clients = self._clients()
        found = complete(self._found, clients.ask, os.environ)
        account = account_in(clients, found.endpoint_url)
        target = replace(found.target, region=account.region)
        rng = random.Random()
        launcher = Launcher(self._run_id, os.urandom(4).hex(), rng)
        look_every_s = self._settings.tuning.get("look_every_s", ROUND_S)
        fleet = Fleet(target, launcher, rng, self._settings.start_timeout_s, look_every_s)
        client = open_client(account)
        ecs_fleet = EcsFleet(target, self._outfit, fleet, clients.ask, self._note)

        def close() -> None:
            client.close()
            clients.close()

        return Place(
            account=account,
            client=client,
            close=close,
            ask=clients.ask,
            bucket=found.bucket,
            prefix=found.prefix or PREFIX,
            owner=clients.account_id,
            fleet=ecs_fleet,
            tags={**target.tags, **({PARENT_TAG: self._parent_id} if self._parent_id else {})},
            name=self._name,
            fleet_record=_recorded(target),
            endpoint_url=found.endpoint_url,
            profile=found.aws_profile,
            where=lambda: self._where(ecs_fleet, account.region, found),
            caller_arn=lambda: clients.known_arn,
        )

    def _note(self, worker: str, **facts: Any) -> None:
        """What is known of a worker, for the run's summary."""
        self.recorder.worker(worker, run=self._run_id if self._parent_id else "", **facts)

    def _where(self, fleet: EcsFleet, region: str, found: EcsPlace) -> Where:
        """Where calls run, for the run's summary."""
        target, size = fleet.target, fleet.size
        return Where(
            region=region,
            bucket=found.bucket,
            prefix=found.prefix or PREFIX,
            cluster=target.cluster,
            task_definition=fleet.definition,
            image=target.image,
            capacity=target.capacity.value,
            spot=target.spot,
            arch=fleet.arch,
            vcpu=size.vcpu,
            memory_mib=size.memory_mib,
            slots=self._settings.n_slots,
            log_group=target.log_group,
            log_stream_prefix=f"{target.log_prefix}/{target.container_name}/" if target.log_group else "",
            public_ip=bool(target.assign_public_ip),
            logs_output=self._settings.log_output,
        )


def _found(known: RunKey, session: Any, take_over: bool) -> Found:
    """What is known of an earlier client's run. Errors: RunMissing, RunBusy, SignatureError, AwsError and its kin."""
    clients = Clients(session=session, region=known.region, profile=known.profile, endpoint_url=known.endpoint_url)
    client = open_client(account_in(clients, known.endpoint_url))
    try:
        home = Home(
            known.run_id,
            bucket=known.bucket,
            prefix=known.prefix,
            owner=known.owner or clients.account_id,
            client=client,
            ask=clients.ask,
            tags={},
        )
        return find_run(home, Seal(bytes.fromhex(known.key_hex)), take_over=take_over)
    finally:
        client.close()
        clients.close()


def account_in(clients: Clients, endpoint_url: str) -> Account:
    """The account that the lean transport signs for."""
    endpoints = dict.fromkeys(("s3", "sqs"), endpoint_url) if endpoint_url else {}
    return account_of(clients.session, region=clients.region, endpoints=endpoints)


def _recorded(target: EcsTarget) -> dict[str, Any]:
    """A target as plain data."""
    said = asdict(target)
    said["tags"] = dict(target.tags)
    said["fallback"] = target.fallback.value
    return said


def target_of(said: Mapping[str, Any]) -> EcsTarget:
    """What `_recorded` wrote."""
    shares = tuple(ProviderShare(**share) for share in said["capacity_provider_strategy"])
    changes = {
        "capacity_provider_strategy": shares,
        "fallback": Fallback(said["fallback"]),
        "oom_sizes": tuple(Size(*size) for size in said["oom_sizes"]),
        "subnets": tuple(said["subnets"]),
        "security_groups": tuple(said["security_groups"]),
    }
    return EcsTarget(**{**said, **changes})
