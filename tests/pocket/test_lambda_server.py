"""What is left of Lambda when its server ends, and what it costs while nothing is invoked."""

import os
import signal
import time
from pathlib import Path

import pytest

from cloudexec.testing import PocketAWS
from tests.pocket.lambdas import Functions

CHILD = (
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
    "time.sleep(e.get('s', 0))\nreturn [os.getpid(), child.pid, os.environ['TMPDIR']]"
)


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@pytest.mark.parametrize("way", ["close", "kill"])
def test_nothing_outlives_the_server(way):
    with PocketAWS() as aws:
        functions = Functions(aws)
        functions.make(CHILD)
        runtime, child, directory = functions.invoke().payload
        functions.until(lambda: aws.environments()[0].state == "frozen")
        if way == "kill":
            os.kill(aws.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not (gone(runtime) and gone(child) and not os.path.exists(directory)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_reset_ends_what_runs_and_what_waits(functions):
    functions.make(CHILD, timeout=30)
    functions.event(s=20)
    functions.until(lambda: [env.state for env in functions.aws.environments()] == ["busy"])
    began = time.monotonic()
    functions.aws.reset()
    assert time.monotonic() - began < 3
    assert functions.aws.environments() == []
    assert set(functions.aws.invocations()) <= {"f"}  # the last word of what was killed may come late


def test_idle_environments_cost_no_processor_time_and_end_in_the_end():
    with PocketAWS(lambda_idle_s=1.5) as aws:
        functions = Functions(aws)
        functions.make("time.sleep(0.3); return os.getpid()")
        functions.at_once(*[{}] * 4)
        functions.until(lambda: {env.state for env in aws.environments()} == {"frozen"})
        before = _cpu_s(aws.pid)
        time.sleep(0.7)
        assert _cpu_s(aws.pid) - before < 0.1
        functions.until(lambda: not aws.environments())


def _cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_pocket_without_freezing_lets_background_threads_run(tmp_path):
    with PocketAWS(lambda_freeze=False, lambda_cold_s=0.3, lambda_init_s=0.5) as aws:
        functions = Functions(aws)
        functions.make(
            "def later(): time.sleep(0.1); open(e['path'], 'w').close()\n"
            "threading.Thread(target=later, daemon=True).start()\nreturn os.path.exists(e['path'])"
        )
        path = tmp_path / "ran"
        began = time.monotonic()
        assert functions.invoke(path=str(path)).payload is False
        assert time.monotonic() - began >= 0.3  # lambda_cold_s
        functions.until(path.exists)
        assert aws.environments()[0].state == "idle"

        # A module that takes longer than the init phase is loaded again within the function's own time.
        slow = "import os, time\ntime.sleep(0.7)\ndef handler(e, c): return 'loaded'"
        aws.make_function("slow", handler="main.handler", files={"main.py": slow})
        told = functions.invoke("slow")
        assert told.payload == "loaded"
        assert "Phase: init\tStatus: timeout" in told.log
        aws.make_function("slower", handler="main.handler", files={"main.py": "import time; time.sleep(9)"}, timeout=1)
        assert functions.invoke("slower").kind == "Sandbox.Timedout"


def test_environments_come_no_faster_than_the_ramp():
    with PocketAWS(lambda_ramp=2) as aws:
        functions = Functions(aws)
        functions.make("time.sleep(0.5)")
        results = functions.at_once({}, {}, {})
        (refused,) = [result for result in results if isinstance(result, Exception)]
        assert refused.response["Reason"] == "ConcurrentInvocationLimitExceeded"
        assert float(refused.response["retryAfterSeconds"]) == 5
        assert functions.counts().cold_starts == 2
        assert functions.invoke().error is None  # what is warm needs no new environment
