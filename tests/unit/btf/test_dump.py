"""Types as they are stored: lines and JSON."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tracebee.btf import Btf, Member
from tracebee.btf.dump import own_ids, raw_lines, raw_values
from tracebee.btf.types import FUNC_EXTERN, INT_SIGNED, VAR_STATIC
from tracebee.btf.writer import BtfBuilder
from tracebee.host.elf import ElfFile

OBJECTS = Path(__file__).parents[2] / "data" / "objects"
BPFTOOL = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")


def of_each_kind() -> BtfBuilder:
    builder = BtfBuilder()
    number = builder.add_int("int", 4, INT_SIGNED)
    pointer = builder.add_ptr(number)
    builder.add_array(number, 3, number)
    builder.add_struct("s", 8, [Member("a", number, 0, 3), Member("", pointer, 32)])
    builder.add_union("u", 4)
    builder.add_enum("e", [("A", -1)])
    builder.add_fwd("f", is_union=True)
    builder.add_typedef("t", builder.add_const(number))
    proto = builder.add_func_proto(0, [("x", pointer), ("", 0)])
    builder.add_func("call", proto, FUNC_EXTERN)
    variable = builder.add_var("v", number, VAR_STATIC)
    builder.add_datasec(".bss", 4, [(variable, 0, 4)])
    builder.add_float("double", 8)
    builder.add_decl_tag("tag", variable)
    builder.add_type_tag("user", number)
    builder.add_enum64("big", [("B", 1 << 40)])
    return builder


LINES = """\
[1] INT 'int' size=4 bits_offset=0 nr_bits=32 encoding=SIGNED
[2] PTR '(anon)' type_id=1
[3] ARRAY '(anon)' type_id=1 index_type_id=1 nr_elems=3
[4] STRUCT 's' size=8 vlen=2
	'a' type_id=1 bits_offset=0 bitfield_size=3
	'(anon)' type_id=2 bits_offset=32
[5] UNION 'u' size=4 vlen=0
[6] ENUM 'e' encoding=SIGNED size=4 vlen=1
	'A' val=-1
[7] FWD 'f' fwd_kind=union
[8] CONST '(anon)' type_id=1
[9] TYPEDEF 't' type_id=8
[10] FUNC_PROTO '(anon)' ret_type_id=0 vlen=2
	'x' type_id=2
	'(anon)' type_id=0
[11] FUNC 'call' type_id=10 linkage=extern
[12] VAR 'v' type_id=1, linkage=static
[13] DATASEC '.bss' size=4 vlen=1
	type_id=12 offset=0 size=4 (VAR 'v')
[14] FLOAT 'double' size=8
[15] DECL_TAG 'tag' type_id=12 component_idx=-1
[16] TYPE_TAG 'user' type_id=1
[17] ENUM64 'big' encoding=UNSIGNED size=8 vlen=1
	'B' val=1099511627776ULL
""".splitlines()


def test_a_line_for_each_type_and_part() -> None:
    btf = Btf.from_bytes(of_each_kind().to_bytes())
    assert list(raw_lines(btf, own_ids(btf))) == LINES
    assert list(raw_lines(btf, [0, 2])) == ["[0] VOID '(anon)'", LINES[1]]


def test_values_have_the_parts_in_a_list() -> None:
    btf = Btf.from_bytes(of_each_kind().to_bytes())
    values = list(raw_values(btf, own_ids(btf)))
    assert [value["id"] for value in values] == list(range(1, 18))
    assert values[3] == {
        "id": 4,
        "kind": "STRUCT",
        "name": "s",
        "size": 8,
        "vlen": 2,
        "members": [
            {"name": "a", "type_id": 1, "bits_offset": 0, "bitfield_size": 3},
            {"name": "(anon)", "type_id": 2, "bits_offset": 32},
        ],
    }
    assert values[12]["vars"] == [{"type_id": 12, "offset": 0, "size": 4}]
    assert values[16]["values"] == [{"name": "B", "val": 1 << 40}]


def test_split_btf_has_its_own_types_alone() -> None:
    base = Btf.from_bytes(of_each_kind().to_bytes())
    builder = BtfBuilder(base)
    builder.add_typedef("mine", 1)
    btf = Btf.from_bytes(builder.to_bytes(), base)
    assert list(raw_lines(btf, own_ids(btf))) == ["[18] TYPEDEF 'mine' type_id=1"]


@pytest.mark.skipif(BPFTOOL is None, reason="bpftool is not installed")
@pytest.mark.parametrize("name", ["core", "kernel", "openers", "pieces", "pieces-eb"])
def test_objects_read_as_bpftool_reads_them(name: str) -> None:
    path = OBJECTS / f"{name}.bpf.o"
    command = [str(BPFTOOL), "btf", "dump", "file", str(path)]
    theirs = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    with ElfFile.open(str(path)) as elf:
        section = elf.find_section(".BTF")
        assert section is not None
        btf = Btf.from_bytes(elf.section_data(section))
    assert list(raw_lines(btf, own_ids(btf))) == theirs.splitlines()
