"""The code of a program out of what the kernel writes, and why it may not write it."""

from __future__ import annotations

import struct

import pytest

from tracebee.btf import Btf, Member
from tracebee.btf.ext import FuncInfo, LineInfo
from tracebee.btf.types import FUNC_GLOBAL
from tracebee.btf.writer import BtfBuilder
from tracebee.errors import FormatError
from tracebee.host import rights
from tracebee.host.kallsyms import KernelSymbols
from tracebee.insn.xlated import Source
from tracebee.kernel import xlated
from tracebee.kernel.info import MapInfo
from tracebee.kernel.xlated import CodeNames, ProgramCode, decode_code, why_withheld


def code(**fields: object) -> ProgramCode:
    values: dict[str, object] = {
        "xlated": b"",
        "jited": b"",
        "ksyms": (),
        "func_lens": (),
        "func_info": (),
        "line_info": (),
        "jited_lines": (),
        "tags": (),
        "map_ids": (),
        "btf_id": 0,
    }
    return ProgramCode(**{**values, **fields})


def test_records_of_any_size_are_read() -> None:
    # Records may be longer than those of today.
    found: dict[str, bytes | None] = {
        "xlated_prog_insns": b"x" * 16,
        "jited_prog_insns": None,
        "jited_ksyms": struct.pack("=2Q", 1 << 63, 5),
        "jited_func_lens": struct.pack("=2I", 40, 24),
        "func_info": struct.pack("=6I", 0, 7, 99, 12, 8, 99),
        "line_info": struct.pack("=4I", 3, 10, 20, 57 << 10 | 5),
        "jited_line_info": struct.pack("=Q", 1 << 63 | 4),
        "prog_tags": bytes(range(8)),
        "map_ids": struct.pack("=3I", 1, 2, 3),
    }
    sizes = {
        "jited_ksyms": 8,
        "jited_func_lens": 4,
        "func_info": 12,
        "line_info": 16,
        "jited_line_info": 8,
        "prog_tags": 8,
        "map_ids": 4,
    }
    assert decode_code(found, sizes, 9) == ProgramCode(
        xlated=b"x" * 16,
        jited=None,
        ksyms=(1 << 63, 5),
        func_lens=(40, 24),
        func_info=(FuncInfo(0, 7), FuncInfo(12, 8)),
        line_info=(LineInfo(3, 10, 20, 57, 5),),
        jited_lines=(1 << 63 | 4,),
        tags=("0001020304050607",),
        map_ids=(1, 2, 3),
        btf_id=9,
    )
    assert decode_code({}, {}, 0) == code(xlated=None, jited=None)


@pytest.mark.parametrize(
    ("field", "data", "size"), [("func_info", bytes(8), 4), ("line_info", bytes(20), 16)]
)
def test_records_that_make_no_sense(field: str, data: bytes, size: int) -> None:
    with pytest.raises(FormatError, match=field):
        decode_code({field: data}, {field: size}, 0)


SYMBOLS = b"""\
ffffffff81000000 T _stext
ffffffff81001000 T __bpf_call_base
ffffffff81002000 T bpf_map_lookup_elem
ffffffff81003000 T vfs_read
ffffffff81009000 T _end
ffffffffc0000100 t bpf_prog_0011223344556677_main\t[bpf]
"""


@pytest.fixture
def types() -> Btf:
    builder = BtfBuilder()
    number = builder.add_int("int", 4)
    pair = builder.add_struct("pair", 8, [Member("a", number, 0), Member("b", number, 32)])
    seen = builder.add_var("seen", pair)
    builder.add_datasec(".bss", 8, [(seen, 0, 8)])
    builder.add_func("main", builder.add_func_proto(number, [("x", number)]), FUNC_GLOBAL)
    builder.add_string("\treturn 0;")
    builder.add_string("/src/a.c")
    return Btf.from_bytes(builder.to_bytes())


def named(monkeypatch: pytest.MonkeyPatch, types: Btf | None, symbols: bytes, **fields: object) -> CodeNames:
    maps = {
        5: MapInfo(5, "ARRAY", "a.bss", "a.bss", 4, 8, 1, 0, btf_id=9, btf_value_type_id=4),
        6: MapInfo(6, "HASH", "opens", "opens", 4, 8, 1, 0),
    }
    monkeypatch.setattr(xlated, "_types", lambda btf_id: types if btf_id else None)
    monkeypatch.setattr(xlated, "_map_info", maps.get)
    monkeypatch.setattr(KernelSymbols, "read", classmethod(lambda cls: cls(symbols)))
    return CodeNames(code(map_ids=(5, 6, 7), **fields))


def test_what_numbers_are_called(monkeypatch: pytest.MonkeyPatch, types: Btf) -> None:
    names = named(
        monkeypatch,
        types,
        SYMBOLS,
        btf_id=9,
        ksyms=(0xFFFFFFFFC0000100, 0xFFFFFFFFC0000999),
        func_info=(FuncInfo(0, 6), FuncInfo(8, 77)),
    )
    assert names.function(0x1000) == "bpf_map_lookup_elem"
    assert names.function(0x1001) == "0xffffffff81002001"
    assert names.function(-0x1000) == "_stext"
    assert names.symbol(0xFFFFFFFF81003000) == "vfs_read"
    assert names.symbol(0xFFFFFFFF81003001) == ""
    assert names.subprograms() == ("bpf_prog_0011223344556677_main", "0xffffffffc0000999")
    assert [names.variable(5, offset) for offset in (0, 4, 8)] == ["seen", "seen.b", ""]
    assert [names.variable(map_id, 0) for map_id in (6, 7)] == ["", ""]
    # The second function's type is none.
    assert names.functions() == {0: "main"}
    assert names.prototypes() == {0: "int main(int x)"}
    assert names.names().maps == {5: "a.bss", 6: "opens"}


def test_lines_of_source(monkeypatch: pytest.MonkeyPatch, types: Btf) -> None:
    strings = {types.string(offset): offset for offset in range(types.strings_end)}
    record = LineInfo(3, strings["/src/a.c"], strings["\treturn 0;"], 7, 2)
    names = named(monkeypatch, types, SYMBOLS, btf_id=9, line_info=(record, LineInfo(4, 1 << 30, 0, 8, 1)))
    assert names.sources() == {3: Source("return 0;", "/src/a.c", 7, 2), 4: Source("", "", 8, 1)}
    assert named(monkeypatch, None, SYMBOLS, line_info=(record,)).sources() == {}


def test_nothing_has_a_name_where_addresses_are_hidden(monkeypatch: pytest.MonkeyPatch, types: Btf) -> None:
    import re

    names = named(monkeypatch, types, re.sub(rb"(?m)^[0-9a-f]{16}", b"0" * 16, SYMBOLS), btf_id=9)
    assert names.function(0x1000) == ""
    assert names.symbol(0) == ""


def test_why_code_is_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = (1 << 41) - 1
    sysctls = {"net.core.bpf_jit_enable": 1, "net.core.bpf_jit_harden": 2, "kernel.kptr_restrict": 2}

    def allow(effective: int, is_namespaced: bool = False) -> None:
        made = rights.Rights(effective, effective, 40, "none", (), is_namespaced)
        monkeypatch.setattr(rights, "read_rights", lambda: made)

    monkeypatch.setattr(rights, "read_sysctl", sysctls.get)
    allow(everything & ~(1 << 21))
    assert "CAP_SYS_ADMIN" in why_withheld("xlated", True)
    allow(everything, is_namespaced=True)
    assert "CAP_SYS_ADMIN" in why_withheld("jited", False)
    allow(everything)
    assert "bpf_jit_harden is 2" in why_withheld("xlated", True)
    assert why_withheld("jited", True) == "kernel.kptr_restrict is 2, so the kernel hides addresses"
    assert "did not compile" in why_withheld("jited", False)
    sysctls["net.core.bpf_jit_enable"] = 0
    assert "bpf_jit_enable is 0" in why_withheld("jited", False)
    sysctls["kernel.kptr_restrict"] = 0
    assert "CAP_SYSLOG" in why_withheld("jited", True)
