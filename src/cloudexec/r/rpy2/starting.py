"""Start the R that rpy2 embeds, with a limit that makes endless recursion an error; what to install where it fails.

Called by: host.py, in the engine's process; bridge.py, in the user's.   Calls: rpy2.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import threading
from typing import Final

# The last that load into R < 4.5: newer ones name symbols that it lacks (R_getVar, R_ParentEnv), and pip knows no R.
_OF_OLDER_R: Final = "pip install 'rpy2==3.6.4' 'rpy2-rinterface==3.6.5'"
_OF_NEWER_R: Final = "pip install --upgrade rpy2 rpy2-rinterface"
_INSTALL: Final = "pip install 'cloudexec[rpy2]' where the call runs"
_FIRST_NEW_R: Final = (4, 5)
_ROOM_BYTES: Final = 1_000_000  # for the frames of Python below R's, and those of C above its last look
_UNLIMITED_STACK_BYTES: Final = 16_000_000


def start_r(*, embeds_all: bool) -> None:
    """Start R in this process, if it does not run yet. embeds_all: it also writes to this process's stdout and stderr.

    Errors: whatever rpy2 raises, see `remedy_for`.
    """
    from rpy2 import rinterface

    if embeds_all:
        from rpy2.rinterface_lib import embedded

        embedded.set_initoptions(("R", "--no-echo", "--no-save", "--no-restore", "--no-init-file"))
        rinterface.initr(interactive=False, _want_setcallbacks=False, _c_stack_limit=stack_limit())
    elif threading.current_thread() is threading.main_thread():
        rinterface.initr(_c_stack_limit=stack_limit())
    else:  # R would measure this thread's stack from the main thread's end
        rinterface.initr()


def stack_limit() -> int:
    """Bytes of the main thread's stack that R may use. Without a limit endless recursion in R ends the process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    has_limit = 0 < soft < _UNLIMITED_STACK_BYTES
    size = soft if has_limit else _UNLIMITED_STACK_BYTES
    return max(size - _ROOM_BYTES, size // 2)


def remedy_for(error: BaseException, r_version: str = "") -> tuple[str, str]:
    """What has gone wrong as R was to be embedded, and what to do. r_version: as "4.2.2", empty where unknown."""
    words = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "rpy2":
        return "rpy2 is not installed here, which engine='rpy2' and to_rpy2() need", _INSTALL
    numbers = tuple(int(number) for number in re.findall(r"\d+", r_version)[:2])
    what = f"rpy2 does not load into R {r_version or 'here'}: {words}"
    if "undefined symbol" in words or "symbol not found" in words:
        return what, _OF_OLDER_R if numbers and numbers < _FIRST_NEW_R else _OF_NEWER_R
    if not numbers:
        return what, "install R (apt-get install r-base-core), or name it: R_HOME=$(R RHOME)"
    pin = _OF_OLDER_R if numbers < _FIRST_NEW_R else _OF_NEWER_R
    return what, f"for this R: {pin}"


def version_of_r() -> str:
    """The version of the R that rpy2 would find, empty if there is none."""
    home = os.environ.get("R_HOME", "")
    program = os.path.join(home, "bin", "R") if home else "R"
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"R version (\d+\.\d+\.\d+)", done.stdout)
    return found[1] if found else ""
