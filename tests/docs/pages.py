"""Read Markdown pages: their snippets, links and anchors.

Called by: test_snippets.py, test_links.py, run_page.py. Standard library only.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FENCE = re.compile(r"^\s*(?P<marks>`{3,}|~{3,})\s*(?P<language>[\w+-]*)[^`]*$")
ORDER = re.compile(r"^\s*<!--\s*snippet:\s*(?P<verb>\w+)\s*(?P<rest>.*?)\s*-->\s*$")
SKIP_REASON = re.compile(r"because\s+\S")
NEEDS_R = re.compile(r"^<!-- snippets need R -->$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """A fenced block; `line` is the number of its first line of code."""

    language: str
    line: int
    code: str
    skipped_because: str = ""
    raises: str = ""


@dataclass(frozen=True, kw_only=True)
class Fence:
    """A fenced block of any language, with the lines it covers, marks included."""

    language: str
    first: int
    last: int


def documentation() -> list[Path]:
    """The pages whose snippets run."""
    return [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if page.exists()]


def fences(lines: list[str]) -> Iterator[Fence]:
    """The fenced blocks of a page, lines counted from 1."""
    opened, first = None, 0
    for number, line in enumerate(lines, start=1):
        mark = FENCE.match(line)
        if opened is None and mark:
            opened, first = mark, number
        elif opened and mark and ends(opened["marks"], line):
            yield Fence(language=opened["language"], first=first, last=number)
            opened = None
    if opened:
        raise ValueError(f"line {first}: this block is never closed")


def ends(marks: str, line: str) -> bool:
    """Whether a line closes a block; four back-quotes may hold three, so the length counts."""
    return line.strip().startswith(marks) and not line.strip().strip(marks[0])


def needs_r(text: str) -> bool:
    """Whether the page says that its snippets run R."""
    return NEEDS_R.search(text) is not None


def snippets(text: str) -> list[Snippet]:
    """The python and pycon blocks of a page, in order."""
    lines = text.splitlines()
    return [snippet(fence, lines) for fence in fences(lines) if fence.language in {"python", "py", "pycon"}]


def snippet(fence: Fence, lines: list[str]) -> Snippet:
    code = textwrap.dedent("\n".join(lines[fence.first : fence.last - 1])) + "\n"
    above = next((line for line in reversed(lines[: fence.first - 1]) if line.strip()), "")
    orders: dict[str, str] = {}
    if "snippet:" in above:
        order = ORDER.match(above)
        if order and order["verb"] == "skip" and SKIP_REASON.match(order["rest"]):
            orders["skipped_because"] = order["rest"].removeprefix("because").strip()
        elif order and order["verb"] == "raises" and order["rest"].isidentifier():
            orders["raises"] = order["rest"]
        else:
            raise ValueError(f"line {fence.first - 1}: write 'snippet: skip because …' or 'snippet: raises SomeError'")
    return Snippet(language=fence.language, line=fence.first + 1, code=code, **orders)


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The numbered lines outside fenced blocks, without comments."""
    lines = text.splitlines()
    fenced = {number for fence in fences(lines) for number in range(fence.first, fence.last + 1)}
    for number, line in enumerate(lines, start=1):
        if number not in fenced:
            yield number, re.sub(r"<!--.*?-->", "", line)


LINK = re.compile(r"!?\[(?:[^\[\]]|!?\[[^\[\]]*\]\([^()]*\))*\]\(\s*<?(?P<inline>[^()\s<>]+)>?[^()]*\)")
REFERENCE = re.compile(r"^\s{0,3}\[[^\]^]+\]:\s+<?(?P<target>[^\s>]+)")


def links(text: str) -> Iterator[tuple[int, str]]:
    """Line and target of every link and image."""
    for number, line in prose(text):
        line = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "code", line)
        for link in LINK.finditer(line):
            yield number, link["inline"]
        # A picture inside a link: its own target lies within the brackets.
        for picture in re.finditer(r"!\[[^\[\]]*\]\(\s*(?P<target>[^()\s]+)\s*\)\]", line):
            yield number, picture["target"]
        if reference := REFERENCE.match(line):
            yield number, reference["target"]


def anchors(text: str) -> set[str]:
    """What may stand behind `#` in a link to this page: headings as GitHub names them, and explicit ids."""
    found: set[str] = set()
    for _, line in prose(text):
        found.update(re.findall(r"<\w+[^>]*\s(?:id|name)=[\"']([^\"']+)[\"']", line))
        if heading := re.match(r"^\s{0,3}#{1,6}\s+(.*?)\s*#*\s*$", line):
            name = slug(heading[1])
            repeated = next(n for n in range(len(found) + 1) if (f"{name}-{n}" if n else name) not in found)
            found.add(f"{name}-{repeated}" if repeated else name)
    return found


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    shown = re.sub(r"<[^>]+>", "", shown) if "`" not in shown else shown
    return re.sub(r"[^\w\- ]", "", shown.replace("*", "")).strip().lower().replace(" ", "-")
