"""What few objects have: settings of all types, tags, arenas, structures of functions, hidden functions."""

from __future__ import annotations

import struct

import pytest

from tracebee.btf import Btf, Func
from tracebee.errors import FormatError
from tracebee.insn.codec import KernelSymbol, Kfunc
from tracebee.object import ObjectFile, read_object
from tracebee.object.describe import Kernel, Look, describe
from tracebee.object.elf import Elf
from tracebee.object.externs import declared, read_externs, setting
from tracebee.object.link import Linked

from .objects import read, replaced, section

CONFIG = {
    "CONFIG_BOOL": "y",
    "CONFIG_CHAR": "m",
    "CONFIG_TRISTATE": "m",
    "CONFIG_BYTE": "200",
    "CONFIG_SHORT": "-5",
    "CONFIG_LONG": "0xffffffffffffffff",
    "CONFIG_TEXT": '"text of the kernel"',
    "LINUX_HAS_BPF_COOKIE": "y",
}


def kernel(**changes: str) -> Kernel:
    return Kernel("K", kconfig=CONFIG | changes, find=lambda name, kind: None)


# ---------------------------------------------------------------------- configuration


@pytest.mark.parametrize(("name", "mark"), [("corners", "<"), ("corners-eb", ">")])
def test_settings_of_all_types(name: str, mark: str) -> None:
    elf = Elf(read(name))
    btf = Btf.from_bytes(elf.by_name[".BTF"].data)
    externs, spec = read_externs(elf, btf, CONFIG, 0)
    assert spec is not None
    values = struct.unpack_from(f"{mark}?cxxIBxhxxxxQ16s?xxxi", spec.contents)
    assert values == (True, b"m", 2, 200, -5, (1 << 64) - 1, b"text of the ker\0", True, 0)
    assert [extern.offset for extern in externs.values() if extern.kind == "config"] == [
        *(0, 1, 4, 8, 10, 16, 24, 40, 44),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CONFIG_BOOL", "m"),
        ("CONFIG_BOOL", "1"),
        ("CONFIG_BYTE", "256"),
        ("CONFIG_BYTE", "-1"),
        ("CONFIG_SHORT", "70000"),
        ("CONFIG_LONG", '"x"'),
        ("CONFIG_TEXT", "5"),
        ("CONFIG_LONG", "1e3"),
        ("CONFIG_TRISTATE", "3"),
    ],
)
def test_settings_that_do_not_fit(name: str, text: str) -> None:
    elf = Elf(read("corners"))
    btf = Btf.from_bytes(elf.by_name[".BTF"].data)
    extern = next(one for one in declared(elf, btf) if one.name == name)
    with pytest.raises(FormatError, match=rf"'{name}' is .* which its type cannot hold"):
        setting(extern, btf, CONFIG | {name: text}, 0)


def test_abilities_that_no_configuration_has() -> None:
    elf = Elf(read("corners"))
    btf = Btf.from_bytes(elf.by_name[".BTF"].data)
    extern = next(one for one in declared(elf, btf) if one.name == "LINUX_HAS_BPF_COOKIE")
    assert setting(extern, btf, {}, 0) == b"\0"
    assert setting(extern, btf, CONFIG, 0) == b"\1"


# ---------------------------------------------------------------------- maps and variables


def test_maps() -> None:
    rows = {row.name: row for row in describe(read("corners")).maps}
    memory = rows["memory"]
    assert (memory.type, memory.flags, memory.extra, memory.max_entries) == (
        *("ARENA", ["BPF_F_MMAPABLE"], 0x10000000, 10),
    )
    inner = rows["many"].inner
    assert inner is not None and (inner.type, inner.key_size, inner.value_size) == ("HASH", 4, 8)
    assert (rows["loose"].value, rows["loose"].flags) == ("struct tagged", ["BPF_F_NUMA_NODE"])
    assert rows[".rodata.str1.1"].frozen


def test_variables_of_arenas_are_shown_and_refused() -> None:
    look = Look(read("corners"))
    rows = {row.name: row for row in look.describe().globals}
    assert (rows["shared"].section, rows["shared"].data) == (".addr_space.1", b"\4\0\0\0")
    with pytest.raises(FormatError, match="'shared' is in an arena, which cannot be loaded yet"):
        read_object(read("corners"), kconfig=CONFIG)
    purposes = {row.name: row.role for row in look.describe().sections}
    assert purposes[".addr_space.1"] == "arena"


def test_data_that_points_to_data_is_left_alone() -> None:
    look = Look(read("corners"))
    assert "pointers" in {row.name for row in look.describe().globals}
    assert not any(".data.pointers" in str(error) for error in look.problems.found)


# ---------------------------------------------------------------------- functions


def linked(look: Look, name: str) -> Linked:
    made = look.linked(next(one.function for one in look.file.entries if one.function.name == name))
    assert made is not None
    return made


def test_the_exception_callback_comes_along() -> None:
    """Nothing calls it; the verifier finds it by the tag and by its record."""
    look = Look(read("corners"))
    found = linked(look, "packets")
    assert [part.name for part, _ in found.parts] == ["packets", "caught", "outside", "concealed"]
    btf = look.btf
    assert btf is not None
    assert [btf.name_of(record.type_id) for record in found.func_info] == [
        *("packets", "caught", "outside", "concealed"),
    ]
    data = replaced(read("corners"), b"\0exception_callback:caught\0", b"\0exception_callback:cauGht\0")
    look = Look(data)
    assert look.linked(look.file.entries[0].function) is None
    assert "its exception callback 'cauGht' is not defined" in str(look.problems.found[-1])


def test_hidden_functions_are_static_for_the_verifier() -> None:
    file = ObjectFile(read("corners"))
    assert file.btf is not None
    settled = Btf.from_bytes(file.settled_btf)

    def linkages(btf: Btf) -> dict[str, int]:
        found = [btf.type(number) for number in btf.ids_of_kind(Func)]
        return {one.name: one.linkage for one in found if isinstance(one, Func)}

    assert linkages(file.btf)["concealed"] == linkages(file.btf)["outside"] == 1
    assert (linkages(settled)["concealed"], linkages(settled)["outside"]) == (0, 1)


def test_functions_that_the_kernel_may_lack() -> None:
    look = Look(read("corners"), "", kernel())
    insns = linked(look, "packets").insns
    assert KernelSymbol("maybe_there", True) in [insn.ref for insn in insns]
    assert Kfunc("maybe_there", True) in [insn.ref for insn in insns]
    row = next(row for row in look.describe().externs if row.name == "maybe_there")
    assert (row.found, row.weak) == (False, True)
    # The call stands behind the question.
    called = next(insn for insn in insns if isinstance(insn.ref, Kfunc))
    slot = sum(insn.slots for insn in insns[: insns.index(called)])
    assert ("xdp.frags", slot) not in look.come_to
    assert ("xdp.frags", slot) in Look(read("corners")).come_to


# ---------------------------------------------------------------------- structures of functions


@pytest.mark.parametrize("name", ["corners", "corners-eb"])
def test_structures_of_functions(name: str) -> None:
    calm, calmer = describe(read(name)).struct_ops
    assert (calm.name, calm.type, calm.by_link, calm.loads) == ("calm", "tcp_congestion_ops", True, True)
    assert [(member, value) for member, _, value in calm.members] == [
        *(("init", "opened"), ("ssthresh", "limited"), ("flags", "2"), ("name", '"calm"')),
    ]
    assert calm.members[1][1] == "u32 (*ssthresh)(struct sock *)"
    assert (calmer.name, calmer.by_link, [value for _, _, value in calmer.members]) == (
        *("calmer", False, ["opened", '"calmer"']),
    )
    programs = {row.name: row for row in describe(read(name)).programs}
    assert (programs["limited"].type, programs["limited"].sleepable) == ("STRUCT_OPS", True)


def test_structures_without_a_type_are_a_problem() -> None:
    data = read("corners")
    btf = section(data, ".BTF")
    start = btf.data.index(b"\0.struct_ops.link\0")
    spoilt = data[: btf.offset + start + 1] + b"X" + data[btf.offset + start + 2 :]
    found = describe(spoilt)
    assert ("the section '.struct_ops.link' has no types", "compile with -g") in found.problems
    assert [one.name for one in found.struct_ops] == ["calmer"]
