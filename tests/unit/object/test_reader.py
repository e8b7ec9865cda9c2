"""Objects as specs: maps, programs, what they refer to, and what runs."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import pytest

from tracebee.btf import Btf, Datasec, Member, Var
from tracebee.btf.core import POISON
from tracebee.btf.writer import BtfBuilder
from tracebee.engine.machine import Machine
from tracebee.errors import EngineFault, FormatError, NotSupportedError
from tracebee.insn import Insn, Kfunc, MapFd, MapValue, encode
from tracebee.insn import opcodes as op
from tracebee.insn.codec import CALL, LDDW, KernelSymbol
from tracebee.object import ObjectFile, read_object
from tracebee.spec.objects import (
    FunctionUprobe,
    Kprobe,
    MapSpec,
    ObjectSpec,
    ProbeSpec,
    ProgramSpec,
    RawTracepoint,
    Tracepoint,
)

from ..engine.calls.fakes import MadeUpWorld
from .objects import CONFIG, place_of_symbol, read, replaced, section, with_bytes, with_header, with_symbol


def programs(spec: ObjectSpec) -> dict[str, ProgramSpec]:
    return {program.name: program for program in spec.programs}


def maps(spec: ObjectSpec) -> dict[str, MapSpec]:
    return {one.name: one for one in spec.maps}


def types_of(spec: MapSpec, btf: Btf) -> tuple[str, str]:
    return btf.name_of(spec.key_type), btf.name_of(spec.value_type)


OPENERS = read_object(read("openers"), "openers")
PIECES = read_object(read("pieces"), "pieces", **CONFIG)


# ---------------------------------------------------------------------- what is in an object


def test_maps_by_types() -> None:
    btf = Btf.from_bytes(OPENERS.btf)
    found = maps(OPENERS)
    opens = found["opens"]
    assert (opens.type, opens.key_size, opens.value_size, opens.max_entries) == ("HASH", 4, 8, 128)
    assert types_of(opens, btf) == ("u32", "u64")
    assert found["events"] == MapSpec("events", "RINGBUF", 0, 0, 65536)
    assert found["results"] == MapSpec("results", "PERCPU_ARRAY", 4, 8, 2)


def test_variables_are_maps() -> None:
    found = maps(OPENERS)
    rodata, data, bss = found[".rodata"], found[".data"], found[".bss"]
    assert (rodata.contents, rodata.frozen, rodata.flags) == (b"\0\0\0\0hello\0\0\0", True, 1 << 7)
    assert (data.contents, data.frozen, data.flags) == (struct.pack("<QQ", 5, 7), False, 0)
    assert (bss.contents, bss.value_size) == (b"", 8)
    assert all((one.type, one.key_size, one.max_entries) == ("ARRAY", 4, 1) for one in (rodata, data, bss))
    assert maps(PIECES)[".rodata.custom"].contents == b"custom\0"
    assert maps(PIECES)[".data.more"].contents == struct.pack("<I", 9)


def test_the_types_of_sections_are_settled() -> None:
    btf = Btf.from_bytes(OPENERS.btf)
    section = btf.type(maps(OPENERS)[".data"].value_type)
    assert isinstance(section, Datasec)
    assert (section.name, section.size) == (".data", 16)
    variables = [(btf.name_of(one.type_id), one.offset, one.size) for one in section.variables]
    assert variables == [("largest", 0, 8), ("hidden", 8, 8)]
    before = Btf.from_bytes(bytes(ObjectFile(read("openers")).elf.by_name[".BTF"].data))
    assert len(before) == len(btf)
    assert [before.name_of(number) for number in range(len(btf))] == [btf.name_of(n) for n in range(len(btf))]


def test_what_the_kernel_has_is_no_section_of_the_object() -> None:
    """The kernel refuses sections without variables of their own, and functions that are only declared."""
    btf = Btf.from_bytes(PIECES.btf)
    sections = {btf.name_of(number) for number in btf.ids_of_kind(Datasec)}
    assert {".ksyms", ".kconfig"}.isdisjoint(sections)
    assert {".maps", ".bss", "license"} <= sections
    linkages = {btf.type(number).linkage for number in btf.ids_of_kind(Var)}  # type: ignore[attr-defined]
    assert linkages <= {0, 1}
    assert btf.find("kernel_function") is not None


def test_programs_and_where_they_go() -> None:
    found = programs(OPENERS)
    enter = found["enter_openat"]
    assert (enter.type, enter.license, enter.section) == (
        "TRACEPOINT",
        "GPL",
        "tracepoint/syscalls/sys_enter_openat",
    )
    assert OPENERS.probes == (
        ProbeSpec(
            "tracepoint/syscalls/sys_enter_openat", "enter_openat", Tracepoint("syscalls", "sys_enter_openat")
        ),
        ProbeSpec("tp/syscalls/sys_exit_openat", "exit_openat", Tracepoint("syscalls", "sys_exit_openat")),
    )
    assert {probe.program: probe.attach for probe in PIECES.probes} == {
        "configured": Kprobe("do_something", returns=True),
        "from_the_kernel": FunctionUprobe("/usr/bin/bash", "readline", 4),
    }


def test_a_section_can_have_many_programs_and_some_are_not_loaded() -> None:
    assert list(programs(PIECES)) == [
        *("jumped", "sums", "looks_inside", "jumps_away"),
        *("configured", "from_the_kernel"),
    ]
    entries = {entry.function.name: entry for entry in ObjectFile(read("pieces")).entries}
    assert entries["not_loaded"].hook.attach == Kprobe("do_nothing", 4)
    assert not entries["not_loaded"].hook.loads


def test_references() -> None:
    refs = [insn.ref for insn in programs(OPENERS)["enter_openat"].insns if insn.ref is not None]
    assert refs[0] == MapValue(".bss", 0)
    assert {ref.name for ref in refs if isinstance(ref, MapFd)} == {"opens", "events"}
    assert {ref for ref in refs if isinstance(ref, MapValue)} == {
        *(MapValue(".bss", 0), MapValue(".rodata", 0), MapValue(".data", 0))
    }
    leave = [insn.ref for insn in programs(OPENERS)["exit_openat"].insns if isinstance(insn.ref, MapValue)]
    assert MapValue(".data", 8) in leave
    assert MapValue(".rodata", 4) in leave


def test_references_to_the_kernel() -> None:
    insns = programs(PIECES)["from_the_kernel"].insns
    found = {insn.ref: insn for insn in insns if insn.ref is not None}
    assert set(found) == {
        KernelSymbol("untyped_symbol"),
        KernelSymbol("typed_symbol"),
        Kfunc("kernel_function"),
    }
    assert found[KernelSymbol("untyped_symbol")].src == 0
    assert found[KernelSymbol("typed_symbol")].src == op.BPF_PSEUDO_BTF_ID
    assert found[Kfunc("kernel_function")].src == op.BPF_PSEUDO_KFUNC_CALL


def test_called_functions_are_put_behind_once() -> None:
    btf = Btf.from_bytes(PIECES.btf)
    sums = programs(PIECES)["sums"]
    names = [btf.name_of(record.type_id) for record in sums.func_info]
    assert names == ["sums", "visit", "add", "deeper", "deepest"]
    starts = {record.insn_offset for record in sums.func_info}
    slot = 0
    calls = []
    for insn in sums.insns:
        if insn.code == CALL and insn.src == op.BPF_PSEUDO_CALL:
            calls.append(slot + 1 + insn.imm)
        elif insn.code == LDDW and insn.src == op.BPF_PSEUDO_FUNC:
            calls.append(slot + 1 + struct.unpack("<i", struct.pack("<I", insn.imm))[0])
        slot += insn.slots
    assert len(calls) == 6
    assert set(calls) == starts - {0}


def test_lines_of_source() -> None:
    btf = Btf.from_bytes(OPENERS.btf)
    program = programs(OPENERS)["enter_openat"]
    lines = {(line.line, btf.string(line.text).strip()) for line in program.line_info}
    assert any(code == "calls++;" for _, code in lines)
    assert any("__sync_fetch_and_add" in code for _, code in lines)
    offsets = [line.insn_offset for line in program.line_info]
    assert offsets == sorted(offsets)
    slots = sum(insn.slots for insn in program.insns)
    assert offsets[0] == 0 and offsets[-1] < slots
    assert btf.string(program.line_info[0].file).endswith("openers.bpf.c")


def test_maps_of_maps_and_of_programs() -> None:
    found = maps(PIECES)
    outer, jumps = found["outer"], found["jumps"]
    assert (outer.type, outer.value_size, outer.max_entries) == ("ARRAY_OF_MAPS", 4, 4)
    assert outer.inner is not None
    assert (outer.inner.type, outer.inner.value_size, outer.inner.max_entries) == ("ARRAY", 8, 3)
    assert outer.entries == ((1, "first"), (3, "second"))
    assert (jumps.type, jumps.value_size, jumps.entries) == ("PROG_ARRAY", 4, ((1, "jumped"),))
    assert (found["shared"].flags, found["shared"].pinned) == (1, True)


def test_the_configuration_of_the_kernel() -> None:
    config = maps(PIECES)[".kconfig"]
    assert (config.frozen, config.flags) == (True, 1 << 7)
    numbers = struct.unpack(f"<{config.value_size // 4}I", config.contents)
    assert sorted(numbers) == [0, 250, 0x060100]
    with pytest.raises(FormatError, match="configuration has no 'CONFIG_HZ'"):
        read_object(read("pieces"))
    for text in ("y", '"x"', "many", str(1 << 40)):
        with pytest.raises(FormatError, match=f"'CONFIG_HZ' is {text} in the kernel's configuration"):
            read_object(read("pieces"), kconfig={"CONFIG_HZ": text}, version=1)
    for text, number in (("y", 1), ("n", 0)):
        found = read_object(read("pieces"), kconfig={"CONFIG_HZ": "1", "CONFIG_MISSING": text}, version=1)
        extern = next(
            insn.ref
            for insn in programs(found)["configured"].insns
            if isinstance(insn.ref, MapValue) and insn.ref.name == ".kconfig"
        )
        assert maps(found)[".kconfig"].contents[extern.offset] == number


def test_legacy_maps() -> None:
    spec = read_object(read("legacy"), "legacy")
    assert spec.maps == (
        MapSpec("counts", "HASH", 4, 8, 16, 1),
        MapSpec("samples", "PERF_EVENT_ARRAY", 4, 4, 0),
    )
    assert spec.btf == b""
    assert spec.programs[0].func_info == spec.programs[0].line_info == ()
    assert [insn.ref for insn in spec.programs[0].insns if insn.ref] == [MapFd("counts"), MapFd("samples")]


def test_the_other_byte_order() -> None:
    little, big = ObjectFile(read("pieces")), ObjectFile(read("pieces-eb"))
    assert big.byteorder == "big"
    assert [one.spec for one in big.maps] == [one.spec for one in little.maps]
    assert [entry.function for entry in big.entries] == [entry.function for entry in little.entries]
    with pytest.raises(NotSupportedError, match="an object for big-endian machines"):
        big.spec(**CONFIG)


# ---------------------------------------------------------------------- what runs


def u64s(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *(number & (1 << 64) - 1 for number in numbers))


def test_openers_run() -> None:
    world = MadeUpWorld()
    world.user[0x1000] = bytearray(b"/etc/passwd\0")
    machine = Machine(OPENERS, world)
    enter, leave = machine.programs["enter_openat"], machine.programs["exit_openat"]
    assert enter.run(u64s(0, 257, 0, 0x1000, 0, 0, 0, 0)) == 1
    assert enter.run(u64s(0, 257, 0, 0xBAD, 0, 0, 0, 0)) == 1
    assert leave.run(u64s(0, 257, -2)) == 0
    assert leave.run(u64s(0, 257, 3)) == 0
    assert dict(machine.maps["opens"].items()) == {
        struct.pack("<I", 7): u64s(2),
        struct.pack("<I", 0): u64s(2),
    }
    assert [value for _, value in machine.maps["results"].items()] == [u64s(1), u64s(1)]
    assert machine.maps[".bss"].get(bytes(4)) == u64s(2)
    assert machine.maps[".data"].get(bytes(4)) == u64s(12, 9)
    assert world.printed == [b"hello", b"hello"]
    taken: list[bytes] = []

    def take(data: memoryview, words: memoryview, start: int, end: int, limit: int) -> int:
        taken.append(bytes(data[start:end]))
        return end

    machine.maps["events"].drain(take)  # type: ignore[attr-defined]
    record = struct.pack("<II16s64s", 7, 12, b"made up", b"/etc/passwd")
    nothing = struct.pack("<II16s64s", 7, 0, b"made up", b"")
    head = struct.pack("<II", 88, 0)
    assert taken == [head + record + head + nothing]


def test_constants_can_be_set_before() -> None:
    """As a loader sets what is `const volatile` in the source."""
    rodata = maps(OPENERS)[".rodata"]
    changed = {name: getattr(rodata, name) for name in MapSpec.__match_args__}
    changed["contents"] = struct.pack("<I", 999) + rodata.contents[4:]
    table = tuple(MapSpec(**changed) if one is rodata else one for one in OPENERS.maps)
    machine = Machine(ObjectSpec(OPENERS.programs, table, OPENERS.probes, OPENERS.schema), MadeUpWorld())
    assert machine.programs["enter_openat"].run(u64s(*[0] * 8)) == 0
    assert dict(machine.maps["opens"].items()) == {}


def test_pieces_run() -> None:
    kept = tuple(program for program in PIECES.programs if program.name != "from_the_kernel")
    machine = Machine(ObjectSpec(kept, PIECES.maps, PIECES.probes, PIECES.schema, PIECES.btf), MadeUpWorld())
    machine.maps["first"].put(bytes(4), u64s(5))
    machine.maps["first"].put(struct.pack("<I", 2), u64s(6))
    run = {name: program.run(bytes(8)) for name, program in machine.programs.items()}
    deepest = [3 * number + 9 for number in range(4)]
    assert run == {
        "sums": 5 + 6 + sum(deepest) + deepest[1] + deepest[2],
        "looks_inside": 5,
        "jumps_away": 77,
        "jumped": 77,
        "configured": 250 + 6 + ord("u"),
    }


def test_what_only_a_kernel_has_is_refused() -> None:
    with pytest.raises(EngineFault, match="variable typed_symbol could"):
        Machine(PIECES, MadeUpWorld())


# ---------------------------------------------------------------------- CO-RE


def other_types(**changes: Any) -> Btf:
    """A kernel whose struct task is another one."""
    builder = BtfBuilder()
    u32, u64 = builder.add_int("unsigned int", 4), builder.add_int("unsigned long", 8)
    pid = builder.add_int("int", 4, 1)
    char = builder.add_int("char", 1, 1)
    pointer = builder.add_ptr(0)
    members = [
        Member("parent", pointer, 0),
        Member("narrow", u64, 64),
        Member("pid", pid, 128),
        Member("comm", builder.add_array(char, 32, u32), 160),
        *([] if changes.get("without_flags") else [Member("flags", u32, 416)]),
    ]
    builder.add_struct("task", 56, members)
    return Btf.from_bytes(builder.to_bytes())


def test_loads_follow_the_kernels_types() -> None:
    spec = read_object(read("core"), "core", other_types())
    machine = Machine(spec, MadeUpWorld())
    context = (
        u64s(0x1111, 0x2222) + struct.pack("<i", 7) + b"comm".ljust(32, b"\0") + struct.pack("<I", 0x33333)
    )
    machine.programs["loads"].run(context)
    answers = struct.unpack("<32Q", machine.maps[".bss"].get(bytes(4)) or b"")
    assert answers[:3] == (0x2222, 0x1111, 0x33333)


def test_questions_are_answered_by_the_kernels_types() -> None:
    spec = read_object(read("core"), "core", other_types())
    poisoned = [insn for insn in programs(spec)["ask"].insns if insn == Insn(CALL, imm=POISON)]
    assert poisoned
    answers = [insn.imm for insn in programs(spec)["ask"].insns if insn.code == op.BPF_ALU64 | op.BPF_MOV]
    assert answers[0] == 16


def test_what_has_no_answer_is_a_fault_when_it_is_come_to() -> None:
    spec = read_object(read("core"), "core", other_types(without_flags=True))
    machine = Machine(spec, MadeUpWorld())
    with pytest.raises(EngineFault, match="has not the type, field or constant") as caught:
        machine.programs["loads"].run(bytes(64))
    assert "task->flags" in caught.value.line


def test_without_a_kernel_the_object_stays_as_it_is() -> None:
    spec = read_object(read("core"), "core")
    code = section(read("core"), "raw_tp/loads").data
    insns = [
        insn._replace(src=0, ref=None) if insn.code == LDDW else insn
        for insn in programs(spec)["loads"].insns
    ]
    assert encode(insns) == bytes(code)
    assert spec.probes[0].attach == RawTracepoint("test")


def test_an_object_is_its_own_kernel() -> None:
    """Asked of the types that it was compiled with, the compiler's own numbers come out."""
    file = ObjectFile(read("core"))
    assert file.btf is not None
    # A flavor of its own would answer, too.
    own = replaced(file.elf.by_name[".BTF"].data, b"\0task___gone\0", b"\0gone_______\0")
    same = file.spec(Btf.from_bytes(own))
    run = []
    for spec in (file.spec(), same):
        machine = Machine(spec, MadeUpWorld())
        machine.programs["ask"].run(bytes(8))
        run.append(struct.unpack("<32Q", machine.maps[".bss"].get(bytes(4)) or b""))
    differ = [number for number, pair in enumerate(zip(*run, strict=True)) if pair[0] != pair[1]]
    # A flavor means the type without it, which has no such field; and clang loads eight bytes for a bitfield
    # where the rules say the fewest.
    assert differ == [7, 11, 12, 13]
    assert (run[0][7], run[1][7]) == (1, 0)
    assert run[0][11:15] == (0, 8, 8, 59)
    assert run[1][11:15] == (4, 4, 40, 59)


# ---------------------------------------------------------------------- what is refused


def prefix(name: str, old: bytes, new: bytes) -> bytes:
    return replaced(read(name), old, new)


CODE = section(read("openers"), "tp/syscalls/sys_exit_openat")
COUNT = next(one for one in ObjectFile(read("openers")).elf.symbols if one.name == "count")


def with_addend(name: str, addend: int) -> bytes:
    """openers.bpf.o with another number in a load of an address, which is added to the symbol's."""
    data = read("openers")
    elf = ObjectFile(data).elf
    code = elf.by_name["tracepoint/syscalls/sys_enter_openat"]
    row = next(one for one in elf.relocations[code.number] if one.symbol.name == name)
    return with_bytes(data, code.offset + row.offset + 4, struct.pack("<i", addend))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            prefix("legacy", b"kprobe/do_something\0", b"kprobs/do_something\0"),
            "section 'kprobs/do_something'",
        ),
        (with_header(read("openers"), section(read("openers"), ".BTF").number, type=8), "has no types"),
        (with_symbol(read("openers"), "opens", name=0), "map 'opens' has no symbol"),
        (with_symbol(read("openers"), "exit_openat", name=0), "a program has no name"),
        (
            with_symbol(read("openers"), "exit_openat", value=4, size=4),
            "is empty, reaches into the next, or is cut",
        ),
        (with_symbol(read("openers"), "exit_openat", size=12), "is empty, reaches into the next, or is cut"),
        (with_addend("events", 4), "there is no map at byte 4"),
        (with_addend("largest", 100), r"byte 100 lies outside of '\.data'"),
        (with_addend("largest", -4), r"byte -4 lies outside of '\.data'"),
        (with_symbol(read("openers"), "largest", shndx=0xFFF2), "compile with -fno-common"),
        (with_symbol(read("openers"), "largest", shndx=0xFFF1), "the address of 'largest' cannot be had"),
        (with_symbol(read("openers"), "largest", shndx=0), "'largest' is not defined in this object"),
        (
            with_symbol(read("openers"), "is_wanted", shndx=0),
            "function 'is_wanted' is not defined in this object",
        ),
        (
            with_symbol(read("openers"), "count", value=COUNT.value + 8, size=COUNT.size - 8),
            "of '.text', where no function is",
        ),
        (with_bytes(read("openers"), CODE.offset, b"\x18"), "section 'tp/syscalls/sys_exit_openat'"),
        (
            with_header(read("openers"), CODE.number, size=CODE.size - 4),
            "lies outside|inside of an instruction",
        ),
        (with_symbol(read("pieces"), "first", name=0), "has no symbol in .maps"),
        (
            with_bytes(read("legacy"), section(read("legacy"), "maps").offset, b"\xff"),
            "there is no type 255 of map",
        ),
        (with_symbol(read("legacy"), "samples", value=4, size=4), "no array of map definitions"),
    ],
    ids=itertools.count(),
)
def test_objects_that_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        read_object(data, "bad.o", **CONFIG)
    assert caught.value.__notes__ == ["in bad.o"]


def test_variables_without_end() -> None:
    data = read("openers")
    number = section(data, ".bss").number
    with pytest.raises(FormatError, match=r"section '.bss' has \d+ bytes, more than"):
        ObjectFile(with_header(data, number, size=1 << 40))


def legacy_with(words: list[list[int]]) -> bytes:
    """legacy.bpf.o with other definitions of its two maps, as long as they like."""
    data = read("legacy")
    body = b"".join(struct.pack(f"<{len(row)}I", *row) for row in words)
    number = section(data, "maps").number
    data = with_header(data, number, offset=len(data), size=len(body)) + body
    size = 4 * len(words[0])
    for name, value in (("counts", 0), ("samples", size)):
        data = with_bytes(data, place_of_symbol(read("legacy"), name) + 8, struct.pack("<QQ", value, size))
    return data


def test_longer_legacy_definitions() -> None:
    samples = ObjectFile(legacy_with([[12, 4, 4, 9, 0, 1, 0], [1, 4, 8, 5, 0, 0, 0]]))
    assert samples.maps[0].spec.inner == MapSpec("counts.inner", "HASH", 4, 8, 5)
    iproute = ObjectFile(legacy_with([[13, 4, 4, 9, 0, 1, 2, 7, 0], [2, 4, 8, 5, 0, 7, 0, 0, 0]]))
    assert iproute.maps[0].spec == MapSpec(
        "counts", "HASH_OF_MAPS", 4, 4, 9, inner=MapSpec("counts.inner", "ARRAY", 4, 8, 5), pinned=True
    )
    for words in ([[1, 4, 8, 5]] * 2, [[1] * 80] * 2):
        with pytest.raises(FormatError, match="no array of map definitions"):
            ObjectFile(legacy_with(words))
