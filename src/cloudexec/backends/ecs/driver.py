"""Carries out what the fleet wants, on threads of its own, and hands back what ECS answers.

    engine's thread                         threads                     ECS, Logs
    ---------------                         -------                     ---------
    want, drop, turn --> Fleet (pure)
                           | actions -----> RunTask, DescribeTasks, --> ...
                           |                ListTasks, StopTask
    turn: answers <--------+--------------- queue, then `wake`
                           | a worker ended: its last log lines are fetched before its calls hear of it

Called by: backends.pull.   Calls: fleet.py, requests.py, replies.py, and `ask` for a request to a service.
Schedule:  see fleet.py and watching.py: at most two reads a second, whatever the fleet's size.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol

from cloudexec.backends.ecs.fleet import Action, Describe, Fleet, List, News, RunTask, StopTask
from cloudexec.backends.ecs.replies import (
    DefinitionFacts,
    RunReply,
    read_conflict,
    read_describe,
    read_list,
    read_run_task,
    read_task_definition,
)
from cloudexec.backends.ecs.requests import (
    Launch,
    Outfit,
    container_memory_mib,
    describe_task_definition_request,
    describe_tasks_request,
    get_log_events_request,
    list_tasks_request,
    register_task_definition_request,
    run_task_request,
    stop_task_request,
)
from cloudexec.backends.ecs.sizes import Size
from cloudexec.backends.ecs.stops import remedy_in
from cloudexec.backends.ecs.target import Capacity, EcsTarget
from cloudexec.backends.ecs.tasks import Task
from cloudexec.backends.pull.fleet import FleetEvent
from cloudexec.errors import AwsError, CloudexecError, SettingsError

log = logging.getLogger(__name__)

_THREADS: Final = 12
_LOG_LINES: Final = 20
_LOGS_AT_ONCE: Final = 20  # when many workers end together, only so many have their logs read
_SETTLE_S: Final = 0.02
_CAPACITIES: Final = {"FARGATE": Capacity.ON_DEMAND, "FARGATE_SPOT": Capacity.SPOT}
_LAST_REQUESTS_S: Final = 2.0  # at the end, for what nobody waits for any more


class Ask(Protocol):
    """One request to a service: `ask("ecs", "run_task", {...})`. Errors: AwsError and its kin."""

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer."""
        ...


class EcsFleet:
    """See backends.pull.fleet.Fleet. `note(worker, **facts)` is told what is known of each task, for the run's
    summary."""

    def __init__(
        self, target: EcsTarget, outfit: Outfit, fleet: Fleet, ask: Ask, note: Callable[..., None] | None = None
    ) -> None:
        self._target = target
        self._note = note
        self._outfit = outfit
        self._fleet = fleet
        self._ask = ask
        self._definition = target.task_definition
        self._facts: DefinitionFacts | None = None
        self._answers: deque[Callable[[float], None]] = deque()
        self._events: deque[FleetEvent] = deque()
        self._wake: Callable[[], None] = lambda: None
        self._threads: ThreadPoolExecutor | None = None
        self._n_reading_logs = 0
        self._up: set[str] = set()  # workers that have reported, for the log
        self._under_way: set[Future[None]] = set()

    @property
    def n_workers(self) -> int:
        """See pull Fleet."""
        return self._fleet.n_workers

    @property
    def target(self) -> EcsTarget:
        """What is known of the tasks; after `open`, also what their definition says."""
        return self._target

    @property
    def definition(self) -> str:
        """The task definition that tasks are made from."""
        return self._definition

    @property
    def size(self) -> Size:
        """What a task has: as overridden, else as its definition says."""
        if self._target.known_size is not None or self._facts is None:
            return self._target.size
        return Size(self._facts.vcpu or 0.0, self._facts.memory_mib or 0)

    @property
    def arch(self) -> str:
        """`x86_64` or `arm64`."""
        said = self._target.architecture or (self._facts.arch if self._facts is not None else "")
        return "arm64" if said == "ARM64" else "x86_64"

    @property
    def next_deadline(self) -> float:
        """See pull Fleet."""
        return time.monotonic() if self._answers or self._events else self._fleet.next_deadline

    def open(self, environment: Mapping[str, str], wake: Callable[[], None]) -> None:
        """See pull Fleet. Registers the task definition of an image; looks a given one up. Errors: SettingsError,
        AwsError and its kin."""
        self._wake = wake
        self._outfit = replace(self._outfit, environment={**self._outfit.environment, **environment})
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"cloudexec-ecs-{self._outfit.run_id}")
        if self._target.image:
            self._definition = registered(self._ask, register_task_definition_request(self._target))
        reply = self._ask("ecs", "describe_task_definition", describe_task_definition_request(self._definition))
        try:
            facts = read_task_definition(reply, self._target.container)
        except LookupError as error:
            raise SettingsError(str(error), remedy="name one of them with container=") from None
        self._facts = facts
        self._target = replace(
            self._target,
            container=facts.container,
            log_group=facts.log_group or self._target.log_group,
            log_prefix=facts.log_prefix or self._target.log_prefix,
        )
        self._outfit = replace(self._outfit, memory_mib=container_memory_mib(self._target, facts))

    def want(self, n_workers: int, now_s: float) -> None:
        """See pull Fleet."""
        self._fleet.want(n_workers, now_s)
        self._act()

    def heard(self, worker: str, now_s: float) -> None:
        """See pull Fleet."""
        if worker not in self._up:
            self._up.add(worker)
            log.info("run %s: worker %s is up", self._outfit.run_id, worker)
        self._fleet.heard(worker, now_s)

    def left(self, worker: str, now_s: float) -> None:
        """See pull Fleet."""
        self._fleet.left(worker, now_s)
        self._act()

    def suspect(self, worker: str, now_s: float) -> None:
        """See pull Fleet."""
        self._fleet.suspect(worker, now_s)

    def drop(self, worker: str, reason: str) -> None:
        """See pull Fleet."""
        self._fleet.drop(worker, reason, time.monotonic())
        self._act()

    def adopt(self, now_s: float) -> None:
        """See pull Fleet."""
        self._fleet.adopt(now_s)
        self._act()

    def turn(self, now_s: float) -> list[FleetEvent]:
        """See pull Fleet."""
        while self._answers:
            self._answers.popleft()(now_s)
        if self._fleet.next_deadline <= now_s:
            self._fleet.tick(now_s)
        self._act()
        if changed := self._fleet.take_changed():
            self._tell_of(changed)
        for notice in self._fleet.take_notices():
            log.warning("run %s: %s", self._outfit.run_id, notice)
        for news in self._fleet.take_news():
            if self._may_read_logs(news):
                self._n_reading_logs += 1
                self._begin(self._read_log, news)
            else:
                self._events.append(news)
        events = list(self._events)
        self._events.clear()
        return events

    def close(self, *, stop_workers: bool, reason: str, within_s: float) -> None:
        """See pull Fleet."""
        if self._threads is None:
            return
        try:
            if stop_workers:
                self._fleet.stop_all(reason, time.monotonic())
                self._finish(time.monotonic() + within_s)
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)
            late = wait(list(self._under_way), _LAST_REQUESTS_S).not_done
            self._threads.shutdown(wait=not late)  # no thread is left, unless its service does not answer

    def _finish(self, deadline_s: float) -> None:
        """Go on until all tasks have been told to stop."""
        while not self._fleet.is_over and time.monotonic() < deadline_s:
            self.turn(time.monotonic())
            time.sleep(_SETTLE_S)
        if not self._fleet.is_over:
            log.warning(
                "run %s: not all tasks could be stopped in time; workers end by themselves", self._outfit.run_id
            )

    def _tell_of(self, tasks: Sequence[Task]) -> None:
        """ECS's own times, and ours where it has told none."""
        if self._note is None:
            return
        size, now_s = self.size, time.time()
        for task in tasks:
            times_s = task.known.times_s if task.known is not None else {}
            provider = task.known.provider if task.known is not None else ""
            is_over = task.end is not None or task.settled
            self._note(
                task.worker,
                capacity=_CAPACITIES.get(provider, task.capacity).value,
                vcpu=size.vcpu,
                memory_mib=size.memory_mib,
                started_s=times_s.get("pullStartedAt") or times_s.get("createdAt"),
                stopped_s=times_s.get("stoppedAt") or (now_s if is_over else None),
            )

    # --- requests ---

    def _act(self) -> None:
        for action in self._fleet.take_actions():
            self._begin(self._carry_out, action)

    def _begin(self, work: Callable[[Any], Callable[[float], None]], argument: object) -> None:
        """Do some work on a thread; what it returns is called on the engine's thread."""
        assert self._threads is not None

        def run() -> None:
            self._answers.append(work(argument))
            self._wake()

        request = self._threads.submit(run)
        self._under_way.add(request)
        request.add_done_callback(self._under_way.discard)

    def _carry_out(self, action: Action) -> Callable[[float], None]:
        if isinstance(action, RunTask):
            return self._run_task(action.launch)
        if isinstance(action, Describe):
            return self._describe(action.arns)
        if isinstance(action, List):
            return self._list(action.token)
        return self._stop_task(action)

    def _run_task(self, launch: Launch) -> Callable[[float], None]:
        fleet = self._fleet
        try:
            request = run_task_request(self._target, launch, self._outfit, self._definition)
            reply = run_task(self._ask, request)
        except CloudexecError as error:
            log.info("run %s: %d tasks were not started: %s", self._outfit.run_id, launch.count, error.what)
            return partial(fleet.failed, launch, error)
        log.info(
            "run %s: %d of %d tasks (%s) start in cluster %s; on AWS that takes up to a minute",
            self._outfit.run_id,
            len(reply.tasks),
            launch.count,
            launch.capacity.value,
            self._target.cluster,
        )
        return partial(fleet.replied, launch, reply)

    def _describe(self, arns: list[str]) -> Callable[[float], None]:
        try:
            reply = self._ask("ecs", "describe_tasks", describe_tasks_request(self._target.cluster, arns))
        except CloudexecError as error:
            log.info("run %s: tasks could not be described: %s", self._outfit.run_id, error)
            return self._fleet.describe_failed
        return partial(self._fleet.described, read_describe(reply, arns))

    def _list(self, token: str) -> Callable[[float], None]:
        try:
            reply = self._ask("ecs", "list_tasks", list_tasks_request(self._target.cluster, self._outfit.run_id, token))
        except CloudexecError as error:
            log.info("run %s: tasks could not be listed: %s", self._outfit.run_id, error)
            return self._fleet.list_failed
        return partial(self._fleet.listed, *read_list(reply))

    def _stop_task(self, action: StopTask) -> Callable[[float], None]:
        try:
            self._ask("ecs", "stop_task", stop_task_request(self._target.cluster, action.arn, action.reason))
        except CloudexecError as error:
            return partial(self._fleet.stop_failed, action.arn, error)
        return partial(self._fleet.stop_done, action.arn)

    # --- last words ---

    def _may_read_logs(self, news: News) -> bool:
        is_known = bool(self._target.log_group and self._fleet.arn_of(news.worker))
        return is_known and self._n_reading_logs < _LOGS_AT_ONCE

    def _read_log(self, news: News) -> Callable[[float], None]:
        """The end of a worker with the last lines that it has written."""
        lines: list[str] = []
        try:
            request = get_log_events_request(self._target, self._fleet.arn_of(news.worker), _LOG_LINES)
            lines = [str(event["message"]) for event in self._ask("logs", "get_log_events", request)["events"]]
        except CloudexecError as error:
            log.info("run %s: the log of worker %s could not be read: %s", self._outfit.run_id, news.worker, error)
        return partial(self._log_was_read, news, "\n".join(lines).strip())

    def _log_was_read(self, news: News, words: str, _now_s: float) -> None:
        self._n_reading_logs -= 1
        end = news.end
        if words:
            detail = f"{end.detail}; its last words:\n{words}\n"
            end = end._replace(detail=detail, remedy=remedy_in(words) or end.remedy)
        self._events.append(news._replace(end=end))


def run_task(ask: Ask, request: Mapping[str, Any]) -> RunReply:
    """The tasks that this request has started, now or when it was sent before. Errors: AwsError and its kin."""
    try:
        return read_run_task(ask("ecs", "run_task", request), request["count"])
    except AwsError as error:
        conflict = getattr(error.__cause__, "response", None) if error.code == "ConflictException" else None
        if not conflict:
            raise
        return read_conflict(conflict)


def registered(ask: Ask, request: Mapping[str, Any]) -> str:
    """The task definition of an image: found, or registered, which ECS does once a second. Errors: AwsError."""
    try:
        found = ask("ecs", "describe_task_definition", describe_task_definition_request(request["family"]))
    except AwsError as error:
        if error.code not in ("ClientException", "InvalidParameterException"):
            raise
        found = ask("ecs", "register_task_definition", request)
    return str(found["taskDefinition"]["taskDefinitionArn"])
