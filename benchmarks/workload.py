"""The process that the scripts of suite/ watch: a fixed loop of system calls, on request.

It reads lines ``pread N`` or ``open N`` from standard input, makes N such calls and answers ``done``.  Both
calls exist under one name on every architecture, and few other processes make them often.
"""

from __future__ import annotations

import os
import sys
from itertools import cycle, islice

SIZES = (1, 16, 100, 512, 4096)
PATHS = ("/dev/null", "/dev/zero", "/proc/self/status", os.__file__)


def pread(count: int) -> None:
    """`count` calls of pread64, with a few different lengths."""
    call = os.pread
    fd = os.open("/dev/null", os.O_RDONLY)
    for size in islice(cycle(SIZES), count):
        call(fd, size, 0)
    os.close(fd)


def open_(count: int) -> None:
    """`count` calls of openat, with a few different names."""
    call, close, flags = os.open, os.close, os.O_RDONLY | os.O_CLOEXEC
    for path in islice(cycle(PATHS), count):
        close(call(path, flags))


def main() -> None:
    """Serve requests until standard input ends."""
    for line in iter(sys.stdin.readline, ""):
        kind, count = line.split()
        (pread if kind == "pread" else open_)(int(count))
        print("done", flush=True)


if __name__ == "__main__":
    main()
