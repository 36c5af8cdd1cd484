"""Where R is.

Called by: engines.py, launching.py.
"""

from __future__ import annotations

import os
import shutil
from functools import lru_cache
from typing import Final

from cloudexec.errors import RMissing

VARIABLE: Final = "CLOUDEXEC_RSCRIPT"


def rscript() -> str:
    """The path of Rscript: CLOUDEXEC_RSCRIPT, else on PATH, else below R_HOME. Errors: RMissing."""
    named = os.environ.get(VARIABLE, "")
    return _found(named, os.environ.get("PATH", ""), os.environ.get("R_HOME", ""))


@lru_cache(maxsize=8)
def _found(named: str, path: str, r_home: str) -> str:
    """Remembered, because it is asked for each call. (An error is not.)"""
    if named:
        if found := shutil.which(named, path=path):
            return os.path.abspath(found)
        raise RMissing(f"{VARIABLE}={named} is no program that can be run here")
    found = shutil.which("Rscript", path=path) or (
        shutil.which(os.path.join(r_home, "bin", "Rscript")) if r_home else None
    )
    if not found:
        raise RMissing(f"there is no Rscript on PATH ({path or 'which is empty'})")
    return os.path.abspath(found)
