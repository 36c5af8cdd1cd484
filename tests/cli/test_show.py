"""Tables that can be read at any width, with every id in one piece; a stdout that takes nothing; no stdin."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.cli.main import some_stdout
from cloudexec.cli.show import confirmed, print_table

ID = "r20261121-052301-9f3a1c"
HEADINGS = ("run", "name", "state", "begun", "done", "cost", "who")
ROW = (ID, "a rather long name", "running", "2026-11-21 05:23:01 (4 min ago)", 7, "$0.0123", "ada@machine")
RIGHT = ("done", "cost")


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Prints a table on so many columns, or into a pipe; the lines."""

    def show(columns: int | None, headings=HEADINGS, rows=(ROW, ROW), right=RIGHT) -> list[str]:
        monkeypatch.delenv("COLUMNS", raising=False)
        if columns is not None:
            monkeypatch.setenv("COLUMNS", str(columns))
        print_table(headings, rows, right=right)
        return [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    return show


def test_in_a_pipe_each_row_is_a_line(shown):
    lines = shown(None)
    assert len(lines) == 3
    assert all(str(cell) in lines[1] for cell in ROW)


def test_a_terminal_that_is_wide_enough_shows_a_table(shown):
    assert shown(140) == shown(None)


def test_cells_of_a_narrower_one_are_broken_between_words(shown):
    lines = shown(118)
    assert lines[0].split() == list(HEADINGS)
    assert [line for line in lines if line.startswith(ID)] == [line for line in lines if "running" in line]
    assert len(lines) < 3 * len(ROW)


@pytest.mark.parametrize("columns", [30, 60, 80])
def test_where_no_table_fits_rows_become_lines(shown, columns: int):
    lines = shown(columns)
    assert lines.count(ID) == 2
    assert all(len(line) <= columns for line in lines)
    said = " ".join(line.strip() for line in lines)
    assert f"name {ROW[1]}, state running, begun {ROW[3]}, done 7, cost $0.0123, who ada@machine" in said


def test_a_table_without_headings_has_no_empty_line(shown):
    assert shown(80, ("", ""), [("state", "done")], ()) == ["state  done"]


@given(columns=st.integers(1, 200), cells=st.lists(st.text("ab [c]", max_size=40), min_size=3, max_size=3))
def test_an_id_is_never_broken(columns: int, cells: list[str]):
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setenv("COLUMNS", str(columns))
        print_table(("run", "a", "b", "c"), [(ID, *cells)])
    assert ID in out.getvalue()


def program(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """The program, in a process of its own: how Python ends is a part of it."""
    command = [sys.executable, "-m", "cloudexec.cli", *words]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=50, check=False, **more)


PRINTS = ("policy", "client", "--account", "123456789012", "--region", "eu-west-1")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has it")
def test_a_full_disk_is_told_in_a_sentence():
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = program(*PRINTS, stdout=full)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "what to do: make room" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_what_a_terminal_cannot_show_is_no_reason_to_stop():
    """With LANG=C, say, and a run that somebody else has named."""
    ascii_alone = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    with contextlib.redirect_stdout(ascii_alone), some_stdout(io.StringIO()):
        print_table(("run", "name"), [(ID, "größe →")])
    assert b"gr\\xf6\\xdfe \\u2192" in ascii_alone.buffer.getvalue()  # type: ignore[attr-defined]


def test_a_stdout_that_is_closed_is_no_reason_to_stop():
    done = program(*PRINTS, preexec_fn=lambda: os.close(1))
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_where_nobody_can_answer_the_answer_is_no(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Python has no stdin if it is closed from the start, as by `cloudexec down <&-`."""
    monkeypatch.setattr(sys, "stdin", None)
    assert not confirmed("Remove it?", yes=False)
    assert "Remove it? Repeat with --yes to do it." in capsys.readouterr().err
    assert confirmed("Remove it?", yes=True)
