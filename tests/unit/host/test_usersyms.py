"""User symbolization, over a made-up /proc and ELF files that the test writes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tracebee.host.procmaps import Mapping, read_maps
from tracebee.host.usersyms import Frame, UserSymbolizer

from . import elfwriter as w

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BASE = 0x7F0000000000
PID = 77


def library(*names: str, build_id: bytes = b"") -> bytes:
    """Functions of 16 bytes each, from file offset 0x1000 on, at virtual address 0x41000."""
    writer = w.ElfWriter()
    symbols = [(name, 0x41000 + 16 * index, 16, w.GLOBAL_FUNC) for index, name in enumerate(names)]
    writer.symbols(symbols, kind=w.SHT_DYNSYM)
    if build_id:
        writer.section(".note", w.SHT_NOTE, w.note(b"GNU", 3, build_id))
    writer.section(".text", w.SHT_PROGBITS, bytes(0x3000))
    writer.segment(w.PT_LOAD, at=0x1000, address=0x41000, file_size=0x1000)
    return writer.build()


class FakeProc:
    """A /proc with one process, whose mount namespace is the directory `root`."""

    def __init__(self, path: Path, pid: int = PID) -> None:
        self.path = path / "proc"
        self.process = self.path / str(pid)
        self.root = path / "root"
        self.process.mkdir(parents=True)
        self.root.mkdir(exist_ok=True)
        (self.process / "root").symlink_to(self.root)
        self.lines: list[str] = []
        self.run("/bin/program")

    def run(self, path: str) -> None:
        """What execve(2) does to `exe`."""
        self.put(path, b"")
        link = self.process / "exe"
        link.unlink(missing_ok=True)
        link.symlink_to(self.root / path.lstrip("/"))

    def put(self, path: str, data: bytes) -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return file

    def map(
        self, start: int, path: str = "", *, perms: str = "r-xp", offset: int = 0x1000, size: int = 0x1000
    ) -> None:
        inode, device = 0, "00:00"
        if path.startswith("/"):
            name = path.removesuffix(" (deleted)")
            found = os.stat(self.root / name.lstrip("/"))
            inode, device = found.st_ino, f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
        self.lines.append(f"{start:x}-{start + size:x} {perms} {offset:08x} {device} {inode}   {path}\n")
        (self.process / "maps").write_text("".join(self.lines))

    def exit(self) -> None:
        for name in ("maps", "exe", "root", "status"):
            (self.process / name).unlink(missing_ok=True)


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path)


@pytest.fixture
def symbolizer(proc: FakeProc) -> Iterator[UserSymbolizer]:
    with UserSymbolizer(proc=str(proc.path), demangler=str) as found:
        yield found


def test_a_function(proc: FakeProc, symbolizer: UserSymbolizer) -> None:
    proc.put("/lib/a.so", library("one", "two"))
    proc.map(BASE, "/lib/a.so")
    assert symbolizer.resolve(PID, BASE + 0x13) == Frame(BASE + 0x13, "two", 3, "/lib/a.so", 0x1013)
    frames = symbolizer.resolve_stack(PID, [BASE, BASE + 0x10, BASE])
    assert [(frame.name, frame.offset) for frame in frames] == [("one", 0), ("two", 0), ("one", 0)]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (0x1000, "nothing is mapped at this address"),
        (BASE + 0x800, "the file is stripped, and no exported function is at this address"),
        (BASE + 0x10010, "the file has no symbols"),
        (BASE + 0x20000, "its symbols cannot be read: "),
        (BASE + 0x30000, "[heap] holds no functions"),
        (BASE + 0x40000, "code without a file; no perf map of the process"),
        (BASE + 0x50000, "the memory there holds no code"),
        (BASE + 0x60000, "the file loads nothing from there"),
        (BASE + 0x70000, "not a regular file"),
        (BASE + 0x80000, "[uprobes] holds no functions"),
    ],
)
def test_reasons(proc: FakeProc, symbolizer: UserSymbolizer, address: int, reason: str) -> None:
    proc.put("/lib/a.so", library("one"))
    proc.map(BASE, "/lib/a.so")
    proc.put("/lib/b.so", library())
    proc.map(BASE + 0x10000, "/lib/b.so")
    proc.put("/usr/script", b"#!/bin/sh\n")
    proc.map(BASE + 0x20000, "/usr/script")
    proc.map(BASE + 0x30000, "[heap]", perms="rw-p")
    proc.map(BASE + 0x40000)
    proc.map(BASE + 0x50000, perms="rw-p")
    proc.map(BASE + 0x60000, "/lib/a.so", offset=0x3000)
    os.mkfifo(proc.root / "fifo")
    proc.map(BASE + 0x70000, "/fifo")
    proc.map(BASE + 0x80000, "[uprobes]")
    frame = symbolizer.resolve(PID, address)
    assert frame.name is None
    assert frame.reason.startswith(reason)
    # The same again from the caches.
    assert symbolizer.resolve(PID, address) == frame


def test_a_process_that_is_not_there(symbolizer: UserSymbolizer) -> None:
    frame = symbolizer.resolve(1 << 22, BASE)
    assert frame == Frame(BASE, None, reason="the process had exited before its mappings were read")
    assert not symbolizer.snapshot(1 << 22)


def test_a_process_that_was_gone_and_whose_number_is_used_again(
    proc: FakeProc, symbolizer: UserSymbolizer
) -> None:
    assert symbolizer.resolve(PID, BASE).name is None
    proc.put("/lib/a.so", library("one"))
    proc.map(BASE, "/lib/a.so")
    assert symbolizer.resolve(PID, BASE).name == "one"


def test_a_kernel_thread(proc: FakeProc, symbolizer: UserSymbolizer) -> None:
    (proc.process / "maps").write_text("")
    assert symbolizer.resolve(PID, BASE).reason == "the process has exited, or is a kernel thread"


def test_bad_mappings(proc: FakeProc, symbolizer: UserSymbolizer) -> None:
    (proc.process / "maps").write_text("what is this\n")
    assert "cannot be read" in symbolizer.resolve(PID, BASE).reason


def test_snapshot_before_exit(proc: FakeProc, symbolizer: UserSymbolizer) -> None:
    file = proc.put("/lib/a.so", library("one"))
    proc.map(BASE, "/lib/a.so")
    assert symbolizer.snapshot(PID)
    proc.exit()
    file.unlink()
    assert symbolizer.resolve(PID, BASE + 1) == Frame(BASE + 1, "one", 1, "/lib/a.so", 0x1001)
    assert not symbolizer.snapshot(PID)
    assert symbolizer.resolve(PID, BASE + 2).name == "one"
    symbolizer.forget(PID)
    assert symbolizer.resolve(PID, BASE + 1).name is None


def test_symbols_known_from_another_process(
    tmp_path: Path, proc: FakeProc, symbolizer: UserSymbolizer
) -> None:
    """The file is gone with the mount namespace, but was read for somebody else."""
    proc.put("/lib/a.so", library("one"))
    proc.map(BASE, "/lib/a.so")
    assert symbolizer.resolve(PID, BASE).name == "one"
    other = FakeProc(tmp_path, PID + 1)
    other.map(BASE + 0x100000, "/lib/a.so")
    (other.process / "root").unlink()
    assert symbolizer.resolve(PID + 1, BASE + 0x100000).name == "one"


def test_without_snapshot_the_mappings_are_lost(proc: FakeProc, symbolizer: UserSymbolizer) -> None:
    proc.put("/lib/a.so", library("one"))
    proc.map(BASE, "/lib/a.so")
    proc.exit()
    assert symbolizer.resolve(PID, BASE).name is None


def test_many_files_are_not_all_held_open(proc: FakeProc, symbolizer: UserSymbolizer) -> None:
    for index in range(100):
        proc.put(f"/lib/{index}.so", library(f"f{index}"))
        proc.map(BASE + 0x10000 * index, f"/lib/{index}.so")
    before = len(os.listdir("/proc/self/fd"))
    symbolizer.snapshot(PID)
    assert len(os.listdir("/proc/self/fd")) - before <= 64
    proc.exit()
    for index in range(100):
        (proc.root / f"lib/{index}.so").unlink()
        assert symbolizer.resolve(PID, BASE + 0x10000 * index).name == f"f{index}"
    assert len(os.listdir("/proc/self/fd")) == before


def test_closing(proc: FakeProc) -> None:
    proc.put("/lib/a.so", library("one"))
    proc.map(BASE, "/lib/a.so")
    before = len(os.listdir("/proc/self/fd"))
    with UserSymbolizer(proc=str(proc.path)) as symbolizer:
        symbolizer.snapshot(PID)
        assert len(os.listdir("/proc/self/fd")) == before + 1
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_library_that_is_loaded_later(proc: FakeProc, symbolizer: UserSymbolizer) -> None:
    proc.put("/lib/a.so", library("one"))
    proc.map(BASE, "/lib/a.so")
    assert symbolizer.resolve(PID, BASE).name == "one"
    proc.put("/lib/b.so", library("two"))
    proc.map(BASE + 0x10000, "/lib/b.so")
    assert symbolizer.resolve(PID, BASE + 0x10000).name == "two"


def test_addresses_that_never_resolve_do_not_cost_a_read_each(
    proc: FakeProc, symbolizer: UserSymbolizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tracebee.host import usersyms

    reads = []
    parse = usersyms.parse_maps
    monkeypatch.setattr(usersyms, "parse_maps", lambda data: reads.append(1) or parse(data))
    proc.map(BASE, "[heap]", perms="rw-p")
    for _ in range(5):
        symbolizer.resolve_stack(PID, [0x1000, 0x1008, 0x555000])
    assert len(reads) == 3


def test_exec_replaces_everything(proc: FakeProc, symbolizer: UserSymbolizer) -> None:
    proc.put("/lib/a.so", library("one"))
    proc.map(BASE, "/lib/a.so")
    assert symbolizer.resolve(PID, BASE).name == "one"
    proc.lines.clear()
    proc.put("/lib/b.so", library("two"))
    proc.map(BASE, "/lib/b.so")
    proc.run("/bin/other")
    assert symbolizer.resolve(PID, BASE).name == "two"


def test_a_file_that_was_replaced(proc: FakeProc, symbolizer: UserSymbolizer) -> None:
    proc.put("/lib/a.so", library("one"))
    proc.map(BASE, "/lib/a.so")
    new = proc.put("/lib/new.so", library("two"))
    new.rename(proc.root / "lib/a.so")
    frame = symbolizer.resolve(PID, BASE)
    assert (frame.name, frame.reason) == (None, "the file was replaced after it was mapped")


def test_a_deleted_file(proc: FakeProc, symbolizer: UserSymbolizer) -> None:
    file = proc.put("/lib/a.so", library("one"))
    proc.map(BASE, "/lib/a.so (deleted)")
    copy = proc.root / "copy"
    copy.hardlink_to(file)
    file.unlink()
    assert symbolizer.resolve(PID, BASE).reason == "the file is gone"
    # With the right, the kernel leads to the file itself.
    (proc.process / "map_files").mkdir()
    (proc.process / "map_files" / f"{BASE:x}-{BASE + 0x1000:x}").symlink_to(copy)
    symbolizer.forget(PID)
    assert symbolizer.resolve(PID, BASE).name == "one"


def test_a_path_of_our_own_namespace(proc: FakeProc, symbolizer: UserSymbolizer, tmp_path: Path) -> None:
    """After exit only our own path is left; it counts if it leads to the same inode."""
    proc.root = tmp_path
    file = tmp_path / "own.so"
    file.write_bytes(library("one"))
    found = file.stat()
    device = f"{os.major(found.st_dev):x}:{os.minor(found.st_dev):x}"
    (proc.process / "root").unlink()
    line = f"{BASE:x}-{BASE + 0x1000:x} r-xp 00001000 {device} {{}} {file}\n"
    (proc.process / "maps").write_text(line.format(found.st_ino + 1))
    assert symbolizer.resolve(PID, BASE).name is None
    symbolizer.forget(PID)
    (proc.process / "maps").write_text(line.format(found.st_ino))
    assert symbolizer.resolve(PID, BASE).name == "one"


def test_separate_debug_files(proc: FakeProc) -> None:
    proc.put("/lib/a.so", library("exported", build_id=b"\x12\x34"))
    writer = w.ElfWriter().symbols([("hidden", 0x41100, 16, w.LOCAL_FUNC)])
    writer.section(".note", w.SHT_NOTE, w.note(b"GNU", 3, b"\x12\x34"))
    proc.put("/dbg/.build-id/12/34.debug", writer.build())
    proc.map(BASE, "/lib/a.so")
    with UserSymbolizer(["/dbg"], proc=str(proc.path)) as symbolizer:
        frames = symbolizer.resolve_stack(PID, [BASE + 1, BASE + 0x101, BASE + 0x200])
        assert [frame.name for frame in frames] == ["exported", "hidden", None]
        assert frames[2].reason == "no function is at this address"


def test_demangling(proc: FakeProc) -> None:
    proc.put("/lib/a.so", library("_ZN1a1bEv"))
    proc.map(BASE, "/lib/a.so")
    with UserSymbolizer(proc=str(proc.path), demangler=lambda name: f"<{name}>") as symbolizer:
        assert symbolizer.resolve(PID, BASE).name == "<_ZN1a1bEv>"


# ---------------------------------------------------------------------- code without a file


@pytest.fixture
def compiled(proc: FakeProc) -> Path:
    """A perf map for a process that is number 5 in its own pid namespace."""
    proc.map(BASE)
    (proc.process / "status").write_text(f"Name:\tx\nNSpid:\t{PID}\t5\nUid:\t{os.getuid()}\t0\t0\t0\n")
    return proc.put("/tmp/perf-5.map", f"{BASE + 0x10:x} 10 py::fib\n".encode())


def test_perf_maps(proc: FakeProc, symbolizer: UserSymbolizer, compiled: Path) -> None:
    assert symbolizer.resolve(PID, BASE + 0x14) == Frame(BASE + 0x14, "py::fib", 4)
    missing = symbolizer.resolve(PID, BASE + 0x24)
    assert (missing.name, missing.reason) == (None, "code without a file; not in the perf map of the process")
    # A compiler goes on.
    compiled.write_text(compiled.read_text() + f"{BASE + 0x20:x} 10 py::new\n")
    assert symbolizer.resolve(PID, BASE + 0x24).name == "py::new"
    proc.exit()
    compiled.unlink()
    assert symbolizer.resolve(PID, BASE + 0x14).name == "py::fib"


def test_perf_maps_for_code_in_a_memfd(proc: FakeProc, symbolizer: UserSymbolizer, compiled: Path) -> None:
    line = f"{BASE + 0x5000:x}-{BASE + 0x6000:x} r-xs 00000000 00:01 5   /memfd:jit (deleted)\n"
    (proc.process / "maps").write_text(line)
    compiled.write_text(f"{BASE + 0x5000:x} 10 jitted\n")
    assert symbolizer.resolve(PID, BASE + 0x5001).name == "jitted"
    assert symbolizer.resolve(PID, BASE + 0x5010).reason.startswith("the file is gone; not in the perf map")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_perf_maps_of_strangers_do_not_count(
    proc: FakeProc, symbolizer: UserSymbolizer, compiled: Path
) -> None:
    os.chown(compiled, 12345, 12345)
    assert symbolizer.resolve(PID, BASE + 0x14).name is None


def test_a_perf_map_that_is_a_link(proc: FakeProc, symbolizer: UserSymbolizer, compiled: Path) -> None:
    compiled.rename(proc.root / "elsewhere")
    compiled.symlink_to(proc.root / "elsewhere")
    assert symbolizer.resolve(PID, BASE + 0x14).name is None


# ---------------------------------------------------------------------- what the kernel maps


def own_vdso() -> tuple[int, int]:
    for mapping in read_maps(os.getpid()):
        if mapping.path == "[vdso]":
            return mapping.start, mapping.end
    pytest.skip("this machine has no vdso")


def test_our_vdso_serves_for_others(proc: FakeProc, symbolizer: UserSymbolizer) -> None:
    from tracebee.host.elf import ElfFile
    from tracebee.host.usersyms import _read_memory

    start, end = own_vdso()
    proc.map(BASE, "[vdso]", offset=0, size=end - start)
    with ElfFile.parse(_read_memory("/proc/self/mem", start, end - start)) as elf:
        function = elf.functions()[0]
        expected = elf.symbol_at(function.address + 2)
    frame = symbolizer.resolve(PID, BASE + function.address + 2)
    assert (frame.name, frame.offset) == expected
    assert frame.path == "[vdso]"


def test_a_vdso_unlike_ours(proc: FakeProc, symbolizer: UserSymbolizer) -> None:
    proc.map(BASE, "[vdso]", offset=0, size=0x30000)
    assert symbolizer.resolve(PID, BASE + 0x700).reason == "the vdso cannot be read"
    (proc.process / "mem").write_bytes(b"")
    symbolizer.forget(PID)
    assert symbolizer.resolve(PID, BASE + 0x700).reason == "the vdso cannot be read"


def test_vsyscall(proc: FakeProc, symbolizer: UserSymbolizer) -> None:
    proc.map(0xFFFFFFFFFF600000, "[vsyscall]", offset=0)
    frames = symbolizer.resolve_stack(PID, [0xFFFFFFFFFF600000, 0xFFFFFFFFFF600407, 0xFFFFFFFFFF600C00])
    assert [(frame.name, frame.offset) for frame in frames] == [("gettimeofday", 0), ("time", 7), (None, 0)]


# ---------------------------------------------------------------------- processes as they were


def mapping_of(proc: FakeProc, path: str, start: int = BASE) -> Mapping:
    found = os.stat(proc.root / path.lstrip("/"))
    device = os.major(found.st_dev), os.minor(found.st_dev)
    return Mapping(start, start + 0x1000, "r-xp", 0x1000, device, found.st_ino, path)


def test_a_process_that_nobody_looked_at_while_it_lived(proc: FakeProc, symbolizer: UserSymbolizer) -> None:
    file = proc.put("/lib/a.so", library("one"))
    symbolizer.add_execution(PID)
    symbolizer.add_mapping(PID, mapping_of(proc, "/lib/a.so"))
    file.unlink()
    proc.exit()
    assert symbolizer.resolve(PID, BASE + 1) == Frame(BASE + 1, "one", 1, "/lib/a.so", 0x1001)
    assert symbolizer.resolve(PID, BASE + 0x5000).name is None


def test_a_program_before_it_executed_another(proc: FakeProc, symbolizer: UserSymbolizer) -> None:
    proc.put("/lib/a.so", library("one"))
    proc.put("/lib/b.so", library("two"))
    symbolizer.add_execution(PID)
    symbolizer.add_mapping(PID, mapping_of(proc, "/lib/a.so"))
    symbolizer.add_execution(PID)
    symbolizer.add_mapping(PID, mapping_of(proc, "/lib/b.so", BASE + 0x10000))
    assert symbolizer.resolve(PID, BASE).name == "one"
    assert symbolizer.resolve(PID, BASE + 0x10000).name == "two"


def test_a_later_mapping_hides_an_earlier_one(proc: FakeProc, symbolizer: UserSymbolizer) -> None:
    proc.put("/lib/a.so", library("one"))
    proc.put("/lib/b.so", library("two"))
    symbolizer.add_execution(PID)
    symbolizer.add_mapping(PID, mapping_of(proc, "/lib/a.so"))
    symbolizer.add_mapping(PID, mapping_of(proc, "/lib/b.so"))
    assert symbolizer.resolve(PID, BASE).name == "two"


def test_a_child_begins_with_what_its_parent_has(
    tmp_path: Path, proc: FakeProc, symbolizer: UserSymbolizer
) -> None:
    FakeProc(tmp_path, PID + 1)
    proc.put("/lib/a.so", library("one"))
    proc.map(BASE, "/lib/a.so")
    # The parent was there before anybody recorded, so its mappings are read.
    symbolizer.add_fork(PID + 1, PID)
    assert symbolizer.resolve(PID + 1, BASE).name == "one"
    proc.put("/lib/b.so", library("two"))
    symbolizer.add_mapping(PID + 1, mapping_of(proc, "/lib/b.so", BASE + 0x10000))
    assert symbolizer.resolve(PID + 1, BASE + 0x10000).name == "two"
    assert symbolizer.resolve(PID, BASE + 0x10000).name is None


def test_a_library_that_an_old_process_loads_before_it_ends(
    proc: FakeProc, symbolizer: UserSymbolizer
) -> None:
    proc.put("/lib/a.so", library("one"))
    proc.put("/lib/b.so", library("two"))
    proc.map(BASE, "/lib/a.so")
    symbolizer.add_mapping(PID, mapping_of(proc, "/lib/b.so", BASE + 0x10000))
    proc.exit()
    assert symbolizer.resolve(PID, BASE).name == "one"
    assert symbolizer.resolve(PID, BASE + 0x10000).name == "two"
