"""Archives in the format that the kernel unpacks as its first root file system.

The format is "newc" of cpio(5), described in the kernel's Documentation/driver-api/early-userspace/
buffer-format.rst: for each file a header of 110 ASCII bytes, its name with a NUL, and its content, both padded to
four bytes.  Archives may follow each other, each ended by an entry named ``TRAILER!!!``.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

TRAILER = "TRAILER!!!"
LONGEST_FILE = 0xFFFFFFFF
"""The header has 8 hexadecimal digits for a size."""


class Entry(Frozen):
    """A file of an archive: `path` is absolute, `mode` that of stat(2), `mtime` in seconds.

    The content is `data`, or that of the file `source` if that is not empty; for a symbolic link its target.
    """

    path: str
    mode: int
    mtime: int = 0
    data: bytes = b""
    source: str = ""
    size: int = 0


def header(number: int, entry: Entry, size: int) -> bytes:
    """The header and the name of an entry, padded.  Everything belongs to root."""
    name = os.fsencode(entry.path.lstrip("/")) + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (number, entry.mode, 0, 0, links, entry.mtime, size, 0, 0, 0, 0, len(name), 0)
    text = b"070701" + b"".join(b"%08X" % (field & 0xFFFFFFFF) for field in fields) + name
    return text + bytes(-len(text) % 4)


def write_archive(entries: Iterable[Entry], stream: BinaryIO) -> int:
    """Write an archive; the number of its bytes.  A file that cannot be read any more is left out.

    Raises OSError if the stream cannot be written.
    """
    written = 0
    number = 0
    for number, entry in enumerate(entries, 1):
        data = entry.data
        if entry.source:
            try:
                with open(entry.source, "rb") as file:
                    data = file.read(LONGEST_FILE)
            except OSError:
                continue
        head = header(number, entry, len(data))
        padding = bytes(-len(data) % 4)
        stream.write(head)
        stream.write(data)
        stream.write(padding)
        written += len(head) + len(data) + len(padding)
    end = header(number + 1, Entry(TRAILER, 0), 0)
    stream.write(end)
    return written + len(end)
