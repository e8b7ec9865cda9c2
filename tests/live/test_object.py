"""Objects on the kernel at hand: its verifier takes them, and libbpf answers CO-RE as we do."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tracebee
from tracebee.btf import Btf
from tracebee.btf.core import POISON
from tracebee.errors import SyscallError, VerifierError
from tracebee.object import link_objects, read_object
from tracebee.object.compare import compare, instruction_diff
from tracebee.object.describe import Kernel, Look
from tracebee.object.elf import Elf
from tracebee.object.relocations import relocation_rows
from tracebee.session.kernel import KernelBackend
from tracebee.session.machine import LiveMachine
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[1] / "data" / "objects"
VMLINUX = "/sys/kernel/btf/vmlinux"
BPFFS = Path("/sys/fs/bpf")


@pytest.fixture(scope="module", autouse=True)
def kernel() -> None:
    if os.geteuid() != 0:
        pytest.skip("BPF needs root")
    try:
        os.close(bpf.map_create("ARRAY", 4, 8, 1))
    except SyscallError as error:
        pytest.skip(f"bpf(2) is refused here: {error}")
    if not os.access(VMLINUX, os.R_OK):
        pytest.skip("this kernel has no BTF")


@pytest.fixture(scope="module")
def machine() -> Iterator[LiveMachine]:
    made = LiveMachine()
    yield made
    made.close()


def test_the_verifier_takes_an_object(machine: LiveMachine) -> None:
    """Loaded, with its types and line information, and not attached."""
    spec = read_object((FOLDER / "openers.bpf.o").read_bytes(), "openers", machine.btf())
    backend = KernelBackend(spec, machine)
    try:
        assert set(backend.programs) == {"enter_openat", "exit_openat"}
        assert backend.maps[".rodata"].get(bytes(4)) == b"\0\0\0\0hello\0\0\0"
        assert backend.maps[".data"].get(bytes(4)) == struct.pack("<QQ", 5, 7)
        assert backend.maps["opens"].get(struct.pack("<I", 1)) is None
    finally:
        backend.close()


def bpftool(*words: str, may_fail: bool = False) -> str:
    """What bpftool prints, its messages too; skips where it is missing."""
    if shutil.which("bpftool") is None:
        pytest.skip("bpftool is not installed")
    done = subprocess.run(["bpftool", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 or may_fail, (done.stdout + done.stderr)[-2000:]
    return done.stdout + done.stderr


def loaded_by_libbpf(path: Path, verb: str = "load", may_fail: bool = False) -> str:
    """What libbpf says while it loads an object; nothing is left behind."""
    if not os.path.ismount(BPFFS):
        pytest.skip("there is no BPF file system to pin to")
    pin = BPFFS / f"tracebee_test_{uuid.uuid4().hex}"
    try:
        return bpftool("-d", "prog", verb, str(path), str(pin), may_fail=may_fail)
    finally:
        if pin.is_dir():
            for one in pin.iterdir():
                one.unlink()
            pin.rmdir()
        else:
            pin.unlink(missing_ok=True)


@pytest.mark.parametrize(("name", "answered", "gone"), [("kernel", 30, 0), ("guards", 20, 6)])
def test_answers_of_libbpf(name: str, answered: int, gone: int) -> None:
    """What libbpf says that it writes into each instruction is what we write: values, and what is not there."""
    path = FOLDER / f"{name}.bpf.o"
    text = loaded_by_libbpf(path)
    said = re.findall(r"patched insn #(\d+) .*-> (-?\d+)", text)
    expected = {int(slot): int(value) for slot, value in said}
    assert len(expected) == answered
    poisoned = set(map(int, re.findall(r"substituting insn #(\d+) w/ invalid insn", text)))
    spec = read_object(path.read_bytes(), name, Btf.from_file(VMLINUX))
    found = {}
    ours = set()
    slot = 0
    for insn in spec.programs[0].insns:
        if slot in expected:
            found[slot] = insn.imm
        if insn.imm == POISON:
            ours.add(slot)
        slot += insn.slots
    assert found == expected
    # Of a load of two slots libbpf spoils both.
    assert len(ours) == gone and ours <= poisoned and {slot - 1 for slot in poisoned - ours} <= ours


def test_what_is_never_reached_is_taken(machine: LiveMachine) -> None:
    """What we say of fields that are not here is what the verifier says, by loading the program or not."""
    data = (FOLDER / "guards.bpf.o").read_bytes()
    rows = Look(data, "guards", Kernel("here", machine.btf())).describe().core
    gone = [row for row in rows if row.here is None]
    assert len(gone) == 6 and not any(row.reached for row in gone)
    KernelBackend(read_object(data, "guards", machine.btf()), machine).close()
    # Without the question the first of them is reached.
    code = Elf(data).by_name["raw_tp/sys_enter"]
    question = code.offset + 8 * next(row.slot for row in rows if row.kind == "byte_off") - 8
    assert data[question] == 0x15
    spoilt = data[:question] + bytes([0xB7, 9, 0, 0, 0, 0, 0, 0]) + data[question + 8 :]
    rows = Look(spoilt, "guards", Kernel("here", machine.btf())).describe().core
    assert [row.subject for row in rows if row.reached] == ["struct task_struct.no_such"]
    with pytest.raises(VerifierError) as caught:
        KernelBackend(read_object(spoilt, "guards", machine.btf()), machine)
    assert str(POISON) in caught.value.log


def test_objects_are_linked_as_libbpf_links_them(tmp_path: Path, machine: LiveMachine) -> None:
    files = [FOLDER / f"{name}.bpf.o" for name in ("first", "second")]
    theirs = tmp_path / "theirs.o"
    bpftool("gen", "object", str(theirs), *map(str, files))
    ours = tmp_path / "ours.o"
    ours.write_bytes(link_objects([(file.name, file.read_bytes()) for file in files]))
    looks = Look(theirs.read_bytes()), Look(ours.read_bytes())
    assert compare(*looks) == []
    assert instruction_diff(*looks) == []

    def named(path: Path) -> list[str]:
        """The types with a name, without their numbers."""
        lines = re.findall(
            r"^\[\d+\] (\w+ '(?!\(anon\))[^']+'.*)", bpftool("btf", "dump", "file", str(path)), re.M
        )
        return sorted({re.sub(r" (type_id|size)=\d+", "", line) for line in lines})

    assert named(ours) == named(theirs)
    # libbpf loads ours, and the kernel takes it from us.  bpftool 7.1 then wants to pin what was not to be loaded.
    text = loaded_by_libbpf(ours, "loadall", may_fail=True)
    assert re.findall(r"prog '(\w+)': pinned at", text) == ["calls_the_other", "stays_here"]
    spec = read_object(ours.read_bytes(), "ours", machine.btf(), kconfig={"CONFIG_HZ": "100"})
    KernelBackend(spec, machine).close()


@pytest.mark.parametrize("name", ["openers", "pieces", "pieces-eb", "core", "corners", "legacy"])
def test_instructions_and_relocations_of_llvm(name: str) -> None:
    """llvm-objdump finds as many instructions in each section, and the same relocations."""
    tool = shutil.which("llvm-objdump-14") or shutil.which("llvm-objdump")
    if tool is None:
        pytest.skip("llvm-objdump is not installed")
    path = FOLDER / f"{name}.bpf.o"
    done = subprocess.run([tool, "-dr", str(path)], capture_output=True, text=True, timeout=60, check=True)
    slots: dict[str, set[int]] = {}
    relocations = set()
    section = ""
    for line in done.stdout.splitlines():
        heading = re.fullmatch(r"Disassembly of section (.*):", line)
        row = re.match(r"\s+(\d+):\t", line)
        relocation = re.match(r"\t\t([0-9a-f]{16}):  (R_BPF\S+)\t(\S+)", line)
        if heading:
            section = heading[1]
        elif row:
            slots.setdefault(section, set()).add(int(row[1]))
        elif relocation:
            relocations.add((section, int(relocation[1], 16), relocation[2], relocation[3]))
    look = Look(path.read_bytes())
    ours = {
        look.elf.sections[number].name: {slot for slot, index in enumerate(code.at) if index >= 0}
        for number, code in look.linker.code.items()
    }
    assert ours == slots
    rows = relocation_rows(look)
    assert {
        (row.section, row.offset, row.type, row.symbol) for row in rows if row.section in slots
    } == relocations
    assert all(row.words for row in rows)


@pytest.mark.parametrize("name", ["openers", "pieces", "core", "corners", "pieces-eb"])
def test_types_of_variables_are_those_of_bpftool(name: str) -> None:
    """bpftool finds the same variables in the same sections, and the same maps."""
    text = bpftool("-j", "btf", "dump", "file", str(FOLDER / f"{name}.bpf.o"))
    types = {row["id"]: row for row in json.loads(text)["types"]}
    theirs = {
        (row["name"], types[one["type_id"]]["name"])
        for row in types.values()
        if row["kind"] == "DATASEC" and row["name"] not in ("license", ".ksyms", ".kconfig")
        for one in row["vars"]
    }
    found = Look((FOLDER / f"{name}.bpf.o").read_bytes()).describe()
    ours = {(row.section, row.name) for row in found.globals}
    ours |= {(".maps", row.name) for row in found.maps if row.section == ".maps"}
    ours |= {(row.section, row.name) for row in found.struct_ops}
    assert ours == theirs


def test_show_needs_no_rights() -> None:
    """As nobody, who may read the kernel's types or not."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    data = (FOLDER / "guards.bpf.o").read_bytes()
    words = [sys.executable, "-m", "tracebee", "object", "show", "-", "-j"]
    source = Path(tracebee.__file__).parents[1]
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *words],
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(source)},
        cwd="/",
    )
    if b"No module named" in done.stderr or b"Permission denied" in done.stderr:
        pytest.skip("nobody cannot read this checkout")
    assert done.returncode == 0, done.stderr.decode()[-500:]
    found = json.loads(done.stdout)
    assert found["problems"] == []
    assert len(found["core"]) == 26
