"""The parts of the rscript engine that need no R."""

import os
import sys
import time

import pytest

from cloudexec.errors import RConversionError
from cloudexec.r.engines import Key, Pool, Reply, Request
from cloudexec.r.rscript import exchange, places
from cloudexec.r.rscript.launching import changes, surroundings
from cloudexec.r.rscript.relay import TAIL_CHARACTERS, Relay


class Noted:
    """An engine that notes what becomes of it."""

    def __init__(self):
        self.became = ""

    def run(self, request):
        if request.code == "stop":
            raise RConversionError("stopped")
        return Reply(value=id(self))

    def close(self):
        self.became = "closed"

    def forget(self):
        self.became = "forgotten"


FIRST = Key("rscript", "fork", (), "/usr/bin/Rscript")
SECOND = Key("rscript", "fork", ("stats",), "/usr/bin/Rscript")
ASK = Request(code="1")


@pytest.fixture
def made():
    return []


@pytest.fixture
def pool(made):
    def make(key):
        made.append(Noted())
        return made[-1]

    pool = Pool(make, most_idle=1, idle_s=0.05)
    yield pool
    pool.close()


def test_an_idle_engine_is_used_again_also_after_an_error(pool, made):
    pool.run(FIRST, ASK)
    with pytest.raises(RConversionError):
        pool.run(FIRST, Request(code="stop"))
    pool.run(FIRST, ASK)
    assert len(made) == 1


def test_engines_of_other_packages_are_other_engines(pool):
    assert pool.run(FIRST, ASK).value != pool.run(SECOND, ASK).value


def test_engines_that_are_too_many_end_when_they_have_been_idle_for_long(pool, made):
    pool.run(FIRST, ASK)
    pool.run(SECOND, ASK)
    assert len(pool) == 2
    until_s = time.monotonic() + 10
    while len(pool) > 1 and time.monotonic() < until_s:
        time.sleep(0.01)
    assert len(pool) == 1
    time.sleep(0.1)
    assert [engine.became for engine in made] == ["closed", ""]


def test_a_closed_pool_has_ended_its_engines_and_a_forgotten_one_has_not(pool, made):
    pool.run(FIRST, ASK)
    pool.forget()
    assert made[0].became == "forgotten"
    pool.run(FIRST, ASK)
    pool.close()
    assert made[1].became == "closed"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({}, {"LC_ALL": "C.UTF-8", "TZ": "UTC", "OMP_NUM_THREADS": "1", "HOME": "/tmp/x"}, id="nothing"),
        pytest.param({"TZ": "Europe/Rome", "OMP_NUM_THREADS": "4"}, {"TZ": "Europe/Rome", "OMP_NUM_THREADS": "4"},
                     id="what is said stays"),
        pytest.param({"LANG": "C", "LANGUAGE": "de"}, {"LANG": "C.UTF-8", "LANGUAGE": "en"}, id="language"),
        pytest.param({"HOME": "/"}, {"HOME": "/", "TMPDIR": "/tmp/x"}, id="a home that exists"),
        pytest.param({"LC_COLLATE": "de_DE"}, {"LC_COLLATE": None}, id="parts of the locale"),
    ],
)  # fmt: skip
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have other names for it")
def test_r_starts_in_the_same_surroundings_everywhere(given, expected):
    made = surroundings(given, "/tmp/x")
    assert {name: made.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("before", "now", "to_set", "unset"),
    [
        ({"A": "1"}, {"A": "1"}, {}, []),
        ({"A": "1"}, {"A": "2", "B": "3"}, {"A": "2", "B": "3"}, []),
        ({"A": "1", "B": "2"}, {"B": "2"}, {}, ["A"]),
        ({"LANG": "C", "LC_ALL": "C"}, {"HOME": "/x", "LC_TIME": "C"}, {}, []),
    ],
)
def test_only_what_has_changed_since_r_started_is_told(before, now, to_set, unset):
    assert changes(before, now) == (to_set, unset)


@pytest.fixture
def pipes():
    ends = [os.pipe(), os.pipe()]
    for reading, _ in ends:
        os.set_blocking(reading, False)
    yield ends
    for pair in ends:
        for fd in pair:
            os.close(fd)


def test_a_letter_that_arrives_in_two_pieces_is_one_letter(pipes, capsys):
    (out, out_end), (err, _) = pipes
    relay = Relay(out, err)
    for piece in ("é".encode()[:1], "é".encode()[1:], b"\xff"):
        os.write(out_end, piece)
        relay.move(out)
    relay.finish()
    assert capsys.readouterr().out == "é\\xff"
    assert relay.tail == "é\\xff"


def test_what_a_killed_call_left_in_the_pipe_is_not_the_next_ones(pipes, capsys):
    (out, out_end), (err, _) = pipes
    os.write(out_end, b"late")
    relay = Relay(out, err)
    relay.discard()
    relay.finish()
    assert capsys.readouterr().out == ""


def test_the_tail_is_short_and_of_whole_lines(pipes, capsys):
    (out, out_end), (err, _) = pipes
    relay = Relay(out, err)
    for number in range(1000):
        os.write(out_end, f"line {number}\n".encode())
        relay.move(out)
    assert len(relay.tail) <= TAIL_CHARACTERS
    assert relay.tail.startswith("line ")
    assert relay.tail.endswith("line 999\n")


def test_files_are_collected_by_their_path_and_links_out_of_the_directory_are_left(tmp_path):
    home, outside = tmp_path / "home", tmp_path / "secret"
    (home / "plots").mkdir(parents=True)
    (home / "plots" / "a.png").write_bytes(b"a")
    (home / "b.rds").write_bytes(b"b")
    outside.write_bytes(b"no")
    (home / "c.rds").symlink_to(outside)
    assert exchange.collected(home, ["*.rds", "**/*.png", "none/*"]) == {"b.rds": b"b", "plots/a.png": b"a"}


def test_directories_of_the_dead_are_swept_and_those_of_the_living_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    living, dead, young = places.Place(), places.Place(), places.Place()
    dead.forget()  # as if its process had ended
    young.forget()
    for place in (living, dead):
        os.utime(place.path, (0, 0))
    places.sweep()
    assert [os.path.exists(place.path) for place in (living, dead, young)] == [True, False, True]
    living.remove()


def test_a_directory_is_emptied_but_for_what_is_kept_and_made_again_if_it_is_gone(tmp_path):
    for name in ("kept", "old"):
        (tmp_path / name).mkdir()
    places.empty(str(tmp_path), {"kept"})
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    places.empty(str(tmp_path / "gone"))
    assert (tmp_path / "gone").is_dir()
