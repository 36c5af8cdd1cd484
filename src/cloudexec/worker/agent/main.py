"""From the environment to a running agent.

Called by: worker/__main__.py.   Calls: agent.py.
Exit codes: 0 it has done its work, or was told to end; 2 its environment is damaged; 3 its Python is not the
            client's; 4 nobody answers; 5 the initializer raised; 6 its slots die again and again.
"""

from __future__ import annotations

import os
import sys
from typing import Final, get_type_hints

from cloudexec.errors import CloudexecError, SettingsError, WireError
from cloudexec.transport import sqs
from cloudexec.transport.account import Account, Client, open_client
from cloudexec.wire.envelope import KEY_BYTES, Kind, Seal
from cloudexec.wire.mail import KEY_VARIABLE, SETTINGS_VARIABLE, Report, WorkerSettings, encode_report, to_text
from cloudexec.worker.agent.agent import PATIENCE_S, Agent
from cloudexec.worker.agent.place import Place, age_of_process_s, facts_of, find_place, say, say_for
from cloudexec.worker.system import wipe_from_environment

EXIT_SETTINGS: Final = 2
EXIT_VERSION: Final = 3
_PRIVATE: Final = 0o700


def pull(patience_s: float = PATIENCE_S) -> int:
    """Be a worker that takes its calls from a queue; the exit code."""
    try:
        settings = _settings(os.environ.get(SETTINGS_VARIABLE, ""))
        key = _key(os.environ.get(KEY_VARIABLE, ""))
        environ = {**os.environ, "AWS_REGION": settings.region}
        client = open_client(Account.from_environment(environ, owner=settings.bucket_owner))
    except (WireError, SettingsError) as error:
        say(f"cannot start: {error}")
        return EXIT_SETTINGS
    wipe_from_environment(KEY_VARIABLE)  # calls shall not see it
    os.environ.pop(SETTINGS_VARIABLE, None)
    say_for(settings.calls_run or settings.run_id)
    place = find_place()
    ours = "{}.{}".format(*sys.version_info[:2])
    say(f"{place.worker} of run {settings.run_id}: Python {ours}, {settings.n_slots} slots, pid {os.getpid()}")
    try:
        if settings.python_version != ours:
            what = f"VersionMismatch: the client has Python {settings.python_version}, this worker Python {ours}"
            _leave(client, settings, Seal(key), place, what)
            return EXIT_VERSION
        return _work(settings, key, place, client, patience_s)
    finally:
        client.close()  # cuts off a parked long poll, so that it swallows no message


def _work(settings: WorkerSettings, key: bytes, place: Place, client: Client, patience_s: float) -> int:
    try:
        roots = _make_roots(settings.run_id)
    except OSError as error:
        _leave(client, settings, Seal(key), place, f"it cannot write to its temporary directory: {error}")
        return EXIT_SETTINGS
    try:
        agent = Agent(settings, key, place, client, roots, process_age_s=age_of_process_s(), patience_s=patience_s)
        return agent.run()
    finally:
        import shutil

        for root in roots:
            shutil.rmtree(root, ignore_errors=True)


def _leave(client: Client, settings: WorkerSettings, seal: Seal, place: Place, why: str) -> None:
    """The only report of a worker that cannot work."""
    say(f"leaving: {why}")
    report = Report(place.worker, 1, leaving=why, broken=True, facts=facts_of(place, age_of_process_s()))
    text = to_text(seal, Kind.REPORT, encode_report(report))
    try:
        client.call(sqs.send_messages(settings.out_queue, [text]))
    except CloudexecError as error:
        say(f"and cannot tell the client: {error}")


def _settings(text: str) -> WorkerSettings:
    """Errors: WireError that names the variable."""
    if not text:
        raise WireError(f"{SETTINGS_VARIABLE} is not set", remedy="workers are started by an executor, not by hand")
    settings = WorkerSettings.from_json(text)
    for name, kind in get_type_hints(WorkerSettings).items():
        value = getattr(settings, name)
        if not isinstance(value, (int, float) if kind is float else kind):
            raise WireError(f"{SETTINGS_VARIABLE} is damaged: {name} is {value!r}")
    if settings.n_slots < 1:
        raise WireError(f"{SETTINGS_VARIABLE} is damaged: n_slots is {settings.n_slots}")
    return settings


def _key(text: str) -> bytes:
    """Errors: WireError, which does not quote it."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise WireError(f"{KEY_VARIABLE} does not hold {2 * KEY_BYTES} hexadecimal digits")
    return key


def _make_roots(run_id: str) -> list[str]:
    """A directory for blobs. On disk: memory is what the calls have paid for."""
    base = os.environ.get("TMPDIR", "/tmp")
    root = os.path.join(base, f"cloudexec-{os.getpid()}-{run_id}")
    os.makedirs(root, _PRIVATE)
    return [root]
