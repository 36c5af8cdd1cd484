"""What a call left changed in its process is put back."""

import pytest

from tests.worker.in_child import said_by

HEAD = """
import signal, tempfile, warnings
from cloudexec.worker.hygiene import Hygiene
here = os.getcwd()
os.environ["BEFORE"] = "1"
hygiene = Hygiene()
"""


@pytest.mark.parametrize(
    ("call", "check"),
    [
        pytest.param("pass", "True", id="nothing"),
        pytest.param("os.chdir('/')", "os.getcwd() == here", id="the working directory"),
        pytest.param(
            "d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)", "os.getcwd() == here", id="one that was removed"
        ),
        pytest.param("os.environ['NEW'] = '1'", "'NEW' not in os.environ", id="a new variable"),
        pytest.param("os.environ['NEW'] = '1'", "os.system('exit ${NEW:-0}') == 0", id="as child processes see it"),
        pytest.param("os.environ['BEFORE'] = '2'", "os.environ['BEFORE'] == '1'", id="a changed variable"),
        pytest.param("del os.environ['BEFORE']", "os.environ['BEFORE'] == '1'", id="a deleted variable"),
        pytest.param("os.environ.clear()", "os.environ['BEFORE'] == '1' and 'PATH' in os.environ", id="all variables"),
        pytest.param("sys.path.insert(0, '/new')", "'/new' not in sys.path", id="sys.path"),
        pytest.param("sys.path.clear()", "len(sys.path) > 1", id="an empty sys.path"),
        pytest.param("sys.path = ['/new']", "'/new' not in sys.path", id="another list as sys.path"),
        pytest.param(
            "signal.signal(signal.SIGTERM, lambda *a: None)",
            "signal.getsignal(signal.SIGTERM) == signal.SIG_DFL",
            id="a signal handler",
        ),
        pytest.param(
            "signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
            "signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL",
            id="an ignored signal",
        ),
        pytest.param("signal.alarm(1000)", "signal.alarm(0) == 0", id="an alarm"),
        pytest.param(
            "signal.setitimer(signal.ITIMER_REAL, 1000)",
            "signal.getitimer(signal.ITIMER_REAL)[0] == 0",
            id="an interval timer",
        ),
        pytest.param("sys.setrecursionlimit(5000)", "sys.getrecursionlimit() == 1000", id="the recursion limit"),
    ],
)
def test_is_put_back(call, check):
    assert said_by(f"{HEAD}\n{call}\nhygiene.restore()\nsay({check})") == [True]


def test_putting_back_twice_is_as_good_as_once():
    script = (
        f"{HEAD}\nos.chdir('/'); os.environ.clear()\nhygiene.restore()\nhygiene.restore()\nsay(os.getcwd() == here)"
    )
    assert said_by(script) == [True]


def test_a_started_alarm_does_not_go_off_in_the_next_call():
    script = f"""{HEAD}
signal.signal(signal.SIGALRM, lambda *a: say("went off"))
signal.setitimer(signal.ITIMER_REAL, 0.3)
hygiene.restore()
import time
time.sleep(0.4)
say("quiet")
"""
    assert said_by(script) == ["quiet"]
