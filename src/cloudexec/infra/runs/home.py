"""Where summaries and objects of runs lie, and which run somebody means.

Called by: cli/runs.py; everything beside it.   Calls: Place for requests, backends for names of the stack's resources.
Requests:  each names the account that the bucket must belong to.
"""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Final, NamedTuple

from cloudexec.backends.aws_config import from_environment, from_file
from cloudexec.backends.stack import by_types, choose, resources_of
from cloudexec.errors import AwsError, NoSuchKey, RunMissing, SettingsError
from cloudexec.infra.names import PREFIX
from cloudexec.infra.place import Place
from cloudexec.observe.summary import MOST_BYTES, RunSummary, summaries_prefix, summary_key

RUN_ID: Final = re.compile(r"r\d{8}-\d{6}-[0-9a-f]{6}")
LAST: Final = "last"
AT_ONCE: Final = 12  # runs that are looked at side by side; connections of a client: 16
_DAY_S: Final = 86_400.0
_NEAR_DAYS: Final = 30
_MOST_NEAR: Final = 3


class SummaryEntry(NamedTuple):
    """A summary that is there, as a listing tells. modified_s: seconds since 1970."""

    run_id: str
    modified_s: float


@dataclass(frozen=True)
class RunsHome:
    """One bucket and prefix, in which runs of one or more people lie."""

    place: Place
    bucket: str
    prefix: str = PREFIX
    page_keys: int = 1000  # of a listing; S3 gives no more

    @cached_property
    def owner(self) -> dict[str, str]:
        """What stands in each request to S3."""
        return {"Bucket": self.bucket, "ExpectedBucketOwner": self.place.account_id}

    def run_prefix(self, run_id: str) -> str:
        """Where the objects of a run lie, with a slash at the end."""
        return f"{self.prefix.strip('/')}/runs/{run_id}/".lstrip("/")

    # --- summaries ---

    def summaries(self, since_s: float = 0.0) -> list[SummaryEntry]:
        """Those of runs begun after `since_s`, the oldest first: ids begin with their time. Errors: AwsError."""
        folder = summaries_prefix(self.prefix)
        request: dict[str, Any] = {**self.owner, "Prefix": folder, "MaxKeys": self.page_keys}
        if since_s > 0:
            request["StartAfter"] = folder + time.strftime("r%Y%m%d-%H%M%S", time.gmtime(since_s))
        found = []
        for entry in self.objects(request):
            run_id = entry["Key"][len(folder) :].removesuffix(".json")
            if is_run_id(run_id) and entry["Key"].endswith(".json"):
                found.append(SummaryEntry(run_id, entry["LastModified"].timestamp()))
        return found

    def objects(self, request: Mapping[str, Any], items: str = "Contents") -> Iterator[Mapping[str, Any]]:
        """All entries of a listing; items: `CommonPrefixes` for those of its folders. Errors: AwsError."""
        asked = dict(request)
        while True:
            page = self.place.ask("s3", "list_objects_v2", asked)
            yield from page.get(items) or ()
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def entry(self, key: str) -> tuple[Mapping[str, Any] | None, float]:
        """What a listing tells of one object, None without it; and what time S3 has. Errors: AwsError.

        A listing, because HEAD answers 403 instead of 404 to whoever may list some prefixes only.
        """
        reply = self.place.ask("s3", "list_objects_v2", {**self.owner, "Prefix": key, "MaxKeys": 1})
        found = next((one for one in reply.get("Contents") or () if one["Key"] == key), None)
        return found, time_of(reply)

    def read(self, run_id: str) -> RunSummary:
        """Errors: RunMissing, WireError if it is damaged, AwsError."""
        return self.read_version(run_id)[0]

    def read_version(self, run_id: str) -> tuple[RunSummary, str]:
        """The summary, and the ETag of the object in which it lay. Errors: as `read`."""
        key = summary_key(self.prefix, run_id)
        try:
            reply = self.place.ask("s3", "get_object", {**self.owner, "Key": key})
        except NoSuchKey:
            raise RunMissing(f"there is no summary of run {run_id} in s3://{self.bucket}/{key}") from None
        body = self.place.body(f"reading s3://{self.bucket}/{key}", reply, MOST_BYTES)
        return RunSummary.from_json(body, run_id), str(reply["ETag"])

    def write(self, summary: RunSummary, etag: str) -> bool:
        """Replace a summary, if it is still the one that was read. Errors: AwsError."""
        request = {**self.owner, "Key": summary_key(self.prefix, summary.run_id), "Body": summary.to_json()}
        try:
            self.place.ask("s3", "put_object", {**request, "IfMatch": etag, "ContentType": "application/json"})
        except AwsError as error:
            if error.code in ("PreconditionFailed", "NoSuchKey", "ConditionalRequestConflict"):
                return False
            raise
        return True

    # --- which run ---

    def find(self, said: str) -> str:
        """The run that is meant: by its id, whether it has a summary or not, or as in `lookup`. Errors: RunMissing."""
        return said if is_run_id(said) else self.lookup(said).run_id

    def lookup(self, said: str) -> SummaryEntry:
        """The summary that is meant: by its run's id, the beginning of it, or `last`. Errors: RunMissing, AwsError."""
        if said == LAST:
            return self._last()
        if is_run_id(said):
            found, _ = self.entry(summary_key(self.prefix, said))
            if found is None:
                raise self.missing(said)
            return SummaryEntry(said, found["LastModified"].timestamp())
        folder = summaries_prefix(self.prefix)
        beginning = said if said.startswith("r") else f"r{said}"
        reply = self.place.ask(
            "s3", "list_objects_v2", {**self.owner, "Prefix": folder + beginning, "MaxKeys": _MOST_NEAR + 1}
        )
        entries = reply.get("Contents") or []
        ids = [str(entry["Key"][len(folder) :].removesuffix(".json")) for entry in entries]
        if len(ids) == 1:
            return SummaryEntry(ids[0], entries[0]["LastModified"].timestamp())
        if ids:
            shown = ", ".join(ids[:_MOST_NEAR]) + (", …" if len(ids) > _MOST_NEAR else "")
            raise RunMissing(f"several runs begin with {beginning!r}: {shown}", remedy="give more of the id")
        raise self.missing(said)

    def missing(self, said: str) -> RunMissing:
        """The error for a run that is not there, with those that look like it."""
        ids = [entry.run_id for entry in self.summaries(time.time() - _NEAR_DAYS * _DAY_S)]
        near = difflib.get_close_matches(said, ids, n=_MOST_NEAR, cutoff=0.75)
        hint = f"did you mean {' or '.join(near)}?" if near else "`cloudexec runs --all` lists those that there are"
        return RunMissing(f"there is no run {said!r} in s3://{self.bucket}/{self.prefix}", remedy=hint)

    def _last(self) -> SummaryEntry:
        for since_s in (time.time() - _DAY_S, 0.0):
            if found := self.summaries(since_s):
                return found[-1]
        raise RunMissing(f"there is no run in s3://{self.bucket}/{self.prefix}", remedy="start one")


def find_home(
    place: Place, bucket: str, prefix: str, environ: Mapping[str, str], *, stack_is_given: bool = False
) -> RunsHome:
    """As executors find it: what is given, environment variables, the configuration file, the stack.

    stack_is_given: by an option, so that its bucket is meant, whatever variables and file say.
    Errors: SettingsError, AwsError and its kin.
    """
    found = {**from_file(environ), **from_environment(environ)}
    settled = {name: str(found[name].value) for name in ("bucket", "prefix") if name in found}
    if not bucket and stack_is_given:
        bucket = _bucket_of_stack(place, is_named=True)
    bucket = bucket or settled.get("bucket", "") or _bucket_of_stack(place, is_named=False)
    if not bucket:
        what = (
            f"no bucket is named: looked at --bucket, CLOUDEXEC_BUCKET, the configuration file, stack {place.stack!r}"
        )
        raise SettingsError(what, remedy="give --bucket, or deploy the stack with `cloudexec up`")
    return RunsHome(place, bucket, (prefix or settled.get("prefix", "") or PREFIX).strip("/"))


def _bucket_of_stack(place: Place, *, is_named: bool) -> str:
    buckets = by_types(resources_of(place.stack, place.ask, is_named=is_named)).get("AWS::S3::Bucket", {})
    return buckets.get(choose(place.stack, "bucket", buckets, True), "")


def is_run_id(text: str) -> bool:
    """Whether it is what a run may be called. What only looks like it is somebody else's, and left alone."""
    if not RUN_ID.fullmatch(text):
        return False
    try:
        begun_s(text)
    except ValueError:  # the 99th of a month
        return False
    return True


def time_of(reply: Mapping[str, Any]) -> float:
    """What time it was for S3 when it answered, in seconds since 1970: ages of objects are told by its clock."""
    said = (reply.get("ResponseMetadata") or {}).get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(said).timestamp() if said else time.time()


def begun_s(run_id: str) -> float:
    """When a run began, as its id says. Errors: ValueError unless `is_run_id`."""
    return datetime.strptime(run_id[1:16], "%Y%m%d-%H%M%S").replace(tzinfo=timezone.utc).timestamp()
