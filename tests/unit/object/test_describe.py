"""Objects as they are shown: everything that can be read, and then what is wrong."""

from __future__ import annotations

import pytest

from tracebee.btf import Btf
from tracebee.errors import FormatError
from tracebee.object import read_object
from tracebee.object.describe import Description, Kernel, Look, ProgramRow, describe
from tracebee.object.disassembly import CodeLine, Disassembly
from tracebee.object.elf import Elf
from tracebee.object.relocations import relocation_rows
from tracebee.object.rows import initial_value, plain

from .objects import read, replaced, section, with_bytes, with_header, with_symbol
from .test_reader import other_types

CONFIG = {"CONFIG_HZ": "250"}


def program(found: Description, name: str) -> ProgramRow:
    return next(row for row in found.programs if row.name == name)


def disassembled(look: Look, name: str) -> list[CodeLine]:
    function = next(entry.function for entry in look.file.entries if entry.function.name == name)
    return Disassembly(look).lines(function)


# ---------------------------------------------------------------------- what there is


def test_sections_have_a_meaning() -> None:
    rows = {row.name: row for row in describe(read("pieces")).sections}
    assert rows["socket"].words == "4 programs for packets of a socket"
    assert rows["kretprobe/do_something"].words == "a program for the return of a function of the kernel"
    assert rows[".rodata.custom"].role == "constants"
    assert (rows[".bss"].role, rows[".bss"].flags) == ("variables", ["alloc", "write"])
    assert rows[".relsocket"].words == "what in 'socket' depends on where something is"
    assert {rows[name].role for name in (".maps", ".BTF", ".BTF.ext", "license", ".symtab")} == {
        *("maps", "types", "records", "license", "symbols")
    }
    assert {row.name: row.role for row in describe(read("legacy")).sections}["maps"] == "maps"


def test_programs() -> None:
    found = describe(read("pieces"), "pieces.o")
    sums = program(found, "sums")
    assert (sums.section, sums.type, sums.instructions, sums.all_instructions) == (
        "socket",
        "SOCKET_FILTER",
        21,
        49,
    )
    assert sums.calls == ["visit", "add", "deeper", "deepest"]
    assert sums.helpers == ["bpf_for_each_map_elem", "bpf_loop"]
    assert sums.maps == ["first", ".data.more"]
    assert (sums.file.rpartition("/")[2], sums.lines) == ("pieces.bpf.c", (78, 84))
    assert not program(found, "not_loaded").loads
    assert program(found, "from_the_kernel").kfuncs == ["kernel_function"]
    assert [row.name for row in found.functions] == ["visit", "add", "deeper", "deepest"]
    assert found.functions[2].all_instructions == 13


def test_maps_are_typed() -> None:
    rows = {row.name: row for row in describe(read("pieces")).maps}
    shared = rows["shared"]
    assert (shared.key, shared.value, shared.value_size, shared.flags, shared.pinned) == (
        *("u32", "struct pair", 16, ["BPF_F_NO_PREALLOC"], True),
    )
    outer = rows["outer"]
    assert outer.inner is not None
    assert (outer.inner.value, outer.entries) == ("u64", [(1, "first"), (3, "second")])


def test_variables_have_their_first_values() -> None:
    look = Look(read("openers"))
    found = look.describe()
    values = {row.name: initial_value(row, look.btf, found.byteorder) for row in found.globals}
    assert values == {
        "wanted_pid": (0, "0"),
        "greeting": ("hello", '"hello"'),
        "calls": (0, "0"),
        "largest": (5, "5"),
        "hidden": (7, "7"),
    }
    assert {row.name: row.linkage for row in found.globals}["hidden"] == "static"
    big = Look(read("pieces-eb"))
    more = next(row for row in big.describe().globals if row.name == "more")
    assert initial_value(more, big.btf, "big") == (9, "9")
    assert initial_value(more._replace(type_id=0), None, "big")[0] == 9
    assert initial_value(more._replace(data=None), None, "big") == (None, "")
    assert initial_value(more._replace(data=b"", size=1 << 40), None, "big") == (None, "0")
    assert initial_value(more._replace(data=b"", type_id=0), None, "big") == (0, "0")


def test_both_byte_orders_are_alike() -> None:
    little, big = plain(describe(read("pieces"))), plain(describe(read("pieces-eb")))
    assert (little.pop("byteorder"), big.pop("byteorder")) == ("little", "big")
    for name in ("programs", "functions", "maps", "sections"):
        assert little[name] == big[name]
    assert little["problems"] == big["problems"] == []


def test_relocations_in_words() -> None:
    rows = {(row.section, row.offset): row.words for row in relocation_rows(Look(read("pieces")))}
    assert rows["socket", 48] == "map first"
    assert rows["socket", 64] == "function visit in .text"
    assert rows[".text", 184] == "variable more at byte 0 of .data.more"
    assert rows["uprobe//usr/bin/bash:readline+4", 56] == "function kernel_function of the kernel"
    assert rows[".maps", 152] == "program jumped"
    assert "nothing that can be used" not in rows.values()


# ---------------------------------------------------------------------- what is asked of a kernel


def test_core_for_another_kernel() -> None:
    rows = {
        (row.function, row.subject, row.kind): row
        for row in describe(read("core"), "core", Kernel("other", other_types())).core
    }
    assert rows["ask", "struct task.list[2].y", "byte_off"].in_object == 36
    row = rows["ask", "struct task.comm[5]", "byte_off"]
    assert (row.in_object, row.here, row.question) == (61, 25, "offset of the field")
    assert rows["ask", "enum color::GREEN", "enumval_value"].in_object == 2
    nowhere = rows["ask", "struct nowhere.field", "field_exists"]
    assert (nowhere.in_object, nowhere.here, nowhere.why) == (1, 0, "")
    gone = rows["ask", "struct task___gone.gone", "byte_off"]
    assert (gone.here, gone.why) == (None, "the target has nothing like it in task")


def test_without_a_kernel_nothing_is_answered() -> None:
    found = describe(read("core"))
    assert found.core and all(row.here is None and not row.why for row in found.core)
    assert all(row.found is None for row in describe(read("pieces")).externs)


def kernel(**changes: object) -> Kernel:
    known = {"kernel_function": "", "typed_symbol": "nf"}
    facts = {"kconfig": CONFIG, "version": 0x60100, "find": lambda name, kind: known.get(name)}
    return Kernel("K", has_symbol=lambda name: True, **{**facts, **changes})  # type: ignore[arg-type]


def test_externs() -> None:
    found = describe(read("pieces"), "p.o", kernel())
    rows = {row.name: (row.kind, row.weak, row.found, row.where) for row in found.externs}
    assert rows == {
        "CONFIG_MISSING": ("config", True, False, ""),
        "CONFIG_HZ": ("config", False, True, "250"),
        "LINUX_KERNEL_VERSION": ("config", False, True, "0x60100"),
        "kernel_function": ("function", False, True, ""),
        "typed_symbol": ("variable", False, True, "module nf"),
        "untyped_symbol": ("address", False, True, ""),
    }
    assert found.problems == []


def test_externs_that_are_missing_are_a_problem() -> None:
    found = describe(
        read("pieces"), "p.o", kernel(find=lambda name, kind: None, kconfig={"CONFIG_HZ": '"x"'})
    )
    assert [what for what, _ in found.problems] == [
        "'CONFIG_HZ' is \"x\" in the kernel's configuration, which its type cannot hold",
        "K has no function 'kernel_function'",
        "K has no variable 'typed_symbol'",
    ]


# ---------------------------------------------------------------------- code


def test_disassembly() -> None:
    lines = disassembled(Look(read("pieces")), "sums")
    assert [line.text for line in lines if line.kind == "function"] == [
        *("sums", "visit", "add", "deeper", "deepest"),
    ]
    texts = [line.text for line in lines]
    at = texts.index("for_each_map_elem(&first, visit, &sum, 0);")
    assert lines[at].place == "pieces.bpf.c:82"
    assert texts[at + 1 : at + 3] == ["(18) r1 = map[first]", "(18) r2 = subprog[visit]"]
    assert "(85) call local deeper" in texts
    noted = {line.text: line.note for line in lines if line.note}
    assert noted == {"(18) r2 = map[.data.more][0]+0": "&more"}
    slots = [line.slot for line in lines if line.kind == "instruction"]
    assert slots == sorted(set(slots))


def test_disassembly_notes_core() -> None:
    lines = disassembled(Look(read("core"), "", Kernel("other", other_types(without_flags=True))), "loads")
    notes = [line.note for line in lines if line.note]
    assert any(note.startswith("offset of the field struct task.narrow: 80, here ") for note in notes)
    assert any(
        "struct task.flags: 4, not here: the target" in note and note.endswith("refused, for it is reached")
        for note in notes
    )


def test_disassembly_without_types() -> None:
    lines = disassembled(Look(read("legacy")), "probe")
    assert {line.kind for line in lines} == {"function", "instruction"}
    assert sum(line.text == "(18) r1 = map[counts]" for line in lines) == 1


# ---------------------------------------------------------------------- what is wrong


def test_a_wrong_section_is_a_row_with_the_nearest_name() -> None:
    data = replaced(read("legacy"), b"kprobe/do_something\0", b"kprob\t/do_something\0")
    found = describe(data)
    row = program(found, "probe")
    assert (row.section, row.type, row.instructions) == ("kprob\t/do_something", "", 26)
    assert row.hint == "did you mean 'kprobe/do_something'?"
    assert found.problems == [("section 'kprob\\t/do_something' is no kind of program", row.hint)]
    assert [one.name for one in found.maps] == ["counts", "samples"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_symbol(read("openers"), "largest", shndx=0), "'largest' is not defined in this object"),
        (with_symbol(read("openers"), "exit_openat", size=12), "is empty, reaches into the next, or is cut"),
        (with_bytes(read("openers"), section(read("openers"), ".BTF").offset, b"\0"), "wrong magic number"),
        (
            with_bytes(read("openers"), section(read("openers"), ".BTF.ext").offset, b"\0"),
            "wrong magic number",
        ),
        (with_symbol(read("openers"), "opens", name=0), "map 'opens' has no symbol"),
        (
            with_header(read("openers"), section(read("openers"), ".bss").number, size=1 << 40),
            "has 1099511627776",
        ),
    ],
)
def test_the_rest_is_shown(data: bytes, message: str) -> None:
    found = describe(data)
    assert any(message in what for what, _ in found.problems)
    assert {row.name for row in found.programs} & {"enter_openat", "exit_openat"}
    assert len(found.sections) > 5
    with pytest.raises(FormatError, match=message):
        read_object(data)


def test_notes() -> None:
    found = describe(read("legacy"))
    assert ("there are no types, so nothing can be said about them", "compile with -g") in found.notes
    data = with_header(read("legacy"), section(read("legacy"), "license").number, name=0)
    assert any("there is no licence" in what for what, _ in describe(data).notes)
    number = Elf(read("legacy")).by_name["kprobe/do_something"].number
    assert (
        describe(with_header(read("legacy"), number, flags=2)).notes[0][0]
        == "there is no program in this object"
    )


def test_types_of_an_object_answer_for_themselves() -> None:
    own = Btf.from_bytes(section(read("core"), ".BTF").data)
    rows = describe(read("core"), "", Kernel("itself", own)).core
    assert [(row.subject, row.kind, row.why) for row in rows if row.here != row.in_object] == [
        ("struct task", "type_size", "types called task differ about it")
    ]


def test_what_is_not_here_is_reached_or_not() -> None:
    """The field of task___gone is asked for before it is read, and so are no others."""
    rows = describe(read("core"), "", Kernel("other", other_types())).core
    reached = {(row.subject, row.kind): row.reached for row in rows if row.here is None}
    assert reached.pop(("struct task___gone.gone", "byte_off")) is False
    assert set(reached.values()) == {True}
    own = replaced(section(read("core"), ".BTF").data, b"\0task___gone\0", b"\0gone_______\0")
    rows = describe(read("core"), "", Kernel("itself", Btf.from_bytes(own))).core
    assert [(row.subject, row.reached) for row in rows if row.here is None] == [
        ("struct task___gone.gone", False)
    ]


def test_maps_without_types_are_named() -> None:
    data = with_header(read("openers"), section(read("openers"), ".BTF").number, type=8)
    found = describe(data)
    rows = sorted((row.name, row.type) for row in found.maps if row.section == ".maps")
    assert rows == [("events", ""), ("opens", ""), ("results", "")]
    problems = dict(found.problems)
    assert problems["the section .maps has no types"] == "compile with -g"
    assert any("what map 'opens' is like is not known" in what for what in problems)
    assert {row.name for row in found.programs} == {"enter_openat", "exit_openat"}
