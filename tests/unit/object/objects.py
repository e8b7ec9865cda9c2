"""The test objects, and ways to spoil them."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import Any

from tracebee.object.elf import Elf, Section

FOLDER = Path(__file__).parents[2] / "data" / "objects"

CONFIG: dict[str, Any] = {"kconfig": {"CONFIG_HZ": "250"}, "version": 0x060100}
"""What pieces.bpf.o wants to know of the kernel."""


@cache
def read(name: str) -> bytes:
    """The bytes of tests/data/objects/<name>.bpf.o."""
    return (FOLDER / f"{name}.bpf.o").read_bytes()


def section(data: bytes, name: str) -> Section:
    return Elf(data).by_name[name]


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    """The same with the only place that has `old` changed."""
    assert data.count(old) == 1, data.count(old)
    return data.replace(old, new.ljust(len(old), b"\0"))


def with_bytes(data: bytes, offset: int, new: bytes) -> bytes:
    return data[:offset] + new + data[offset + len(new) :]


def with_header(data: bytes, number: int, /, **fields: int) -> bytes:
    """The same with fields of a section's header changed (Elf64_Shdr)."""
    names = ("name", "type", "flags", "addr", "offset", "size", "link", "info", "addralign", "entsize")
    shape = struct.Struct("<IIQQQQIIQQ")
    start = struct.unpack_from("<Q", data, 40)[0] + 64 * number
    values = dict(zip(names, shape.unpack_from(data, start), strict=True)) | fields
    return with_bytes(data, start, shape.pack(*values.values()))


def place_of_symbol(data: bytes, name: str) -> int:
    """Where in the file a symbol is described."""
    elf = Elf(data)
    table = next(one for one in elf.sections if one.type == 2)
    return table.offset + 24 * next(one.number for one in elf.symbols if one.name == name)


def with_symbol(data: bytes, name: str, /, **fields: int) -> bytes:
    """The same with fields of a symbol changed (Elf64_Sym)."""
    names = ("name", "info", "other", "shndx", "value", "size")
    shape = struct.Struct("<IBBHQQ")
    start = place_of_symbol(data, name)
    values = dict(zip(names, shape.unpack_from(data, start), strict=True)) | fields
    return with_bytes(data, start, shape.pack(*values.values()))
