"""The objects of a group of jobs: their keys, what is there, putting and reading them.

Called by: jobs.py.   Calls: a transport's client.
Keys:      PREFIX/jobs/GROUP/NAME.json, PREFIX/results/GROUP/NAME.begun and NAME.json (docs/decisions/0007).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from cloudexec.errors import NoSuchKey, PreconditionFailed, SettingsError
from cloudexec.transport import s3
from cloudexec.transport.account import Client
from cloudexec.transport.s3xml import Listed

_JSON: Final = ".json"
_BEGUN: Final = ".begun"
_MOST_NAME_BYTES: Final = 400  # a key has 1,024


@dataclass(frozen=True, kw_only=True)
class Found:
    """What lies there of some jobs. begun: name -> when the claim was last written, as S3 says it."""

    begun: dict[str, str] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class JobObjects:
    """A group's objects. owner: the account that the bucket must belong to; empty: any."""

    client: Client
    bucket: str
    prefix: str
    group: str
    owner: str

    def __post_init__(self) -> None:
        check_name("group", self.group)

    @property
    def where(self) -> str:
        """Where jobs of all groups lie, for people."""
        return f"s3://{self.bucket}/{self._folder('jobs').removesuffix(f'{self.group}/')}"

    def result_url(self, name: str) -> str:
        """The result's address, for people."""
        return f"s3://{self.bucket}/{self._folder('results')}{name}{_JSON}"

    def jobs(self) -> dict[str, float | None]:
        """The names of all jobs, and when each was put, by S3's clock. Errors: AwsError."""
        found = {self._name_of(one.key, "jobs", _JSON): one.last_modified_s for one in self._listed("jobs")}
        return {name: at_s for name, at_s in found.items() if name is not None}

    def results(self, after: str = "") -> Found:
        """Claims and results of names that do not sort before `after`. Errors: AwsError."""
        found = Found()
        # All keys of a name begin with it and a dot.
        start = f"{self._folder('results')}{after}." if after else ""
        for one in self._listed("results", start):
            if (name := self._name_of(one.key, "results", _JSON)) is not None:
                found.ended.append(name)
            elif (name := self._name_of(one.key, "results", _BEGUN)) is not None:
                found.begun[name] = one.last_modified
        return found

    def put_job(self, name: str, body: bytes) -> None:
        """Write a job. Errors: SettingsError if the name is taken or cannot be one; AwsError."""
        check_name("name", name)
        operation = s3.put_object(
            self.bucket,
            self._job(name),
            [body],
            owner=self.owner,
            if_none_match=True,
            content_type="application/json",
        )
        try:
            self.client.call(operation)
        except PreconditionFailed as error:
            raise used(name, self.group) from error

    def result(self, name: str) -> bytes | None:
        """What a result says; None if it is not there. Errors: AwsError."""
        key = f"{self._folder('results')}{name}{_JSON}"
        try:
            return bytes(self.client.call(s3.get_object(self.bucket, key, owner=self.owner)).body)
        except NoSuchKey:
            return None

    def service_time_s(self, name: str) -> float:
        """S3's clock, asked with a job that is there; ours if it has just gone. Errors: AwsError."""
        try:
            found = self.client.call(s3.head_object(self.bucket, self._job(name), owner=self.owner))
        except NoSuchKey:
            return time.time()
        return found.server_date_s or time.time()

    def _folder(self, kind: str) -> str:
        return f"{self.prefix.strip('/')}/{kind}/{self.group}/".lstrip("/")

    def _job(self, name: str) -> str:
        return f"{self._folder('jobs')}{name}{_JSON}"

    def _listed(self, kind: str, after: str = "") -> Iterator[Listed]:
        folder, start = self._folder(kind), after
        while True:
            page = self.client.call(s3.list_objects(self.bucket, folder, owner=self.owner, start_after=start))
            yield from page.objects
            if not page.is_truncated or not page.objects:
                return
            start = page.objects[-1].key

    def _name_of(self, key: str, kind: str, ending: str) -> str | None:
        """The job that a key belongs to; None for what is no such object."""
        name = key[len(self._folder(kind)) :]
        is_one = name.endswith(ending) and name != ending and "/" not in name
        return name[: -len(ending)] if is_one else None


def check_name(what: str, name: str) -> None:
    """Errors: SettingsError for what cannot be one part of a key."""
    is_text = isinstance(name, str) and name and name.isprintable() and "/" not in name
    if not is_text or len(name.encode()) > _MOST_NAME_BYTES:
        remedy = f"give a text without slashes, of {_MOST_NAME_BYTES} bytes at most"
        raise SettingsError(f"{what}={name!r} cannot be a part of a key", remedy=remedy)


def used(name: str, group: str) -> SettingsError:
    """The name belongs to another job."""
    what = f"there is a job {name!r} in group {group!r} already"
    return SettingsError(what, remedy="take another name or group: a result lies under the name of its job")
