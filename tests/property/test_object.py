"""Laws of reading objects: whatever the bytes are, there is a spec or one clear error, soon."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tracebee.btf import Btf
from tracebee.engine.machine import Machine
from tracebee.errors import EngineFault, FormatError, NotSupportedError, UsageError
from tracebee.insn import Insn
from tracebee.object import ObjectFile, link_objects, read_object
from tracebee.object.compare import compare
from tracebee.object.describe import Kernel, Look
from tracebee.object.disassembly import Disassembly
from tracebee.object.elf import Elf
from tracebee.object.reach import reachable
from tracebee.object.relocations import relocation_rows
from tracebee.object.rows import initial_value, plain
from tracebee.spec.objects import ObjectSpec

from ..unit.engine.calls.fakes import MadeUpWorld

FOLDER = Path(__file__).parents[1] / "data" / "objects"
NAMES = ("openers", "pieces", "core", "legacy", "pieces-eb", "corners", "second", "first-eb")
CONFIG = {"CONFIG_HZ": "250"}

few = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@cache
def good(name: str) -> bytes:
    return (FOLDER / f"{name}.bpf.o").read_bytes()


@cache
def interesting(name: str) -> list[tuple[int, int]]:
    """Parts of an object in which every byte counts: the header, the tables, and BTF, as start and size."""
    elf = Elf(good(name))
    table = int.from_bytes(good(name)[40:48], elf.byteorder)
    parts = [(0, 64), (table, 64 * len(elf.sections))]
    parts += [(one.offset, one.size) for one in elf.sections if one.type != 8 and one.size]
    return parts


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """An object with some bytes changed, and perhaps cut."""
    name = draw(st.sampled_from(NAMES))
    data = bytearray(good(name))
    for _ in range(draw(st.integers(1, 6))):
        start, size = draw(st.sampled_from(interesting(name)))
        at = start + draw(st.integers(0, size - 1))
        new = draw(
            st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from((b"\xff" * 4, bytes(8), b"\x80")))
        )
        data[at : at + len(new)] = new
    if draw(st.integers(0, 9)) == 0:
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


def read(data: bytes, target: Btf | None = None) -> ObjectSpec | None:
    """What is read, or None if it is refused as it should be."""
    try:
        return read_object(data, "spoilt.o", target, kconfig=CONFIG, version=1)
    except FormatError as error:
        assert str(error)
        return None
    except NotSupportedError:
        assert data[5] == 2
        return None


@few
@given(st.binary(max_size=200))
@example(b"\x7fELF\2\1\1" + bytes(60))
def test_any_bytes(data: bytes) -> None:
    assert read(data) is None or len(data) >= 64


@few
@given(spoilt())
def test_spoilt_objects(data: bytes) -> None:
    spec = read(data)
    if spec is not None:
        assert all(program.insns for program in spec.programs)


@few
@given(spoilt(), st.sampled_from(("openers", "pieces", "core")))
def test_spoilt_objects_for_another_kernel(data: bytes, other: str) -> None:
    """CO-RE questions of spoilt types, answered by good ones and by themselves."""
    target = Btf.from_bytes(bytes(Elf(good(other)).by_name[".BTF"].data))
    read(data, target)
    try:
        own = ObjectFile(data)
        if own.btf is not None and own.byteorder == "little":
            read(data, Btf.from_bytes(bytes(own.elf.by_name[".BTF"].data)))
    except FormatError:
        pass


@few
@given(spoilt())
def test_what_is_read_can_be_given_to_the_engine(data: bytes) -> None:
    """It runs there, or is refused; a run that goes wrong is a fault and nothing else."""
    spec = read(data)
    if spec is None:
        return
    try:
        machine = Machine(spec, MadeUpWorld(), path="reference", budget=2000)
    except (EngineFault, NotSupportedError, UsageError, OSError):
        return
    for program in machine.programs.values():
        try:
            program.run(bytes(64))
        except EngineFault:
            pass


@few
@given(spoilt(), st.sampled_from(("none", "openers", "core")))
def test_spoilt_objects_are_shown(data: bytes, other: str) -> None:
    """All that is shown of an object can be had of a spoilt one, or it is no object at all."""
    target = None if other == "none" else Btf.from_bytes(Elf(good(other)).by_name[".BTF"].data)
    try:
        look = Look(data, "spoilt.o", Kernel(other, target, CONFIG, 1))
    except FormatError as error:
        assert str(error)
        return
    found = look.describe()
    assert json.dumps(plain(found))
    assert len(found.sections) == max(0, len(look.elf.sections) - 1)
    for row in found.globals:
        initial_value(row, look.btf, found.byteorder)
    relocation_rows(look)
    made = Disassembly(look)
    for entry in look.file.entries:
        if look.linked(entry.function) is not None:
            assert made.lines(entry.function)
    # What cannot be loaded is said to have a problem.
    if read(data, target) is None and look.elf.byteorder == "little":
        assert look.problems.found


@few
@given(spoilt(), st.sampled_from(("first", "second", "pieces", "first-eb")), st.booleans())
def test_spoilt_objects_are_linked(data: bytes, other: str, first: bool) -> None:
    """What comes of it can be read again, and has the programs of both."""
    files = [("spoilt.o", data), ("good.o", good(other))]
    try:
        made = link_objects(files if first else files[::-1])
    except FormatError as error:
        assert str(error)
        return
    names = {symbol.name for symbol in Elf(good(other)).symbols if symbol.section and symbol.type == 2}
    assert names <= {symbol.name for symbol in Elf(made).symbols}
    read(made)


@few
@given(spoilt(), st.sampled_from(("openers", "pieces", "core", "corners")))
def test_spoilt_objects_are_compared(data: bytes, other: str) -> None:
    try:
        looks = Look(data), Look(good(other))
    except FormatError:
        return
    changes = compare(*looks)
    assert {(one.kind, one.name, one.what) for one in changes} == {
        (one.kind, one.name, one.what) for one in compare(*looks[::-1])
    }


@given(st.lists(st.integers(0, 10), max_size=40))
@few
def test_reach_ends(numbers: list[int]) -> None:
    """Whatever jumps there are, each instruction is looked at a bounded number of times."""
    insns = [Insn(0x15, number % 3, 0, number - 5, number) for number in numbers]
    assert reachable(insns) <= set(range(len(insns)))
