"""Task definitions of commands: looked up, or registered for an image, once for each.

Called by: backend.py, on its threads.   Calls: `ask`, replies.py, orders.py.
ECS reads definitions fast and registers one a second; many commands of one definition cost one look.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import replace

from cloudexec.backends.ecs.commands.orders import Order, base_of, definition_request
from cloudexec.backends.ecs.driver import Ask, registered
from cloudexec.backends.ecs.replies import DefinitionFacts, read_task_definition
from cloudexec.backends.ecs.requests import describe_task_definition_request
from cloudexec.backends.ecs.target import EcsTarget
from cloudexec.errors import AccessDenied, AwsError, SettingsError


class Definitions:
    """What is known of them. Thread-safe: who comes while another one looks waits for its answer."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._known: dict[EcsTargetKey, Future[DefinitionFacts]] = {}

    def complete(self, order: Order) -> tuple[Order, str]:
        """The order with its container and its log, and the definition to start it with.

        Errors: SettingsError (no such container), AwsError and its kin. What failed is tried anew the next time.
        """
        facts = self._facts(order.target)
        target = replace(
            order.target, container=facts.container, log_group=facts.log_group, log_prefix=facts.log_prefix
        )
        return replace(order, target=target), facts.arn

    def _facts(self, target: EcsTarget) -> DefinitionFacts:
        key = _key_of(target)
        with self._lock:
            known = self._known.get(key)
            is_ours = known is None
            if known is None:
                known = self._known[key] = Future()
        if is_ours:
            self._look_up(key, target, known)
        return known.result()

    def _look_up(self, key: EcsTargetKey, target: EcsTarget, known: Future[DefinitionFacts]) -> None:
        try:
            known.set_result(self._asked(target))
        except BaseException as error:
            with self._lock:
                del self._known[key]
            known.set_exception(error)

    def _asked(self, target: EcsTarget) -> DefinitionFacts:
        if target.image:
            name = registered(self._ask, definition_request(target))
        else:
            name = target.task_definition
        reply = self._ask("ecs", "describe_task_definition", describe_task_definition_request(name))
        try:
            return read_task_definition(reply, target.container)
        except LookupError as error:
            raise SettingsError(str(error), remedy="name one of them with Command(container=)") from None


def with_roles(target: EcsTarget, ask: Ask) -> EcsTarget:
    """An executor's target as commands use it: where a task definition has the roles and the log, they are read there,
    for definitions that are registered for images. Errors: AwsError and its kin, but not for a definition that is not
    there: commands do not need it."""
    base = base_of(target)
    if not target.task_definition:
        return base
    try:
        reply = ask("ecs", "describe_task_definition", describe_task_definition_request(target.task_definition))
        facts = read_task_definition(reply, target.container)
    except LookupError:
        return base
    except AwsError as error:
        if isinstance(error, AccessDenied) or error.code in ("ClientException", "InvalidParameterException"):
            return base
        raise
    definition = reply["taskDefinition"]
    return replace(
        base,
        task_role=definition.get("taskRoleArn") or "",
        execution_role=definition.get("executionRoleArn") or "",
        log_group=facts.log_group or base.log_group,
        log_prefix=facts.log_prefix or base.log_prefix,
    )


EcsTargetKey = tuple[str, str, str, float | None, int | None]


def _key_of(target: EcsTarget) -> EcsTargetKey:
    """What makes a difference: the rest is the executor's, and the same for all."""
    size = (target.vcpu, target.memory_mib) if target.image else (None, None)
    return (target.task_definition, target.image, target.container, *size)
