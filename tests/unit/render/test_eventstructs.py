"""Records as structures: what each form lays out is compared with the offsets of the format."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tracebee.host.tracefs import parse_format
from tracebee.render.eventstructs import WRITERS, Layout, lay_out

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """name: {name}
ID: 7
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

"""

EVENTS = {
    "a:call": """	field:int __syscall_nr;	offset:8;	size:4;	signed:1;
	field:int dfd;	offset:16;	size:8;	signed:0;
	field:const char * filename;	offset:24;	size:8;	signed:0;
""",
    "a:mixed": """	field:char comm[16];	offset:8;	size:16;	signed:0;
	field:pid_t pid;	offset:24;	size:4;	signed:1;
	field:bool dead;	offset:28;	size:1;	signed:0;
	field:s16 delta;	offset:30;	size:2;	signed:1;
	field:u32 numbers[3];	offset:32;	size:12;	signed:0;
	field:struct in6_addr where;	offset:44;	size:28;	signed:0;
	field:u8 last;	offset:72;	size:1;	signed:0;
""",
    "a:dynamic": """	field:__data_loc char[] class;	offset:8;	size:4;	signed:0;
	field:__rel_loc u8[] blob;	offset:12;	size:4;	signed:0;
	field:unsigned long from;	offset:16;	size:8;	signed:0;
""",
    "a:crooked": """	field:u64 askew;	offset:12;	size:8;	signed:0;
	field:u32 after;	offset:20;	size:4;	signed:0;
""",
    "ftrace:print": """	field:unsigned long ip;	offset:8;	size:8;	signed:0;
	field:char buf[];	offset:16;	size:0;	signed:0;
""",
}


def layout(event: str) -> Layout:
    name = event.partition(":")[2]
    return lay_out(event, parse_format(HEAD.format(name=name) + EVENTS[event] + '\nprint fmt: ""\n').fields)


def expected(event: str) -> dict[int, tuple[int, bool]]:
    """Offset → size and whether it counts as signed, of each field that has bytes."""
    fields = parse_format(HEAD.format(name="x") + EVENTS[event] + '\nprint fmt: ""\n').fields
    return {field.offset: (field.size, field.signed) for field in fields if field.size}


@pytest.mark.parametrize("event", list(EVENTS))
def test_ctypes_has_the_kernels_offsets(event: str) -> None:
    space: dict[str, Any] = {}
    exec(WRITERS["ctypes"](layout(event)), space)
    found = space[event.partition(":")[2]]
    members = {
        getattr(found, name).offset: ctypes.sizeof(kind)
        for name, kind, *_ in found._fields_
        if not name.startswith("__pad") and ctypes.sizeof(kind)
    }
    assert members == {offset: size for offset, (size, _) in expected(event).items()}


@pytest.mark.parametrize("event", list(EVENTS))
def test_python_reads_a_record(event: str) -> None:
    space: dict[str, Any] = {}
    exec(WRITERS["python"](layout(event)), space)
    record = bytearray(96)
    for offset, (size, signed) in expected(event).items():
        if size in (1, 2, 4, 8):
            record[offset : offset + size] = (offset + 1).to_bytes(size, "little", signed=signed)
    found = space[event.partition(":")[2]](bytes(record))
    assert found.common_pid == 5
    names = {
        "a:call": ("dfd", 17),
        "a:mixed": ("delta", 31),
        "a:dynamic": ("from_", 17),
        "a:crooked": ("askew", 13),
    }
    if event in names:
        name, value = names[event]
        assert getattr(found, name) == value


def test_numpy_has_the_kernels_offsets() -> None:
    numpy = pytest.importorskip("numpy")
    space: dict[str, Any] = {"np": numpy}
    for event in EVENTS:
        exec(WRITERS["numpy"](layout(event)), space)
        found = space[event.partition(":")[2]]
        assert {offset for _, offset in found.fields.values()} == set(expected(event))


PROGRAM = """
#include <stddef.h>
#include <stdio.h>
typedef unsigned char __u8; typedef signed char __s8; typedef unsigned short __u16; typedef short __s16;
typedef unsigned int __u32; typedef int __s32; typedef unsigned long long __u64; typedef long long __s64;
{struct}
int main(void) {{ {prints} return 0; }}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("event", list(EVENTS))
def test_a_compiler_lays_it_out_the_same(tmp_path: Path, event: str) -> None:
    found = layout(event)
    fields = [slot for slot in found.slots if slot.field is not None and slot.size]
    prints = "".join(f'printf("%zu ", offsetof(struct {found.struct_name}, {slot.name}));' for slot in fields)
    source = tmp_path / "a.c"
    source.write_text(PROGRAM.format(struct=WRITERS["c"](found), prints=prints))
    subprocess.run(["gcc", "-o", str(tmp_path / "a"), str(source)], check=True, capture_output=True)
    said = subprocess.run([str(tmp_path / "a")], check=True, capture_output=True, text=True).stdout
    assert [int(word) for word in said.split()] == sorted(expected(event))


def test_widths_come_from_sizes_not_from_names() -> None:
    text = WRITERS["c"](layout("a:call"))
    assert "__u64 dfd;" in text
    assert "__u8 __pad_12[4];" in text
    assert "the header of every record" in text
    assert "/*   24: const char * */" in text


def test_shared_bytes_are_told_and_not_laid_out() -> None:
    fields = parse_format(
        HEAD.format(name="u")
        + "\tfield:u64 whole;\toffset:8;\tsize:8;\tsigned:0;\n\tfield:u32 half;\toffset:12;\tsize:4;\tsigned:0;\n"
    ).fields
    found = lay_out("x:u", fields)
    assert [field.name for field in found.overlapping] == ["half"]
    assert "over what is above: u32 half" in WRITERS["c"](found)
