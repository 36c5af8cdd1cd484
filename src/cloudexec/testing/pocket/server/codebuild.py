"""Projects of CodeBuild, as they were asked for. Builds are moto's, which says of each that it went well and runs none.

Called by:  front.py, for requests; control.py, for resetting.   Calls: moto.py.
Reason:     moto refuses a project without a source, and cannot change one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from cloudexec.testing.pocket.server.moto import Moto
from cloudexec.testing.pocket.server.requests import Answer, Refusal, Request, json_answer
from cloudexec.testing.pocket.settings import ACCOUNT_ID

Wanted = dict[str, Any]


class CodeBuild:
    """Answers what concerns projects."""

    def __init__(self, moto: Moto) -> None:
        self._moto = moto
        self._lock = threading.Lock()
        self._projects: dict[tuple[str, str], Wanted] = {}  # by region and name
        self._operations: dict[str, Callable[[str, Wanted], Wanted]] = {
            "CreateProject": self._create,
            "UpdateProject": self._update,
            "DeleteProject": self._delete,
            "BatchGetProjects": self._get,
            "ListProjects": self._list,
        }

    def handles(self, request: Request) -> bool:
        """Whether this request is about projects; builds are moto's."""
        return request.service == "codebuild" and request.operation in self._operations

    def answer(self, request: Request) -> Answer:
        """The answer to a request that `handles` accepted."""
        with self._lock:
            told = self._operations[request.operation](request.region, request.json())
        return json_answer(told, service="codebuild")

    def forget(self) -> None:
        """No projects."""
        with self._lock:
            self._projects.clear()

    def _create(self, region: str, wanted: Wanted) -> Wanted:
        name = str(wanted["name"])
        arn = f"arn:aws:codebuild:{region}:{ACCOUNT_ID}:project/{name}"
        if (region, name) in self._projects:
            raise Refusal("ResourceAlreadyExistsException", f"Project already exists: {arn}")
        if not f"{wanted['serviceRole']}".startswith("arn:aws:iam::"):
            what = "Invalid service role: Service role account ID does not match caller's account"
            raise Refusal("InvalidInputException", what)
        # moto starts builds of its own projects alone, and wants a source's place.
        source = {"type": "S3", "location": "a-bucket/a-key"}
        known = ("name", "serviceRole", "artifacts", "environment")
        asked = {**{each: wanted[each] for each in known}, "source": source}
        self._moto.call("codebuild", "CreateProject", asked, region=region)
        now = time.time()
        self._projects[region, name] = {**wanted, "arn": arn, "created": now, "lastModified": now}
        return {"project": self._projects[region, name]}

    def _update(self, region: str, wanted: Wanted) -> Wanted:
        key = (region, str(wanted["name"]))
        if key not in self._projects:
            arn = f"arn:aws:codebuild:{region}:{ACCOUNT_ID}:project/{wanted['name']}"
            raise Refusal("ResourceNotFoundException", f"Project cannot be found: {arn}")
        self._projects[key] = {**self._projects[key], **wanted, "lastModified": time.time()}
        return {"project": self._projects[key]}

    def _delete(self, region: str, wanted: Wanted) -> Wanted:
        if self._projects.pop((region, str(wanted["name"])), None) is not None:
            self._moto.call("codebuild", "DeleteProject", wanted, region=region)
        return {}  # of what is not there, too

    def _get(self, region: str, wanted: Wanted) -> Wanted:
        names = [str(name) for name in wanted.get("names") or []]
        found = [self._projects[region, name] for name in names if (region, name) in self._projects]
        return {"projects": found, "projectsNotFound": [n for n in names if (region, n) not in self._projects]}

    def _list(self, region: str, wanted: Wanted) -> Wanted:
        return {"projects": sorted(name for where, name in self._projects if where == region)}
