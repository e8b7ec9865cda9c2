"""Standard output and error as a session wants them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from tracebee.errors import UsageError
from tracebee.render import renderer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.spec.events import Event

BUFFERED = 1 << 16


class StreamOutput:
    """Text to a descriptor, collected and written batch by batch.

    `mode` is that of -B: "none" and "line" write after each batch of events, "full" when there is much to
    write.
    """

    collect: Callable[[Event, tuple[Any, ...]], None] | None = None
    prints_maps = True

    def __init__(self, fd: int, kind: str, mode: str = "line", quiet: bool = False) -> None:
        self.fd = fd
        self.mode = mode
        self.renderer = renderer(kind, self.write, self.write_error)
        if quiet:
            self.renderer.attached = lambda count: None  # type: ignore[method-assign]
        self._parts: list[str] = []
        self._size = 0

    def write(self, text: str) -> None:
        self._parts.append(text)
        self._size += len(text)
        if self._size > BUFFERED:
            self._write_out()

    def write_error(self, text: str) -> None:
        self._write_out()
        _write_all(2, text.encode("utf-8", "surrogateescape"))

    def warn(self, text: str) -> None:
        self.write_error(text + "\n")

    def flush(self) -> None:
        if self.mode != "full":
            self._write_out()

    def close(self) -> None:
        """Write what is left."""
        self._write_out()

    def _write_out(self) -> None:
        if self._parts:
            data = "".join(self._parts).encode("utf-8", "surrogateescape")
            self._parts.clear()
            self._size = 0
            _write_all(self.fd, data)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.write(fd, view)
        view = view[written:]


def open_output(path: str, kind: str, mode: str, quiet: bool) -> StreamOutput:
    """The output that the command line asks for.  Raises UsageError."""
    if kind not in ("text", "json"):
        raise UsageError(f'Invalid output format "{kind}"', "Valid formats: 'text', 'json'")
    if mode not in ("none", "line", "full"):
        raise UsageError(f'Invalid buffering mode "{mode}"', "Valid modes: 'line', 'full', 'none'")
    fd = sys.stdout.fileno()
    if path:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise UsageError(f"Failed to open output file: '{path}': {error.strerror}") from None
    return StreamOutput(fd, kind, mode, quiet)
