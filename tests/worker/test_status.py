"""A few bytes that a slot and its supervisor share."""

import os
import struct
import warnings

from cloudexec.worker.status import NEVER, Status


def test_at_first_no_call_runs():
    status = Status()
    assert (status.number, status.deadline, status.armed) == (0, NEVER, NEVER)


def test_a_call_without_a_limit():
    status = Status()
    status.begin(17, NEVER)
    assert (status.number, status.deadline) == (17, NEVER)
    status.end(NEVER)
    assert (status.number, status.deadline) == (0, NEVER)


def test_a_call_with_a_limit_leaves_none_behind():
    status = Status()
    status.begin(2**63, 12.5)
    assert (status.number, status.deadline) == (2**63, 12.5)
    status.end(12.5)
    status.begin(18, NEVER)
    assert (status.number, status.deadline) == (18, NEVER)


def test_both_sides_of_a_fork_see_the_same():
    status = Status()
    read, write = os.pipe()
    pid = forked(status, write)
    assert struct.unpack("<d", os.read(read, 8)) == (7.5,)
    os.waitpid(pid, 0)
    assert status.number == 5
    os.close(read)
    os.close(write)


def forked(status, write):
    """A child that begins call 5 and reports when it is looked at next."""
    status.armed = 7.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pytest-xdist has threads; the child uses none of theirs
        pid = os.fork()
    if not pid:
        status.begin(5, NEVER)
        os.write(write, struct.pack("<d", status.armed))
        os._exit(0)
    return pid
