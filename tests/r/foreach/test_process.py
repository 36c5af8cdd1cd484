"""The process behind an R session: who is let in, and that it ends with the session. R is played by a socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudexec.adapters.foreach.frames import Frame, encode, read
from cloudexec.adapters.foreach.server import Gone, _taker


class Process:
    """`python -m cloudexec.adapters.foreach` for a session that is a sleeping child process."""

    def __init__(self, home: Path) -> None:
        self.session = subprocess.Popen(["sleep", "60"])
        command = [sys.executable, "-m", "cloudexec.adapters.foreach", "--home", str(home)]
        self.process = subprocess.Popen([*command, "--pid", str(self.session.pid)])
        door = home / "door"
        until_s = time.monotonic() + 20
        while not door.exists():
            assert time.monotonic() < until_s
            assert self.process.poll() is None
            time.sleep(0.01)
        assert door.stat().st_mode & 0o077 == 0
        port, self.token, pid = door.read_text().split()
        assert int(pid) == self.process.pid
        self.port = int(port)

    def knock(self, token: str) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), 20)
        say(connection, "HELO", token)
        return connection

    def end(self) -> None:
        for each in (self.process, self.session):
            each.kill()
            each.wait()


def say(connection: socket.socket, kind: str, *parts: bytes | str | int) -> None:
    connection.sendall(b"".join(encode(kind, parts)))


def ask(connection: socket.socket, kind: str, *parts: bytes | str | int) -> Frame:
    say(connection, kind, *parts)
    return read(_taker(connection))


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path)
    yield made
    made.end()


def test_only_who_has_the_token_is_let_in(process: Process) -> None:
    for token in ("", "0" * 64, "x" * 10_000):
        with process.knock(token) as stranger, pytest.raises((Gone, ConnectionError)):
            ask(stranger, "OPEN", 1, "local", '{"max_workers": 1}')
    with process.knock(process.token) as r:
        assert ask(r, "OPEN", 1, "local", '{"max_workers": 1}').parts[:2] == (b"1", b"1")


def test_nobody_else_is_let_in_afterwards(process: Process) -> None:
    with process.knock(process.token) as r:
        assert ask(r, "OPEN", 1, "local", "[]").kind == "GOOD"
        with pytest.raises(ConnectionError):
            process.knock(process.token)


def test_it_ends_with_the_connection(process: Process) -> None:
    with process.knock(process.token) as r:
        assert ask(r, "OPEN", 1, "local", "[]").kind == "GOOD"
    assert process.process.wait(20) == 0


def test_it_ends_with_the_session_though_somebody_holds_the_connection_open(process: Process) -> None:
    with process.knock(process.token) as r:
        assert ask(r, "OPEN", 1, "local", "[]").kind == "GOOD"
        process.session.kill()
        process.session.wait()
        assert process.process.wait(20) == 0


def test_it_ends_though_no_session_ever_came(process: Process) -> None:
    process.session.kill()
    process.session.wait()
    assert process.process.wait(20) == 0


def test_an_interrupt_at_the_terminal_is_not_for_it(process: Process) -> None:
    assert os.getpgid(process.process.pid) == process.process.pid  # what the terminal sends does not reach it
    assert os.getpgid(process.session.pid) != process.process.pid


def test_what_fails_is_told_and_the_conversation_goes_on(process: Process) -> None:
    with process.knock(process.token) as r:
        failed = ask(r, "OPEN", 1, "local", '{"max_workers": 0}')
        assert (failed.kind, failed.text(0)) == ("FAIL", "1")
        assert failed.text(1).startswith("max_workers=0")
        assert failed.text(2).split("\n")[0] == "SettingsError"
        assert ask(r, "OPEN", 3, "local", "[]").kind == "GOOD"
        assert ask(r, "LOOP", 4, b"no RDS", "", "[]").kind == "FAIL"
        assert ask(r, "LOOP", 5, b"X\n", "no package!", "[]").kind == "FAIL"
        assert ask(r, "NEXT", 6, 99).kind == "FAIL"
        assert ask(r, "DROP", 7, 99).kind == "GOOD"


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([("WHAT", 1)], id="a frame that nobody understands"),
        pytest.param([("LOOP", 1, b"X\n", "", "[]")], id="a loop before there is an executor"),
        pytest.param([("OPEN", 1, "local", "[]")] * 2, id="a second executor"),
    ],
)
def test_what_no_session_says_ends_it(process: Process, frames: list[tuple[Any, ...]]) -> None:
    with process.knock(process.token) as r:
        for frame in frames:
            say(r, *frame)
        assert process.process.wait(20) != 0


def test_it_dies_like_any_process(process: Process) -> None:
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(20) == -signal.SIGTERM
