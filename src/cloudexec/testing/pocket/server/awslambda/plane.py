"""Lambda's plane: which request is answered here and which by moto; everything of Lambda that the server holds.

Called by:  front.py, for requests; control.py of the server, for looking and resetting; serve.py.
Calls:      everything in this folder.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from cloudexec.testing.pocket.server.awslambda.control import ControlPlane
from cloudexec.testing.pocket.server.awslambda.events import EventQueue
from cloudexec.testing.pocket.server.awslambda.functions import Functions, function_arn, parse_reference
from cloudexec.testing.pocket.server.awslambda.invoke import Invoking
from cloudexec.testing.pocket.server.awslambda.launching import KeysOf, Launching
from cloudexec.testing.pocket.server.awslambda.pool import Pool, make_root
from cloudexec.testing.pocket.server.awslambda.records import LogBook, Tally
from cloudexec.testing.pocket.server.faults import FaultBook
from cloudexec.testing.pocket.server.moto import Moto
from cloudexec.testing.pocket.server.requests import Answer, Request, json_answer
from cloudexec.testing.pocket.server.sqs import Sqs
from cloudexec.testing.pocket.settings import PocketSettings

FUNCTION_PATH: Final = re.compile(r"/[\d-]+/functions/(?P<name>[^/]+)/?")
TELL_CONFIGURATION: Final = (
    "CreateFunction",
    "GetFunction",
    "GetFunctionConfiguration",
    "ListFunctions",
    "UpdateFunctionCode",
    "UpdateFunctionConfiguration",
)
INVOKE_PATH: Final = re.compile(r"/[\d-]+/functions/(?P<name>.+)/invocations/?")


class Lambdas:
    """Answers what concerns Lambda."""

    def __init__(
        self,
        *,
        moto: Moto,
        sqs: Sqs,
        faults: FaultBook,
        settings: PocketSettings,
        pocket_id: str,
        port: int,
        root: Path,
        mark_base: str,
        keys_of: KeysOf,
    ) -> None:
        self._moto = moto
        self._functions = Functions(moto)
        self._control = ControlPlane(moto, self._functions, settings.lambda_concurrency)
        self._log, self._tally = LogBook(moto), Tally()
        self._launching = Launching(
            functions=self._functions,
            settings=settings,
            root=make_root(root),
            links=root / "bin",
            port=port,
            pocket_id=pocket_id,
            mark_base=mark_base,
            keys_of=keys_of,
        )
        self._pool = Pool(
            settings=settings,
            launching=self._launching,
            log=self._log,
            tally=self._tally,
            reserved=self._control.reserved,
            unreserved=self._control.unreserved,
        )
        self._invoking = Invoking(
            functions=self._functions, pool=self._pool, tally=self._tally, faults=faults, settings=settings
        )
        self._invoking.loops_allowed = self._control.loops_allowed
        self._events = EventQueue(
            moto=moto,
            sqs=sqs,
            invoking=self._invoking,
            faults=faults,
            tally=self._tally,
            config_of=self._control.event_config,
            scale=settings.lambda_retry_scale,
        )
        self._invoking.events = self._events
        moto.on_notification(self._events.notify)

    # --- requests ------------------------------------------------------------------------------

    def handles(self, request: Request) -> bool:
        """Everything of Lambda; CloudWatch Logs, because lines wait here until somebody asks."""
        return request.service in ("lambda", "logs")

    def answer(self, request: Request) -> Answer:
        """The answer to a request that `handles` accepted."""
        if request.service == "logs":
            self._log.flush()
            return self._moto.answer(request)
        if request.operation == "Invoke":
            found = INVOKE_PATH.fullmatch(request.path)
            if found is not None:
                return self._invoking.answer(request, unquote(found["name"]))
        return self._control.answer(request) or self._by_moto(request)

    def _by_moto(self, request: Request) -> Answer:
        answer = self._moto.answer(request)
        if answer.ok and request.operation in TELL_CONFIGURATION:
            answer = self._add_logging(request, answer)
        found = FUNCTION_PATH.fullmatch(request.path)
        if found is None or not answer.ok:
            return answer
        if request.method == "GET":
            return self._control.add_concurrency(answer, request.region)
        if request.method == "DELETE" and "Qualifier=" not in request.query:
            name, qualifier = parse_reference(unquote(found["name"]), "")
            if not qualifier:
                arn = function_arn(name, request.region)
                self._control.forget_function(arn)
                self._functions.log_to(arn, None)
                self._pool.retire(arn)
        return answer

    def _add_logging(self, request: Request, answer: Answer) -> Answer:
        """The answer with each function's LoggingConfig; what the request sets is kept."""
        told = json.loads(answer.body)
        wanted = request.json().get("LoggingConfig") if request.method != "GET" else None
        if wanted:
            self._functions.log_to(function_arn(str(told["FunctionName"]), request.region), wanted)
        for facts in told.get("Functions") or [told.get("Configuration", told)]:
            if "FunctionName" in facts:
                facts["LoggingConfig"] = self._functions.logging_of(str(facts["FunctionName"]), request.region)
        return json_answer(told, status=answer.status)

    # --- from outside --------------------------------------------------------------------------

    def environments(self) -> list[dict[str, Any]]:
        """All environments that there are."""
        return self._pool.views()

    def invocations(self) -> dict[str, Any]:
        """What was executed, by function; how many events wait."""
        return {"functions": self._tally.told(), "waiting": len(self._events)}

    def set_events(self, name: str, region: str, config: dict[str, Any]) -> None:
        """What PutFunctionEventInvokeConfig does."""
        self._control.put_events(self._functions.find(name, "", region), "", config)

    def retire(self) -> None:
        """End what is idle: its keys have expired."""
        self._pool.retire()

    def end(self) -> None:
        """Kill everything and forget it."""
        self._events.forget()
        self._pool.empty()
        self._control.forget()
        self._functions.forget()
        self._launching.forget()
        self._log.forget()
        self._tally.forget()

    def close(self) -> None:
        """The server ends."""
        self._events.close()
        self._pool.close()
