"""Show docstrings as what they are: prose, with names of parameters and `Errors:` in it.

Called by: mkdocstrings, by way of Griffe, which reads the source.   Calls: griffe.

Our docstrings are written for `help()`: "timeout_s: a call that runs longer is killed. name: stands in logs. Errors:
SettingsError." On a page, what is said of a parameter becomes an item of a list, the words before a colon that open a
paragraph become bold, and errors are links to their classes. A field's comment, where it has one, is its docstring.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).resolve().parents[1]
HOMES = ("cloudexec.errors", "cloudexec.errors.broken", "cloudexec.errors.rlang")
ERRORS = re.compile(r"(?:^|(?<=[.;)`])\s+)(?=Errors: )", re.MULTILINE)
LEAD = re.compile(r"^([A-Z]\w+(?: \w+)?):(?=\s)")
PAGE = re.compile(r"(?<![\w/`])docs/([\w-]+)\.md")
ITEM = re.compile(r"(?:^|(?<=[.;]\s))((?:[a-z_]\w*|\*{1,2}\w+)(?:(?:, | and )[a-z_]\w*)*):\s", re.MULTILINE)
COMMENT = re.compile(r"\s#\s(.*)$")


def homes_of_errors() -> dict[str, str]:
    """The identifier of each error class, by its name."""
    found = {}
    for home in HOMES:
        path = ROOT / "src" / (home.replace(".", "/") + ".py")
        path = path if path.exists() else path.with_suffix("") / "__init__.py"
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = f"{home}.{node.name}"
    return found


HOME_OF = homes_of_errors()
ERROR_NAME = re.compile(rf"(?<![\w`.\[])({'|'.join(sorted(HOME_OF, key=len, reverse=True))})(?![\w`\]])")


def shown(text: str, names: set[str]) -> str:
    """A docstring as Markdown. names: parameters and fields, which may stand before a colon."""
    paragraphs = re.split(r"\n\s*\n", ERRORS.sub("\n\n", text.strip()))
    return "\n\n".join(piece for paragraph in paragraphs for piece in pieces(paragraph, names))


def pieces(paragraph: str, names: set[str]) -> list[str]:
    """A paragraph, and the list that it holds, if it does."""
    starts = [found for found in ITEM.finditer(paragraph) if set(re.split(r", | and ", found[1])) <= names]
    if not starts:
        return [LEAD.sub(r"**\1:**", linked(paragraph))]
    ends = [found.start() for found in starts[1:]] + [len(paragraph)]
    items = []
    for found, end in zip(starts, ends, strict=True):
        words = ", ".join(f"`{name}`" for name in re.split(r", | and ", found[1]))
        items.append(f"- {words}: " + " ".join(linked(paragraph[found.end() : end]).split()))
    before = paragraph[: starts[0].start()].strip()
    return [*([LEAD.sub(r"**\1:**", linked(before))] if before else []), "\n".join(items)]


def linked(text: str) -> str:
    """The names of errors and pages as links, seen from docs/reference."""
    text = PAGE.sub(r"[\g<0>](../\1.md)", text)
    return ERROR_NAME.sub(lambda found: f"[`{found[1]}`][{HOME_OF[found[1]]}]", text)


def names_in(thing: griffe.Class | griffe.Function | griffe.Attribute) -> set[str]:
    """What a docstring may call by name: parameters, and those of `__init__`, fields, properties."""
    if isinstance(thing, griffe.Function):
        return {parameter.name for parameter in thing.parameters}
    if not isinstance(thing, griffe.Class):
        return set()
    found = set(thing.members)
    constructor = thing.members.get("__init__")
    if isinstance(constructor, griffe.Function):
        found |= names_in(constructor)
    return found


class Docstrings(griffe.Extension):
    """Rewrites docstrings when a module is read."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """See griffe.Extension."""
        self._walk(pkg)

    def _walk(self, thing: griffe.Module | griffe.Class) -> None:
        for member in thing.members.values():
            if isinstance(member, griffe.Attribute) and isinstance(thing, griffe.Class):
                _take_comment(member)
            if isinstance(member, (griffe.Class, griffe.Function, griffe.Attribute)) and member.docstring:
                member.docstring.value = shown(member.docstring.value, names_in(member))
            if isinstance(member, (griffe.Module, griffe.Class)):
                if isinstance(member, griffe.Module):
                    member.docstring = None  # of a file's neighbours, for those who read the source
                    _keep_own(member)
                self._walk(member)


def _take_comment(field: griffe.Attribute) -> None:
    if field.docstring or not field.lineno or field.annotation is None:
        return
    if found := COMMENT.search(field.lines_collection[field.filepath][field.lineno - 1]):
        text = found[1][0].upper() + found[1][1:]
        if not text.startswith(("Noqa", "Type:")):
            field.docstring = griffe.Docstring(text + ("" if text.endswith((".", "…")) else "."), parent=field)


def _keep_own(module: griffe.Module) -> None:
    """What a module hands on is shown where it is at home."""
    if module.exports is not None:
        module.exports = [name for name in module.exports if not _is_alias(module, str(name))]


def _is_alias(module: griffe.Module, name: str) -> bool:
    member = module.members.get(name)
    return member is not None and member.is_alias
