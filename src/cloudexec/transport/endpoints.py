"""Where a request goes: hosts of services, regions and buckets, custom endpoints, proxies. Pure.

Called by:  account.py.   Calls: errors.
Verified:   against botocore's endpoint rules for every region it knows (tests/transport/test_endpoints.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from cloudexec.errors import SettingsError

_URL: Final = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[^/:?#@\[\]\s]+)(?::(\d{1,5}))?(/[^?#\s]*)?")
_HOST_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]").fullmatch
_IN_NO_PATH: Final = re.compile(r"[^A-Za-z0-9._-]").search
_REGION: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?").fullmatch
_SUFFIXES: Final = (  # by how a region's name begins; everywhere else it is amazonaws.com
    ("cn-", "amazonaws.com.cn"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("us-iso-", "c2s.ic.gov"),
    ("eusc-", "amazonaws.eu"),
)
_ENDPOINT_VARIABLES: Final = {
    "s3": "AWS_ENDPOINT_URL_S3",
    "sqs": "AWS_ENDPOINT_URL_SQS",
    "lambda": "AWS_ENDPOINT_URL_LAMBDA",
}


class Target(NamedTuple):
    """Where to connect, what the Host header says, what stands before a request's path, and the region that signs."""

    host: str
    port: int
    is_tls: bool
    authority: str
    base: str
    region: str


def read_url(url: str, region: str = "") -> Target:
    """A URL as a target; its path is the base of all paths."""
    found = _URL.fullmatch(url)
    if found is None:
        raise SettingsError(
            f"{url!r} is not a URL of an endpoint", remedy="write it as https://host or http://host:port"
        )
    scheme, host, port_text, path = found.groups()
    port = int(port_text) if port_text else {"https": 443, "http": 80}[scheme]
    is_default = port == (443 if scheme == "https" else 80)
    authority = host if is_default else f"{host}:{port}"
    return Target(host.strip("[]"), port, scheme == "https", authority, (path or "").rstrip("/"), region)


def suffix_of(region: str) -> str:
    """The domain under which a region's services lie."""
    for beginning, suffix in _SUFFIXES:
        if region.startswith(beginning):
            return suffix
    return "amazonaws.com"


def target_of(service: str, region: str, bucket: str, endpoint: str) -> Target:
    """The target of a service's requests in a region, about `bucket` if it is S3; `endpoint` replaces AWS's own.

    AWS's buckets are part of the host, unless their name would break the certificate or DNS; at a custom endpoint they
    are part of the path.
    """
    if not _REGION(region):
        raise SettingsError(f"{region!r} is not the name of a region", remedy="set AWS_REGION, e.g. eu-west-1")
    if service == "s3" and (":" in bucket or "/" in bucket or bucket.endswith(("--x-s3", ".mrap"))):
        raise SettingsError(
            f"bucket {bucket!r} is an access point or directory bucket",
            remedy="use a general purpose bucket, by its own name",
        )
    if _IN_NO_PATH(bucket):  # it stands in the request's first line as it is
        raise SettingsError(f"{bucket!r} is not the name of a bucket")
    if endpoint:
        target = read_url(endpoint, region)
        return target._replace(base=f"{target.base}/{bucket}") if service == "s3" else target
    host = f"{service}.{region}.{suffix_of(region)}"
    if service == "s3" and _HOST_BUCKET(bucket):
        host = f"{bucket}.{host}"
        return Target(host, 443, True, host, "", region)
    return Target(host, 443, True, host, f"/{bucket}" if service == "s3" else "", region)


def endpoints_in(environ: Mapping[str, str]) -> dict[str, str]:
    """Endpoints that the environment sets, by service."""
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return {}
    everywhere = environ.get("AWS_ENDPOINT_URL", "")
    found = {service: environ.get(name) or everywhere for service, name in _ENDPOINT_VARIABLES.items()}
    return {service: url for service, url in found.items() if url}


def is_unusual(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for endpoints that these rules do not know: FIPS or dual-stack."""
    return any(
        environ.get(name, "").lower() == "true" for name in ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT")
    )


def proxy_for(target: Target, environ: Mapping[str, str]) -> str:
    """The proxy that the environment names for a target, as curl and boto3 read it; empty if there is none."""
    scheme = "https" if target.is_tls else "http"
    proxy = environ.get(f"{scheme}_proxy") or environ.get(f"{scheme.upper()}_PROXY") or ""
    exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    return "" if not proxy or _is_exempt(target, exempt) else proxy


def _is_exempt(target: Target, exempt: str) -> bool:
    host = target.host.lower()
    for entry in exempt.replace(" ", "").lower().split(","):
        name = entry.lstrip(".")
        if entry == "*" or (name and name in (host, f"{host}:{target.port}")):
            return True
        if name and (host.endswith("." + name) or f"{host}:{target.port}".endswith("." + name)):
            return True
    return False
