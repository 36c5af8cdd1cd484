"""What an environment is started from: code on disk, argv, variables; for zips, for images, for podman.

Called by:  pool.py, for each cold start.   Calls: functions.py, containers.py.
Image:      as on ECS, its ENTRYPOINT comes from `PocketSettings.images`; the function's ImageConfig may override it,
            and its Command follows.
"""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cloudexec.testing.pocket.server.awslambda.environment import Environment, Launch
from cloudexec.testing.pocket.server.awslambda.functions import Function, Functions
from cloudexec.testing.pocket.server.containers import LAMBDA_MARK, SYSTEM_PATH, import_path
from cloudexec.testing.pocket.server.requests import Refusal
from cloudexec.testing.pocket.settings import PocketSettings

MACHINES: Final = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
KeysOf = Callable[[str], dict[str, str]]


class CannotExecute(Exception):
    """The entrypoint of an image cannot be started here; the message is Lambda's."""


class Launching:
    """Makes launches."""

    def __init__(
        self,
        *,
        functions: Functions,
        settings: PocketSettings,
        root: Path,
        links: Path,
        port: int,
        pocket_id: str,
        mark_base: str,
        keys_of: KeysOf,
    ) -> None:
        self._functions, self._settings, self._root, self._links = functions, settings, root, links
        self._port, self._pocket_id, self._mark_base, self._keys_of = port, pocket_id, mark_base, keys_of
        self._lock = threading.Lock()
        self._extracted: dict[str, Path] = {}

    def launch(self, function: Function, environment: Environment) -> Launch:
        """Everything to start this environment; a Refusal or CannotExecute if it cannot be."""
        mark = f"{self._mark_base}{environment.id}"
        own = self._root / environment.id
        variables = self._variables(function, environment, own)
        if not function.image:
            task = self._code(function)
            variables.update(LAMBDA_TASK_ROOT=str(task), AWS_EXECUTION_ENV=f"AWS_Lambda_{function.runtime}")
            argv = [sys.executable, "-m", "awslambdaric", function.handler]
            return self._process(argv, task, own, {**variables, **function.variables, LAMBDA_MARK: mark})
        if self._settings.containers == "podman":
            return self._podman(function, own, {**variables, **function.variables, LAMBDA_MARK: mark})
        directory = Path(function.image_config.get("WorkingDirectory") or own)
        variables["LAMBDA_TASK_ROOT"] = str(directory)
        argv = self._image_argv(function, variables["PATH"])
        return self._process(argv, directory, own, {**variables, **function.variables, LAMBDA_MARK: mark})

    def _process(self, argv: list[str], directory: Path, own: Path, variables: dict[str, str]) -> Launch:
        (own / "tmp").mkdir(parents=True)
        return Launch(
            argv=argv,
            directory=directory,
            own=own,
            environment=variables,
            mark=variables[LAMBDA_MARK],
            on_end=lambda: shutil.rmtree(own, ignore_errors=True),
        )

    def _variables(self, function: Function, environment: Environment, own: Path) -> dict[str, str]:
        """What Lambda sets, besides the function's own."""
        keys = self._keys_of(environment.id)
        path = {} if self._settings.containers == "podman" and function.image else self._own_paths(own)
        return {
            **path,
            "LANG": "C.UTF-8",
            "TZ": ":UTC",
            "_HANDLER": function.handler,
            "AWS_REGION": function.region,
            "AWS_DEFAULT_REGION": function.region,
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["Token"],
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
            "AWS_LAMBDA_RUNTIME_API": environment.api,
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": function.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
            "AWS_LAMBDA_LOG_GROUP_NAME": function.log_group,
            "AWS_LAMBDA_LOG_STREAM_NAME": environment.log_stream,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _own_paths(self, own: Path) -> dict[str, str]:
        return {"PATH": f"{self._links}:{SYSTEM_PATH}", "TMPDIR": str(own / "tmp"), **import_path()}

    # --- zip -----------------------------------------------------------------------------------

    def _code(self, function: Function) -> Path:
        """The directory with a function's code; each code is unpacked once."""
        with self._lock:
            if function.code_hash not in self._extracted:
                directory = self._root / f"code-{len(self._extracted)}"
                _unpack(self._functions.code(function), directory)
                self._extracted[function.code_hash] = directory
            return self._extracted[function.code_hash]

    def forget(self) -> None:
        """The functions are gone, and with them their code."""
        with self._lock:
            for directory in self._extracted.values():
                shutil.rmtree(directory, ignore_errors=True)
            self._extracted.clear()

    # --- image ---------------------------------------------------------------------------------

    def _image_argv(self, function: Function, path: str) -> list[str]:
        entry = function.image_config.get("EntryPoint") or list(self._settings.images.get(function.image, ()))
        argv = [*entry, *(function.image_config.get("Command") or ())]
        if not argv:
            raise CannotExecute(f"image {function.image!r} has no entrypoint here; see PocketAWS(images=…)")
        if function.architecture != MACHINES.get(platform.machine(), platform.machine()):
            raise CannotExecute(f"fork/exec {argv[0]}: exec format error")
        program = shutil.which(argv[0], path=path)
        if program is None:
            raise CannotExecute(f"fork/exec {argv[0]}: no such file or directory")
        return [program, *argv[1:]]

    def _podman(self, function: Function, own: Path, variables: dict[str, str]) -> Launch:
        """`podman run` in the host's network, so that the Runtime API on 127.0.0.1 is there."""
        own.mkdir()
        name = f"pocket-{own.name}"
        argv = ["podman", "run", "--rm", "--network", "host", "--name", name, "--label", f"pocket={self._pocket_id}"]
        argv += ["--memory", f"{function.memory_mb}m"]
        if function.image_config.get("EntryPoint"):
            argv += ["--entrypoint", json.dumps(function.image_config["EntryPoint"])]
        if function.image_config.get("WorkingDirectory"):
            argv += ["--workdir", str(function.image_config["WorkingDirectory"])]
        for key, value in variables.items():
            argv += ["--env", f"{key}={value}"]
        argv += [function.image, *(function.image_config.get("Command") or ())]

        def remove() -> None:
            for words in (
                ["kill", name],
                ["rm", "--force", "--ignore", name],
            ):  # `rm` alone waits for a SIGTERM's effect
                subprocess.run(["podman", *words], capture_output=True, check=False)
            shutil.rmtree(own, ignore_errors=True)

        return Launch(
            argv=argv,
            directory=own,
            own=own,
            environment=None,
            mark=variables[LAMBDA_MARK],
            pidless=True,
            on_end=remove,
        )


def _unpack(code: bytes, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(io.BytesIO(code)) as archive:
            archive.extractall(directory)
            for info in archive.infolist():  # zipfile forgets who may execute
                mode = (info.external_attr >> 16) & 0o777
                if mode & 0o111 and not info.is_dir():
                    os.chmod(directory / info.filename, mode | 0o600)
    except zipfile.BadZipFile:
        shutil.rmtree(directory, ignore_errors=True)
        what = "Lambda was unable to decompress the zip file."
        raise Refusal("InvalidZipFileException", what, 502, Type="User") from None
