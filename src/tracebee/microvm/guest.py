"""The first process of a guest: it mounts what a system has, runs one command, and tells how that went.

This file is copied into the guest as /init and runs there by itself, so it imports nothing of the package; and
of the library only what is in C, as every module in Python adds to the time of the boot (json alone a third of
a second).  It speaks over three serial ports: the command's output, its error output, and a control port with a
line a message:

    guest to host   ready                the command is about to start
                    beat                 every few seconds: the guest is alive
                    exit N               the command has ended, and everything it wrote has been sent
                    failed TEXT          the command could not be started
    host to guest   signal N             send this signal to the command
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import marshal
import os
import select
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# type, where, options
MOUNTS = (
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", ""),
    ("devpts", "/dev/pts", ""),
    ("tmpfs", "/dev/shm", ""),
    ("tracefs", "/sys/kernel/tracing", ""),
    ("debugfs", "/sys/kernel/debug", ""),
    ("bpf", "/sys/fs/bpf", ""),
    ("cgroup2", "/sys/fs/cgroup", ""),
)
LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
)
OUTPUT, ERRORS, CONTROL = "/dev/ttyS1", "/dev/ttyS2", "/dev/ttyS3"
SPEC = "/run.spec"
"""A dictionary in the form of marshal: the same Python wrote it."""
BEAT = 2.0
CHUNK = 16384


def mount_all() -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    for kind, place, options in MOUNTS:
        os.makedirs(place, exist_ok=True)
        libc.mount(kind.encode(), place.encode(), kind.encode(), 0, options.encode())
    for target, place in LINKS:
        os.symlink(target, place)


def open_port(path: str, flags: int) -> int:
    fd = os.open(path, flags | os.O_NOCTTY | os.O_CLOEXEC)
    # Raw: no flag of input, output or line discipline, eight bits.
    settings = termios.tcgetattr(fd)
    settings[:4] = [0, 0, termios.CS8 | termios.CREAD | termios.CLOCAL, 0]
    termios.tcsetattr(fd, termios.TCSANOW, settings)
    return fd


def loopback_up() -> None:
    """Processes expect 127.0.0.1 to answer."""
    import _socket
    import fcntl

    one = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    # SIOCSIFFLAGS with IFF_UP | IFF_RUNNING in a struct ifreq (include/uapi/linux/sockios.h, if.h)
    fcntl.ioctl(one.fileno(), 0x8914, b"lo".ljust(16, b"\0") + b"\x41".ljust(24, b"\0"))
    one.close()


def start(spec: dict[str, Any]) -> tuple[int, int, int]:
    """Start the command: its process id, and the ends of its output and error output."""
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(out_write)
        os.close(err_write)
        return pid, out_read, err_read
    try:
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDWR), 0)
        os.dup2(out_write, 1)
        os.dup2(err_write, 2)
        for number in (signal.SIGPIPE, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.makedirs(spec["folder"], exist_ok=True)
        os.chdir(spec["folder"])
        os.umask(spec["umask"])
        os.execve(spec["program"], spec["words"], spec["environment"])
    except OSError as error:
        os.write(2, f"{spec['words'][0]}: {error.strerror}\n".encode())
        os._exit(126 if error.errno == 13 else 127)
    os._exit(127)


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def serve(pid: int, streams: dict[int, int], control: int) -> int:
    """Pass on what the command writes until it has ended; its status as a shell would give it.

    `streams` are the command's pipes, each with the port that it goes to.  Output that others still hold open
    after the command has ended is not waited for.
    """
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    poll = select.poll()
    for fd in (*streams, control, wake_read):
        poll.register(fd, select.POLLIN)
    status = None
    commands = b""
    while True:
        ready = poll.poll(0 if status is not None else BEAT * 1000)
        if not ready:
            if status is not None:
                return status
            write_all(control, b"beat\n")
        for fd, _ in ready:
            if fd in streams:
                data = os.read(fd, CHUNK)
                if data:
                    write_all(streams[fd], data)
                else:
                    poll.unregister(fd)
            elif fd == control:
                commands += os.read(control, CHUNK)
                *lines, commands = commands.split(b"\n")
                for line in lines:
                    word, _, number = line.partition(b" ")
                    if word == b"signal" and status is None:
                        os.killpg(pid, int(number))
            else:
                os.read(wake_read, CHUNK)
        while status is None or ready:
            try:
                ended, how = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if ended == 0:
                break
            if ended == pid:
                code = os.waitstatus_to_exitcode(how)
                status = code if code >= 0 else 128 - code


def main() -> None:
    mount_all()
    control = open_port(CONTROL, os.O_RDWR)
    output = open_port(OUTPUT, os.O_WRONLY)
    errors = open_port(ERRORS, os.O_WRONLY)
    with open(SPEC, "rb") as file:
        spec = marshal.load(file)
    loopback_up()
    write_all(control, b"ready\n")
    pid, out_read, err_read = start(spec)
    status = serve(pid, {out_read: output, err_read: errors}, control)
    for port in (output, errors):
        termios.tcdrain(port)
    write_all(control, b"exit %d\n" % status)
    termios.tcdrain(control)
    while True:
        signal.pause()  # the host ends the machine


if __name__ == "__main__":
    try:
        main()
    except BaseException as error:
        # The host shows the console's last lines; an init that ends makes the kernel panic, which ends the machine.
        os.write(2, f"init: {type(error).__name__}: {error}\n".encode())
        raise
