#!/usr/bin/env python3
"""Tell a probe what to look at, and get an answer back that was computed beside the data.

This program opens a file, and sets three maps before anything is attached: its process id, the descriptor of
the file, and the address of a buffer.  Then it reads the file into that buffer.  At the end of each such read
the kernel side copies what was put into the buffer to a map, and adds up the integers in it.

    sudo python3 examples/read_filter.py [FILE]
    python3 examples/read_filter.py --backend user [FILE]       # no privilege: ptrace instead of the kernel
"""

from __future__ import annotations

import argparse
import array
import ctypes
import os
import sys
import tempfile

import tracebee

COUNT = 16  # integers of eight bytes in the buffer

SCRIPT = """
let @target_pid: uint32;
let @target_fd: int32;
let @target_buf: uint64;

// The arguments of a system call are gone when it returns: remember that this read is the one.
tracepoint:syscalls:sys_enter_read
/pid == @target_pid && args.fd == @target_fd && (uint64)args.buf == @target_buf/
{
  @reading[tid] = true;
}

tracepoint:syscalls:sys_exit_read
/@reading[tid]/
{
  delete(@reading, tid);
  if (args.ret > 0) {
    @calls = count();
    @bytes = buf(@target_buf, args.ret);
    $numbers = uptr((int64 *)@target_buf);
    // A constant end: before Linux 5.17 the verifier has to see that a loop is short.
    for ($i : 0..128) {
      if ($i == args.ret / 8) { break; }
      @sum = sum($numbers[$i]);
    }
  }
}
"""


def make_file() -> str:
    """A file of COUNT integers."""
    with tempfile.NamedTemporaryFile(delete=False, suffix=".ints") as file:
        file.write(array.array("q", range(1, COUNT + 1)).tobytes())
    return file.name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", nargs="?", metavar="FILE")
    parser.add_argument("--backend", default="auto", choices=("auto", "kernel", "user"))
    options = parser.parse_args()
    path = options.file or make_file()
    buffer = (ctypes.c_char * (COUNT * 8))()
    try:
        with open(path, "rb", buffering=0) as file, tracebee.load(SCRIPT, backend=options.backend) as tracer:
            tracer.maps["@target_pid"] = os.getpid()
            tracer.maps["@target_fd"] = file.fileno()
            tracer.maps["@target_buf"] = ctypes.addressof(buffer)
            tracer.attach()
            length = file.readinto(buffer) or 0
            tracer.detach()
            seen: bytes = tracer.maps["@bytes"]
            print(f"read() gave      {length} bytes")
            print(f"the kernel put   {seen.hex(' ', 8)}")
            print(f"and their sum is {tracer.maps['@sum']}")
            return 0 if seen == buffer.raw[:length] else 1
    finally:
        if not options.file:
            os.unlink(path)


if __name__ == "__main__":
    sys.exit(main())
