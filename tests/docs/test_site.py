"""The documentation as a site: it builds without a warning, its links lead somewhere, and it needs no network.

The site is built once, by scripts/docs.sh, in an environment of its own.
"""

from __future__ import annotations

import html
import posixpath
import re
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt

from cloudexec import errors
from tests.docs.pages import ROOT

pytestmark = pytest.mark.timeout(240)  # the first build of a machine installs MkDocs
DOCS_SH = ROOT / "scripts" / "docs.sh"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
ASSETS = re.compile(r"<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*\b(?:src|srcset|data)=\"([^\"]+)\"")
LINK_TAG = re.compile(r"<link\b[^>]*>")
HREF = re.compile(r"<a\b[^>]*?\bhref=\"([^\"]*)\"")
ID = re.compile(r"\s(?:id|name)=\"([^\"]+)\"")
FROM_OUTSIDE = re.compile(r"(?:https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the built site lies."""
    place = tmp_path_factory.mktemp("site")
    done = subprocess.run([DOCS_SH, "build", place], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture(scope="module")
def built(site: Path) -> dict[str, str]:
    """The site's pages, by path."""
    return {page.relative_to(site).as_posix(): page.read_text(encoding="utf-8") for page in site.rglob("*.html")}


def address_of(page: Path) -> str:
    """Where a page of docs/ stands on the site."""
    name = page.relative_to(ROOT / "docs").with_suffix("").as_posix()
    return "index.html" if name == "index" else f"{name.removesuffix('index').rstrip('/')}/index.html"


def resolved(page: str, href: str) -> tuple[str, str]:
    """The file and the anchor that a link means."""
    path, _, anchor = html.unescape(href).partition("#")
    there = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(path))) if path else page
    if path.endswith("/") or path in (".", "..") or there == ".":
        there = posixpath.join(there, "index.html")
    return posixpath.normpath(there), unquote(anchor)


def test_every_page_can_be_reached_from_the_navigation(built):
    navigation = built["index.html"].partition("md-nav--primary")[2].partition("md-sidebar--secondary")[0]
    reached = {resolved("index.html", href)[0] for href in HREF.findall(navigation)}
    assert {address_of(page) for page in PAGES} - reached == set()


def test_no_page_stands_in_the_navigation_twice():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2].partition("\n\n")[0]
    pages = Counter(re.findall(r"[\w./-]+\.md$", navigation, re.MULTILINE))
    assert len(pages) > 30
    assert [page for page, count in pages.items() if count > 1] == []


def test_every_link_inside_leads_to_a_page_and_an_anchor(site, built):
    names = {page: set(ID.findall(text)) | {"__comments", ""} for page, text in built.items()}
    broken = set()
    for page, text in built.items():
        if page == "404.html":  # its links are absolute: it stands for any address
            continue
        for href in HREF.findall(text):
            if re.match(r"[a-z]+:", href):
                continue
            there, anchor = resolved(page, href)
            if there not in names and not (site / there).is_file():
                broken.add(f"{page}: {href}: no such page")
            elif there in names and anchor not in names[there] and not anchor.startswith("__"):
                broken.add(f"{page}: {href}: no such anchor")
    assert sorted(broken) == []


def test_nothing_is_fetched_from_elsewhere(site, built):
    fetched = set()
    for page, text in built.items():
        wanted = ASSETS.findall(text)
        wanted += [found[1] for tag in LINK_TAG.findall(text) if (found := re.search(r"href=\"([^\"]+)\"", tag))]
        fetched.update(f"{page}: {each}" for each in wanted if FROM_OUTSIDE.match(each))
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        found = re.findall(r"url\(\s*['\"]?((?:https?:)?//[^)'\"]+)|@import\s+['\"]((?:https?:)?//[^'\"]+)", text)
        fetched.update(f"{sheet.name}: {each}" for each in found)
    assert sorted(fetched) == []
    assert (site / "search" / "search_index.json").stat().st_size > 100_000


def test_search_finds_pages_and_not_the_sources_that_they_link_to(site):
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert '"location":"troubleshooting/#workerlost"' in index
    assert '"location":"project/tests/' not in index


def test_the_reference_has_every_error_and_no_private_name(built):
    shown = set(ID.findall(built["reference/errors/index.html"]))
    homes = {f"{kind.__module__}.{kind.__qualname__}" for kind in (getattr(errors, name) for name in errors.__all__)}
    assert homes - shown == set()
    everything = {name for page, text in built.items() if page.startswith("reference/") for name in ID.findall(text)}
    private = [name for name in everything if re.match(r"cloudexec\..*\._", name)]
    assert private == []
    assert "cloudexec.executors.ecs.ECSExecutor.attach" in everything


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param("<li><code>timeout_s</code>: a call that runs longer is killed (", id="what a parameter is"),
        pytest.param("<li><code>initializer</code>, <code>initargs</code>: run in each", id="two at once"),
        pytest.param("<strong>Errors:</strong> <a><code>SettingsError</code></a>", id="an error"),
        pytest.param("<strong>How much:</strong> max_workers", id="words that open a paragraph"),
        pytest.param("(<a>docs/modules.md</a>)", id="a page"),
        pytest.param("**kwargs: P.kwargs", id="types as the source has them"),
    ],
)
def test_docstrings_become_lists_and_links(built, shown):
    page = re.sub(r"</?(?:p|span)\b[^>]*>", "", built["reference/executors/index.html"])
    assert shown in re.sub(r"<a\b[^>]*>", "<a>", page)


@cache
def parts_on_github(page: Path) -> Counter[str]:
    """How many headings, items, tables, rows and blocks GitHub's dialect of Markdown sees."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(page.read_text(encoding="utf-8"))
    kinds = {"list_item_open": "li", "table_open": "table", "tr_open": "tr", "fence": "pre", "code_block": "pre"}
    found = Counter(kinds[token.type] for token in tokens if token.type in kinds)
    return found + Counter(token.tag for token in tokens if token.type == "heading_open")


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.stem) for page in PAGES if "\n::: " not in page.read_text(encoding="utf-8")]
)
def test_a_page_has_the_same_parts_on_the_site_as_on_github(built, page):
    article = built[address_of(page)].partition("<article")[2].partition("</article>")[0]
    article = article.partition('<aside class="md-source-file"')[0]
    on_site = Counter(tag for tag in re.findall(r"<(li|table|tr|pre|h[1-6])\b", article))
    assert on_site == parts_on_github(page)


PAGE = "# Home\n\n[a page](gone.md), [an anchor](#gone), [another](away.md#gone)\n"


def test_a_link_to_nowhere_or_a_page_without_a_place_in_the_navigation_fails_the_build(tmp_path: Path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(PAGE, encoding="utf-8")
    (docs / "away.md").write_text("# Away\n", encoding="utf-8")
    settings = f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: {docs}\nnav: [index.md]\nhooks: []\nplugins: [search]\n"
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    done = subprocess.run(
        [DOCS_SH, "build", tmp_path / "site", tmp_path / "mkdocs.yml"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    for complaint in (
        'not included in the "nav" configuration:\n  - away.md',
        "link 'gone.md', but the target is not found",
        "no such anchor on this page",
        "'away.md' does not contain an anchor '#gone'",
    ):
        assert complaint in done.stdout + done.stderr
