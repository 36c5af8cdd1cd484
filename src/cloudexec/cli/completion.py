"""`cloudexec completion`: what a shell needs to complete commands and options.

Called by: main.py.   Calls: click, which makes the scripts.
"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(name="completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash:  cloudexec completion bash > ~/.local/share/bash-completion/completions/cloudexec
    zsh:   cloudexec completion zsh > "${fpath[1]}/_cloudexec"
    fish:  cloudexec completion fish > ~/.config/fish/completions/cloudexec.fish
    """
    from cloudexec.cli.main import program

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(program, {}, "cloudexec", "_CLOUDEXEC_COMPLETE").source())
