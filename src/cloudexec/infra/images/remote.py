"""Build an image in the account, by the stack's CodeBuild project, where no tool is here.

Called by:  cli/image.py.   Calls: buildspec.py, place.py.
Requests:   PutObject; every 2 s BatchGetBuilds, and GetLogEvents once there is a log; DeleteObject at the end.
A Ctrl-C stops the build: nobody would wait for it, and it is paid by the minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from cloudexec.errors import AccessDenied, AwsError, CloudexecError, SettingsError
from cloudexec.infra.images.buildspec import Job, Phase, Progress, read_builds, read_progress, start_build_request
from cloudexec.infra.images.context import Context
from cloudexec.infra.place import Place

_EVERY_S: Final = 2.0
_MOST_ZIP_BYTES: Final = 5 * 10**9  # of one PutObject
_FOLDER: Final = "builds/"
Say = Callable[[str], None]


def upload(place: Place, bucket: str, context: Context) -> str:
    """Put the context into the bucket; its key. Errors: SettingsError, AwsError and its kin."""
    data = context.zip
    if len(data) > _MOST_ZIP_BYTES:
        raise SettingsError("the build's files are larger than 5 GB", remedy="leave data out of --with-source")
    key = f"{_FOLDER}{context.sha256}.zip"
    place.ask("s3", "put_object", {**_object(place, bucket, key), "Body": data, "ContentType": "application/zip"})
    return key


def build_remotely(place: Place, job: Job, say: Say, every_s: float = _EVERY_S) -> str:
    """Build and push; the image's name. Errors: CloudexecError with the phase that failed, AwsError and its kin."""
    try:
        started = read_progress(place.ask("codebuild", "start_build", start_build_request(job))["build"])
        ended = _follow_or_stop(place, started, say, every_s)
    finally:
        with suppress(CloudexecError):  # the bucket's lifecycle removes what stays
            place.ask("s3", "delete_object", _object(place, job.bucket, job.key))
    if ended.status != "SUCCEEDED":
        why = ended.trouble or "its log says why"
        what = f"build {ended.id} ended as {ended.status}: {why}"
        log = f"{ended.log_group} {ended.log_stream}".strip()
        raise CloudexecError(what, remedy=f"the log's last lines above say more ({log or 'no log was written'})")
    if not ended.image:
        raise CloudexecError(f"build {ended.id} succeeded and named no image", remedy="look at its log")
    return ended.image


def _follow_or_stop(place: Place, started: Progress, say: Say, every_s: float) -> Progress:
    try:
        say(f"CodeBuild: {started.id}")
        return _follow(place, started, say, every_s)
    except BaseException:
        with suppress(CloudexecError):  # the first trouble is the one to tell
            place.ask("codebuild", "stop_build", {"id": started.id})
        raise


def _follow(place: Place, progress: Progress, say: Say, every_s: float) -> Progress:
    """Look until it is over; phases and lines are told once."""
    told: set[tuple[str, str]] = set()
    log = BuildLog(place, say)
    while True:
        progress = read_builds(place.ask("codebuild", "batch_get_builds", {"ids": [progress.id]}), progress.id)
        log.read_on(progress)
        for phase in progress.phases:
            if phase.status and (phase.name, phase.status) not in told:
                told.add((phase.name, phase.status))
                say(_line(phase))
        if progress.is_over:
            return progress
        time.sleep(every_s)


def _line(phase: Phase) -> str:
    duration = f" after {phase.duration_s} s" if phase.duration_s is not None else ""
    return f"{phase.name.lower().replace('_', ' ')}: {phase.status.lower()}{duration}"


class BuildLog:
    """Tells the lines of a build's log as they come."""

    def __init__(self, place: Place, say: Say) -> None:
        self._place, self._say = place, say
        self._token = ""
        self._is_denied = False

    def read_on(self, progress: Progress) -> None:
        """What is new; a log that does not exist yet has nothing new."""
        while progress.log_stream and not self._is_denied:
            request = {
                "logGroupName": progress.log_group,
                "logStreamName": progress.log_stream,
                "startFromHead": True,
                **({"nextToken": self._token} if self._token else {}),
            }
            try:
                reply = self._place.ask("logs", "get_log_events", request)
            except AccessDenied as error:
                # Whoever may build need not be allowed to read: the phases still tell how it went.
                self._is_denied = True
                self._say(f"the build's log cannot be read: {error.what}")
                return
            except AwsError as error:
                if error.code == "ResourceNotFoundException":
                    return
                raise
            for event in reply.get("events") or ():
                self._say("  " + str(event.get("message", "")).rstrip())
            before, self._token = self._token, str(reply.get("nextForwardToken") or self._token)
            if self._token == before:  # this is the end; a page without lines need not be
                return


def _object(place: Place, bucket: str, key: str) -> dict[str, object]:
    return {"Bucket": bucket, "Key": key, "ExpectedBucketOwner": place.account_id}
