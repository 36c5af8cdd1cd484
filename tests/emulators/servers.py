"""Start programs that other people wrote to behave like AWS, on free ports of 127.0.0.1, and stop them.

Called by: conftest.py.   Installed by: scripts/emulators.sh.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).parents[2]
START_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a server listens, and whom it lets in."""

    url: str
    access_key: str = "test"
    secret_key: str = "test"
    region: str = "us-east-1"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


class NotInstalled(Exception):
    """The program is not there; says how to get it."""


def program(environment: str, name: str) -> str:
    """Path of a program in one of the emulators' environments."""
    path = ROOT / ".venv" / f"tool-{environment}" / "bin" / name
    if not path.exists():
        raise NotInstalled(f"{environment} is not installed: run scripts/emulators.sh")
    return str(path)


@contextlib.contextmanager
def ministack(folder: pathlib.Path, *, checks_rights: bool = False) -> Iterator[Endpoint]:
    """Every service in one process; state in memory. checks_rights: signatures and policies are, but not for `test`."""
    (port,) = free_ports(1)
    settings = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "LOG_LEVEL": "WARNING", "PERSIST_STATE": "0"}
    settings |= {"AUTH": "true"} if checks_rights else {}
    with running([program("ministack", "ministack")], settings, folder / "ministack.log", [port]):
        yield Endpoint(url=f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def seaweedfs(folder: pathlib.Path) -> Iterator[Endpoint]:
    """One process with master, volumes, filer and S3; whoever signs with another key is refused."""
    endpoint_keys = {"accessKey": "weed-access", "secretKey": "weed-secret"}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = [{"name": "tests", "credentials": [endpoint_keys], "actions": actions}]
    (folder / "ids.json").write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()
    kinds = ["master.port", "volume.port", "filer.port", "s3.port"]
    names = [name for kind in kinds for name in (kind, f"{kind}.grpc")]
    ports = dict(zip([*names, "debug.port"], free_ports(len(names) + 1), strict=True))
    options = {
        **ports,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "dir": folder / "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "s3.config": folder / "ids.json",
        "s3.allowDeleteBucketNotEmpty": "false",
        "volume.max": 100,  # a bucket takes seven at once
        "master.volumeSizeLimitMB": 64,
    }
    command = [program("seaweedfs", "weed"), "server", "-s3", "-filer", *(f"-{k}={v}" for k, v in options.items())]
    waiting_for = [ports["s3.port"], ports["volume.port"], ports["filer.port"]]
    with running(command, {}, folder / "weed.log", waiting_for):
        url = f"http://127.0.0.1:{ports['s3.port']}"
        yield Endpoint(url=url, access_key="weed-access", secret_key="weed-secret")


@contextlib.contextmanager
def microburst(folder: pathlib.Path, upstream: Endpoint) -> Iterator[Endpoint]:
    """A proxy before `upstream`; its rules are set over HTTP, see conftest.py."""
    (port,) = free_ports(1)
    command = [program("microburst", "microburst"), "-u", upstream.url, "--host", "127.0.0.1", "--port", str(port)]
    with running(command, {}, folder / "microburst.log", [port]):
        yield Endpoint(url=f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def running(command: list[str], settings: dict[str, str], log: pathlib.Path, ports: list[int]) -> Iterator[None]:
    """A process group of its own, awaited on its ports, ended together."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(log.parent), **settings}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=log.parent, stdout=output, stderr=output, start_new_session=True
        )
    try:
        for port in ports:
            wait_for(port, process, log)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # nothing that it holds is worth a slow farewell
        process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes], log: pathlib.Path) -> None:
    """Until the port takes connections."""
    until_s = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > until_s:
            raise RuntimeError(f"{process.args} did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def free_ports(n: int) -> list[int]:
    """That many ports that nobody listens on; all are held until all are found, so that none comes twice."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
