"""Makes the ELF section .BTF.ext: what `tracebee.btf.ext` reads."""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

from tracebee.btf.ext import CORE_RELO_SIZE, FUNC_INFO_SIZE, LINE_INFO_SIZE, MAX_COLUMN, MAX_LINE
from tracebee.btf.reader import MAGIC, VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracebee.btf.ext import BtfExt
    from tracebee.btf.reader import ByteOrder
    from tracebee.btf.writer import BtfBuilder

HEADER_SIZE = 32


def encode_ext(ext: BtfExt, builder: BtfBuilder, byteorder: ByteOrder) -> bytes:
    """The bytes of a .BTF.ext whose strings go into `builder`, before that is written itself.

    The places of files and of source text in the line records are those of `builder` already.
    """
    functions = {
        name: [(8 * one.insn_offset, one.type_id) for one in records]
        for name, records in ext.func_info.items()
    }
    lines = {
        name: [
            (
                8 * one.insn_offset,
                one.file,
                one.text,
                min(one.line, MAX_LINE) << 10 | min(one.column, MAX_COLUMN),
            )
            for one in records
        ]
        for name, records in ext.line_info.items()
    }
    relocations = {
        name: [
            (8 * one.insn_offset, one.type_id, builder.add_string(one.access), one.kind) for one in records
        ]
        for name, records in ext.core_relos.items()
    }
    tables = [
        _table(builder, FUNC_INFO_SIZE, functions),
        _table(builder, LINE_INFO_SIZE, lines),
        _table(builder, CORE_RELO_SIZE, relocations),
    ]
    header = array("I", [HEADER_SIZE])
    start = 0
    for table in tables:
        header += array("I", [start, 4 * len(table)])
        start += 4 * len(table)
    body = array("I")
    for table in tables:
        body += table
    if byteorder != sys.byteorder:
        header.byteswap()
        body.byteswap()
    return MAGIC.to_bytes(2, byteorder) + bytes((VERSION, 0)) + header.tobytes() + body.tobytes()


def _table(builder: BtfBuilder, size: int, sections: Mapping[str, Sequence[tuple[int, ...]]]) -> array[int]:
    """The words of a table; one without records has none."""
    words = array("I")
    for name, rows in sections.items():
        if rows:
            words += array("I", [builder.add_string(name), len(rows)])
            for row in rows:
                words += array("I", row)
    return array("I", [size]) + words if words else words
