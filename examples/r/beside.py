"""What the R examples share: an executor by name, and the same work in plain R on this machine.

Called by: the examples beside it.   Calls: cloudexec; except on "local" the pocket AWS, an AWS on loopback.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloudexec import ECSExecutor, LambdaExecutor, LocalExecutor, RObject

EXECUTORS = {"local": LocalExecutor, "ecs": ECSExecutor, "lambda": LambdaExecutor}


def arguments(about: str | None, **more: Any) -> argparse.Namespace:
    """The command line: where to run, and what an example adds (name=default)."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--on", choices=sorted(EXECUTORS), default="local", help="the executor (default: local)")
    for name, default in more.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
    return parser.parse_args()


@contextmanager
def executor_on(name: str, max_workers: int = 2) -> Iterator[Any]:
    """An executor; those of the cloud find a pocket AWS, which ends with the block."""
    if name == "local":
        with LocalExecutor(max_workers=max_workers) as executor:
            yield executor
        return
    from cloudexec.testing import PocketAWS

    with PocketAWS() as aws, aws.activated(), EXECUTORS[name](max_workers=max_workers) as executor:
        yield executor


def plain_r(code: str) -> tuple[Any, float]:
    """What R itself makes of the code, whose variable `result` is taken; and the seconds that Rscript took."""
    with tempfile.TemporaryDirectory() as directory:
        saved, script = Path(directory) / "result.rds", Path(directory) / "plain.R"
        script.write_text(f"{code}\nsaveRDS(result, {str(saved)!r}, version = 2)\n")
        began = time.perf_counter()
        plain_script(script, directory)
        return RObject.load(saved).to_python(), time.perf_counter() - began


def plain_script(script: Path, directory: str | Path, **env: str) -> str:
    """Run a script by Rscript in a directory, where it may leave files; what it printed."""
    command = ["Rscript", "--vanilla", str(script)]
    done = subprocess.run(command, check=True, cwd=directory, env={**os.environ, **env}, stdout=subprocess.PIPE)
    return done.stdout.decode()


def tell(label: str, text: str) -> None:
    """One line."""
    print(f"  {label:<12}{text}", flush=True)


def verdict(is_same: bool, what: str) -> int:
    """Say whether both agree; the exit code."""
    tell("check", f"{what}: {'identical to plain R' if is_same else 'NOT IDENTICAL to plain R'}")
    return 0 if is_same else 1
