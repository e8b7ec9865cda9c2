"""Settling the BTF of an object file, so that the kernel takes it.

A compiler does not know yet how large the sections of variables are and where the variables lie in them, and
leaves zeros.  And it describes what the object takes from the kernel, in sections that are none of the object;
no program has use for that, and the kernel refuses it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tracebee.btf.types import (
    FUNC_EXTERN,
    FUNC_GLOBAL,
    FUNC_STATIC,
    VAR_GLOBAL_ALLOCATED,
    VAR_GLOBAL_EXTERN,
    Datasec,
    Func,
    Int,
    Struct,
    Typedef,
    Var,
)

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from tracebee.btf.reader import Btf


def settle_sections(
    data: bytes,
    btf: Btf,
    sizes: Mapping[str, int],
    offsets: Mapping[tuple[str, str], int],
    hidden: Container[str] = (),
) -> bytes:
    """The same BTF, which is `btf` when read, with its sections settled.

    `sizes` are those of the object's sections, and `offsets` the places of variables by section and name.
    What other sections have is taken from the kernel: the sections become structures, declared functions
    become types, and all these variables plain numbers.  Functions that are `hidden` become static: the verifier
    looks at them with what their callers give, and not at each alone.
    """
    settled = bytearray(data)
    pack = struct.Struct(("<" if btf.byteorder == "little" else ">") + "3I").pack_into
    number = next(btf.ids_of_kind(Int), 0)
    for type_id in btf.ids_of_kind(Datasec):
        section = btf.type(type_id)
        assert isinstance(section, Datasec)
        start = btf.byte_of(type_id)
        name = int.from_bytes(data[start : start + 4], btf.byteorder)
        count = len(section.variables)
        if section.name in sizes:
            rows = []
            for variable in section.variables:
                place = offsets.get((section.name, btf.name_of(variable.type_id)), variable.offset)
                rows.append((place, variable.type_id, variable.size))
            pack(settled, start, name, Datasec.KIND << 24 | count, sizes[section.name] & 0xFFFF_FFFF)
            for index, (place, variable_id, size) in enumerate(sorted(rows)):
                pack(settled, start + 12 + 12 * index, variable_id, place & 0xFFFF_FFFF, size)
        else:
            pack(settled, start, 0, Struct.KIND << 24 | count, 4 * count)
            for index in range(count):
                pack(settled, start + 12 + 12 * index, 0, number, 32 * index)
    for type_id in btf.ids_of_kind((Func, Var)):
        found = btf.type(type_id)
        start = btf.byte_of(type_id)
        name = int.from_bytes(data[start : start + 4], btf.byteorder)
        if isinstance(found, Func) and found.linkage == FUNC_EXTERN:
            pack(settled, start, name, Typedef.KIND << 24, found.type_id)
        elif isinstance(found, Func) and found.linkage == FUNC_GLOBAL and found.name in hidden:
            pack(settled, start, name, Func.KIND << 24 | FUNC_STATIC, found.type_id)
        elif isinstance(found, Var) and found.linkage == VAR_GLOBAL_EXTERN:
            pack(settled, start, name, Var.KIND << 24, number)
            settled[start + 12 : start + 16] = VAR_GLOBAL_ALLOCATED.to_bytes(4, btf.byteorder)
    return bytes(settled)
