"""What the end-to-end tests run in containers. It travels there by itself; the image knows nothing of it."""

import os
import platform
import time


def square_and_look_around(number):
    """The square, and where it was computed: Python, user, the container's first process."""
    with open("/proc/1/cmdline") as file:
        first = file.read().rstrip("\0").split("\0")
    return number * number, platform.python_version(), os.getuid(), first


def say_when_begun(seconds):
    """Says so in the container's log, past the capture of the call's own output, and takes its time."""
    with open("/proc/1/fd/2", "w") as log:
        print("begun", file=log)
    time.sleep(seconds)
    return "done"
