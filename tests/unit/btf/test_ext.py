"""The tables of .BTF.ext, and the arrays for BPF_PROG_LOAD."""

from __future__ import annotations

import struct

import pytest

from tracebee.btf import Btf
from tracebee.btf.ext import (
    BtfExt,
    CoreRelo,
    FuncInfo,
    LineInfo,
    encode_func_info,
    encode_line_info,
    parse_ext,
)
from tracebee.btf.writer import BtfBuilder
from tracebee.errors import FormatError, UsageError


def btf_with(*texts: str) -> tuple[Btf, list[int]]:
    builder = BtfBuilder()
    offsets = [builder.add_string(text) for text in texts]
    return Btf.from_bytes(builder.to_bytes()), offsets


def ext(functions: bytes, lines: bytes, relocations: bytes | None = b"", order: str = "<") -> bytes:
    tables = [functions, lines] + ([] if relocations is None else [relocations])
    places, at = [], 0
    for table in tables:
        places += [at, len(table)]
        at += len(table)
    head = struct.pack(f"{order}HBBI{len(places)}I", 0xEB9F, 1, 0, 8 + 4 * len(places), *places)
    return head + b"".join(tables)


BTF, (KPROBE, TP, FILE, LINE, PATH) = btf_with("kprobe/vfs_read", "tp/x", "a.c", "int x;", "0:1")


@pytest.mark.parametrize("order", "<>")
def test_all_three_tables(order: str) -> None:
    def pack(*words: int) -> bytes:
        return struct.pack(f"{order}{len(words)}I", *words)

    functions = pack(8, KPROBE, 2, 0, 5, 16, 6, TP, 1, 8, 7)
    lines = pack(16, KPROBE, 1, 8, FILE, LINE, 3 << 10 | 9)
    relocations = pack(16, TP, 1, 24, 11, PATH, 2)
    assert parse_ext(ext(functions, lines, relocations, order), BTF) == BtfExt(
        {"kprobe/vfs_read": [FuncInfo(0, 5), FuncInfo(2, 6)], "tp/x": [FuncInfo(1, 7)]},
        {"kprobe/vfs_read": [LineInfo(1, FILE, LINE, 3, 9)]},
        {"tp/x": [CoreRelo(3, 11, "0:1", 2)]},
    )


def test_headers_without_relocations_and_records_of_the_future() -> None:
    functions = struct.pack("<10I", 16, KPROBE, 2, 0, 5, 99, 98, 8, 6, 97) + struct.pack("<I", 96)
    assert parse_ext(ext(functions, b"", None), BTF) == BtfExt(
        {"kprobe/vfs_read": [FuncInfo(0, 5), FuncInfo(1, 6)]}, {}, {}
    )


def test_a_section_may_come_twice_or_be_empty() -> None:
    functions = struct.pack("<11I", 8, KPROBE, 1, 0, 5, TP, 0, KPROBE, 1, 8, 6)
    found = parse_ext(ext(functions, b""), BTF).func_info
    assert found == {"kprobe/vfs_read": [FuncInfo(0, 5), FuncInfo(1, 6)], "tp/x": []}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "too few"),
        (bytes(32), "magic"),
        (ext(b"", b"")[:2] + b"\7" + ext(b"", b"")[3:], "version"),
        (ext(b"", b"")[:4] + b"\1\0\0\0" + ext(b"", b"")[8:], "header size"),
        (ext(b"", b"")[:4] + b"\xff\xff\0\0" + ext(b"", b"")[8:], "header size"),
        (ext(struct.pack("<I", 4), b""), "size 4 of a function record"),
        (ext(struct.pack("<I", 10), b""), "size 10 of a function record"),
        (ext(b"", struct.pack("<I", 8)), "size 8 of a line record"),
        (ext(struct.pack("<I", 8) + b"xx", b""), "impossible size"),
        (ext(struct.pack("<4I", 8, KPROBE, 1, 0), b""), "cut short"),
        (ext(struct.pack("<2I", 8, KPROBE), b""), "cut short"),
        (ext(struct.pack("<3I", 8, KPROBE, 0xFFFFFFFF), b""), "cut short"),
        (ext(struct.pack("<3I", 0xFFFFFFFC, KPROBE, 1), b""), "cut short"),
        (ext(struct.pack("<5I", 8, KPROBE, 1, 4, 5), b""), "into an instruction"),
        (ext(struct.pack("<5I", 8, 9999, 1, 0, 5), b""), "bad string offset"),
        (ext(b"", b"", struct.pack("<7I", 16, TP, 1, 0, 1, 9999, 0)), "bad string offset"),
    ],
)
def test_bad_bytes(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse_ext(data, BTF)


def test_a_huge_record_size_without_records_costs_nothing() -> None:
    assert parse_ext(ext(struct.pack("<3I", 0xFFFFFFFC, KPROBE, 0), b""), BTF).func_info == {
        "kprobe/vfs_read": []
    }


def test_overlong_strings() -> None:
    btf, (name,) = btf_with("x" * 5000)
    with pytest.raises(FormatError, match="overlong"):
        parse_ext(ext(struct.pack("<5I", 8, name, 1, 0, 5), b""), btf)


def test_arrays_for_prog_load() -> None:
    assert encode_func_info([FuncInfo(0, 3), FuncInfo(7, 4)]) == struct.pack("=4I", 0, 3, 7, 4)
    assert encode_line_info([LineInfo(2, 10, 20, 3, 9)]) == struct.pack("=4I", 2, 10, 20, 3 << 10 | 9)
    assert encode_func_info([]) == b""


def test_lines_and_columns_that_do_not_fit_are_cut() -> None:
    encoded = encode_line_info([LineInfo(0, 0, 0, 1 << 30, 5000)])
    assert struct.unpack("=4I", encoded)[3] == 0xFFFFFFFF
    with pytest.raises(UsageError):
        encode_func_info([FuncInfo(-1, 0)])
    with pytest.raises(UsageError):
        encode_line_info([LineInfo(0, 1 << 32, 0, 1, 1)])
