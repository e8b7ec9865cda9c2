"""The command that a session starts: held before its first instruction until everything is attached."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING, NoReturn

from tracebee.errors import TargetError
from tracebee.kernel.nofile import restore_nofile
from tracebee.syscalls.process import let_trace, no_new_privileges

if TYPE_CHECKING:
    from collections.abc import Sequence


def split_command(command: str | Sequence[str]) -> list[str]:
    """The argument list of a command: a list as it is, a string split as a shell would.

    Raises TargetError.
    """
    if not isinstance(command, str):
        words = list(command)
    else:
        import shlex

        try:
            words = shlex.split(command)
        except ValueError as error:
            raise TargetError(command, f"the command cannot be split into words: {error}") from None
    if not words:
        raise TargetError("", "the command is empty")
    return words


def find_executable(name: str) -> str:
    """The file that a command name means.  Raises TargetError with what is wrong with it."""
    from tracebee.host.libraries import find_program

    if "/" in name:
        path: str | None = name
    else:
        path = find_program(name)
        if path is None:
            raise TargetError(name, "there is no such command on PATH")
    assert path is not None
    if not os.path.exists(path):
        raise TargetError(name, "no such file")
    if os.path.isdir(path):
        raise TargetError(name, "is a directory")
    if not os.access(path, os.X_OK):
        import shlex

        raise TargetError(name, "is not executable", f"try chmod +x {shlex.quote(name)}")
    return path


class Child:
    """A forked process that waits for release() and then becomes the command."""

    def __init__(self, command: str | Sequence[str], tracer: int = 0) -> None:
        """Fork.  `tracer` is a process that may trace the command.  Raises TargetError if it cannot be found."""
        self.words = split_command(command)
        self.path = find_executable(self.words[0])
        self.status: int | None = None
        gate_read, self._gate = os.pipe()
        self._failure, failure_write = os.pipe()
        ready_read, ready_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            for fd in (self._gate, self._failure, ready_read):
                os.close(fd)
            if tracer:
                let_trace(tracer)
            os.close(ready_write)
            _become(self.path, self.words, gate_read, failure_write)
        for fd in (gate_read, failure_write, ready_write):
            os.close(fd)
        os.read(ready_read, 1)  # its end is what counts
        os.close(ready_read)
        self.pidfd = os.pidfd_open(self.pid)

    def release(self, call_filter: bytes = b"") -> None:
        """Let the command start, with a system call filter if one is given (an array of struct sock_filter).

        Raises TargetError if it cannot.
        """
        if self._gate < 0:
            return
        try:
            os.write(self._gate, b"g" + call_filter)
        except BrokenPipeError:
            raise TargetError(self.words[0], "was ended before it could start") from None
        os.close(self._gate)
        self._gate = -1
        reason = os.read(self._failure, 4)
        os.close(self._failure)
        self._failure = -1
        if reason:
            number = int.from_bytes(reason, "little")
            self.wait()
            raise TargetError(self.words[0], os.strerror(number), _start_hint(number))

    def poll(self) -> bool:
        """Whether the command has ended; then `status` has its wait status."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
        return self.status is not None

    def wait(self) -> None:
        if self.status is None:
            _, self.status = os.waitpid(self.pid, 0)

    def exit_status(self) -> int:
        """Wait for the command's end; its exit status, or as shells have it 128 and the signal that ended it."""
        self.wait()
        assert self.status is not None
        code = os.waitstatus_to_exitcode(self.status)
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        """End the command if it is still there, and let go of everything."""
        if self._gate >= 0:
            os.close(self._gate)  # a child that was never released ends by itself
            self._gate = -1
            self.wait()
        elif not self.poll():
            os.kill(self.pid, signal.SIGTERM)
            self._wait_a_while()
        if self._failure >= 0:
            os.close(self._failure)
            self._failure = -1
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def _wait_a_while(self) -> None:
        """Give the command a second to end, then kill it."""
        import select

        readable, _, _ = select.select([self.pidfd], [], [], 1.0)
        if not readable:
            os.kill(self.pid, signal.SIGKILL)
        self.wait()


def _become(path: str, words: list[str], gate: int, failure: int) -> NoReturn:
    """In the child: wait, then execute the command; a script without a ``#!`` line goes to the shell."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        with os.fdopen(gate, "rb") as messages:
            word = messages.read()
        if word[:1] != b"g":
            os._exit(0)
        restore_nofile()
        if len(word) > 1:
            from tracebee.syscalls.seccomp import install_filter

            no_new_privileges()
            install_filter(word[1:])
        try:
            os.execv(path, words)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            os.execv("/bin/sh", ["/bin/sh", path, *words[1:]])
    except OSError as error:
        os.write(failure, (error.errno or errno.EIO).to_bytes(4, "little"))
    finally:
        os._exit(127)


def _start_hint(number: int) -> str:
    if number == errno.ENOENT:
        return (
            "the interpreter that the script's first line names, or the loader of the program, does not exist"
        )
    return ""
