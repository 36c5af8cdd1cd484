"""Serve a pocket AWS for a shell, until Ctrl-C.

python -m cloudexec.testing                             prints the `export` lines to paste into another one
python -m cloudexec.testing --json                      one line for a program: environment and ready-made resources
python -m cloudexec.testing --empty                     as an account in which nobody has set cloudexec up

Called by:  people.   Calls: pocket.py.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from cloudexec.backends.aws_config import FILE_VARIABLE
from cloudexec.errors import CloudexecError
from cloudexec.testing.pocket.pocket import PocketAWS
from cloudexec.testing.pocket.settings import CONTAINER_KINDS


def main(words: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m cloudexec.testing", description="Serve a pocket AWS until Ctrl-C.")
    parser.add_argument("--port", type=int, default=0, help="where it listens on 127.0.0.1; any free port by default")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--containers", choices=CONTAINER_KINDS, default="process")
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of `export` lines")
    parser.add_argument("--empty", action="store_true", help="name nothing that is ready: `cloudexec up` makes it")
    asked = parser.parse_args(words)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with (
            PocketAWS(
                port=asked.port, region=asked.region, containers=asked.containers, ready_made=not asked.empty
            ) as aws,
            tempfile.TemporaryDirectory(prefix="cloudexec-") as directory,
        ):
            env = of_empty_account(aws, Path(directory)) if asked.empty else aws.env
            print(as_json(aws, env) if asked.json else as_exports(env), flush=True)
            signal.pause()
    except KeyboardInterrupt:
        return 0
    except CloudexecError as error:
        print(f"cloudexec: {error}", file=sys.stderr)
        return 1
    return 0


def of_empty_account(aws: PocketAWS, directory: Path) -> dict[str, str]:
    """The account alone, and a configuration file of its own: this user's may speak of a real one."""
    config = directory / "config.toml"
    config.touch()
    return {**aws.env, FILE_VARIABLE: str(config)}


def as_exports(env: Mapping[str, str]) -> str:
    """What a shell takes; `ECSExecutor()` needs nothing else then."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in env.items()]
    return "\n".join([*lines, "# Ctrl-C ends it and everything that it started"])


def as_json(aws: PocketAWS, env: Mapping[str, str]) -> str:
    """The same for a program."""
    return json.dumps({"env": dict(env), "setup": aws.setup})


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
