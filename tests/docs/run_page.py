"""Run the snippets of one page in order, in this process; report each as a line of JSON.

    python run_page.py docs/page.md report.jsonl

A child process of its own, so that a page starts with an empty `__main__` and cannot harm the next one.
Called by: test_snippets.py.
"""

import doctest
import json
import sys
import traceback
import types
from pathlib import Path

from pages import Snippet, snippets  # this file runs as a script, so its folder is on the path


def run(snippet: Snippet, page: str, names: dict[str, object]) -> str:
    """Run one snippet; what went wrong, or an empty string."""
    if snippet.language == "pycon":
        return run_session(snippet, page, names)
    try:
        # Empty lines in front make a traceback name the page's own line.
        exec(compile("\n" * (snippet.line - 1) + snippet.code, page, "exec"), names)
    except BaseException as error:  # a snippet that calls sys.exit shall be reported too
        if snippet.raises in {ancestor.__name__ for ancestor in type(error).__mro__}:
            return ""
        return told(error)
    return f"{page}:{snippet.line}: expected {snippet.raises}, nothing was raised" if snippet.raises else ""


def run_session(snippet: Snippet, page: str, names: dict[str, object]) -> str:
    test = doctest.DocTestParser().get_doctest(snippet.code, names, page, page, snippet.line - 1)
    test.globs = names  # doctest took a copy; the next snippet shall see what this one defines
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=said.append, clear_globs=False)
    return "".join(said)


def told(error: BaseException) -> str:
    """The traceback from the page's own frame on."""
    ours = error.__traceback__.tb_next if error.__traceback__ else None
    return "".join(traceback.format_exception(type(error), error, ours))


def main(page: Path, report: Path) -> None:
    del sys.path[0]  # this folder; a page shall not see it
    main_module = types.ModuleType("__main__")
    sys.modules["__main__"] = main_module
    sys.argv = [str(page)]
    for snippet in snippets(page.read_text(encoding="utf-8")):
        if snippet.skipped_because:
            continue
        problem = run(snippet, str(page), vars(main_module))
        with report.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"line": snippet.line, "problem": problem}) + "\n")
        if problem:
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
