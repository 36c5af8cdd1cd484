"""The keys of this user's runs: files on this machine that nobody else can read.

Called by: executors of cloud backends; attach.
A run's key signs everything that is unpickled, so it must not lie where its messages lie. Without it there is no
attaching; it is removed when its run is over.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from cloudexec.errors import RunMissing, SettingsError

_RUN_ID: Final = re.compile(r"r\d{8}-\d{6}-[0-9a-f]+\Z")


@dataclass(frozen=True, kw_only=True)
class RunKey:
    """A run's key, and where the run lies."""

    run_id: str
    key_hex: str = field(repr=False)
    bucket: str
    prefix: str
    owner: str
    region: str
    endpoint_url: str = ""
    profile: str = ""

    @classmethod
    def of(
        cls,
        run_id: str,
        key: str | None,
        bucket: str | None,
        prefix: str | None,
        region: str | None,
        profile: str | None,
        endpoint_url: str | None,
    ) -> RunKey:
        """What is given, and for the rest what this machine knows. Errors: RunMissing, SettingsError."""
        given = {"key_hex": key, "bucket": bucket, "prefix": prefix, "region": region}
        given |= {"profile": profile, "endpoint_url": endpoint_url}
        named = {name: value for name, value in given.items() if value is not None}
        if key is None:
            return replace(load(run_id), **named)
        if bucket is None:
            raise SettingsError("key is given without bucket", remedy="give bucket=, where the run's objects lie")
        return cls(**{"run_id": run_id, "prefix": "cloudexec", "owner": "", "region": "", **named})


def directory() -> str:
    """Where keys lie: `$XDG_STATE_HOME/cloudexec/runs`, by default below `~/.local/state`."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(home, "cloudexec", "runs")


def save(key: RunKey) -> None:
    """Write a key, readable by this user alone."""
    os.makedirs(directory(), mode=0o700, exist_ok=True)
    path = _path(key.run_id)
    new = f"{path}.{os.urandom(8).hex()}.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # a file that was there might be somebody else's
    with os.fdopen(fd, "w") as file:
        json.dump(asdict(key), file)
    os.replace(new, path)


def load(run_id: str) -> RunKey:
    """The key of a run. Errors: RunMissing."""
    try:
        with open(_path(run_id)) as file:
            return RunKey(**json.load(file))
    except FileNotFoundError:
        raise RunMissing(f"the key of run {run_id} is not in {directory()}") from None
    except (ValueError, TypeError) as error:
        raise RunMissing(f"the key of run {run_id} in {directory()} cannot be read: {error}") from None


def known() -> list[str]:
    """Runs whose keys are here, the oldest first."""
    with contextlib.suppress(FileNotFoundError):
        ids = (name.removesuffix(".json") for name in os.listdir(directory()) if name.endswith(".json"))
        return sorted(filter(_RUN_ID.match, ids))
    return []


def forget(run_id: str) -> None:
    """Remove a key; the run is over."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(_path(run_id))


def _path(run_id: str) -> str:
    if not _RUN_ID.match(run_id):
        raise RunMissing(f"{run_id!r} is not the id of a run", remedy="give an id such as r20261121-052301-9f3a1c")
    return os.path.join(directory(), run_id + ".json")
