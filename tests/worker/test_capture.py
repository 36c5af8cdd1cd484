"""Everything that a call prints, however it prints it, and nothing that another one printed."""

import pytest

from tests.worker.in_child import said_by

HEAD = """
import ctypes, subprocess, threading
from cloudexec.worker.capture import Capture
capture = Capture()
def taken():
    out, err = capture.take()
    return [out.decode(), err.decode()]
"""


@pytest.mark.parametrize(
    ("call", "out", "err"),
    [
        pytest.param("pass", "", "", id="nothing"),
        pytest.param("print('text')", "text\n", "", id="print"),
        pytest.param("print('text', file=sys.stderr)", "", "text\n", id="print to stderr"),
        pytest.param("print('a'); print('b', file=sys.stderr); print('c')", "a\nc\n", "b\n", id="both"),
        pytest.param("print('no newline', end='')", "no newline", "", id="without a newline"),
        pytest.param("print('ü€', end='')", "ü€", "", id="beyond ASCII"),
        pytest.param("print('\\ud800', end='')", "\\ud800", "", id="what UTF-8 cannot say"),
        pytest.param("os.write(1, b'raw'); os.write(2, b'error')", "raw", "error", id="os.write"),
        pytest.param("sys.stdout.buffer.write(b'bytes')", "bytes", "", id="the binary stream"),
        pytest.param("sys.__stdout__.write('text')", "text", "", id="sys.__stdout__"),
        pytest.param("ctypes.CDLL(None).puts(b'C code')", "C code\n", "", id="C code that buffers"),
        pytest.param("subprocess.run(['echo', 'child'])", "child\n", "", id="a child process"),
        pytest.param("subprocess.run('echo child >&2', shell=True)", "", "child\n", id="a child's stderr"),
        pytest.param("os.system('echo a; echo b')", "a\nb\n", "", id="os.system"),
        pytest.param(
            "print('a', flush=True); os.system('echo b'); print('c')", "a\nb\nc\n", "", id="in the order of writing"
        ),
        pytest.param(
            "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()", "thread\n", "", id="a thread"
        ),
        pytest.param("print('x' * 10_000_000, end='')", "x" * 10_000_000, "", id="10 MB without a newline"),
        pytest.param("open('/dev/fd/1', 'a').write('path')", None, None, id="by a path: whatever comes, no harm"),
    ],
)
def test_what_a_call_prints_is_taken(call, out, err):
    found, after = said_by(f"{HEAD}\n{call}\nsay(taken())\nprint('next')\nsay(taken())")
    if out is not None:
        assert found == [out, err]
        assert after == ["next\n", ""]
    assert after[0].endswith("next\n")


@pytest.mark.parametrize(
    "call",
    [
        pytest.param("os.close(1)", id="closes 1"),
        pytest.param("os.close(1); os.close(2)", id="closes 1 and 2"),
        pytest.param("os.close(0)", id="closes 0"),
        pytest.param("os.closerange(0, 10)", id="closes 0 to 9"),
        pytest.param("sys.stdout.close()", id="closes sys.stdout"),
        pytest.param("sys.stdout.close(); sys.stderr.close()", id="closes both streams"),
        pytest.param("import io; sys.stdout = io.StringIO()", id="replaces sys.stdout"),
        pytest.param("sys.stdout = None", id="sets sys.stdout to None"),
        pytest.param("sys.stdout = sys.stderr = 17", id="sets streams to a number"),
        pytest.param("del sys.stdout", id="deletes sys.stdout"),
        pytest.param("os.dup2(os.open(os.devnull, os.O_WRONLY), 1)", id="silences 1"),
        pytest.param("os.dup2(os.open(os.devnull, os.O_WRONLY), 2)", id="silences 2"),
        pytest.param("os.dup2(2, 1)", id="joins 1 with 2"),
        pytest.param("os.close(1); os.open('/tmp', os.O_RDONLY)", id="another file takes the place of 1"),
        pytest.param("os.close(1); os.pipe()", id="a pipe takes the place of 1"),
        pytest.param("os.lseek(1, 0, os.SEEK_SET)", id="moves the position back"),
        pytest.param("print('x'); sys.stdout.flush(); os.ftruncate(1, 0)", id="cuts the file"),
        pytest.param("sys.stdout.reconfigure(encoding='ascii', errors='ignore')", id="changes the encoding"),
        pytest.param("sys.stdout.detach()", id="detaches the stream"),
    ],
)
def test_after_a_call_that_spoils_its_descriptors_the_next_ones_output_is_taken(call):
    script = f"{HEAD}\n{call}\ntaken()\nprint('out'); print('err', file=sys.stderr)\nsay(taken())"
    assert said_by(script) == [["out\n", "err\n"]]


def test_after_os_write_to_a_silenced_descriptor_nothing_of_it_is_taken():
    script = f"{HEAD}\nos.dup2(os.open(os.devnull, os.O_WRONLY), 1)\nprint('unheard')\nsay(taken())"
    assert said_by(script) == [["", ""]]


def test_standard_input_is_empty():
    assert said_by(f"{HEAD}\nsay([sys.stdin.read(), os.read(0, 10).decode()])") == [["", ""]]


def test_standard_input_is_there_again_after_a_call_that_closed_it():
    assert said_by(f"{HEAD}\nos.close(0)\ncapture.repair_input()\nsay([sys.stdin.read(), os.read(0, 9).decode()])") == [
        ["", ""]
    ]


def test_of_output_beyond_all_measure_the_middle_is_left_out():
    script = (
        f"{HEAD}\nfor _ in range(80): os.write(1, b'x' * 1_000_000)\nos.write(1, b'end')\n"
        "out, _ = capture.take()\nsay([len(out) < 68_000_000, out[-3:].decode(), b'left out' in out])"
    )
    assert said_by(script) == [[True, "end", True]]


def test_what_a_child_process_prints_after_its_call_is_not_taken_for_the_next_calls():
    script = f"""{HEAD}
gate_in, gate_out = os.pipe()
done_in, done_out = os.pipe()
child = subprocess.Popen(['sh', '-c', f'read x <&{{gate_in}}; echo late; echo >&{{done_out}}'],
                         pass_fds=[gate_in, done_out])
taken()
capture.renew()
os.write(gate_out, b'go\\n')
os.read(done_in, 1)
print('mine')
say(taken())
child.wait()
"""
    assert said_by(script) == [["mine\n", ""]]
