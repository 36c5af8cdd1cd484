"""What the bundle is called where a container is told of it.

Called by: template/ecs.py, stack/code.py, doctor, tests.   Calls: boot.py, for its text.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

VARIABLE: Final = "CLOUDEXEC_BUNDLE"  # s3://bucket/key
CODE_PREFIX: Final = "code/"  # in the bucket


def boot_text() -> str:
    """The program that fetches the bundle; a task definition, which holds it, may have 64 KiB."""
    return resources.files("cloudexec.infra.bundle").joinpath("boot.py").read_text(encoding="utf-8")


ENTRY_POINT: Final = ("python", "-c", boot_text())
