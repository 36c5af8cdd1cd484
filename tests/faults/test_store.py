"""The place for large arguments and results is full, or gone."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudexec import errors
from tests.contract.events import SOON, eventually, is_alive
from tests.faults import deeds

pytestmark = pytest.mark.usefixtures("local")

ROOM = 8 << 20
MUCH = ROOM + 1
SOME = 2 << 20  # more than a message carries


@pytest.fixture
def small_place(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small file system here: a full store is not tested")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def cramped(new_executor, small_place):
    """Two slots, and a store with little room."""
    return new_executor(2, store_dir=small_place)


def test_an_argument_for_which_there_is_no_room_fails_its_own_future(cramped):
    error = cramped.submit(deeds.swallow, os.urandom(MUCH)).exception(SOON)
    assert type(error) is errors.StoreFull
    assert isinstance(error, OSError)
    assert "no room for 8,388," in str(error)
    assert "Remedy:" in str(error)
    assert cramped.submit(deeds.swallow, os.urandom(SOME)).result(SOON) == "arrived"


def test_a_result_for_which_there_is_no_room_fails_its_own_call(cramped, gate):
    neighbour = cramped.submit(gate, "neighbour")
    gate.wait_for(1)
    error = cramped.submit(deeds.big_bytes, MUCH).exception(SOON)
    assert type(error) is errors.StoreFull
    assert "Remedy:" in str(error)
    gate.open()
    assert neighbour.result(SOON) == "neighbour"
    assert len(cramped.submit(deeds.big_bytes, SOME).result(SOON)) == SOME


def test_when_there_is_room_again_calls_go_on(cramped, small_place):
    filler = small_place / "filler"
    filler.write_bytes(b"f" * (ROOM - SOME))
    argument = os.urandom(SOME)
    assert type(cramped.submit(deeds.swallow, argument).exception(SOON)) is errors.StoreFull
    assert type(cramped.submit(deeds.big_bytes, SOME).exception(SOON)) is errors.StoreFull
    filler.unlink()
    assert cramped.submit(deeds.swallow, argument).result(SOON) == "arrived"
    assert len(cramped.submit(deeds.big_bytes, SOME).result(SOON)) == SOME


def test_output_for_which_there_is_no_room_does_not_cost_the_result(cramped):
    future = cramped.submit(deeds.print_and_return, MUCH, "result")
    assert future.result(SOON) == "result"
    assert future.stdout.endswith("xxx")


def test_what_half_written_blobs_took_is_free_again(cramped, small_place):
    assert type(cramped.submit(deeds.swallow, os.urandom(MUCH)).exception(SOON)) is errors.StoreFull
    assert type(cramped.submit(deeds.big_bytes, MUCH).exception(SOON)) is errors.StoreFull
    assert [path for path in small_place.rglob("*") if path.is_file()] == []


def test_map_stops_where_there_is_no_room_and_the_executor_goes_on(cramped):
    with pytest.raises(errors.StoreFull):
        list(cramped.map(len, [os.urandom(SOME), os.urandom(MUCH), b""]))
    assert list(cramped.map(len, [b"", b"x"])) == [0, 1]


def test_a_store_that_cannot_be_written_is_a_setting_that_is_wrong(new_executor, tmp_path):
    with pytest.raises(errors.SettingsError, match="store_dir"):
        new_executor(2, store_dir=tmp_path / "nowhere")


def test_calls_whose_arguments_were_removed_say_so(new_executor, tmp_path, gate):
    executor = new_executor(1, store_dir=tmp_path)
    holder = executor.submit(gate, "holder")
    gate.wait_for(1)
    orphans = [executor.submit(deeds.swallow, os.urandom(SOME)) for _ in range(3)]
    (root,) = tmp_path.glob("cloudexec-*")
    shutil.rmtree(root)
    gate.open()
    assert holder.result(SOON) == "holder"
    for future in orphans:
        assert type(future.exception(SOON)) is errors.BlobMissing
        assert "Remedy:" in str(future.exception(0))


def test_after_the_store_was_removed_new_calls_make_it_anew(new_executor, tmp_path):
    executor = new_executor(1, store_dir=tmp_path)
    argument = os.urandom(SOME)
    assert executor.submit(deeds.identity, argument).result(SOON) == argument
    (root,) = tmp_path.glob("cloudexec-*")
    shutil.rmtree(root)
    assert executor.submit(deeds.identity, argument).result(SOON) == argument
    assert executor.submit(deeds.identity, 1).result(SOON) == 1


def test_results_and_output_that_were_removed_are_errors_of_their_calls(new_executor, tmp_path):
    executor = new_executor(1, store_dir=tmp_path)
    (root,) = tmp_path.glob("cloudexec-*")
    pid = executor.submit(deeds.leave_child_that_removes, str(root / "blobs")).result(SOON)
    assert is_alive(pid)
    for _ in range(20):
        error = executor.submit(deeds.big_bytes, SOME).exception(SOON)
        assert error is None or type(error) in (errors.BlobMissing, errors.ResultUnreadable, FileNotFoundError)
        future = executor.submit(deeds.print_and_return, SOME, "result")
        assert future.exception(SOON) is None or isinstance(future.exception(0), (errors.CloudexecError, OSError))
    assert executor.submit(deeds.identity, "usable").result(SOON) == "usable"
    executor.shutdown()
    eventually(lambda: not is_alive(pid))
