"""A client with modules of its own, and a worker without them: each a process, with a store between them.

Called by: test_modules.py, test_modules_explain.py.
The client's script calls `ship(fn, *args)`; the worker runs what was shipped, in one slot, and tells how it went.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

CLIENT = """
import json as _json, sys as _sys, itertools as _itertools
_sys.path.insert(0, {project!r})
from cloudexec.serialization.blobs import BlobBook as _BlobBook
from cloudexec.serialization.packer import Packer as _Packer
from cloudexec.store.directory import DirectoryStore as _DirectoryStore
from cloudexec.store.memory import address_of as _address_of
from cloudexec.wire.messages import PackedCall as _PackedCall, encode_batch as _encode_batch
_packer = _Packer(_BlobBook(_DirectoryStore([{store!r}]), _address_of), 1 << 20, {modules})
_numbers = _itertools.count(1)
def ship(_fn, *args, **kwargs):
    function, _ = _packer.pack_function(_fn)
    packed = _packer.pack_arguments(args, kwargs)
    function = _packer.with_modules(function, packed.modules)
    number = next(_numbers)
    body = _encode_batch([_PackedCall(number, 1, function, packed.packed, pickler=packed.pickler)])
    with open({calls!r} + "/%04d" % number, "wb") as file:
        file.write(body)
    return [module.name for module in function.modules]
def say(value):
    with open({said!r}, "a") as file:
        file.write(_json.dumps(value) + "\\n")
"""

WORKER = """
import json, os, sys
from cloudexec.serialization.failures import load_failure
from cloudexec.serialization.loading import load
from cloudexec.store.directory import DirectoryStore
from cloudexec.wire.messages import Verdict, decode_batch
from cloudexec.worker.running import Runner
store = DirectoryStore([{store!r}])
runner = Runner(store, 1 << 17, modules_dir={shelf!r})
told = open({told!r}, "w")
for name in sorted(os.listdir({calls!r})):
    with open(os.path.join({calls!r}, name), "rb") as file:
        batch = decode_batch(file.read())
    for call in batch.calls:
        outcome = runner.run(call, batch)
        runner.tidy(outcome)
        fetch = lambda ref: store.get(ref.name)
        if outcome.verdict is Verdict.RETURNED:
            told.write(json.dumps(load(outcome.value, fetch)) + "\\n")
        else:
            error = load_failure(outcome.value, fetch)
            told.write(json.dumps([outcome.verdict.name, type(error).__name__, str(error)]) + "\\n")
"""


class Shipment:
    """A project's directory, and what became of the calls that its script shipped."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.project = base / "project"
        self.store = base / "store"
        self._calls = base / "calls"
        for folder in (self.project, self.store / "blobs", self._calls, base / "empty"):
            folder.mkdir(parents=True)

    def write(self, **sources: str) -> None:
        """Source files, by their paths with `__` for each `/`, without the ending."""
        for name, text in sources.items():
            folder, is_init, _ = name.partition("____init__")
            self.file(folder.replace("__", "/") + ("/__init__.py" if is_init else ".py"), text)

    def file(self, name: str, text: str) -> Path:
        """One file of the project."""
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        return path

    def client(self, script: str, modules: str = "'auto'") -> list[Any]:
        """Run a script that ships; what it said."""
        said = self.base / "said"
        said.write_text("")
        head = CLIENT.format(
            project=str(self.project), store=str(self.store), calls=str(self._calls), said=str(said), modules=modules
        )
        self._run(head + dedent(script), "client.py")
        return [json.loads(line) for line in said.read_text().splitlines()]

    def take_calls_of(self, other: Shipment) -> None:
        """Have the worker run what another client shipped, behind what is there."""
        for call in sorted(other._calls.iterdir()):
            number = len(list(self._calls.iterdir())) + 1
            (self._calls / f"{number:04}").write_bytes(call.read_bytes())
        for blob in (other.store / "blobs").iterdir():
            (self.store / "blobs" / blob.name).write_bytes(blob.read_bytes())

    def worker(self, slot: str = "") -> list[Any]:
        """Run what was shipped, in the order of shipping; results, or `[verdict, error's type, its text]`."""
        told = self.base / f"told{slot}"
        shelf = self.base / "shelf"
        names = {"store": str(self.store), "calls": str(self._calls), "told": str(told), "shelf": str(shelf)}
        self._run(WORKER.format(**names), f"worker{slot}.py")
        return [json.loads(line) for line in told.read_text().splitlines()]

    def sole(self, script: str, modules: str = "'auto'") -> Any:
        """How the only call of a script ended."""
        self.client(script, modules)
        (outcome,) = self.worker()
        return outcome

    def _run(self, script: str, name: str) -> None:
        path = self.base / name
        path.write_text(script)
        command = [sys.executable, "-W", "error", str(path)]
        done = subprocess.run(command, cwd=self.base / "empty", capture_output=True, text=True, timeout=50)
        assert not done.returncode, done.stderr
