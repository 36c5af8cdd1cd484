"""The engine itself fails: every future hears of it, at once and later."""

import os
import sys
import threading

import pytest

from cloudexec import errors
from cloudexec.backends.local.backend import LocalBackend
from cloudexec.backends.local.scratch import make_roots
from cloudexec.engine.engine import Engine
from cloudexec.engine.lifetime import End
from cloudexec.executors.base import CloudExecutor, Core
from cloudexec.ids import new_run_id
from cloudexec.ledger.calls import CallOptions
from cloudexec.ledger.ledger import Ledger, Limits
from cloudexec.serialization.blobs import BlobBook
from cloudexec.serialization.packer import Packer
from cloudexec.store.directory import DirectoryStore
from cloudexec.store.memory import address_of
from cloudexec.wire.control import Setup
from cloudexec.wire.envelope import Seal, new_key
from tests.contract.events import SOON, Gate, eventually, is_alive
from tests.faults import deeds
from tests.faults.scene import parent_of

INLINE_BYTES = 1 << 20


class Reason(Exception):
    """Why the engine dies."""


class FragileBackend(LocalBackend):
    """A backend with a defect in one of its methods, from a certain moment on."""

    breaks_in = ""

    def want_lanes(self, *args, **kwargs):
        return self._maybe("want_lanes", *args, **kwargs)

    def place(self, *args, **kwargs):
        return self._maybe("place", *args, **kwargs)

    def recall(self, *args, **kwargs):
        return self._maybe("recall", *args, **kwargs)

    def poll(self, *args, **kwargs):
        return self._maybe("poll", *args, **kwargs)

    def ping(self, *args, **kwargs):
        return self._maybe("ping", *args, **kwargs)

    def _maybe(self, name, *args, **kwargs):
        if self.breaks_in == name:
            raise Reason(f"defect in {name}")
        return getattr(LocalBackend, name)(self, *args, **kwargs)


@pytest.fixture
def fragile(tmp_path):
    """An executor of two slots on a FragileBackend."""
    run_id, key = new_run_id(), new_key()
    store = DirectoryStore(make_roots(run_id, str(tmp_path)))

    def setup_for(worker_id):
        fields = {
            "run_id": run_id,
            "worker_id": worker_id,
            "key_hex": key.hex(),
            "client_pid": os.getpid(),
            "store_roots": list(store.roots),
            "python_path": [path or os.getcwd() for path in sys.path],
            "python_version": "{}.{}".format(*sys.version_info[:2]),
            "max_tasks_per_child": 0,
            "initializer": "",
            "inline_bytes": INLINE_BYTES,
        }
        return Setup(**fields)

    backend = FragileBackend(setup_for, Seal(key), store)
    packer = Packer(BlobBook(store, address_of), INLINE_BYTES)
    engine = Engine(run_id, Ledger(Limits(max_lanes=2), backend.pace), backend, packer.release)
    executor = CloudExecutor(Core(engine, packer, 2), CallOptions(), "wait")
    yield executor
    executor.terminate_workers()
    executor.shutdown(wait=True)


def assert_dead(executor, futures, name):
    """Every future tells of the defect with an exception object of its own, and so does the executor."""
    found = [future.exception(SOON) for future in futures]
    assert {type(error) for error in found} == {errors.EngineFailed}
    assert len({id(error) for error in found}) == len(found)
    for error in found:
        assert type(error.__cause__) is Reason
        assert f"defect in {name}" in str(error)
        assert "Remedy:" in str(error)
    with pytest.raises(errors.EngineFailed):
        executor.submit(deeds.identity, 1)
    with pytest.raises(errors.EngineFailed):
        executor.map(deeds.identity, [1])


@pytest.mark.parametrize("name", ["want_lanes", "place", "poll"])
def test_a_defect_of_the_backend_reaches_every_future(fragile, tmp_path, name):
    gate = Gate(tmp_path / "gate")
    if name != "want_lanes":
        futures = [fragile.submit(gate, number) for number in range(10)]
        gate.wait_for(2)
        fragile._core.engine.backend.breaks_in = name
        gate.open()
    else:
        fragile._core.engine.backend.breaks_in = name
        futures = [fragile.submit(gate, 0)]
    if name == "poll":
        fragile._core.engine.backend.wake()
    error = futures[-1].exception(SOON)
    assert type(error) is errors.EngineFailed
    assert_dead(fragile, [future for future in futures if future.exception(SOON) is not None], name)


def test_no_process_outlives_the_engine(fragile, tmp_path):
    gate = Gate(tmp_path / "gate")
    future = fragile.submit(gate)
    (slot,) = gate.wait_for(1)
    supervisor = parent_of(slot)
    fragile._core.engine.backend.breaks_in = "poll"
    fragile._core.engine.backend.wake()
    assert_dead(fragile, [future], "poll")
    eventually(lambda: not is_alive(slot) and not is_alive(supervisor))


def test_map_hears_of_the_engines_death(fragile, tmp_path):
    gate = Gate(tmp_path / "gate")
    results = fragile.map(gate, range(10))
    gate.wait_for(1)
    fragile._core.engine.backend.breaks_in = "poll"
    fragile._core.engine.backend.wake()
    with pytest.raises(errors.EngineFailed):
        list(results)


def test_shutdown_after_the_engines_death_returns(fragile):
    fragile._core.engine.backend.breaks_in = "poll"
    assert type(fragile.submit(deeds.identity, 1).exception(SOON)) is errors.EngineFailed
    fragile.shutdown(wait=True)
    fragile.shutdown(wait=True, cancel_futures=True)


def test_callbacks_run_for_futures_that_hear_of_the_engines_death(fragile):
    fragile._core.engine.backend.breaks_in = "want_lanes"
    called = threading.Event()
    future = fragile.submit(deeds.identity, 1)
    future.add_done_callback(lambda _: called.set())
    assert called.wait(SOON)
    assert type(future.exception(0)) is errors.EngineFailed


def test_cancel_and_stop_after_the_engines_death_do_not_hang(fragile, tmp_path):
    gate = Gate(tmp_path / "gate")
    future = fragile.submit(gate)
    gate.wait_for(1)
    fragile._core.engine.backend.breaks_in = "poll"
    fragile._core.engine.backend.wake()
    assert type(future.exception(SOON)) is errors.EngineFailed
    assert not future.cancel()
    future.stop()
    assert "failed" in repr(fragile)


# --- whoever waits for its end is interrupted ---------------------------------------------------


def wait_interrupted(end, n_steps):
    """Wait, with a Ctrl-C after so many of the interpreter's steps; whether it has struck."""

    def trace(frame, event, _argument):
        nonlocal n_steps
        frame.f_trace_opcodes = True
        n_steps -= event == "opcode"
        if n_steps == 0:
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        end.wait()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def test_a_ctrl_c_at_any_point_of_the_wait_for_the_engines_end_leaves_it_to_come():
    has_struck = []
    for n_steps in range(1, 60):
        end = End()
        engine = threading.Timer(0.01, end.come)
        engine.start()
        has_struck.append(wait_interrupted(end, n_steps))
        end.wait()
        engine.join(SOON)
        assert not engine.is_alive()
    assert has_struck[0]
    assert not has_struck[-1], "a wait has more points than were tried"
