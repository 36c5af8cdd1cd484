"""Short and long calls together: what belongs to a short call never waits for a long one."""

from tests.contract.events import SOON, Gate

UNHEARD_S = 5.0  # what is stuck behind the gate is not heard in any time


def pass_if_open(gate):
    return gate() if gate is not None else None


def train(executor):
    """Let the executor learn that the calls of a function are short, so that it sends and runs many at once."""
    assert list(executor.map(pass_if_open, [None] * 500)) == [None] * 500


def test_a_result_is_given_while_the_next_call_runs_in_the_same_process(single, gate, tmp_path):
    train(single)
    first = Gate(tmp_path / "first")
    held = single.submit(pass_if_open, first)
    short = [single.submit(pass_if_open, None) for _ in range(40)]
    long = single.submit(pass_if_open, gate)
    first.open()
    assert held.result(SOON) is None
    assert [future.result(UNHEARD_S) for future in short] == [None] * 40
    assert not long.done()
    gate.open()
    long.result(SOON)


def test_results_of_a_map_are_given_while_a_later_call_runs(single, gate, tmp_path):
    train(single)
    first = Gate(tmp_path / "first")
    held = single.submit(pass_if_open, first)
    results = single.map(pass_if_open, [None] * 40 + [gate], timeout=UNHEARD_S)
    first.open()
    held.result(SOON)
    assert [next(results) for _ in range(40)] == [None] * 40
    gate.open()
    next(results)


def test_no_call_waits_behind_a_long_one_while_another_worker_is_idle(executor, gate, tmp_path):
    train(executor)
    first = Gate(tmp_path / "first")
    held = [executor.submit(pass_if_open, first) for _ in range(2)]
    first.wait_for(2)
    before = [executor.submit(pass_if_open, None) for _ in range(100)]
    long = executor.submit(pass_if_open, gate)
    behind = [executor.submit(pass_if_open, None) for _ in range(100)]
    first.open()
    assert [future.result(UNHEARD_S) for future in (*held, *before, *behind)] == [None] * 202
    assert not long.done()
    gate.open()
    long.result(SOON)
