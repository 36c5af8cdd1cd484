"""The bucket: there, ours, in our region, usable, and kept clean.

Called by: examine.py.   Calls: S3, and names the owner in each request.
Writes:    one object below PREFIX/runs/doctor-…/, which is removed at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cloudexec.errors import AccessDenied, AwsError
from cloudexec.infra.doctor.findings import Finding, failed, is_denial, of_error, ok, unknown, warning
from cloudexec.infra.doctor.scene import Scene

SUBJECT: Final = "bucket"
_PROBE: Final = b"cloudexec doctor"
_RUNS: Final = "runs/"
_ENCRYPT: Final = (
    "aws s3api put-bucket-encryption --bucket {} --server-side-encryption-configuration "
    '\'{{"Rules":[{{"ApplyServerSideEncryptionByDefault":{{"SSEAlgorithm":"AES256"}}}}]}}\''
)
_BLOCK: Final = (
    "aws s3api put-public-access-block --bucket {} --public-access-block-configuration "
    "BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true"
)
_ABSENT: Final = frozenset({"404", "NoSuchBucket"})


@dataclass(frozen=True, kw_only=True)
class BucketFacts:
    """What S3 tells of a bucket. errors: by what was tried (write, read, list, delete), "" where it went well."""

    name: str
    region: str
    ours: str
    errors: Mapping[str, AwsError] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BucketCare:
    """How it is kept. None: nobody could look. rules: prefixes that expire, "" for all of it."""

    is_encrypted: bool | None = None
    is_private: bool | None = None
    is_versioned: bool | None = None
    rules: tuple[str, ...] | None = None


def check_bucket(scene: Scene) -> list[Finding]:
    """Look at it from outside, then use it."""
    name, prefix = scene.bucket
    if not name:
        return judge_no_bucket(has_ecs=scene.has_ecs) if scene.has_ecs or scene.has_function else []
    owned = {"Bucket": name, "ExpectedBucketOwner": scene.account}
    try:
        head = scene.ask("s3", "head_bucket", owned)
    except AwsError as error:
        return [judge_refusal(name, scene.account, error, _own_buckets(scene, error))]
    region = str(head.get("BucketRegion") or _header_region(head) or scene.place.region)
    found = BucketFacts(name=name, region=region, ours=scene.place.region, errors=_try_out(scene, owned, prefix))
    return judge_use(found, prefix) + judge_care(found.name, prefix, _care(scene, owned))


def _header_region(head: Mapping[str, Any]) -> str:
    headers = (head.get("ResponseMetadata") or {}).get("HTTPHeaders") or {}
    return str(headers.get("x-amz-bucket-region") or "")


def _own_buckets(scene: Scene, error: AwsError) -> frozenset[str] | None:
    """The account's buckets, if they tell something about this refusal and may be listed."""
    if not is_denial(error):
        return None
    try:
        return frozenset(one["Name"] for one in scene.ask("s3", "list_buckets").get("Buckets") or [])
    except AwsError:
        return None


def _try_out(scene: Scene, owned: Mapping[str, Any], prefix: str) -> dict[str, AwsError]:
    """What clients do with it: write, read, list, delete."""
    key = f"{prefix}/{_RUNS}doctor-{secrets.token_hex(6)}/probe"
    ask = scene.place.ask
    errors: dict[str, AwsError] = {}

    def attempt(what: str, operation: str, **request: Any) -> Any:
        try:
            return ask("s3", operation, {**owned, **request})
        except AwsError as error:
            errors[what] = error
            return {}

    attempt("write", "put_object", Key=key, Body=_PROBE)
    if "write" not in errors:
        body = attempt("read", "get_object", Key=key).get("Body")
        if body is not None:
            body.read()
            body.close()
    attempt("list", "list_objects_v2", Prefix=f"{prefix}/{_RUNS}", MaxKeys=1)
    if "write" not in errors:
        attempt("delete", "delete_object", Key=key)
    return errors


def _care(scene: Scene, owned: Mapping[str, Any]) -> BucketCare:
    def asked(operation: str, *absent: str) -> Mapping[str, Any] | None:
        """{} if it is not set, None if nobody may look."""
        try:
            return scene.ask_or_none("s3", operation, owned, *absent) or {}
        except AwsError:
            return None

    encryption = asked("get_bucket_encryption", "ServerSideEncryptionConfigurationNotFoundError")
    blocked = asked("get_public_access_block", "NoSuchPublicAccessBlockConfiguration")
    versioning = asked("get_bucket_versioning")
    lifecycle = asked("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration")
    blocks = (blocked or {}).get("PublicAccessBlockConfiguration") or {}
    return BucketCare(
        is_encrypted=None if encryption is None else bool(encryption.get("ServerSideEncryptionConfiguration")),
        is_private=None if blocked is None else len(blocks) == 4 and all(blocks.values()),
        is_versioned=None if versioning is None else versioning.get("Status") == "Enabled",
        rules=None if lifecycle is None else expiring(lifecycle.get("Rules") or []),
    )


def expiring(rules: list[Mapping[str, Any]]) -> tuple[str, ...]:
    """The prefixes whose objects expire, all of them: not those of a tag or a size alone, nor only marks. Pure."""
    return tuple(
        str((rule.get("Filter") or {}).get("Prefix") or rule.get("Prefix") or "")
        for rule in rules
        if rule.get("Status") == "Enabled"
        and (rule.get("Expiration") or {}).keys() & {"Days", "Date"}
        and (rule.get("Filter") or {}).keys() <= {"Prefix"}
    )


def judge_no_bucket(*, has_ecs: bool) -> list[Finding]:
    """None is known. Pure."""
    if has_ecs:
        return [failed(SUBJECT, "no bucket is known, and runs on ECS need one", "cloudexec up, or give bucket=")]
    text = "no bucket is known: arguments, results and modules must fit into an invocation"
    return [warning(SUBJECT, text, "cloudexec up, or give bucket=")]


def judge_refusal(name: str, account: str, error: AwsError, own: frozenset[str] | None) -> Finding:
    """Why it cannot be looked at. own: the account's buckets, None if nobody could list them. Pure."""
    if error.code in _ABSENT:
        return failed(SUBJECT, f"there is no bucket {name}", "correct bucket=, or make it: cloudexec up", code="404")
    if not is_denial(error):
        return of_error(SUBJECT, f"bucket {name}", error)
    if own is not None and name not in own:
        text = f"bucket {name} belongs to another account than {account}: nothing is sent there"
        return failed(SUBJECT, text, "correct bucket=, or the credentials", code="403")
    text = f"bucket {name}: S3 says 'denied'"
    if own is None:
        text += f"; it belongs to another account than {account}, or s3:ListBucket is missing"
    remedy = "compare the account above with the bucket's owner, and the rights with `cloudexec policy client`"
    return failed(SUBJECT, text, remedy, code="403")


def judge_use(found: BucketFacts, prefix: str) -> list[Finding]:
    """Whether runs can use it. Pure."""
    findings = []
    for what, error in found.errors.items():
        where = f"{found.name}/{prefix}/{_RUNS}"
        if isinstance(error, AccessDenied):
            text = f"{_ACTIONS[what]} is missing: these credentials may not {what} {where}"
            findings.append(failed(SUBJECT, text, "attach the rights of `cloudexec policy client`", code=error.code))
        else:
            findings.append(of_error(SUBJECT, f"{what} {where}", error))
    if found.region != found.ours:
        text = f"bucket {found.name} lies in {found.region}, runs in {found.ours}: each GB between them costs $0.02"
        findings.append(warning(SUBJECT, text, "correct region= or bucket=", region=found.region))
    if not findings:
        text = f"{found.name} in {found.region}: an object was written below {prefix}/{_RUNS}, read and removed"
        findings.append(ok(SUBJECT, text, bucket=found.name, region=found.region, prefix=prefix))
    return findings


_ACTIONS: Final = {
    "write": "s3:PutObject",
    "read": "s3:GetObject",
    "list": "s3:ListBucket",
    "delete": "s3:DeleteObject",
}


def judge_care(name: str, prefix: str, care: BucketCare) -> list[Finding]:
    """Whether it keeps secrets, and does not grow for ever. Pure."""
    findings = []
    if care.is_encrypted is False:
        text = f"bucket {name} has no rule for encryption; S3 encrypts with keys of its own"
        findings.append(warning(SUBJECT, text, _ENCRYPT.format(name)))
    if care.is_private is False:
        findings.append(warning(SUBJECT, f"bucket {name} does not block public access", _BLOCK.format(name)))
    if care.is_versioned:
        text = f"bucket {name} keeps old versions: what runs remove is kept, and paid for"
        findings.append(warning(SUBJECT, text, "let old versions expire by a lifecycle rule, or take another bucket"))
    if care.rules is not None and not any(f"{prefix}/{_RUNS}".startswith(rule) for rule in care.rules):
        text = f"nothing in bucket {name} expires below {prefix}/{_RUNS}: what a client that died has left stays"
        remedy = "add a lifecycle rule (cloudexec up makes one), or run `cloudexec clean` now and then"
        findings.append(warning(SUBJECT, text, remedy))
    unseen = [words for words, fact in _by_word(care) if fact is None]
    if unseen:
        findings.append(unknown(SUBJECT, f"could not look at its {', '.join(unseen)}"))
    return findings


def _by_word(care: BucketCare) -> list[tuple[str, object]]:
    return [
        ("encryption", care.is_encrypted),
        ("public access block", care.is_private),
        ("versioning", care.is_versioned),
        ("lifecycle", care.rules),
    ]
