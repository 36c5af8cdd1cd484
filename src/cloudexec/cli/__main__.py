"""`python -m cloudexec.cli` is the `cloudexec` program."""

from __future__ import annotations

import sys

from cloudexec.cli import main

sys.exit(main())
