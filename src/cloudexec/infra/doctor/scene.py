"""What the checks look at: the settings that executors would use, and AWS, each question asked once.

Called by: examine.py, all checks.   Calls: place.py, backends' discovery (the same functions as executors).
Threads:   checks run side by side; who asks what another one is asking waits for that answer.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from cloudexec.backends.awslambda import discovery as functions
from cloudexec.backends.awslambda.discovery import FunctionFacts, LambdaPlace
from cloudexec.backends.ecs import discovery as containers
from cloudexec.backends.ecs.discovery import EcsPlace
from cloudexec.backends.ecs.replies import read_task_definition
from cloudexec.backends.stack import DEFAULT_STACK, by_types, resources_of
from cloudexec.errors import AwsError, CloudexecError
from cloudexec.infra.names import PREFIX
from cloudexec.infra.place import Place

T = TypeVar("T")
ECS_WORKERS: Final = 10  # what ECSExecutor has by default


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be examined. given: settings as an executor's arguments (region, aws_profile, stack, endpoint_url).

    parts: `ecs`, `lambda`, or empty for what is set up. max_workers: calls at once, None for an executor's default.
    """

    given: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    parts: frozenset[str] = frozenset()
    max_workers: int | None = None


class Scene:
    """One examination. What fails raises the same error for everybody who asks."""

    def __init__(self, place: Place, wanted: Wanted) -> None:
        self.place = place
        self.wanted = wanted
        self._known: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()

    # --- asking ------------------------------------------------------------------------------

    def ask(self, service: str, operation: str, request: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """One request that changes nothing; its answer is kept. Errors: AwsError and its kin, SettingsError."""
        key = f"{service} {operation} {json.dumps(request or {}, sort_keys=True, default=str)}"
        return self._once(key, lambda: self.place.ask(service, operation, request))

    def ask_or_none(
        self, service: str, operation: str, request: Mapping[str, Any], *absent: str
    ) -> Mapping[str, Any] | None:
        """The same; None if the answer is one of these error codes. Errors: AwsError and its kin, SettingsError."""
        try:
            return self.ask(service, operation, request)
        except AwsError as error:
            if error.code in absent:
                return None
            raise

    def _once(self, key: str, make: Callable[[], T]) -> T:
        with self._lock:
            known = self._known.get(key)
            if known is None:
                mine: Future[T] = Future()
                self._known[key] = mine
        if known is not None:
            return known.result()  # type: ignore[no-any-return]  # of the same key, so of the same type
        try:
            mine.set_result(make())
        except BaseException as error:
            mine.set_exception(error)
        return mine.result()

    # --- what executors would use ---------------------------------------------------------------

    @property
    def stack(self) -> str:
        """The stack's name, whether it is there or not."""
        return self.place.stack or DEFAULT_STACK

    @property
    def stack_resources(self) -> Mapping[str, Mapping[str, str]]:
        """Physical ids by type and logical id; nothing where there is no stack, or no right to look."""

        def find() -> Mapping[str, Mapping[str, str]]:
            return by_types(resources_of(self.stack, self.ask, is_named=False))

        return self._once("stack resources", find)

    @property
    def ecs_settled(self) -> EcsPlace:
        """What is set for ECS. Errors: SettingsError."""
        return self._once("ecs settled", lambda: containers.settle(self.wanted.given, self.wanted.environ))

    @property
    def function_settled(self) -> LambdaPlace:
        """What is set for Lambda. Errors: SettingsError."""
        return self._once("lambda settled", lambda: functions.settle(self.wanted.given, self.wanted.environ))

    @property
    def ecs(self) -> EcsPlace:
        """What ECSExecutor would use. Errors: SettingsError, AwsError and its kin."""
        return self._once("ecs", lambda: containers.complete(self.ecs_settled, self.ask, self.wanted.environ))

    @property
    def function(self) -> tuple[LambdaPlace, FunctionFacts]:
        """What LambdaExecutor would use. Errors: those of discovery.complete."""
        return self._once("lambda", lambda: functions.complete(self.function_settled, self.ask))

    @property
    def has_ecs(self) -> bool:
        """Whether anything says that runs on ECS are meant."""
        if self.wanted.parts:
            return "ecs" in self.wanted.parts
        target = self.ecs_settled.target
        is_set = bool(target.cluster or target.task_definition or target.image)
        return is_set or "AWS::ECS::Cluster" in self.stack_resources

    @property
    def has_function(self) -> bool:
        """Whether anything says that runs on Lambda are meant."""
        if self.wanted.parts:
            return "lambda" in self.wanted.parts
        return bool(self.function_settled.function) or "AWS::Lambda::Function" in self.stack_resources

    @property
    def bucket(self) -> tuple[str, str]:
        """The bucket of runs and the prefix below it; "" where none is known. Errors: AwsError and its kin."""
        for is_meant, find in ((self.has_ecs, self._ecs_bucket), (self.has_function, self._function_bucket)):
            try:
                if is_meant and (found := find())[0]:
                    return found
            except CloudexecError:  # the checks of that backend tell it
                continue
        settled = self.ecs_settled
        named = settled.bucket or next(iter(self.stack_resources.get("AWS::S3::Bucket", {}).values()), "")
        return named, settled.prefix or PREFIX

    def _ecs_bucket(self) -> tuple[str, str]:
        return self.ecs.bucket, self.ecs.prefix or PREFIX

    def _function_bucket(self) -> tuple[str, str]:
        found, _ = self.function
        return found.bucket, found.prefix or PREFIX

    # --- what several checks need ------------------------------------------------------------------

    @property
    def account(self) -> str:
        """The caller's account. Errors: AwsError and its kin."""
        return self.place.account_id

    @property
    def definition(self) -> Mapping[str, Any]:
        """The workers' task definition; {} where an executor registers one for image=. Errors: as `ecs`, AwsError."""
        named = self.ecs.target.task_definition
        if not named:
            return {}
        return dict(self.ask("ecs", "describe_task_definition", {"taskDefinition": named})["taskDefinition"])

    @property
    def container(self) -> Mapping[str, Any]:
        """The container that runs the worker; {} if the definition has none of that name."""
        if not self.definition:
            return {}
        try:
            name = read_task_definition({"taskDefinition": self.definition}, self.ecs.target.container).container
        except (LookupError, IndexError):
            return {}
        return next(one for one in self.definition["containerDefinitions"] if one["name"] == name)

    @property
    def roles(self) -> tuple[str, str]:
        """The task role and the execution role of workers; "" for what there is none of."""
        target, said = self.ecs.target, self.definition
        return said.get("taskRoleArn") or target.task_role, said.get("executionRoleArn") or target.execution_role

    @property
    def log_options(self) -> Mapping[str, str]:
        """Those of the container's log driver."""
        return dict((self.container.get("logConfiguration") or {}).get("options") or {})

    @property
    def log_group(self) -> str:
        """Where workers write their lines; "" where nobody knows it."""
        return self.ecs.target.log_group or self.log_options.get("awslogs-group", "")

    @property
    def worker_size(self) -> tuple[float, int]:
        """vCPU and MiB of a worker: what is set, else what its task definition says."""
        target, said = self.ecs.target, self.definition
        if target.known_size is not None:
            return target.known_size.vcpu, target.known_size.memory_mib
        if said.get("cpu") and said.get("memory"):
            return int(said["cpu"]) / 1024, int(said["memory"])
        return target.size.vcpu, target.size.memory_mib

    @property
    def n_tasks(self) -> int:
        """How many workers `max_workers` calls need."""
        n_workers = self.wanted.max_workers or ECS_WORKERS
        return -(-n_workers // min(self.ecs.target.n_slots, n_workers))

    @property
    def function_request(self) -> dict[str, str]:
        """Arguments for requests about the function. Errors: as `function`."""
        place, _ = self.function
        return {"FunctionName": place.function, **({"Qualifier": place.qualifier} if place.qualifier else {})}

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Lambda's description of the function. Errors: as `function`, AwsError and its kin."""
        return self.ask("lambda", "get_function_configuration", self.function_request)
