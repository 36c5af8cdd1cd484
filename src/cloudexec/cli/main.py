"""The program's first word: which command is meant, and how its errors are told.

Called by: __init__.py.   Calls: the module that a command stands in, loaded when it is used.
Exit code: 0 done; 1 it failed, or a finding failed; 2 wrong usage or settings; 3 something must be confirmed first
           (--yes); 130 Ctrl-C.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Final, TextIO

import click

from cloudexec.cli.show import say_error
from cloudexec.errors import CloudexecError, SettingsError

FAILED: Final = 1
USAGE: Final = 2
REFUSED: Final = 3
INTERRUPTED: Final = 130

# In the order in which people meet them: the command, its module below cloudexec.cli, its line in the overview.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": ("up", "Make or update everything that runs need in the account, as one stack."),
    "doctor": ("doctor", "Check credentials, stack, roles, network, quotas, image; say what to do."),
    "policy": ("policy", "Print the rights that somebody needs, as JSON or Terraform."),
    "image": ("image", "Write, build and push a worker image for this project."),
    "runs": ("runs", "List runs."),
    "show": ("runs", "Show one run: calls, workers, failures."),
    "logs": ("runs", "Print what a run's workers and calls printed."),
    "stop": ("runs", "End a run: its calls, its workers, its queues."),
    "clean": ("runs", "Remove what runs that are over have left behind."),
    "cost": ("runs", "Estimate what a run has cost."),
    "completion": ("completion", "Print the shell's completion script."),
    "down": ("down", "Remove the stack and everything in it."),
}


class Program(click.Group):
    """Loads a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click.Group."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See click.Group."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"cloudexec.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The overview, without loading what it tells of."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="cloudexec", prog_name="cloudexec")
def program() -> None:
    """concurrent.futures on AWS: the account's side of it."""


def run(words: Sequence[str]) -> int:
    """Run one command; the exit code."""
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, some_stdout(nowhere):
            code = program.main(list(words), prog_name="cloudexec", standalone_mode=False)
            sys.stdout.flush()  # what cannot be written is told here, not when Python ends
    except (click.exceptions.Abort, KeyboardInterrupt):
        say_error("interrupted")
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return USAGE
    except CloudexecError as error:
        say_error(error)
        return USAGE if isinstance(error, SettingsError) else FAILED
    except BrokenPipeError:  # `cloudexec runs | head`: nobody reads on
        _discard_stdout()
        return 0
    except OSError as error:  # of this machine: a disk, a folder, where stdout goes to
        _discard_stdout()
        say_error(SettingsError(_shown(error), remedy=_MENDED_BY.get(error.errno or 0, _MENDED_SOMEHOW)))
        return FAILED
    return code if isinstance(code, int) else 0


_MENDED_BY: Final = {
    errno.ENOSPC: "make room where it was to be written; TMPDIR says where temporary files go",
    errno.EACCES: "correct its permissions, or name another place",
    errno.EROFS: "name a place that can be written; TMPDIR says where temporary files go",
}
_MENDED_SOMEHOW: Final = "correct that on this machine, and repeat the command"


def _shown(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}"


@contextlib.contextmanager
def some_stdout(nowhere: TextIO) -> Iterator[None]:
    """One that takes everything. Python has none if it is closed from the start, as by `cloudexec down --yes >&-`; and
    with LANG=C it refuses what is not ASCII, such as the name of somebody's run."""
    if sys.stdout is not None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        yield
        return
    with contextlib.redirect_stdout(nowhere):
        yield


def _discard_stdout() -> None:
    """What is still to be written goes nowhere: Python would complain of it at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
