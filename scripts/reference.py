#!/usr/bin/env python3
"""Write the pages of the reference that follow from the code: settings, and the command line.

    python scripts/reference.py [--check] [DIRECTORY]

Called by: people after a change of settings or commands; with `--check` (exit status 1 if a page is stale) by
tests/docs/test_reference.py.   Calls: cloudexec.backends.aws_config, cloudexec.cli.main, the executors' signatures.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click

from cloudexec import ECSExecutor, LambdaExecutor
from cloudexec.backends import aws_config
from cloudexec.cli.main import COMMANDS, program
from cloudexec.errors import SettingsError

PAGES = Path(__file__).resolve().parents[1] / "docs" / "reference"
MADE: Final = "<!-- scripts/reference.py writes this page; change what it is made of -->"
HELP_WIDTH: Final = 100

# One line for each key; a key without one is refused.
MEANINGS: Final = {
    "arch": "`x86_64` or `arm64`: what the containers run on",
    "assign_public_ip": "whether a task gets a public address; by default as the subnet says",
    "aws_profile": "the profile of the AWS configuration",
    "bucket": "where the objects of runs lie",
    "capacity_provider_strategy": "capacity by provider, as ECS takes it",
    "cluster": "the ECS cluster",
    "container": "the worker's container in a task definition that has several",
    "endpoint_url": "for emulators: where all services answer",
    "ephemeral_gib": "size of a task's disk",
    "execution_role": "the role with which ECS pulls images and writes logs",
    "fallback": "`on_demand` or `wait`: what happens where there is no Spot capacity",
    "function": "the Lambda function's name or ARN",
    "image": "the image of a task definition that is registered",
    "launch_type": "`FARGATE`, `EC2` or `EXTERNAL`",
    "log_group": "the log group of a task definition that is registered",
    "log_prefix": "what its log streams begin with",
    "memory_mib": "memory of a container",
    "on_demand_base": "so many containers are not Spot",
    "oom_sizes": "sizes for calls that ran out of memory",
    "prefix": "what the keys of objects begin with; `cloudexec` by default",
    "qualifier": "the function's version or alias",
    "region": "the AWS region",
    "security_groups": "of the tasks",
    "shards": "more functions with the same code",
    "slots": "calls at once in a container of ECS; `LambdaExecutor` takes it as an argument only",
    "spot": "whether containers are Fargate Spot",
    "stack": "the stack whose resources are used; `cloudexec` by default",
    "subnets": "of the tasks",
    "tags": "on everything that is made",
    "task_definition": "family, family:revision or ARN of the worker's task definition",
    "task_role": "the role of the workers, and so of your functions",
    "vcpu": "vCPUs of a container",
}


# --- settings -------------------------------------------------------------------------------------


SETTINGS: Final = """{made}

# Settings

Executors and commands look for what was not given as an argument, or option, in environment variables, then in a file,
then in the deployed stack: [where settings come from](../ecs.md#where-settings-come-from).

The file is `$CLOUDEXEC_CONFIG`, else `$XDG_CONFIG_HOME/cloudexec/config.toml`, else `{path}`.
Keys at its top hold always. A table such as `[big]` stands in for them where `{table}=big` names it.

| key in the file | environment variable | value | for | meaning |
|---|---|---|---|---|
{rows}

A variable has lists with commas between (`subnet-1,subnet-2`), tables as `a=1,b=2`, sizes as `2:8192,4:16384`, and true
or false as `1`, `true`, `yes`, `on` or `0`, `false`, `no`, `off`. Credentials are boto3's business, and found where it
looks.
"""


def settings_page() -> str:
    """Every key that a file or a variable may have."""
    rows = "\n".join(row(key) for key in aws_config.KEYS)
    return SETTINGS.format(made=MADE, path=default_path(), table=aws_config.TABLE_VARIABLE, rows=rows)


def row(key: str) -> str:
    """One key's row of the table. Errors: KeyError if nobody has said what it means."""
    variable = aws_config.variable_of(key)
    try:
        is_read = bool(aws_config.from_environment({variable: "?"}))
    except SettingsError:  # it was read, and found wanting
        is_read = True
    cells = [f"`{key}`", f"`{variable}`" if is_read else "–", kind_of(key), who_takes(key), MEANINGS[key]]
    return f"| {' | '.join(cells)} |"


def kind_of(key: str) -> str:
    """What the reader of a key says that it wants."""
    try:
        aws_config.KEYS[key](None)
    except ValueError as error:
        return str(error).removeprefix("a ").removeprefix("an ").partition(", in a variable")[0]
    raise RuntimeError(f"{key} takes anything")


def who_takes(key: str) -> str:
    """The executors that have an argument of this name."""
    name = {"aws_profile": "profile"}.get(key, key)
    kinds: dict[str, Callable[..., object]] = {"ECS": ECSExecutor, "Lambda": LambdaExecutor}
    takers = [kind for kind, made in kinds.items() if name in inspect.signature(made).parameters]
    return ", ".join(takers) or "ECS"


def default_path() -> str:
    """Where the file lies if no variable says otherwise."""
    return aws_config.config_path({"HOME": "~"}).as_posix()


# --- the command line -----------------------------------------------------------------------------


COMMAND_LINE: Final = """{made}

# Command line

It comes with `pip install "cloudexec[cli]"`. What a command was asked for goes to standard output, what it tells on the
way to standard error.

| exit code | means |
|---:|---|
| 0 | done |
| 1 | it failed, or something that was looked at is not as it must be |
| 2 | wrong usage or settings |
| 3 | refused, because something must be confirmed first: `--yes` |
| 130 | Ctrl-C |

{helps}
"""
Row = tuple[str, click.Command, click.Context]


def command_page() -> str:
    """Every command's help."""
    helps = []
    for words, command, context in commands():
        heading = "" if command is program else f"{'#' * (1 + words.count(' '))} {words}\n\n"
        helps.append(f"{heading}```text\n{command.get_help(context)}\n```")
    return COMMAND_LINE.format(made=MADE, helps="\n\n".join(helps))


def commands() -> Iterator[Row]:
    """All commands and their sub-commands, each with the words that call it, first the program itself."""
    settings = {**program.context_settings, "terminal_width": HELP_WIDTH, "max_content_width": HELP_WIDTH}
    context = click.Context(program, info_name="cloudexec", **settings)
    yield "cloudexec", program, context
    for name in COMMANDS:
        command = program.get_command(context, name)  # type: ignore[attr-defined]  # it is a group
        assert command is not None
        yield from below(name, command, context)


def below(name: str, command: click.Command, parent: click.Context) -> Iterator[Row]:
    """A command, and what is below it."""
    context = click.Context(command, info_name=name, parent=parent)
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            inner = command.get_command(context, each)
            assert inner is not None
            yield from below(each, inner, context)


# --- writing --------------------------------------------------------------------------------------


MADE_PAGES: Final[dict[str, Callable[[], str]]] = {"settings.md": settings_page, "command-line.md": command_page}


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description="Write the pages of the reference that follow from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is stale")
    parser.add_argument("directory", nargs="?", type=Path, default=PAGES)
    given = parser.parse_args()
    stale = []
    for name, make in MADE_PAGES.items():
        page, text = given.directory / name, make()
        if page.exists() and page.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not given.check:
            page.write_text(text, encoding="utf-8")
    if stale and given.check:
        print(f"stale: {', '.join(stale)}; run python scripts/reference.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
