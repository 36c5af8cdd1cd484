"""Relative links and anchors of every Markdown page resolve."""

from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.pages import ROOT, anchors, links

OUTSIDE = ("http://", "https://", "mailto:")
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")})


def problem_of(page: Path, target: str) -> str:
    """Why a link from `page` leads nowhere, or an empty string."""
    path, _, anchor = unquote(target).partition("#")
    there = (page.parent / path).resolve() if path else page
    if not there.is_relative_to(ROOT):
        return "leads out of the project"
    if not there.exists():
        return "no such file"
    if anchor and there.suffix == ".md" and anchor not in anchors(there.read_text(encoding="utf-8")):
        return "no such heading"
    return ""


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_relative_links_resolve(page: Path):
    text = page.read_text(encoding="utf-8")
    broken = [
        f"{page.relative_to(ROOT)}:{line}: {target}: {problem}"
        for line, target in links(text)
        if not target.startswith(OUTSIDE) and (problem := problem_of(page, target))
    ]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Two planes", "two-planes"),
        ("`WorkerLost`: what now?", "workerlost-what-now"),
        ("Costs & *limits*", "costs--limits"),
        ("See [the glossary](glossary.md)", "see-the-glossary"),
        ("`max_tasks_per_child`", "max_tasks_per_child"),
    ],
)
def test_a_heading_gets_the_anchor_that_github_gives_it(heading, anchor):
    assert anchors(f"# {heading}\n") == {anchor}


def test_a_repeated_heading_gets_a_number():
    assert anchors("# Cause\n# Cause\n# Cause\n") == {"cause", "cause-1", "cause-2"}


def test_code_holds_no_links():
    assert list(links("`[a](b.md)`\n\n```md\n[a](c.md)\n```\n[a](d.md)\n")) == [(6, "d.md")]
