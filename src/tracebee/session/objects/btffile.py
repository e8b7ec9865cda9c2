"""Types in files: BTF and nothing else, or an ELF file with a section .BTF, such as vmlinux."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tracebee.btf.reader import Btf
from tracebee.errors import FormatError, UsageError

if TYPE_CHECKING:
    from typing import BinaryIO

LARGEST_FILE = 1 << 30
"""Bytes of a file that are read at all; debug information makes a kernel of half a gigabyte."""

PART = 1 << 22


LARGEST_SECTION = 1 << 28

KERNEL_BTF = "/sys/kernel/btf"


def read_file(path: str) -> bytes:
    """The bytes of a file, or of standard input as ``-``.  Raises UsageError."""
    try:
        if path == "-":
            return read_stream(sys.stdin.buffer)
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


def types_of(path: str | os.PathLike[str], base: Btf | None = None) -> Btf:
    """The types in a file, for any machine; those of `base` come before them.

    Without a base, the types of a module of the running kernel continue those of that kernel.
    Raises UsageError, FormatError.
    """
    name = os.fspath(path)
    data = read_file(name)
    try:
        if data[:4] == b"\x7fELF":
            data = _section(data)
        elif base is None and _is_module(name):
            base = Btf.from_file(f"{KERNEL_BTF}/vmlinux")
        return Btf.from_bytes(data, base)
    except FormatError as error:
        told = FormatError(f"{name}: {error.what}", error.offset)
        told.hint = error.hint
        if base is None and not told.hint:
            told.hint = f"the types of a module go on where its kernel's end: `base {KERNEL_BTF}/vmlinux`"
        raise told from None


def _is_module(path: str) -> bool:
    """Whether this is the BTF of a module of the running kernel."""
    folder, name = os.path.split(os.path.realpath(path))
    return folder == KERNEL_BTF and name != "vmlinux"


def _section(data: bytes) -> bytes:
    """The section .BTF of an ELF file.  Raises FormatError."""
    from tracebee.host.elf import ElfFile

    with ElfFile.parse(data) as elf:
        section = elf.find_section(".BTF")
        if section is None:
            missing = FormatError("ELF: there is no section .BTF")
            missing.hint = (
                "`clang -g -target bpf` writes it, and pahole -J adds it to what has debug information"
            )
            raise missing
        return elf.section_data(section, LARGEST_SECTION)
