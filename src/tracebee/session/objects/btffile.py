"""Types in files: BTF and nothing else, or an ELF file with a section .BTF, such as vmlinux."""

from __future__ import annotations

import os

from tracebee.btf.reader import Btf
from tracebee.errors import FormatError, UsageError

LARGEST_FILE = 1 << 30
"""Bytes of a file that are read at all; debug information makes a kernel of half a gigabyte."""


def read_file(path: str) -> bytes:
    """The bytes of a file.  Raises UsageError."""
    try:
        with open(path, "rb") as file:
            return file.read(LARGEST_FILE)
    except OSError as error:
        raise UsageError(f"failed to open file '{path}': {error.strerror}") from None


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
