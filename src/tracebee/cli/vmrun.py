"""``tracebee vm run``, and what else runs a command in a guest."""

from __future__ import annotations

import os
import sys
from getopt import GetoptError, getopt
from typing import TYPE_CHECKING

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.microvm.image import Job
    from tracebee.microvm.machine import Limits

USAGE = """\
  tracebee vm run --kernel 6.1 -- uname -r
  tracebee vm run --kernel 6.12 -- tracebee -e 'kprobe:vfs_read { @[comm] = count(); }' -c 'cat /etc/passwd'

tracebee vm run: run a command on another kernel, in a small machine that is gone afterwards.

USAGE:
    tracebee vm run --kernel KERNEL [options] -- COMMAND [arguments]

The command finds this Python, this tracebee, common tools, and the current directory as it is now; what it writes
there stays in the guest.

OPTIONS:
    --kernel KERNEL  a version, such as 6.1 (tracebee vm list shows them), or the path of a vmlinuz
    --share PATH     a file, program or folder that the guest is to have as well; may be repeated
    --no-folder      do not show the current directory
    --timeout S      end the command after S seconds, with status 124
    --memory MIB     memory of the guest
    --cpus N         processors of the guest, which take turns on one of this machine
    -h, --help       print this help

EXIT STATUS:
    that of the command; 124 if its time was up, 125 if the guest failed, 128 + N if signal N ended it
"""


def run(words: list[str]) -> int:
    """Run ``tracebee vm run``; the exit status."""
    from tracebee.microvm.image import Job
    from tracebee.microvm.machine import Limits

    try:
        options, command = getopt(
            words, "h", ["kernel=", "share=", "no-folder", "timeout=", "memory=", "cpus=", "help"]
        )
    except GetoptError as error:
        raise UsageError(f"vm run: {error.msg}", "tracebee vm run --help lists the options") from None
    kernel = ""
    limits = Limits()
    paths: list[str] = []
    show = True
    for name, value in options:
        match name:
            case "--kernel":
                kernel = value
            case "--share":
                if not os.path.exists(value):
                    raise UsageError(f"--share {value}: there is no such file")
                paths.append(os.path.abspath(value))
            case "--no-folder":
                show = False
            case "--timeout":
                limits.seconds = positive(name, value)
            case "--memory":
                limits.memory = int(positive(name, value))
            case "--cpus":
                limits.cpus = int(positive(name, value))
            case _:
                print(USAGE, end="")
                return 0
    if not kernel:
        raise UsageError("vm run: which kernel?", "say --kernel 6.1; tracebee vm list shows what there is")
    if not command:
        raise UsageError(
            "vm run: no command given", "put it behind the options: tracebee vm run --kernel 6.1 -- uname -r"
        )
    job = Job(command, current_folder(), guest_environment(), paths, show)
    return run_in_guest(kernel, job, limits, write_through)


def positive(name: str, value: str) -> float:
    """An option's number.  Raises UsageError."""
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise UsageError(f"{name} {value}: a positive number is expected")
    return number


def current_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise UsageError("the current directory has been removed") from None


def guest_environment() -> dict[str, str]:
    """This process's environment, as far as it means something in a guest."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("LD_")}
    found["PATH"] = "/usr/local/bin:" + found.get("PATH", "/usr/bin:/bin") + ":/usr/bin:/bin:/usr/sbin:/sbin"
    found["TMPDIR"] = "/tmp"
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parts = [os.path.dirname(package)]
    parts += [part for part in found.get("PYTHONPATH", "").split(os.pathsep) if part]
    found["PYTHONPATH"] = os.pathsep.join(parts)
    return found


def write_through(stream: int, data: bytes) -> None:
    """Write what the guest's command wrote to the same stream here.  Raises BrokenPipeError."""
    sys.stdout.flush()
    while data:
        data = data[os.write(stream, data) :]


def run_in_guest(kernel_name: str, job: Job, limits: Limits, write: Callable[[int, bytes], None]) -> int:
    """Run a command on a kernel, fetched if need be; its exit status, or FAILED after a message."""
    from tracebee.cli.messages import report
    from tracebee.cli.progress import Progress
    from tracebee.errors import GuestError
    from tracebee.microvm.kernels import find_kernel
    from tracebee.microvm.machine import FAILED, TIMED_OUT, run_job
    from tracebee.microvm.qemu import find_qemu

    find_qemu()
    with Progress() as progress:
        kernel = find_kernel(kernel_name, progress)
    try:
        status = run_job(kernel, job, limits, write, lambda text: report(f"WARNING: {text}", ""))
    except GuestError as error:
        report(f"ERROR: {error}", error.hint)
        return FAILED
    if status == TIMED_OUT:
        report(f"ERROR: the command was ended: it ran longer than {limits.seconds:g} seconds", "")
    return status
