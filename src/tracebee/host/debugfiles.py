"""The separate debug file of a stripped ELF file, found as debuggers find it.

GDB's manual, "Debugging Information in Separate Files": by build id under ``/usr/lib/debug/.build-id``, or by
the name in .gnu_debuglink beside the file, in ``.debug`` there, or under ``/usr/lib/debug``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.errors import FormatError
from tracebee.host.elf import DebugLink, ElfFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DEBUG_DIRECTORIES = ("/usr/lib/debug",)


def debug_file_candidates(
    path: str, build_id: str, link: DebugLink | None, directories: Sequence[str] = DEBUG_DIRECTORIES
) -> Iterator[str]:
    """Where the debug file of the ELF file at `path` may be, best first.  Looks at nothing."""
    if len(build_id) > 2:
        for directory in directories:
            yield f"{directory}/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
    if link is not None and link.name not in ("", ".", "..") and "/" not in link.name:
        parent = os.path.dirname(path)
        yield os.path.join(parent, link.name)
        yield os.path.join(parent, ".debug", link.name)
        for directory in directories:
            yield os.path.join(directory + parent, link.name)


def find_debug_file(
    elf: ElfFile, path: str, directories: Sequence[str] = DEBUG_DIRECTORIES, root: str = ""
) -> ElfFile | None:
    """The debug file of `elf`, opened, or None.  The caller closes it.

    `path` is where `elf` was found, without symbolic links, and `root` what the directories and `path` lie
    below ("/proc/PID/root" for another mount namespace).  A file counts if it has the same build id or, where
    either has none, the CRC that the link asks for.
    """
    try:
        build_id, link = elf.build_id, elf.debug_link
    except FormatError:
        return None
    for candidate in debug_file_candidates(path, build_id, link, directories):
        if candidate == path:
            continue
        try:
            found = ElfFile.open(root + candidate)
        except (OSError, FormatError):
            continue
        try:
            if _belongs(found, build_id, link):
                return found
        except (OSError, FormatError):
            pass
        found.close()
    return None


def _belongs(found: ElfFile, build_id: str, link: DebugLink | None) -> bool:
    found_id = found.build_id
    if build_id and found_id:
        return build_id == found_id
    return link is not None and _crc(found) == link.crc


def _crc(elf: ElfFile) -> int:
    from zlib import crc32

    crc = 0
    step = 1 << 20
    for offset in range(0, elf.size, step):
        crc = crc32(elf.read_at(offset, min(step, elf.size - offset)), crc)
    return crc
