"""What the engine's process runs: R, embedded by rpy2, in the loop of serve.R.

Called by: engine.py, as `R CMD python host.py PATH`, where R's front end has set R_HOME and the paths of its libraries.
Calls:     starting.py; rscript/start.R, which takes it from here: it forks for each call, as under Rscript.
PATH is the `sys.path` of the Python that asks, so that both find the same rpy2.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any, Final

# Set by R's front end for programs that it starts, which Rscript is not; what R code sees is the same in both.
_OF_FRONT_END: Final = ("R_CMD", "R_VERSION", "R_OSTYPE", "TEXINPUTS", "BIBINPUTS", "BSTINPUTS")
_OF_RPY2: Final = "PYTHON_SESSION_INITIALIZED"


def main() -> None:
    """Run until the pipe that gives commands is closed."""
    sys.path[:] = sys.argv[1].split(os.pathsep)
    from cloudexec.r.rpy2 import starting
    from cloudexec.r.rscript import launching

    version = os.environ.get("R_VERSION", "")
    for name in _OF_FRONT_END:
        os.environ.pop(name, None)
    try:
        starting.start_r(embeds_all=True)
    except Exception as error:  # rpy2 raises anything, down to AttributeError and OSError
        what, remedy = starting.remedy_for(error, version)
        os.write(int(os.environ["CLOUDEXEC_R_STATUS"]), f"missing {what}\t{remedy}\n".encode())
        os._exit(1)
    os.environ.pop(_OF_RPY2, None)
    os.environ["R_PROFILE_USER"] = ""  # as Rscript sets it: no profile in programs of R's that the code starts, either
    _let_r_write()
    _leave_signals()
    _source(str(launching.START))
    _flush()
    os._exit(0)  # the end of R's that rpy2 has planned would run what the code has left in .Last


def _let_r_write() -> None:
    """To C's streams at once, as Rscript does, instead of through Python."""
    from rpy2.rinterface_lib import openrlib

    names = ("__stdoutp", "__stderrp") if sys.platform == "darwin" else ("stdout", "stderr")
    c = ctypes.CDLL(None)
    stdout, stderr = (ctypes.c_void_p.in_dll(c, name).value for name in names)
    ffi, r = openrlib.ffi, openrlib.rlib
    r.R_Outputfile = ffi.cast(ffi.typeof(r.R_Outputfile), stdout)
    r.R_Consolefile = ffi.cast(ffi.typeof(r.R_Consolefile), stderr)


def _leave_signals() -> None:
    """Ctrl-C reaches the whole group: Python, which asked, decides what follows. And a broken pipe is an error.

    Handlers that do nothing, and not SIG_IGN, which programs started by R would inherit.
    """
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, _nothing)
        signal.siginterrupt(number, False)  # R takes an interrupted read for the end of a pipe


def _nothing(number: int, frame: Any) -> None:
    pass


def _source(path: str) -> None:
    from rpy2 import rinterface

    rinterface.baseenv["sys.source"](rinterface.StrSexpVector([path]), rinterface.globalenv)


def _flush() -> None:
    ctypes.CDLL(None).fflush(None)


if __name__ == "__main__":
    main()
