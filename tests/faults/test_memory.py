"""Memory runs out, or is needed in quantity."""

import hashlib
from pathlib import Path

import pytest

from cloudexec import errors
from cloudexec.worker.system import OomCounter
from tests.contract.events import SOON
from tests.faults import deeds

GIB = 1 << 30
IN_A_CONTAINER = 64 << 20  # bytes: one of 2 GiB has no room for a GiB, its pickle and a copy


@pytest.mark.parametrize(
    ("deed", "args"),
    [
        pytest.param(deeds.allocate, (1 << 60,), id="one allocation that nobody could serve"),
        pytest.param(deeds.allocate_beyond_a_limit, (), id="many small ones, up to a limit of the process"),
    ],
)
def test_a_memory_error_is_an_error_of_the_call(scene, deed, args):
    victim = scene.play(deed, *args)
    assert type(victim.exception(0)) is MemoryError
    scene.assert_unharmed()


@pytest.mark.slow  # a GiB is made, copied and checked
@pytest.mark.timeout(120)
@pytest.mark.parametrize("deed", [deeds.big_bytes, deeds.big_array])
def test_a_result_of_a_gibibyte_arrives(scene, kind, deed):
    n_bytes = IN_A_CONTAINER if kind.in_containers else GIB
    victim = scene.play(deed, n_bytes, patience_s=100)
    result = victim.result(0)
    assert len(result) == n_bytes
    assert bytes(result[:3]) == bytes(result[-3:]) == (b"\x07" * 3 if deed is deeds.big_bytes else b"\x01" * 3)
    scene.assert_unharmed()


@pytest.mark.slow  # see above
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("local")  # from the cloud it comes over the network, into memory
def test_a_large_array_arrives_without_a_copy_of_it_in_this_process(single):
    single.submit(deeds.identity, 1).result(SOON)
    before = anonymous_bytes()
    result = single.submit(deeds.big_array, GIB).result(SOON)
    assert result.nbytes == GIB
    assert anonymous_bytes() - before < GIB // 8


@pytest.mark.usefixtures("local")  # in the cloud it stays until the run is over, for whoever attaches
def test_what_a_large_result_took_in_the_store_is_free_again(single):
    (root, *_) = single._core.engine.backend._store.roots
    result = single.submit(deeds.big_bytes, 4 << 20).result(SOON)
    assert hashlib.sha256(result).digest() == hashlib.sha256(b"\x07" * (4 << 20)).digest()
    assert [path for path in Path(root).rglob("*") if path.is_file()] == []


def anonymous_bytes() -> int:
    """Memory of this process that is not a file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("RssAnon:"))
    return int(kib) * 1024


# --- the kernel's own killer -------------------------------------------------------------------


def test_a_kill_counts_as_one_for_memory_when_the_kernel_counted_it(tmp_path):
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 4\noom_kill 2\noom_group_kill 0\n")
    counter = OomCounter(str(events))
    assert not counter.has_risen()
    events.write_text("low 0\noom 9\noom_kill 2\noom_group_kill 0\n")
    assert not counter.has_risen(), "somebody had to wait for memory; nobody was killed"
    events.write_text("low 0\noom 9\noom_kill 3\noom_group_kill 0\n")
    assert counter.has_risen()
    assert not counter.has_risen(), "each kill is told once"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="no such file"),
        pytest.param("", id="empty"),
        pytest.param("oom_kill\n", id="no figure"),
        pytest.param("oom_kill many\n", id="not a figure"),
    ],
)
def test_without_a_count_no_kill_is_blamed_on_memory(tmp_path, content):
    events = tmp_path / "memory.events"
    if content is not None:
        events.write_text(content)
    assert not OomCounter(str(events)).has_risen()


def test_an_error_for_lack_of_memory_is_a_crash_with_a_remedy_of_its_own():
    assert issubclass(errors.OutOfMemory, errors.CallCrashed)
    assert "max_workers" in errors.OutOfMemory.remedy
