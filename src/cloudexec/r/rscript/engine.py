"""The rscript engine: a request in, a reply or an error out.

Called by: engines.py.   Calls: process.py (runs it), exchange.py (packs and reads), finding.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cloudexec.errors import RCrashed, RTimeout
from cloudexec.errors.rlang import RFacts
from cloudexec.r.engines import Reply, Request
from cloudexec.r.rscript import exchange, finding
from cloudexec.r.rscript.launching import START, changes
from cloudexec.r.rscript.process import End, Ended, RProcess

# They start threads, or a Java machine, which a forked process does not have.
NO_FORK: Final = frozenset({"rJava", "torch", "tensorflow", "keras", "sparklyr", "reticulate", "h2o"})


class RscriptEngine:
    """One R, which is started when it is needed, and again when it is gone. Not for two threads at once.

    isolation: "fork", "process" or "session". packages: attached when R starts. rscript: which R, by default the one
    that `finding` finds. command: what else runs start.R, in its place.
    """

    def __init__(
        self, *, isolation: str, packages: tuple[str, ...] = (), rscript: str = "", command: Sequence[str] = ()
    ) -> None:
        self.isolation = "process" if isolation == "fork" and NO_FORK.intersection(packages) else isolation
        self._packages = packages
        self._command = tuple(command) or (rscript or finding.rscript(), "--no-init-file", str(START))
        self._process: RProcess | None = None

    def run(self, request: Request) -> Reply:
        """Run it. Errors: RError and its kin, RConversionError, RMissing."""
        if not request.outputs:
            return self._run(request, _directory())
        with tempfile.TemporaryDirectory(prefix="cloudexec-outputs-", ignore_cleanup_errors=True) as directory:
            return self._run(request, directory)

    def close(self) -> None:
        """End R and everything that it started."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def forget(self) -> None:
        """R belongs to the process that we were forked from."""
        if self._process is not None:
            self._process.forget()
            self._process = None

    def _run(self, request: Request, directory: str) -> Reply:
        process = self._ready()
        try:
            env, unset = changes(process.environment, dict(os.environ))
            packed = exchange.packed(request, directory, env, unset)
            ended, data = process.run(packed, request.timeout_s)
            if not ended.began:  # it went while it was idle, e.g. killed for the memory of others
                process = self._ready()
                ended, data = process.run(packed, request.timeout_s)
        finally:
            if self.isolation == "process" or not process.is_fit:
                self.close()
        if ended.end is not End.ANSWERED:
            _raise(ended, request)
        files = exchange.collected(Path(directory), request.outputs) if request.outputs else {}
        return exchange.reply(data, request, ended.output, files)

    def _ready(self) -> RProcess:
        if self._process is not None and not self._process.is_fit:
            self.close()
        if self._process is None:
            self._process = RProcess(self._command, self._packages, self.isolation)
        return self._process


def _raise(ended: Ended, request: Request) -> None:
    facts = RFacts(output=ended.output)
    if ended.end is End.TIMED_OUT:
        raise RTimeout(f"{request.name} ran longer than timeout_s={request.timeout_s:g} and was killed", facts)
    remedy = "let the code end by returning, or by stop() where it failed" if ended.quit else None
    what = f"{request.name} ended before it returned: {_cause(ended)}"
    raise RCrashed(what, facts, ended.exit_code, ended.signal, remedy=remedy)


def _cause(ended: Ended) -> str:
    if ended.quit:
        return f"the code called quit(status = {ended.exit_code})"
    if ended.signal == signal.SIGKILL:
        return "killed (signal 9); most often because memory ran out"
    if ended.signal:
        return f"signal {ended.signal} ({signal.Signals(ended.signal).name})"
    if ended.exit_code is None:
        return "killed, or ended by native code; nobody could tell"
    return f"native code ended it with exit code {ended.exit_code}"


def _directory() -> str:
    """Ours; empty where it is gone."""
    try:
        return os.getcwd()
    except OSError:
        return ""
