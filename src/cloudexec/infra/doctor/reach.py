"""No answer from AWS: whose fault it is.

Called by: identity.py.   Calls: nothing of AWS.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cloudexec.errors import ConnectionLost
from cloudexec.infra.doctor.findings import Finding, failed

SUBJECT: Final = "network"
_PROXIES: Final = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_NO_NAME: Final = (
    "NameResolution",
    "getaddrinfo",
    "Name or service not known",
    "Temporary failure in name",
)
_PASSWORD: Final = re.compile(r"//[^/@]*@")
_DOCUMENTATION_ADDRESS: Final = ("192.0.2.1", 443)  # RFC 5737: nobody has it


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """How a connection failed. kind: botocore's exception, by name. has_route: whether this machine has a way out."""

    kind: str
    text: str
    has_route: bool = True


def trouble_of(error: ConnectionLost) -> Trouble:
    """What botocore said."""
    cause = error.__cause__
    inner = getattr(cause, "kwargs", {}).get("error", "") if cause is not None else ""
    return Trouble(kind=type(cause).__name__, text=f"{error.what} {inner}".strip(), has_route=_has_route())


def _has_route() -> bool:
    """Whether there is a way to other networks. Connecting by UDP sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(_DOCUMENTATION_ADDRESS)
        except OSError:
            return False
    return True


def judge_connection(trouble: Trouble, environ: Mapping[str, str]) -> Finding:
    """Whose fault it is, as far as it shows. Pure."""
    proxy = next((f"{name}={_PASSWORD.sub('//', environ[name])}" for name in _PROXIES if environ.get(name)), "")
    text, kind = trouble.text, trouble.kind
    if kind == "ProxyConnectionError":
        return failed(SUBJECT, f"the proxy ({proxy or 'of the configuration'}) does not answer: {text}", _PROXY_REMEDY)
    if kind == "SSLError" or "CERTIFICATE_VERIFY_FAILED" in text:
        what = f"the certificate of what answers is not that of AWS: {text}"
        remedy = (
            "if your network looks into TLS (a company's proxy), name its certificate with AWS_CA_BUNDLE=FILE.pem; "
            "otherwise somebody else answers for AWS: find out who"
        )
        return failed(SUBJECT, what, remedy)
    if any(words in text for words in _NO_NAME):
        if not trouble.has_route:
            return failed(SUBJECT, f"this machine has no network: {text}", "connect it")
        remedy = "correct region= (a misspelt one has no address), and look at DNS: `getent hosts` with the name above"
        return failed(SUBJECT, f"the name of the endpoint is not known: {text}", remedy)
    if not trouble.has_route and "127.0.0.1" not in text and "localhost" not in text:
        return failed(SUBJECT, f"this machine has no network: {text}", "connect it")
    if "refused" in text or kind == "EndpointConnectionError":
        what = f"nobody answers at the endpoint: {text}"
        return failed(SUBJECT, what, f"correct endpoint_url or AWS_ENDPOINT_URL, if one is set{_through(proxy)}")
    if "Timeout" in kind:
        what = f"the endpoint does not answer in time: {text}"
        return failed(SUBJECT, what, f"a firewall may swallow requests to port 443: allow them{_through(proxy)}")
    remedy = f"try again; if it stays, look at proxy and firewall{_through(proxy)}"
    return failed(SUBJECT, f"the connection broke: {text}", remedy)


_PROXY_REMEDY: Final = "correct HTTPS_PROXY, or unset it; NO_PROXY=.amazonaws.com goes past it"


def _through(proxy: str) -> str:
    return f"; requests go through the proxy {proxy}" if proxy else ""
