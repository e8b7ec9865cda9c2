"""Types in files: BTF and nothing else, or an ELF file with a section .BTF, such as vmlinux."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.btf.reader import Btf
from tracebee.errors import FormatError, UsageError

if TYPE_CHECKING:
    from typing import BinaryIO

LARGEST_FILE = 1 << 30
"""Bytes of a file that are read at all; debug information makes a kernel of half a gigabyte."""

PART = 1 << 22


def read_file(path: str) -> bytes:
    """The bytes of a file.  Raises UsageError."""
    try:
        with open(path, "rb") as file:
            return read_stream(file)
    except OSError as error:
        raise UsageError(f"failed to open file '{path}': {error.strerror}") from None


def read_stream(file: BinaryIO) -> bytes:
    """What is left of a stream, at most `LARGEST_FILE` bytes: asked for at once, these would be allocated first."""
    parts = []
    left = LARGEST_FILE
    while left > 0 and (part := file.read(min(left, PART))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def types_of(path: str | os.PathLike[str]) -> Btf:
    """The types in a file, for any machine.  Raises UsageError, FormatError."""
    name = os.fspath(path)
    data = read_file(name)
    try:
        return Btf.from_bytes(_section(data) if data[:4] == b"\x7fELF" else data)
    except FormatError as error:
        raise FormatError(f"{name}: {error.what}", error.offset) from None


def _section(data: bytes) -> bytes:
    """The section .BTF of an ELF file.  Raises FormatError."""
    from io import BytesIO

    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        section = ELFFile(BytesIO(data)).get_section_by_name(".BTF")
        found = section.data() if section is not None and section["sh_size"] <= len(data) else None
    except (ELFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise FormatError(f"ELF: the file makes no sense: {error}") from None
    if found is None:
        raise FormatError("ELF: there is no section .BTF")
    return bytes(found)
