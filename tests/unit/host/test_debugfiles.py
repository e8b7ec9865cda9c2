"""Separate debug files: where they are looked for, and which are believed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from zlib import crc32

import pytest

from tracebee.host.debugfiles import debug_file_candidates, find_debug_file
from tracebee.host.elf import DebugLink, ElfFile

from . import elfwriter as w

BUILD_ID = bytes.fromhex("0123456789abcdef")


def test_candidates() -> None:
    found = list(
        debug_file_candidates("/usr/bin/cat", "abcdef", DebugLink("cat.debug", 1), ("/dbg", "/more"))
    )
    assert found == [
        "/dbg/.build-id/ab/cdef.debug",
        "/more/.build-id/ab/cdef.debug",
        "/usr/bin/cat.debug",
        "/usr/bin/.debug/cat.debug",
        "/dbg/usr/bin/cat.debug",
        "/more/usr/bin/cat.debug",
    ]
    assert list(debug_file_candidates("/usr/bin/cat", "", None)) == []
    assert list(debug_file_candidates("/usr/bin/cat", "ab", None)) == []


@pytest.mark.parametrize("name", ["../../etc/shadow", "a/b", "..", ".", ""])
def test_a_link_names_a_file_and_no_path(name: str) -> None:
    assert list(debug_file_candidates("/usr/bin/cat", "", DebugLink(name, 1))) == []


def stripped(link: tuple[str, int] | None = None, build_id: bytes = BUILD_ID) -> ElfFile:
    writer = w.ElfWriter()
    if build_id:
        writer.section(".note", w.SHT_NOTE, w.note(b"GNU", 3, build_id))
    if link is not None:
        name = link[0].encode() + b"\0"
        name += bytes(-len(name) % 4)
        writer.section(".gnu_debuglink", w.SHT_PROGBITS, name + link[1].to_bytes(4, "little"))
    return ElfFile.parse(writer.build())


def debug_data(build_id: bytes = BUILD_ID) -> bytes:
    writer = w.ElfWriter().symbols([("hidden", 0x1000, 16, w.LOCAL_FUNC)])
    if build_id:
        writer.section(".note", w.SHT_NOTE, w.note(b"GNU", 3, build_id))
    return writer.build()


def find(elf: ElfFile, path: Path, *directories: Path) -> list[str] | None:
    """The functions of the debug file that was found."""
    with elf:
        found = find_debug_file(elf, str(path), [str(directory) for directory in directories])
        if found is None:
            return None
        with found:
            return [symbol.name for symbol in found.functions()]


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_by_build_id(tmp_path: Path) -> None:
    put(tmp_path / "dbg/.build-id/01/23456789abcdef.debug", debug_data())
    assert find(stripped(), tmp_path / "a", tmp_path / "dbg") == ["hidden"]
    assert find(stripped(), tmp_path / "a", tmp_path / "other") is None


def test_a_file_with_another_build_id_is_not_believed(tmp_path: Path) -> None:
    data = debug_data(b"\xff\xff")
    put(tmp_path / "dbg/.build-id/01/23456789abcdef.debug", data)
    put(tmp_path / "a.debug", data)
    assert find(stripped(("a.debug", crc32(data))), tmp_path / "a", tmp_path / "dbg") is None


@pytest.mark.parametrize("place", ["a.debug", ".debug/a.debug"])
def test_by_link(tmp_path: Path, place: str) -> None:
    data = debug_data(b"")
    put(tmp_path / place, data)
    assert find(stripped(("a.debug", crc32(data))), tmp_path / "a") == ["hidden"]
    assert find(stripped(("a.debug", 1)), tmp_path / "a") is None
    assert find(stripped(None), tmp_path / "a") is None


def test_by_link_below_the_debug_directory(tmp_path: Path) -> None:
    data = debug_data(b"")
    put(Path(f"{tmp_path}/dbg{tmp_path}/bin/a.debug"), data)
    assert find(stripped(("a.debug", crc32(data))), tmp_path / "bin/a", tmp_path / "dbg") == ["hidden"]


def test_below_a_root(tmp_path: Path) -> None:
    put(tmp_path / "dbg/.build-id/01/23456789abcdef.debug", debug_data())
    with stripped() as elf:
        found = find_debug_file(elf, "/bin/a", ["/dbg"], root=str(tmp_path))
        assert found is not None
        found.close()


def test_what_is_no_debug_file(tmp_path: Path) -> None:
    put(tmp_path / "dbg/.build-id/01/23456789abcdef.debug", b"#!/bin/sh\n")
    assert find(stripped(), tmp_path / "a", tmp_path / "dbg") is None


def test_what_objcopy_makes(tmp_path: Path) -> None:
    for command in ("gcc", "objcopy", "strip"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")
    (tmp_path / "a.c").write_text(
        "static int inner(void) { return 1; }\nint main(void) { return inner(); }\n"
    )

    def run(*command: str) -> None:
        subprocess.run(command, check=True, cwd=tmp_path)

    run("gcc", "-g", "-O0", "-Wl,--build-id=none", "-o", "a", "a.c")
    run("objcopy", "--only-keep-debug", "a", "a.debug")
    run("strip", "a")
    run("objcopy", "--add-gnu-debuglink=a.debug", "a")
    with ElfFile.open(str(tmp_path / "a")) as elf:
        assert elf.find_function("inner") is None
        assert not elf.has_symtab
        found = find_debug_file(elf, str(tmp_path / "a"))
        assert found is not None
        with found:
            symbol = found.find_function("inner")
            assert symbol is not None
            assert elf.file_offset(symbol.address) is not None
