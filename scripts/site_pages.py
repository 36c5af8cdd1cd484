"""Make a site of pages that were written for GitHub: files outside docs/ that they link to become pages, too.

Called by: MkDocs, as a hook of mkdocs.yml.   Calls: Python-Markdown, MkDocs.

A link such as `../examples/crossval.py` leads out of docs/, where MkDocs sees nothing. So each file of the project that
a page links to is added below `project/`: Markdown as it is, anything else as a page with the file in a block. What
those pages link to is added in turn. Links are turned round while Markdown becomes HTML, in the tree, not in the text.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs/"
OUTSIDE = "project/"
ALWAYS = ("CHANGELOG.md", "CONTRIBUTING.md")  # in the navigation
LANGUAGES = {".R": "r", ".py": "python", ".sh": "bash", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}
LINK = re.compile(r"\]\(\s*<?([^()\s<>#]+)")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//|/", re.IGNORECASE)  # https:, mailto:, an absolute path

_page = {"origin": ""}  # the file whose Markdown is converted at the moment


# --- which files, and where ---------------------------------------------------------------------


def uri_of(path: str) -> str:
    """Where a file of the project stands among the pages; its path is below the project's root."""
    if path.startswith(DOCS):
        return path.removeprefix(DOCS)
    return OUTSIDE + path + ("" if path.endswith(".md") else ".md")


def linked(origin: str) -> Iterator[str]:
    """Files of the project outside docs/ that a page links to."""
    for target in LINK.findall((ROOT / origin).read_text(encoding="utf-8")):
        path = resolved(origin, target)
        if path and not path.startswith(DOCS) and (ROOT / path).is_file():
            yield path


def resolved(origin: str, target: str) -> str:
    """The path below the project's root that a link means; empty if it leads out of the project."""
    if ELSEWHERE.match(target):
        return ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), unquote(target)))
    return "" if path.startswith("..") else path


def outside(pages: list[str]) -> list[str]:
    """All files outside docs/ that can be reached from the pages, sorted."""
    found: set[str] = set()
    open_pages = [*pages, *ALWAYS]
    found.update(ALWAYS)
    while open_pages:
        new = set(linked(open_pages.pop())) - found
        found |= new
        open_pages += [path for path in new if path.endswith(".md")]
    return sorted(found)


def as_page(path: str) -> str:
    """The Markdown of a page that shows a file."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    marks = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    name = PurePosixPath(path)
    language = "docker" if name.suffix == ".Dockerfile" else LANGUAGES.get(name.suffix, "text")
    return f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n{marks}{language}\n{text.rstrip()}\n{marks}\n"


# --- MkDocs calls these -------------------------------------------------------------------------


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Have links turned round."""
    config.markdown_extensions.append(Links())
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/."""
    pages = [DOCS + file.src_uri for file in files.documentation_pages()]
    for path in outside(pages):
        inclusion = InclusionLevel.INCLUDED if path in ALWAYS else InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, uri_of(path), content=as_page(path), inclusion=inclusion))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Remember whose links come next."""
    uri = page.file.src_uri
    origin = uri.removeprefix(OUTSIDE) if uri.startswith(OUTSIDE) else DOCS + uri
    _page["origin"] = origin if (ROOT / origin).exists() else origin.removesuffix(".md")
    return markdown


class Links(Extension):
    """Python-Markdown's side of it."""

    def extendMarkdown(self, md: Markdown) -> None:
        """See markdown.extensions.Extension."""
        md.treeprocessors.register(TurnRound(md), "cloudexec-links", 1)  # MkDocs' own comes at 0


class TurnRound(Treeprocessor):
    """Links as the site needs them, from links as the project's folders need them."""

    def run(self, root: Element) -> None:
        """See markdown.treeprocessors.Treeprocessor."""
        for link in root.iter("a"):
            if href := link.get("href"):
                link.set("href", turned(_page["origin"], href))


def turned(origin: str, href: str) -> str:
    """One link, from the page that stands at `origin` in the project."""
    target, mark, anchor = href.partition("#")
    path = resolved(origin, target) if target else ""
    if not path or not (ROOT / path).is_file():
        return href  # what leads nowhere is MkDocs' to find
    there = posixpath.relpath(uri_of(path), posixpath.dirname(uri_of(origin)) or ".")
    return quote(there) + mark + anchor
