"""What `cloudexec image` says of an image: its size, what slows its start, how workers get to use it.

Called by: image.py.   Calls: show.py; infra.images.weigh, for advice.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import click

from cloudexec.cli.show import print_json, print_table, say
from cloudexec.infra.images import weigh


def tell_built(name: str, image_id: str, weight: weigh.Weight | None, *, as_json: bool) -> None:
    """Of an image on this machine. weight: None if nobody has looked."""
    if as_json:
        print_json({"image": name, "id": image_id, **(_weight_as_json(weight) if weight else {})})
        return
    click.echo(name)
    if weight is None:
        return
    size = weigh.megabytes
    say(f"{size(weight.unpacked)} on disk, about {size(weight.compressed)} compressed, which is what workers pull")
    rows = [(size(layer.unpacked), size(layer.compressed), layer.made_by) for layer in weight.largest()]
    print_table(["on disk", "compressed", "layer"], rows, right=["on disk", "compressed"])
    for sentence in weigh.advice(weight):
        say(f"slows each start: {sentence}" if not sentence.startswith("the largest") else sentence, "yellow")


def _weight_as_json(weight: weigh.Weight) -> dict[str, object]:
    layers = [
        {"bytes": layer.unpacked, "compressed_bytes": layer.compressed, "made_by": layer.made_by}
        for layer in weight.layers
    ]
    sizes = {"bytes": weight.unpacked, "compressed_bytes": weight.compressed}
    return {**sizes, "layers": layers, "packages": weight.packages, "advice": weigh.advice(weight)}


def tell_pushed(target: str, size: int | None, use: Sequence[str], *, is_used: bool, as_json: bool) -> None:
    """Of an image in the repository. size: compressed, None if nobody may look; use: the command that has it used."""
    if as_json:
        print_json({"image": target, "compressed_bytes": size, "use": use})
        return
    click.echo(target)
    if size:
        say(f"{weigh.megabytes(size)} compressed, which is what workers pull")
        for sentence in weigh.advice_on_size(size):
            say(f"slows each start: {sentence}", "yellow")
    if not is_used:
        say("workers use it after:")
        say(f"  {shlex.join(use)}")
