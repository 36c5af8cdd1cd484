"""What calls print, as lines of the worker's log."""

from __future__ import annotations

import os
import select
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.worker.printing import MOST_BYTES, OutputLog, gathered, lines_of

CALL = "r20261121-120000-abcdef/17"
HEAD = f"{CALL} out| ".encode()


@pytest.mark.parametrize(
    ("printed", "lines"),
    [
        pytest.param(b"one\n", [b"one"], id="a line"),
        pytest.param(b"one\n\ntwo", [b"one", b"", b"two"], id="an empty line, and no line end at the end"),
        pytest.param(b"\n", [b""], id="a line end alone"),
        pytest.param(b"10%\r50%\r100%\n", [b"100%"], id="a progress bar: its last state"),
        pytest.param(b"done\r\n", [b"done"], id="line ends of Windows"),
        pytest.param(b"r9/1 err| fake\n", [b"r9/1 err| fake"], id="another call's id is text like any other"),
        pytest.param("größer\n".encode(), ["größer".encode()], id="text beyond ASCII"),
        pytest.param(b"\xff\xfe\n", [b"\xff\xfe"], id="no text at all"),
    ],
)
def test_each_line_has_its_call_in_front(printed: bytes, lines: list[bytes]) -> None:
    assert list(lines_of(CALL, "out", printed)) == [HEAD + line + b"\n" for line in lines]


@given(
    st.lists(
        st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=("Cs",)), max_size=9000), max_size=4
    )
)
def test_long_lines_go_on_in_the_next_and_lose_nothing(texts: list[str]) -> None:
    printed = "".join(f"{one}\n" for one in texts).encode()
    lines = list(lines_of(CALL, "out", printed, 1 << 30))
    assert all(len(line) <= select.PIPE_BUF for line in lines)
    assert all(line.startswith(HEAD) and line.endswith(b"\n") for line in lines)
    pieces = [line[len(HEAD) : -1] for line in lines]
    assert "".join(piece.decode() for piece in pieces) == "".join(texts), "no character is cut in two"


@given(st.integers(0, 3 * MOST_BYTES), st.integers(0, 3 * MOST_BYTES))
def test_of_both_streams_together_little_more_than_the_bound_is_written(n_out: int, n_err: int) -> None:
    read, write = os.pipe()
    collected: list[bytes] = []
    reader = threading.Thread(target=lambda: collected.extend(iter(lambda: os.read(read, 1 << 20), b"")))
    reader.start()
    OutputLog(write, "r1").tell(17, b"o" * n_out, b"e" * n_err)
    os.close(write)
    reader.join()
    os.close(read)
    written = b"".join(collected)
    assert written.count(b"o") <= MOST_BYTES + 200
    assert sum(written.count(letter) for letter in (b"o", b"e")) <= MOST_BYTES + 2000
    if n_out + n_err <= MOST_BYTES:
        assert b"left out" not in written
    else:
        assert b"bytes left out" in written


def test_lines_of_slots_that_write_at_the_same_time_stay_whole() -> None:
    read, write = os.pipe()
    printed = b"".join(b"%d " % n * 300 + b"\n" for n in range(60))

    def tell(number: int) -> None:
        for _ in range(10):
            OutputLog(write, "r1").tell(number, printed, b"")

    writers = [threading.Thread(target=tell, args=(number,)) for number in (1, 2)]
    ended = threading.Thread(target=lambda: ([one.join() for one in writers], os.close(write)))
    for thread in (*writers, ended):
        thread.start()
    written = b"".join(iter(lambda: os.read(read, 1 << 16), b""))
    ended.join()
    os.close(read)
    whole = {number: set(lines_of(f"r1/{number}", "out", printed)) for number in (1, 2)}
    assert {line + b"\n" for line in written.splitlines()} <= whole[1] | whole[2]
    assert written.count(b"\n") == 10 * (len(list(lines_of("r1/1", "out", printed))) * 2)


def test_a_log_that_is_closed_is_nobody_s_failure() -> None:
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    OutputLog(write, "r1").tell(1, b"text\n", b"")


def test_a_write_holds_whole_lines() -> None:
    lines = [b"x" * 1500 + b"\n"] * 7
    chunks = list(gathered(lines))
    assert b"".join(chunks) == b"".join(lines)
    assert all(len(chunk) <= 4096 and chunk.endswith(b"\n") for chunk in chunks)
    assert len(chunks) == 4
