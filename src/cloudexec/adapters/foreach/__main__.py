"""`python -m cloudexec.adapters.foreach --home DIRECTORY --pid PID`: started by the R package, not by people.

Called by: r/cloudexec/R/process.R.   Calls: server.py.
It listens on 127.0.0.1 and writes port, token and process id into `DIRECTORY/door`; the directory belongs to the R
session's user alone.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

_PATIENCE_S: Final = 120.0  # for R's first connection
_MOST_INHERITED: Final = 1024


def main() -> None:
    """Serve one R session."""
    parser = argparse.ArgumentParser(prog="python -m cloudexec.adapters.foreach")
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("--pid", required=True, type=int)
    options = parser.parse_args()
    _stand_apart()

    from cloudexec.adapters.foreach.server import Conversation, Gone, let_in, lives, wanted

    token = secrets.token_hex(32)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _write_door(options.home, listener.getsockname()[1], token)
        try:
            connection = let_in(listener, token, wanted(options.pid, _PATIENCE_S))
        except Gone:
            return
    Conversation(connection, partial(lives, options.pid)).serve()


def _stand_apart() -> None:
    """Ctrl-C in R is for R, which then says what is to be stopped."""
    with suppress(PermissionError):  # it leads a group already
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background has it ignored, and workers would inherit that
    # R's connections come along. Held here, their ends would not be seen by whoever is at the other side.
    os.closerange(3, _MOST_INHERITED)


def _write_door(home: Path, port: int, token: str) -> None:
    """Tell R where to knock; it never sees half of it."""
    half = home / "door.half"
    half.touch(mode=0o600)
    half.write_text(f"{port}\n{token}\n{os.getpid()}\n", encoding="ascii")
    half.rename(home / "door")


if __name__ == "__main__":
    main()
