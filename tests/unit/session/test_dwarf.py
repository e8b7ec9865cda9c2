"""Arguments of functions out of debug information that a compiler made."""

from __future__ import annotations

import random
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tracebee.errors import FormatError
from tracebee.host.elf import ElfFile
from tracebee.language.machine import ARM64, X86_64
from tracebee.session.dwarf import DebugInfo
from tracebee.spec.types import Array, Bool, Enum, Int, Pointer, Str, Struct, Void

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
enum color { RED, GREEN = 5 };
struct inner { char tag[4]; short grid[2][3]; };
struct point {
  int x; struct inner in; struct point *next;
  unsigned low : 3, high : 5;
  union { int whole; char part; };
};
typedef struct point point_t;
struct two { long a, b; };
struct three { long a, b, c; };
struct mixed { double d; };
int work(int n, unsigned long long big, const char *text, const point_t *p, enum color c, signed char s, int last)
{ return n + big + text[0] + p->x + c + s + last; }
double scaled(double d, int n) { return d * n; }
long pairs(struct two t, _Bool ok, struct three u, int **pp, int a, int b, int c)
{ return t.a + ok + u.a + **pp + a + b + c; }
int unclear(struct mixed m, int n) { return m.d + n; }
int none(void) { return 1; }
"""


@pytest.fixture(scope="module", params=["-gdwarf-4", "-gdwarf-5"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("dwarf")
    (folder / "a.c").write_text(SOURCE)
    made = folder / "a.so"
    subprocess.run(
        [compiler, request.param, "-O0", "-shared", "-fPIC", "-o", str(made), str(folder / "a.c")], check=True
    )
    return made


def address_of(path: Path, name: str) -> int:
    with ElfFile.open(str(path)) as elf:
        found = elf.find_function(name)
    assert found is not None
    return found.address


def described(path: Path, name: str) -> list[tuple[str, str, int | None]]:
    found = DebugInfo(str(path)).arguments(address_of(path, name), X86_64)
    assert found is not None
    return [(one.c_type, one.name, one.position) for one in found]


def test_how_arguments_are_spelled_and_passed(library: Path) -> None:
    assert described(library, "work") == [
        ("int", "n", 0),
        ("long long unsigned int", "big", 1),
        ("const char*", "text", 2),
        ("const point_t*", "p", 3),
        ("enum color", "c", 4),
        ("signed char", "s", 5),
        ("int", "last", 6),
    ]
    assert described(library, "none") == []


def test_numbers_in_floating_point_registers_are_passed_over(library: Path) -> None:
    assert described(library, "scaled") == [("double", "d", None), ("int", "n", 0)]


def test_structures_by_value_take_registers_or_stack(library: Path) -> None:
    # u, too large for registers, lies in the first three words of the stack; b and c do not fit registers.
    assert described(library, "pairs") == [
        ("struct two", "t", None),
        ("_Bool", "ok", 2),
        ("struct three", "u", None),
        ("int**", "pp", 3),
        ("int", "a", 4),
        ("int", "b", 5),
        ("int", "c", 9),
    ]
    assert described(library, "unclear") == [("struct mixed", "m", None), ("int", "n", None)]


def test_arm64_passes_large_structures_by_address(library: Path) -> None:
    found = DebugInfo(str(library)).arguments(address_of(library, "pairs"), ARM64)
    assert found is not None
    assert [one.position for one in found] == [None, 2, None, 4, 5, 6, 7]


def test_types(library: Path) -> None:
    found = DebugInfo(str(library)).arguments(address_of(library, "work"), X86_64)
    assert found is not None
    n, big, text, pointer, color, small, _ = (one.type for one in found)
    assert (n, big, small) == (Int(4, True), Int(8, False), Int(1, True))
    assert text == Pointer(Int(1, True), "user")
    assert color == Enum("color", 4, False, ((0, "RED"), (5, "GREEN")))
    assert isinstance(pointer, Pointer)
    point = pointer.target
    assert isinstance(point, Struct)
    assert str(point) == "struct point"
    inner, following = point.find("in"), point.find("next")
    assert inner is not None
    assert following is not None
    assert isinstance(inner.type, Struct)
    assert [(field.name, field.type, field.offset) for field in inner.type.fields] == [
        ("tag", Str(4), 0),
        ("grid", Array(Array(Int(2, True), 3), 2), 4),
    ]
    assert following.type == Pointer(point, "user")
    low, high, whole = point.find("low"), point.find("high"), point.find("whole")
    assert low is not None
    assert high is not None
    assert whole is not None
    assert (low.offset, low.bits, low.bit_offset) == (32, 3, 0)
    assert (high.offset, high.bits, high.bit_offset) == (32, 5, 3)
    assert whole.offset == 36
    ok = DebugInfo(str(library)).arguments(address_of(library, "pairs"), X86_64)
    assert ok is not None
    assert ok[1].type == Bool()
    scaled = DebugInfo(str(library)).arguments(address_of(library, "scaled"), X86_64)
    assert scaled is not None
    assert scaled[0].type == Void(8)


def test_what_is_not_described(library: Path, tmp_path: Path) -> None:
    assert DebugInfo(str(library)).arguments(address_of(library, "work") + 1, X86_64) is None
    strip = shutil.which("strip")
    if strip is None:
        pytest.skip("there is no strip")
    bare = tmp_path / "bare.so"
    subprocess.run([strip, "-g", "-o", str(bare), str(library)], check=True)
    info = DebugInfo(str(bare))
    assert not info.is_there
    assert info.arguments(address_of(library, "work"), X86_64) is None


def test_bad_bytes_end_in_one_error(library: Path, tmp_path: Path) -> None:
    address = address_of(library, "work")
    data = library.read_bytes()
    with library.open("rb") as stream:
        from elftools.elf.elffile import ELFFile

        section = ELFFile(stream).get_section_by_name(".debug_info")
        start, size = section["sh_offset"], section["sh_size"]
    chance = random.Random(1)
    broken = tmp_path / "broken.so"
    outcomes = set()
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(4):
            changed[start + chance.randrange(size)] = chance.randrange(256)
        broken.write_bytes(changed)
        try:
            found = DebugInfo(str(broken)).arguments(address, X86_64)
        except FormatError:
            outcomes.add("error")
        else:
            outcomes.add("answer" if found else "nothing")
    assert "error" in outcomes


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        DebugInfo(str(tmp_path / "nothing"))
    (tmp_path / "text").write_text("not an ELF file")
    with pytest.raises(FormatError):
        DebugInfo(str(tmp_path / "text"))
