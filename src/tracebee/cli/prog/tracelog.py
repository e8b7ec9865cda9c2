"""``tracebee prog tracelog``: what programs print with bpf_trace_printk(), as it comes.

It is one pipe for the whole machine, and what one reader takes, another does not get.
"""

from __future__ import annotations

import os
import select
import sys
from typing import TYPE_CHECKING

from tracebee.cli.selection import no_more, split_options
from tracebee.errors import TargetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PIPE = "trace_pipe"

_CHUNK = 1 << 16


def run_tracelog(words: Sequence[str]) -> int:
    """Print the lines until Ctrl-C, or while a command runs; then its exit status.  Raises TracebeeError."""
    words, command = split_command_option(words)
    options = split_options(words)
    no_more(options.words)

    from tracebee.session.machine import LiveMachine

    machine = LiveMachine()
    try:
        try:
            pipe = os.open(PIPE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=machine.tracefs_fd())
        except OSError as error:
            hint = "another reader has it: it is one for all" if error.errno == 16 else "it is root's"
            raise TargetError(PIPE, error.strerror or "cannot be opened", hint) from None
    finally:
        machine.close()
    show = _as_json if options.wants_json else _as_it_is
    try:
        return follow(pipe, show, command)
    except KeyboardInterrupt:
        return 0
    finally:
        os.close(pipe)


def split_command_option(words: Sequence[str]) -> tuple[list[str], str]:
    """The words without ``-c CMD``, and CMD.  Raises UsageError."""
    rest = list(words)
    if "-c" not in rest:
        return rest, ""
    at = rest.index("-c")
    if at + 1 == len(rest):
        raise UsageError("-c wants a command behind it")
    command = rest[at + 1]
    del rest[at : at + 2]
    return rest, command


def follow(pipe: int, show: Callable[[bytes], None], command: str = "") -> int:
    """Pass on whole lines from a pipe for ever, or while a command runs; the command's exit status."""
    from tracebee.session.child import Child

    child = Child(command) if command else None
    lines = _Lines(show)
    try:
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        if child is not None:
            poll.register(child.pidfd, select.POLLIN)
            child.release()
        while True:
            ready = {fd for fd, _ in poll.poll()}
            ended = child is not None and child.pidfd in ready
            lines.take(_drain(pipe))
            if ended:
                assert child is not None
                return child.exit_status()
    finally:
        lines.end()
        if child is not None:
            child.close()


def _drain(pipe: int) -> bytes:
    """What the pipe has now."""
    parts = []
    while True:
        try:
            data = os.read(pipe, _CHUNK)
        except BlockingIOError:
            break
        if not data:
            break
        parts.append(data)
    return b"".join(parts)


class _Lines:
    """Bytes put together to lines."""

    def __init__(self, show: Callable[[bytes], None]) -> None:
        self.show = show
        self.rest = b""

    def take(self, data: bytes) -> None:
        whole, newline, rest = (self.rest + data).rpartition(b"\n")
        self.rest = rest
        if newline:
            self.show(whole + newline)

    def end(self) -> None:
        if self.rest:
            self.show(self.rest + b"\n")
            self.rest = b""


def _as_it_is(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _as_json(data: bytes) -> None:
    """A string for each line, one behind the other: there is no end at which a list could be closed."""
    import json

    for line in data.decode("utf-8", "replace").splitlines():
        print(json.dumps(line))
    sys.stdout.flush()
