"""What a worker on ECS is made of: an image in ECR, a public one, or a plain Python with the bundle.

Called by: examine.py; network.py, for names.   Calls: ECR, S3; stack/code.py, for the bundle's record; software.py.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cloudexec.errors import AwsError, CloudexecError
from cloudexec.infra.bundle.words import VARIABLE
from cloudexec.infra.doctor.findings import Finding, detail, failed, is_denial, of_error, ok, unknown, warning
from cloudexec.infra.doctor.scene import Scene
from cloudexec.infra.doctor.software import installed, numbers
from cloudexec.infra.stack.code import fetch_record

SUBJECT: Final = "image"
BASE_START_S: Final = 15.0  # until the pull begins, and from its end to the first call
PULLED_MB_S: Final = 20.0  # rule of thumb for download and unpacking: 1 GB compressed takes about a minute
LARGE_MB: Final = 500.0
OLD_DAYS: Final = 180
_ECR: Final = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/"
    r"(?P<repository>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_PYTHON: Final = re.compile(r"(?:^|/)python:(?P<version>3\.\d+)")
_REMEDY: Final = "cloudexec image push, or correct the image in the task definition"


@dataclass(frozen=True, kw_only=True)
class EcrImage:
    """An image's name in a private registry of ECR, in its parts."""

    account: str
    region: str
    repository: str
    tag: str = ""
    digest: str = ""


def read_name(image: str) -> EcrImage | None:
    """None if it is not in ECR, or in the public one. Pure."""
    found = _ECR.fullmatch(image)
    return EcrImage(**{name: each or "" for name, each in found.groupdict().items()}) if found else None


def check_image(scene: Scene) -> list[Finding]:
    """Whether the workers' code can be fetched, and is for this Python."""
    image = str(scene.container.get("image") or scene.ecs.target.image)
    if not image:
        return []  # there is no such container, which is told elsewhere
    python = "{}.{}".format(*sys.version_info[:2])
    variables = {one["name"]: one["value"] for one in scene.container.get("environment") or []}
    if VARIABLE in variables:
        return judge_plain(image, python) + _check_bundle(scene, variables[VARIABLE])
    name = read_name(image)
    if name is None:
        return judge_elsewhere(image, python)
    if name.region != scene.place.region:
        text = f"{image} lies in {name.region}, runs in {scene.place.region}: each start pays for the transfer"
        return [warning(SUBJECT, text, "push it to the region of the runs, too: cloudexec image push")]
    wanted = {"imageDigest": name.digest} if name.digest else {"imageTag": name.tag or "latest"}
    request = {"registryId": name.account, "repositoryName": name.repository, "imageIds": [wanted]}
    absent = ("RepositoryNotFoundException", "ImageNotFoundException")
    said = scene.ask_or_none("ecr", "describe_images", request, *absent)
    return judge_ecr(image, (said or {}).get("imageDetails") or [], time.time())


def judge_ecr(image: str, said: list[Mapping[str, Any]], now_s: float) -> list[Finding]:
    """Pure."""
    if not said:
        text = f"there is no image {image}: workers cannot start"
        return [failed(SUBJECT, text, _REMEDY, image=image)]
    size_mb = int(said[0].get("imageSizeInBytes") or 0) / 1e6
    start_s = BASE_START_S + size_mb / PULLED_MB_S
    pushed = said[0].get("imagePushedAt")
    days = int((now_s - pushed.timestamp()) // 86_400) if isinstance(pushed, datetime) else 0
    text = f"{image} is there: {size_mb:,.0f} MB, pushed {days} days ago; a worker starts in about {start_s:.0f} s"
    digest = said[0].get("imageDigest", "")
    facts = {"image": image, "digest": digest, "size_mb": round(size_mb), "start_s": round(start_s)}
    findings = [ok(SUBJECT, text, **facts), _python_unknown()]
    if size_mb > LARGE_MB:
        remedy = "leave out what functions do not import; `cloudexec image` weighs what is in it"
        findings[0] = warning(SUBJECT, f"{text}, because Fargate pulls it anew for each", remedy, **facts)
    if days > OLD_DAYS:
        remedy = "build it again now and then, for fixes of Python and the system: cloudexec image build"
        findings.append(warning(SUBJECT, f"the image is {days} days old", remedy, **facts))
    return findings


def _python_unknown() -> Finding:
    return detail(SUBJECT, "which Python and cloudpickle it has, workers compare when they start; --run tries it now")


def judge_plain(image: str, python: str) -> list[Finding]:
    """A plain Python that fetches the bundle. Pure."""
    found = _PYTHON.search(image)
    if found is None:
        return [unknown(SUBJECT, f"which Python {image} has is not in its name", "--run compares it")]
    if found["version"] != python:
        text = f"workers run Python {found['version']} ({image}), this client {python}: results cannot be unpickled"
        remedy = f"use Python {found['version']} here, or run `cloudexec up --python {python}`"
        return [failed(SUBJECT, text, remedy, image=image)]
    return [ok(SUBJECT, f"workers run {image}, which is this client's Python, and fetch the bundle", image=image)]


def judge_elsewhere(image: str, python: str) -> list[Finding]:
    """An image of another registry, which is not asked. Pure."""
    found = _PYTHON.search(image)
    if found is not None and found["version"] != python:
        return judge_plain(image, python)
    remedy = "workers compare Python and cloudpickle when they start; --run tries it now"
    return [unknown(SUBJECT, f"{image} is in no ECR of this account, so it was not looked at", remedy, image=image)]


def _check_bundle(scene: Scene, address: str) -> list[Finding]:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    request = {"Bucket": bucket, "Key": key, "ExpectedBucketOwner": scene.account}
    try:
        said = scene.ask("s3", "head_object", request)
    except AwsError as error:
        return [judge_bundle_refusal(address, error)]
    return judge_bundle(address, int(said.get("ContentLength") or 0)) + _check_contents(scene, bucket, key)


def _check_contents(scene: Scene, bucket: str, key: str) -> list[Finding]:
    """What `cloudexec up` has written down of the bundle; clients may not read it, and need not."""
    try:
        record = fetch_record(scene.place, bucket)
    except CloudexecError:
        return []
    return judge_contents(record.contents, installed().packages) if record is not None and record.key == key else []


def judge_contents(there: Mapping[str, str], here: Mapping[str, str]) -> list[Finding]:
    """The versions in the bundle against ours. Pure."""
    findings = []
    for name in ("cloudexec", "cloudpickle"):
        theirs, ours = there.get(name, ""), here.get(name, "")
        if not theirs or not ours or theirs == ours:
            continue
        text = f"the bundle has {name} {theirs}, this client {ours}"
        if numbers(theirs)[:1] != numbers(ours)[:1]:
            findings.append(failed(SUBJECT, f"{text}: pickles cannot be trusted", "cloudexec up makes a new bundle"))
        else:
            findings.append(warning(SUBJECT, text, "cloudexec up makes a new bundle, with the same"))
    return findings


def judge_bundle_refusal(address: str, error: AwsError) -> Finding:
    """Pure."""
    if error.code in ("404", "NoSuchKey", "NoSuchBucket"):
        text = f"the bundle {address} is not there: workers cannot start"
        return failed(SUBJECT, text, "cloudexec up uploads it again")
    if is_denial(error):
        return unknown(SUBJECT, f"could not look at the bundle {address}: only workers may read it")
    return of_error(SUBJECT, f"bundle {address}", error)


def judge_bundle(address: str, size_bytes: int) -> list[Finding]:
    """Pure."""
    size_mb = size_bytes / 1024**2  # as `up` counts
    text = f"the bundle is there: {size_mb:.1f} MB, {address}"
    if size_mb > LARGE_MB:
        remedy = "build an image: cloudexec image; it need not be unpacked by each worker"
        return [warning(SUBJECT, f"{text}; each worker fetches and unpacks it", remedy, size_mb=round(size_mb))]
    return [ok(SUBJECT, text, size_mb=round(size_mb))]
