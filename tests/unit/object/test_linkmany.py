"""Objects linked to one: whose names are whose, and what is refused."""

from __future__ import annotations

import struct

import pytest

from tracebee.btf import Btf, Datasec, Func, Struct
from tracebee.engine.machine import Machine
from tracebee.errors import FormatError
from tracebee.object import ObjectFile, link_objects, read_object, read_objects
from tracebee.object.compare import compare, instruction_diff
from tracebee.object.describe import Kernel, Look
from tracebee.object.elf import STT_SECTION, Elf

from ..engine.calls.fakes import MadeUpWorld
from .objects import read, replaced, section, with_bytes, with_header, with_symbol

CONFIG = {"CONFIG_HZ": "250"}
FILES = [("first.o", read("first")), ("second.o", read("second"))]
LINKED = link_objects(FILES)


def linked(first: bytes = FILES[0][1], second: bytes = FILES[1][1]) -> bytes:
    return link_objects([("first.o", first), ("second.o", second)])


# ---------------------------------------------------------------------- what runs


@pytest.mark.parametrize("turned", [False, True])
def test_the_parts_find_each_other(turned: bool) -> None:
    spec = read_objects(FILES[::-1] if turned else FILES, kconfig=CONFIG)
    assert {program.name for program in spec.programs} == {"calls_the_other", "stays_here"}
    machine = Machine(spec, MadeUpWorld())
    # The weak function that comes first counts; the strong one counts before any weak one.
    fallback = 11 if turned else 10
    run = machine.programs["calls_the_other"].run
    assert run(bytes(8)) == 2 * 5 + 20 + (5 + 3 + 100) + 2 + fallback
    # Static variables and functions of the same name are kept apart.
    assert machine.programs["stays_here"].run(bytes(8)) == 1 + 4 + 1000 + 250
    # Both have the same map.
    assert run(bytes(8)) == 2 * 5 + 20 + (5 + 3 + 100) + 2 + fallback + 7


def test_one_alone_lacks_the_other() -> None:
    with pytest.raises(FormatError, match="'counts' is not defined in this object"):
        read_objects(FILES[:1], kconfig=CONFIG)
    assert read_objects(FILES[1:], kconfig=CONFIG) == read_object(FILES[1][1], "second.o", kconfig=CONFIG)


def test_both_byte_orders() -> None:
    big = link_objects([("first.o", read("first-eb")), ("second.o", read("second-eb"))])
    assert Elf(big).byteorder == "big"
    little_file, big_file = ObjectFile(LINKED), ObjectFile(big)
    assert [one.spec for one in little_file.maps] == [one.spec for one in big_file.maps]
    assert little_file.entries == big_file.entries
    assert [(one.name, one.value, one.size) for one in little_file.elf.symbols] == [
        (one.name, one.value, one.size) for one in big_file.elf.symbols
    ]
    looks = Look(LINKED), Look(big)
    assert instruction_diff(*looks) == []
    with pytest.raises(FormatError, match=r"first\.o is little-endian, and second\.o is big"):
        linked(second=read("second-eb"))


def test_linking_one_changes_nothing() -> None:
    for name in ("pieces", "openers", "core", "pieces-eb", "legacy"):
        again = link_objects([(name, read(name))])
        assert compare(Look(read(name)), Look(again)) == []
        assert instruction_diff(Look(read(name)), Look(again)) == []
        assert Look(again).describe().core == Look(read(name)).describe().core
    spec = read_object(link_objects([("pieces", read("pieces"))]), kconfig=CONFIG, version=1)
    assert read_object(read("pieces"), kconfig=CONFIG, version=1).maps[:3] == spec.maps[:3]


# ---------------------------------------------------------------------- types


def types() -> Btf:
    return Btf.from_bytes(section(LINKED, ".BTF").data)


def test_types_are_kept_once() -> None:
    btf = types()
    for name in ("shared_map", "list", "asked"):
        assert len(btf.find_all(name, Struct)) == 1
    # What one file only declares is what the other defines.
    node = btf.find("node")
    assert node is not None and isinstance(btf.type(node), Struct)
    assert len(btf) < sum(len(Btf.from_bytes(section(data, ".BTF").data)) for _, data in FILES) - 20


def test_functions_are_those_that_are_there() -> None:
    btf = types()
    found = {name: btf.type(number) for number, name in btf.names_of_kind(Func)}
    assert isinstance(found["twice"], Func) and found["twice"].linkage == 1
    assert len(btf.find_all("which", Func)) == 1
    assert len(btf.find_all("own_way", Func)) == 2


def test_sections_say_where_variables_are() -> None:
    btf = types()
    places = {}
    for number in btf.ids_of_kind(Datasec):
        datasec = btf.type(number)
        assert isinstance(datasec, Datasec)
        places[datasec.name] = (
            [(btf.name_of(one.type_id), one.offset, one.size) for one in datasec.variables],
            datasec.size,
        )
    assert places[".data"] == ([("secret", 0, 4), ("limit", 4, 4), ("secret", 8, 4)], 12)
    assert places[".rodata"] == ([("constant", 0, 4), ("constant", 4, 4)], 8)
    assert places[".maps"] == ([("own", 0, 32), ("counts", 32, 32)], 64)
    assert places["license"] == ([("licence", 0, 4)], 4)
    assert places[".kconfig"] == ([("CONFIG_HZ", 0, 4)], 0)
    # Settled for the kernel they are still there.
    settled = Btf.from_bytes(ObjectFile(LINKED).settled_btf)
    data = settled.type(settled.find(".data", Datasec) or 0)
    assert isinstance(data, Datasec)
    assert [one.offset for one in data.variables] == [0, 4, 8]


def test_lines_and_relocations_go_along() -> None:
    look = Look(LINKED, "", Kernel("itself", types()))
    found = look.describe()
    rows = {row.name: row for row in found.programs}
    assert rows["stays_here"].file.endswith("second.bpf.c")
    assert rows["calls_the_other"].file.endswith("first.bpf.c")
    assert {(row.function, row.subject, row.here) for row in found.core} == {
        ("asks", "struct asked.number", 0),
        ("asks", "struct asked.list", 8),
        ("asks_too", "struct asked.list", 8),
        ("asks_too", "struct node.value", 0),
    }
    assert found.problems == []
    sections = [symbol.name for symbol in look.elf.symbols if symbol.type == STT_SECTION]
    assert len(sections) == len(set(sections))


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (FILES[1][1], FILES[1][1], "'which' is defined in first.o and in second.o"),
        (
            FILES[0][1],
            with_bytes(FILES[1][1], section(FILES[1][1], "license").offset, b"MIT\0"),
            "license is .*GPL.* in first.o, and .*MIT.* in second.o",
        ),
        (
            FILES[0][1],
            with_header(FILES[1][1], section(FILES[1][1], ".data").number, flags=6),
            "section '.data' is of another kind in second.o than in first.o",
        ),
        (FILES[0][1], FILES[1][1][:-100], "beyond the end of the file"),
    ],
    ids=range(4),
)
def test_what_is_refused(first: bytes, second: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        linked(first, second)


def test_nothing_to_link() -> None:
    with pytest.raises(FormatError, match="no object"):
        link_objects([])


def test_a_declaration_with_another_type_is_refused() -> None:
    data = FILES[1][1]
    btf = section(data, ".BTF")
    types_ = Btf.from_bytes(btf.data)
    number = types_.find("twice", Func)
    assert number is not None
    other = types_.find("which", Func)
    assert other is not None
    place = btf.offset + types_.byte_of(number) + 8
    proto = struct.pack("<I", types_.type(other).type_id)  # type: ignore[attr-defined]
    with pytest.raises(FormatError, match=r"'twice' has another type in first\.o than in"):
        linked(second=with_bytes(data, place, proto))


def test_strong_takes_the_place_of_weak_and_declared_of_nothing() -> None:
    # Without the definition in the other file the weak one counts.
    data = with_symbol(FILES[1][1], "which", name=0)
    spec = read_objects([FILES[0], ("second.o", data)], kconfig=CONFIG)
    assert Machine(spec, MadeUpWorld()).programs["calls_the_other"].run(bytes(8)) == 10 + 20 + 108 + 1 + 10


# ---------------------------------------------------------------------- differences


def test_differences() -> None:
    new = replaced(read("openers"), b"hello\0\0\0", b"HELLO\0\0\0")
    changes = compare(Look(read("openers")), Look(new))
    assert [(one.kind, one.name, one.what) for one in changes] == [
        ("variable", "greeting in .rodata", "value"),
    ]
    code = section(read("openers"), "tp/syscalls/sys_exit_openat")
    new = with_bytes(read("openers"), code.offset + code.size - 16, bytes([0xB7, 0, 0, 0, 9, 0, 0, 0]))
    changes = compare(Look(read("openers")), Look(new))
    assert [(one.kind, one.name, one.after) for one in changes] == [
        ("program", "exit_openat", "1 instructions gone, 1 new"),
    ]
    ((name, lines),) = instruction_diff(Look(read("openers")), Look(new))
    assert name == "exit_openat"
    assert [line for line in lines if line.startswith(("-", "+"))] == ["-(b7) r0 = 0", "+(b7) r0 = 9"]


def test_what_is_on_one_side_only() -> None:
    changes = compare(Look(read("first")), Look(LINKED))
    assert ("program", "twice", "") in [(one.kind, one.name, one.what) for one in changes]
    assert all(one.before == "" for one in changes if not one.what)
    helpers = [one for one in compare(Look(read("core")), Look(read("openers"))) if one.what == "helpers"]
    assert helpers == []
