"""The server process: start everything, announce it in one line of JSON, end with the parent.

Called by:  pocket.py, as `python -m cloudexec.testing.pocket.server.serve` with the settings on stdin.
Calls:      everything in this folder.
End:        when stdin ends, when the parent is another one, or on SIGTERM and SIGINT.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import sys
import threading

from cloudexec.testing.pocket.server.containers import adopt_orphans
from cloudexec.testing.pocket.server.warden import Warden
from cloudexec.testing.pocket.settings import RECORD_TO, PocketSettings

PARENT_LOOK_S = 0.5


def main() -> int:
    """Serve until the parent is gone."""
    parent = os.getppid()
    warden = Warden()  # forks, so it comes before threads and before moto's memory
    adopt_orphans()
    settings = PocketSettings.from_json(sys.stdin.readline())
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    threading.Thread(target=_watch_stdin, args=(over,), daemon=True).start()
    try:
        serve(settings, warden, over, parent)
    except OSError as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
        return 1
    finally:
        warden.dismiss()
    return 0


def serve(settings: PocketSettings, warden: Warden, over: threading.Event, parent: int) -> None:
    """Build the server, announce it, wait for the end, end it."""
    # These take most of the start; the warden is forked without them.
    from cloudexec.testing.pocket.server.account import AccountPlane
    from cloudexec.testing.pocket.server.awslambda.plane import Lambdas
    from cloudexec.testing.pocket.server.cloudformation.plane import CloudFormation
    from cloudexec.testing.pocket.server.codebuild import CodeBuild
    from cloudexec.testing.pocket.server.control import Control, Credentials
    from cloudexec.testing.pocket.server.ecs import Ecs
    from cloudexec.testing.pocket.server.faults import FaultBook
    from cloudexec.testing.pocket.server.front import Front, Journal, Plane
    from cloudexec.testing.pocket.server.http import Server
    from cloudexec.testing.pocket.server.moto import Moto
    from cloudexec.testing.pocket.server.policies import BucketPolicies
    from cloudexec.testing.pocket.server.ready import make_ready, nothing_ready
    from cloudexec.testing.pocket.server.sqs import Sqs

    pocket_id = secrets.token_hex(6)
    server = Server(settings.port)
    endpoint_url = f"http://127.0.0.1:{server.port}"
    moto, faults = Moto(settings.region), FaultBook()
    journal = Journal(keep=settings.record_requests, record_to=os.environ.pop(RECORD_TO, ""))
    ecs = Ecs(moto, faults, settings, pocket_id, server.port)
    warden.watch(ecs.metadata_base, ecs.root, pocket_id)
    sqs = Sqs(moto, faults)
    credentials = Credentials()
    lambdas = Lambdas(
        moto=moto,
        sqs=sqs,
        faults=faults,
        settings=settings,
        pocket_id=pocket_id,
        port=server.port,
        root=ecs.root,
        mark_base=f"{ecs.metadata_base}lambda/",
        keys_of=credentials.of_function,
    )
    builds, policies, of_account = CodeBuild(moto), BucketPolicies(moto), AccountPlane(faults)
    stacks = CloudFormation(moto=moto, faults=faults, endpoint_url=endpoint_url, pause_s=settings.stack_resource_s)
    control = Control(
        pocket_id=pocket_id,
        moto=moto,
        ecs=ecs,
        sqs=sqs,
        lambdas=lambdas,
        stacks=stacks,
        forget=(builds.forget, policies.forget, of_account.forget),
        credentials=credentials,
        faults=faults,
        journal=journal,
        make_ready=(
            (lambda: make_ready(moto, lambdas, settings.region, endpoint_url))
            if settings.ready_made
            else (lambda: nothing_ready(moto, settings.region, endpoint_url))
        ),
    )
    planes: list[Plane] = [ecs, sqs, lambdas, stacks, builds, policies, of_account]
    server.front = Front(moto=moto, planes=planes, faults=faults, journal=journal, control=control)
    setup = control.prepare()
    threading.Thread(target=server.serve_forever, args=(0.05,), name="http", daemon=True).start()
    print(json.dumps({"endpoint_url": endpoint_url, "setup": setup, "pid": os.getpid()}), flush=True)
    while not over.wait(PARENT_LOOK_S) and os.getppid() == parent:
        pass
    stacks.end()
    server.shutdown()
    journal.write()
    lambdas.close()
    ecs.close()


def _watch_stdin(over: threading.Event) -> None:
    """The parent holds the other end: when it is gone, however it went, so are we."""
    while os.read(0, 1):
        pass
    over.set()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # all is cleaned up; to take moto's modules apart would take another second
