"""BTF for kernels that are older than the compiler: kinds that they do not know, made into kinds that they do.

Sizes and ids stay, and the places of all types but what is added at the end, so that everything that refers to
them is still right.  What is lost are names and meanings that such a kernel has no use for.  The replacements are
those of libbpf's bpf_object__sanitize_btf().
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tracebee.btf.reader import MAGIC, Btf
from tracebee.btf.types import (
    FUNC_GLOBAL,
    FUNC_STATIC,
    Const,
    Datasec,
    DeclTag,
    Enum,
    Enum64,
    Float,
    Func,
    FuncProto,
    Int,
    Struct,
    Typedef,
    TypeTag,
    Union,
    Var,
)

if TYPE_CHECKING:
    from collections.abc import Collection

MISSING = ("func", "global_func", "datasec", "datasec_names", "float", "decl_tag", "type_tag", "enum64")
"""What a kernel may lack, from old to new: Linux 5.0, 5.6, 5.2, 6.9 (names such as "?struct_ops"), 5.13, 5.16, 5.17,
6.0."""

_BITS = 8
"""Of the number that stands for something else."""


def sanitize(data: bytes, missing: Collection[str]) -> bytes:
    """The same BTF without what is in `missing`, words of MISSING.  Raises FormatError if it is no BTF."""
    if not missing:
        return data
    btf = Btf.from_bytes(data)
    changed = bytearray(data)
    rewriter = _Rewriter(btf, changed, frozenset(missing))
    for type_id in range(1, len(btf)):
        rewriter.rewrite(type_id)
    return rewriter.finish()


class _Rewriter:
    def __init__(self, btf: Btf, data: bytearray, missing: frozenset[str]) -> None:
        self.btf = btf
        self.data = data
        self.missing = missing
        self.mark = "<" if data[0] == MAGIC & 0xFF else ">"
        self.placeholder = 0
        """The id of the number that stands for the values of 64-bit enumerations, once it is needed."""

    def words(self, start: int, *values: int) -> None:
        struct.pack_into(f"{self.mark}{len(values)}I", self.data, start, *values)

    def word(self, start: int) -> int:
        value: int = struct.unpack_from(f"{self.mark}I", self.data, start)[0]
        return value

    def rewrite(self, type_id: int) -> None:
        """Change a type if the kernel does not know its kind."""
        start = self.btf.byte_of(type_id)
        name, info, last = (self.word(start + 4 * index) for index in range(3))
        count = info & 0xFFFF
        missing = self.missing
        match self.btf.kind_of(type_id):
            case Var.KIND if "datasec" in missing:
                self.words(start, name, Int.KIND << 24, 1, _BITS)
            case Datasec.KIND if "datasec" in missing:
                self._plain_name(name)
                self.words(start, name, Struct.KIND << 24 | count, last)
                for row in range(start + 12, start + 12 + 12 * count, 12):
                    variable, offset = self.word(row), self.word(row + 4)
                    self.words(row, self.word(self.btf.byte_of(variable)), variable, 8 * offset & 0xFFFFFFFF)
            case Datasec.KIND if "datasec_names" in missing:
                self._plain_name(name, b"?")
            case FuncProto.KIND if "func" in missing:
                self.words(start, name, Enum.KIND << 24 | count, 4)
            case Func.KIND if "func" in missing:
                self.words(start, name, Typedef.KIND << 24, last)
            case Func.KIND if "global_func" in missing and count == FUNC_GLOBAL:
                self.words(start, name, Func.KIND << 24 | FUNC_STATIC, last)
            case Float.KIND if "float" in missing:
                self.words(start, 0, Struct.KIND << 24, last)
            case DeclTag.KIND if "decl_tag" in missing:
                self.words(start, 0, Int.KIND << 24, 1, _BITS)
            case TypeTag.KIND if "type_tag" in missing:
                self.words(start, 0, Const.KIND << 24, last)
            case Enum.KIND if "enum64" in missing:
                self.words(start, name, Enum.KIND << 24 | count, last)
            case Enum64.KIND if "enum64" in missing:
                self.placeholder = self.placeholder or len(self.btf)
                self.words(start, name, Union.KIND << 24 | count, last)
                for row in range(start + 12, start + 12 + 12 * count, 12):
                    self.words(row, self.word(row), self.placeholder, 0)
            case _:
                pass

    def _plain_name(self, name: int, signs: bytes = b".?") -> None:
        """Make a name one of C, where it stands among the strings."""
        header = self.word(4)
        start = header + self.word(16) + name
        while self.data[start]:
            if self.data[start] in signs:
                self.data[start] = ord("_")
            start += 1

    def finish(self) -> bytes:
        """The bytes, with what was added."""
        if not self.placeholder:
            return bytes(self.data)
        header, offset, size, string_offset = self.word(4), self.word(8), self.word(12), self.word(16)
        end = header + offset + size
        added = struct.pack(f"{self.mark}4I", 0, Int.KIND << 24, 1, _BITS)
        self.words(12, size + len(added))
        if string_offset >= offset + size:
            self.words(16, string_offset + len(added))
        return bytes(self.data[:end] + added + self.data[end:])
