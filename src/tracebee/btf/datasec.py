"""Settling the BTF of an object file.

A compiler does not know yet how large the sections of variables are and where the variables lie in them, and
leaves zeros; the kernel takes only BTF where that is settled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.btf.types import Datasec, Var

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracebee.btf.reader import Btf


def settle_sections(
    data: bytes, btf: Btf, sizes: Mapping[str, int], offsets: Mapping[tuple[str, str], int]
) -> bytes:
    """The same BTF with the sizes of its sections, by name, and the places of variables, by section and name.

    `btf` is what has been read from `data`.  Sections and variables that are not given stay as they are.
    """
    settled = bytearray(data)
    for type_id in btf.ids_of_kind(Datasec):
        section = btf.type(type_id)
        assert isinstance(section, Datasec)
        start = btf.byte_of(type_id)
        if section.name in sizes:
            settled[start + 8 : start + 12] = _u32(sizes[section.name], btf)
        for index, variable in enumerate(section.variables):
            found = btf.type(variable.type_id)
            offset = offsets.get((section.name, found.name)) if isinstance(found, Var) else None
            if offset is not None:
                at = start + 12 + 12 * index + 4
                settled[at : at + 4] = _u32(offset, btf)
    return bytes(settled)


def _u32(value: int, btf: Btf) -> bytes:
    return (value & 0xFFFF_FFFF).to_bytes(4, btf.byteorder)
