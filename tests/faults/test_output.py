"""Output in quantity, and descriptors that a call closes, redirects or writes garbage to."""

import os

import pytest

from cloudexec import errors
from cloudexec.wire.envelope import Seal, new_key
from cloudexec.wire.lane import Feeder
from tests.contract.events import SOON
from tests.faults import deeds
from tests.faults.scene import N_BEHIND, assert_explains

TEN_MB = 10_000_000


def test_ten_megabytes_without_a_newline_are_all_there(scene):
    victim = scene.play(deeds.print_without_newline, TEN_MB)
    assert victim.exception(0) is None
    assert victim.stdout == "x" * TEN_MB
    assert victim.stderr == ""
    scene.assert_unharmed()


def test_what_python_stdio_descriptors_and_children_print_is_all_there(single):
    future = single.submit(deeds.print_from_everywhere)
    future.result(SOON)
    assert sorted(future.stdout.split()) == ["child", "descriptor", "python", "stdio"]
    assert future.stderr == "warning\n"


def test_bytes_that_are_no_text_do_not_hide_the_rest(single):
    future = single.submit(deeds.write_bytes, b"before \xff\xfe after")
    future.result(SOON)
    assert future.stdout == "before \\xff\\xfe after"


@pytest.mark.parametrize(
    "deed",
    [
        pytest.param(deeds.close_standard_descriptors, id="closes descriptors 0 to 2"),
        pytest.param(deeds.close_streams, id="closes stdin, stdout and stderr"),
        pytest.param(deeds.replace_streams, id="puts other objects in their place"),
        pytest.param(deeds.delete_streams, id="deletes sys.stdout and sys.stderr"),
        pytest.param(deeds.silence_streams, id="sets them to None"),
    ],
)
def test_after_a_call_that_spoils_the_standard_streams_the_next_one_has_them(single, deed):
    spoiler = single.submit(deed)
    pid = single.submit(deeds.pids).result(SOON)[0]
    assert spoiler.exception(SOON) is None
    for text in ("first", "second"):
        future = single.submit(deeds.print_from_everywhere)
        assert future.exception(SOON) is None, text
        assert sorted(future.stdout.split()) == ["child", "descriptor", "python", "stdio"], text
        assert future.stderr == "warning\n", text
    assert single.submit(deeds.read_input).result(SOON) == ""
    assert single.submit(deeds.pids).result(SOON)[0] == pid


def test_a_call_may_redirect_its_output_and_the_next_one_has_its_own(single, tmp_path):
    file = tmp_path / "file"
    assert single.submit(deeds.redirect_output, str(file)).result(SOON) == "redirected"
    future = single.submit(deeds.say, "hello")
    assert future.result(SOON) == "hello"
    assert future.stdout == "hello\n"
    assert file.read_text() == "into the file\n"


@pytest.mark.parametrize("n_bytes", [1, 44, 100_000])
def test_garbage_in_every_pipe_of_a_slot_harms_only_its_own_call(scene, n_bytes):
    victim = scene.play(deeds.write_to_pipes, b"g" * n_bytes)
    if victim.exception(0) is not None:
        assert type(victim.exception(0)) is errors.CallCrashed
        assert_explains(victim)
    scene.assert_unharmed(repeats=N_BEHIND)  # what ran in the slot after the garbage cannot be believed, and runs again


def test_a_slot_that_sends_garbage_is_killed_and_says_so(single):
    future = single.submit(deeds.write_to_pipes, b"g" * 100)
    error = future.exception(SOON)
    assert type(error) is errors.CallCrashed
    assert "damaged message" in str(error)
    assert_explains(future)
    assert single.submit(deeds.identity, "usable").result(SOON) == "usable"


def test_the_call_that_sent_garbage_has_started_although_its_slot_was_killed_between_two_calls():
    (slots_work, work), (tokens_in, tokens_out), (out, slots_end) = os.pipe(), os.pipe(), os.pipe()
    feeder = Feeder(Seal(new_key()), work=work, tokens_in=tokens_in, tokens_out=tokens_out, out=out)
    feeder.give(b"a batch of one call", 7)
    os.write(slots_end, b"g" * 100)
    with pytest.raises(errors.WireError):
        feeder.receive()
    feeder.stop_reading()
    assert feeder.unstarted_at_end(running=0) == 0
    feeder.close()
    for fd in (slots_work, slots_end):
        os.close(fd)


def test_a_call_that_closes_every_descriptor_harms_only_itself(scene):
    victim = scene.play(deeds.close_all_descriptors)
    assert type(victim.exception(0)) is errors.CallCrashed
    assert_explains(victim)
    scene.assert_unharmed()
