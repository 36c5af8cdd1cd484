"""Whose credentials these are, how long they last, whether the region is there, and what time it is for AWS.

Called by: examine.py, before anything else of AWS.   Calls: STS; EC2 for the region's status; reach.py.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

from cloudexec.errors import (
    AccessDenied,
    AwsError,
    ConnectionLost,
    CredentialsExpired,
    CredentialsMissing,
    SettingsError,
)
from cloudexec.infra.doctor.findings import Finding, detail, failed, of_error, ok, warning
from cloudexec.infra.doctor.reach import judge_connection, trouble_of
from cloudexec.infra.doctor.scene import Scene
from cloudexec.transport.refusals import SKEWED

SUBJECT: Final = "credentials"
CLOCK: Final = "clock"
REGION: Final = "region"
SKEW_WARNING_S: Final = 60.0
SKEW_FAILED_S: Final = 300.0  # AWS refuses signatures that are further off than 5 minutes, S3 than 15
SOON_S: Final = 15 * 60.0
_NO_SUCH_KEY: Final = frozenset({"InvalidClientTokenId", "InvalidAccessKeyId", "UnrecognizedClientException"})
_WRONG_SECRET: Final = frozenset({"SignatureDoesNotMatch", "InvalidSignatureException"})
_CLOCK_REMEDY: Final = "set the clock: `timedatectl set-ntp true`, or the clock of the virtual machine's host"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who asks. method: how botocore has found the credentials. left_s: None where nobody knows when they end."""

    account: str
    arn: str
    method: str = ""
    left_s: float | None = None


def check_identity(scene: Scene) -> list[Finding]:
    """Who asks. Without an answer it makes no sense to ask AWS anything else."""
    try:
        region = scene.place.region
    except SettingsError as error:
        return [failed(REGION if "region" in error.what else SUBJECT, error.what, error.remedy)]
    names = scene.place.known_regions("sts")
    began_s = time.time()
    try:
        said = scene.place.clients.caller
        skew_s = _skew_s(said, began_s)
        findings = judge_identity(_identity(scene, said))
    except AwsError as error:
        findings = [_of_refusal(error, scene)]
        skew_s = _skew_s(getattr(error.__cause__, "response", None) or {}, began_s)
    if not scene.place.clients.endpoint_of("sts"):
        findings = judge_region_name(region, names) + findings
    if skew_s is not None:
        findings += judge_clock(skew_s)
    return findings


def _identity(scene: Scene, said: Mapping[str, Any]) -> Identity:
    credentials = scene.place.clients.session.get_credentials()
    until = getattr(credentials, "_expiry_time", None)  # of those that botocore renews; no public name tells it
    return Identity(
        account=str(said["Account"]),
        arn=str(said["Arn"]),
        method=str(getattr(credentials, "method", "") or ""),
        left_s=until.timestamp() - time.time() if until is not None else None,
    )


def _of_refusal(error: AwsError, scene: Scene) -> Finding:
    if isinstance(error, ConnectionLost):
        return judge_connection(trouble_of(error), scene.wanted.environ)
    return judge_refusal(error, scene.place.region)


def judge_identity(found: Identity) -> list[Finding]:
    """Whether these are credentials to work with. Pure."""
    how = f", by {_METHODS.get(found.method, found.method)}" if found.method else ""
    facts = {"account": found.account, "arn": found.arn, "method": found.method}
    findings = [ok(SUBJECT, f"{found.arn}, account {found.account}{how}", **facts)]
    if found.arn.endswith(":root"):
        text = f"these are the root user's keys of account {found.account}: nothing limits what they may do"
        remedy = "make a user or role with the rights of `cloudexec policy client`, and delete the root user's keys"
        findings = [warning(SUBJECT, text, remedy, **facts)]
    if found.left_s is not None:
        findings.append(_judge_time(found.left_s))
    return findings


_METHODS: Final = {
    "env": "environment variables",
    "shared-credentials-file": "the credentials file",
    "config-file": "the configuration file of AWS",
    "sso": "single sign-on",
    "assume-role": "a role that is assumed",
    "assume-role-with-web-identity": "a role of a web identity",
    "iam-role": "the role of this machine",
    "container-role": "the role of this container",
    "custom-process": "a program of its own (credential_process)",
}


def _judge_time(left_s: float) -> Finding:
    if left_s <= 0:
        return warning(SUBJECT, "they have ended just now", "log in again (aws sso login)", left_s=round(left_s))
    minutes = int(left_s // 60)
    if left_s < SOON_S:
        text = f"they end in {minutes} minutes; runs that last longer fail if nothing renews them"
        return warning(SUBJECT, text, "log in again (aws sso login) before a long run", left_s=round(left_s))
    return detail(SUBJECT, f"they last {minutes} more minutes", left_s=round(left_s))


def judge_refusal(error: AwsError, region: str) -> Finding:
    """What AWS has against the credentials. Pure."""
    if isinstance(error, (CredentialsMissing, CredentialsExpired)):
        return failed(SUBJECT, error.what, error.remedy, error=type(error).__name__)
    if error.code in SKEWED or "Signature expired" in error.what or "not yet current" in error.what:
        return failed(CLOCK, f"AWS refuses the time of this machine: {error.what}", _CLOCK_REMEDY)
    if error.code in _NO_SUCH_KEY:
        remedy = (
            "correct the keys; temporary ones (ASIA…) need AWS_SESSION_TOKEN, too; "
            f"if {region} is a region that must be enabled first, enable it (aws account enable-region)"
        )
        return failed(SUBJECT, f"AWS does not know these keys in {region}: {error.what}", remedy, code=error.code)
    if error.code in _WRONG_SECRET:
        remedy = "correct the secret key: it does not belong to this access key (mind / and + when copying)"
        return failed(SUBJECT, f"the signature is wrong: {error.what}", remedy, code=error.code)
    if isinstance(error, AccessDenied):  # no policy can deny this question: it is about the account, or an organisation
        return failed(SUBJECT, f"the account is not usable: {error.what}", error.remedy, code=error.code)
    return of_error(SUBJECT, "credentials", error)


# --- the region -----------------------------------------------------------------------------------


def judge_region_name(region: str, known: Collection[str]) -> list[Finding]:
    """Whether there is a region of this name; botocore's list may be older than the region. Pure."""
    if region in known:
        return []
    near = difflib.get_close_matches(region, known, n=1)
    remedy = f"did you mean {near[0]}?" if near else "give region=, e.g. eu-west-1"
    return [warning(REGION, f"{region} is no region that this boto3 knows", remedy)]


def check_region(scene: Scene) -> list[Finding]:
    """Whether the account may use the region."""
    region = scene.place.region
    said = scene.ask_or_none(
        "ec2", "describe_regions", {"RegionNames": [region], "AllRegions": True}, "InvalidParameterValue"
    )
    return judge_region(region, (said or {}).get("Regions") or [])


def judge_region(region: str, said: list[Mapping[str, Any]]) -> list[Finding]:
    """EC2's word on the region. Pure."""
    status = next((str(one.get("OptInStatus")) for one in said if one.get("RegionName") == region), "")
    if not status:
        return [failed(REGION, f"AWS has no region {region}", "correct region=; `aws ec2 describe-regions` lists them")]
    if status == "not-opted-in":
        remedy = f"aws account enable-region --region-name {region}, and wait until it is done"
        return [failed(REGION, f"the account has not enabled the region {region}", remedy)]
    return [ok(REGION, f"{region} is enabled", region=region)]


# --- the clock ------------------------------------------------------------------------------------


def _skew_s(reply: Mapping[str, Any], began_s: float) -> float | None:
    """Seconds by which this machine is ahead of AWS; the answer's Date was written between question and now."""
    date = ((reply.get("ResponseMetadata") or {}).get("HTTPHeaders") or {}).get("date")
    return skew_of(str(date), began_s, time.time()) if date else None


def skew_of(date: str, began_s: float, ended_s: float) -> float | None:
    """Pure. None if the date cannot be read. It has whole seconds, so less than one says nothing."""
    try:
        theirs_s = parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return None
    if began_s - 1 <= theirs_s <= ended_s:
        return 0.0
    return began_s - 1 - theirs_s if theirs_s < began_s else ended_s - theirs_s


def judge_clock(skew_s: float) -> list[Finding]:
    """Whether signatures will be taken. Pure."""
    off_s = abs(skew_s)
    text = f"this machine's clock is {off_s:.0f} s {'ahead of' if skew_s > 0 else 'behind'} that of AWS"
    if off_s > SKEW_FAILED_S:
        return [failed(CLOCK, f"{text}: requests are refused", _CLOCK_REMEDY, skew_s=round(skew_s))]
    if off_s > SKEW_WARNING_S:
        return [warning(CLOCK, f"{text}; above 300 s requests are refused", _CLOCK_REMEDY, skew_s=round(skew_s))]
    text = text if off_s >= 2 else "this machine's clock and that of AWS agree"
    return [ok(CLOCK, text, skew_s=round(skew_s))]
