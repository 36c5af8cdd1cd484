"""CloudFormation's plane: requests in, answers out; what others may see of its stacks.

Called by:  front.py, for requests; control.py of the server, for looking and resetting; serve.py.
Calls:      everything in this folder.
"""

from __future__ import annotations

import re
import threading
from typing import Any, Final

from cloudexec.testing.pocket.server.cloudformation import wire
from cloudexec.testing.pocket.server.cloudformation.asking import Asker
from cloudexec.testing.pocket.server.cloudformation.changesets import ChangeSets
from cloudexec.testing.pocket.server.cloudformation.desk import Caller, Desk
from cloudexec.testing.pocket.server.cloudformation.operations import Operations
from cloudexec.testing.pocket.server.cloudformation.resources import KINDS
from cloudexec.testing.pocket.server.cloudformation.steps import Tools
from cloudexec.testing.pocket.server.cloudformation.telling import Operation, Telling
from cloudexec.testing.pocket.server.faults import FaultBook
from cloudexec.testing.pocket.server.moto import Moto
from cloudexec.testing.pocket.server.requests import Answer, Refusal, Request

KEY_ID: Final = re.compile(rb"<AccessKeyId>([^<]+)</AccessKeyId>")


class CloudFormation:
    """Answers what concerns stacks."""

    def __init__(self, *, moto: Moto, faults: FaultBook, endpoint_url: str, pause_s: float) -> None:
        self._moto, self._faults, self._pause_s = moto, faults, pause_s
        self._asker = Asker(endpoint_url)
        self._begin()

    def _begin(self) -> None:
        """No stacks; the work of those that were has an end of its own."""
        self._over = threading.Event()
        tools = Tools(
            kinds=KINDS,
            ask=self._asker.ask,
            input_shape=self._asker.input_shape,
            bucket_is_ours=lambda name: self._moto.send("s3", "HEAD", f"/{name}").ok,
            role_key=self._role_key,
            fault=self._faults.resource,
            pause_s=self._pause_s,
            over=self._over,
        )
        self._desk = Desk(tools)
        operations, change_sets = Operations(self._desk), ChangeSets(self._desk)
        self._table: dict[str, Operation] = {
            **Telling(self._desk).table,
            "CancelUpdateStack": operations.cancel_update_stack,
            "ContinueUpdateRollback": operations.continue_update_rollback,
            "CreateChangeSet": change_sets.create_change_set,
            "CreateStack": operations.create_stack,
            "DeleteChangeSet": change_sets.delete_change_set,
            "DeleteStack": operations.delete_stack,
            "ExecuteChangeSet": change_sets.execute_change_set,
            "RollbackStack": operations.rollback_stack,
            "UpdateStack": operations.update_stack,
            "UpdateTerminationProtection": operations.update_termination_protection,
        }

    def _role_key(self, role_arn: str, region: str) -> str:
        """An access key of the role that acts for a stack; CloudFormation takes it, and not who asked."""
        asked = {"RoleArn": role_arn, "RoleSessionName": "AWSCloudFormation"}
        found = KEY_ID.search(self._moto.query("sts", "AssumeRole", asked, region=region).body)
        return found[1].decode() if found else ""

    # --- requests --------------------------------------------------------------------------------

    def handles(self, request: Request) -> bool:
        """Everything of CloudFormation."""
        return request.service == "cloudformation"

    def answer(self, request: Request) -> Answer:
        """The answer to a request that `handles` accepted."""
        act = self._table.get(request.operation)
        if act is None:
            raise Refusal("InvalidAction", f"The pocket AWS has no {request.operation} of CloudFormation.")
        model = self._asker.operation("cloudformation", request.operation)
        wanted = wire.parameters(request.body, model.input_shape)
        told = act(Caller(request.access_key, request.region), wanted)
        return wire.answer(request.operation, model.output_shape, told)

    # --- from outside ----------------------------------------------------------------------------

    def stacks(self) -> list[dict[str, Any]]:
        """All stacks, oldest first, deleted ones too."""
        return [
            {
                "id": stack.id,
                "name": stack.name,
                "region": stack.region,
                "status": stack.status,
                "reason": stack.reason,
                "outputs": {each["OutputKey"]: each["OutputValue"] for each in stack.outputs},
                "resources": {
                    name: {"type": record.type, "id": record.physical_id, "status": record.status}
                    for name, record in list(stack.records.items())
                },
            }
            for stack in self._desk.stacks
        ]

    def end(self) -> None:
        """Stop all work and forget it."""
        self._over.set()
        self._desk.end()
        self._begin()
