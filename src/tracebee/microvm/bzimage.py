"""What the header of a kernel image tells."""

from __future__ import annotations

import re

HEADER_BYTES = 1 << 16
"""How much of a file `parse_release` wants: the version string's place has 16 bits."""


def parse_release(data: bytes) -> str | None:
    """The release that the first 64 KiB of a bzImage tell; None if it is none.

    The boot protocol (Documentation/arch/x86/boot.rst) puts "HdrS" at 0x202, and at 0x20e where the version
    string is, counted from 0x200.
    """
    if data[0x202:0x206] != b"HdrS":
        return None
    start = int.from_bytes(data[0x20E:0x210], "little") + 0x200
    words = data[start : start + 256].partition(b"\0")[0].split()
    # No kernel is named with a slash, and the release becomes part of paths.
    if not words or not re.fullmatch(rb"[\w.+~-]+", words[0]) or words[0].startswith(b"."):
        return None
    return words[0].decode()
