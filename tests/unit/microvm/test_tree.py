"""Which files of this machine come into a guest."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from tracebee.host.elf import ElfFile
from tracebee.microvm.cpio import Entry
from tracebee.microvm.tree import Tree, loaded_bytes


def entries(tree: Tree) -> dict[str, Entry]:
    return {entry.path: entry for entry in tree.entries()}


def test_folders_come_before_what_is_in_them(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("text")
    tree = Tree()
    tree.add(str(tmp_path / "a/b/file"))
    order = list(entries(tree))
    real = os.path.realpath(tmp_path)
    places = [order.index(f"{real}{path}") for path in ("", "/a", "/a/b", "/a/b/file")]
    assert places == sorted(places)
    assert tree.size == 4


def test_links_on_the_way_are_as_they_are_here(tmp_path: Path) -> None:
    top = Path(os.path.realpath(tmp_path))
    (top / "real/deep").mkdir(parents=True)
    (top / "real/deep/file").write_text("x")
    (top / "link").symlink_to("real")
    (top / "far").symlink_to(f"{top}/link/deep")
    (top / "up").symlink_to("real/../real/deep/file")
    tree = Tree()
    assert tree.add(f"{top}/far/file") == f"{top}/real/deep/file"
    assert tree.add(f"{top}/up") == f"{top}/real/deep/file"
    found = entries(tree)
    assert found[f"{top}/far"].data == f"{top}/link/deep".encode()
    assert found[f"{top}/link"].data == b"real"
    assert stat.S_ISLNK(found[f"{top}/up"].mode)
    assert found[f"{top}/real/deep/file"].source == f"{top}/real/deep/file"


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    tree = Tree()
    assert tree.add(str(tmp_path / "a")) is None
    assert tree.add(str(tmp_path / "nothing")) is None


def test_a_folder_with_what_is_wanted_of_it(tmp_path: Path) -> None:
    top = Path(os.path.realpath(tmp_path))
    for name in ("keep/one", "keep/skip/two", "skip/three"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    (top / "keep/link").symlink_to("/somewhere")
    os.mkfifo(top / "keep/pipe")
    tree = Tree()
    tree.add_tree(str(top), lambda folder, entry: entry.name != "skip")
    below = {path.removeprefix(f"{top}/") for path in entries(tree) if path.startswith(f"{top}/")}
    assert below == {"keep", "keep/one", "keep/link"}


def test_a_program_comes_with_its_loader_and_libraries() -> None:
    tree = Tree()
    tree.add_program(sys.executable)
    found = set(entries(tree))
    with ElfFile.open(os.path.realpath(sys.executable)) as elf:
        assert os.path.realpath(elf.interpreter) in found
        for name in elf.needed:
            stem = name.partition(".so")[0]
            assert any(os.path.basename(path).startswith(stem) for path in found), name


def test_a_script_comes_with_its_interpreters(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/usr/bin/env -S sh -e\necho\n")
    tree = Tree()
    tree.add_program(str(script))
    assert {os.path.realpath("/usr/bin/env"), os.path.realpath("/bin/sh")} <= set(entries(tree))


def test_what_another_layer_has_is_left_out(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    tree = Tree(known=frozenset(["/bin/sh"]))
    tree.add_program(str(script))
    assert [entry.path for entry in tree.entries() if entry.source] == [os.path.realpath(script)]


def test_stripping_keeps_what_a_loader_reads(tmp_path: Path) -> None:
    data = Path("/bin/true").read_bytes()
    end = loaded_bytes(data)
    with ElfFile.parse(data) as elf:
        assert max(segment.offset + segment.file_size for segment in elf.segments) <= end <= len(data)
    fat = tmp_path / "fat"
    fat.write_bytes(data + bytes(2 * len(data)))
    tree = Tree(strip=True)
    tree.add_program(str(fat))
    short = entries(tree)[os.path.realpath(fat)]
    assert len(short.data) == end
    with ElfFile.parse(short.data) as elf:
        assert elf.needed and elf.interpreter
        assert not elf.find_section(".text")


def test_what_is_no_elf_file_has_no_segments() -> None:
    assert loaded_bytes(b"") == 0
    assert loaded_bytes(b"#!/bin/sh\n" * 20) == 0
    assert loaded_bytes(b"\x7fELF\x01\x01" + bytes(100)) == 0
