"""One TLS context for the whole process: reading the authorities takes 20 ms, a connection then a millisecond.

Called by:  sync.py, aio.py and plain.py, at the first https connection: `ssl` is imported here and not before.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from cloudexec.errors import SettingsError

if TYPE_CHECKING:
    import ssl

_contexts: Final[dict[str, ssl.SSLContext]] = {}
_making: Final = threading.Lock()


def shared_context(ca_bundle: str = "") -> ssl.SSLContext:
    """A context that checks names and certificates against `ca_bundle`, or the system's authorities.

    OpenSSL itself honours SSL_CERT_FILE and SSL_CERT_DIR for the latter.
    """
    with _making:
        if ca_bundle not in _contexts:
            _contexts[ca_bundle] = _make(ca_bundle)
        return _contexts[ca_bundle]


def _make(ca_bundle: str) -> ssl.SSLContext:
    import ssl

    try:
        if os.path.isdir(ca_bundle):
            context = ssl.create_default_context(capath=ca_bundle)
        else:
            context = ssl.create_default_context(cafile=ca_bundle or _fallback(ssl.get_default_verify_paths()))
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            f"cannot read the certificates in {ca_bundle!r}: {error}", remedy="correct AWS_CA_BUNDLE"
        ) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def _fallback(paths: ssl.DefaultVerifyPaths) -> str | None:
    """The bundle that comes with botocore, for images without any authorities; None where the system has its own."""
    if paths.cafile is not None or (paths.capath is not None and os.listdir(paths.capath)):
        return None
    from importlib.util import find_spec

    found = find_spec("botocore")  # finds without importing
    for directory in (found.submodule_search_locations or ()) if found else ():
        bundle = os.path.join(directory, "cacert.pem")
        if os.path.exists(bundle):
            return bundle
    return None
