"""Objects on the kernel at hand: its verifier takes them, and libbpf answers CO-RE as we do."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tracebee.btf import Btf
from tracebee.errors import SyscallError
from tracebee.object import read_object
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


def test_answers_of_libbpf(machine: LiveMachine) -> None:
    """What bpftool says that it writes into each instruction is what we write."""
    if shutil.which("bpftool") is None:
        pytest.skip("bpftool is not installed")
    if not os.path.ismount(BPFFS):
        pytest.skip("there is no BPF file system to pin to")
    pin = BPFFS / f"tracebee_test_{uuid.uuid4().hex}"
    try:
        done = subprocess.run(
            ["bpftool", "-d", "prog", "load", str(FOLDER / "kernel.bpf.o"), str(pin)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        pin.unlink(missing_ok=True)
    assert done.returncode == 0, done.stderr[-2000:]
    said = re.findall(r"patched insn #(\d+) .*-> (-?\d+)", done.stdout + done.stderr)
    expected = {int(slot): int(value) for slot, value in said}
    assert len(expected) == 30
    spec = read_object((FOLDER / "kernel.bpf.o").read_bytes(), "kernel", Btf.from_file(VMLINUX))
    found = {}
    slot = 0
    for insn in spec.programs[0].insns:
        if slot in expected:
            found[slot] = insn.imm
        slot += insn.slots
    assert found == expected
