"""The generated constants, held against a uapi header."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tracebee.insn import opcodes as op

ROOT = Path(__file__).resolve().parents[3]


def test_known_values() -> None:
    assert [op.BPF_LD, op.BPF_LDX, op.BPF_ST, op.BPF_STX] == [0, 1, 2, 3]
    assert [op.BPF_ALU, op.BPF_JMP, op.BPF_JMP32, op.BPF_ALU64] == [4, 5, 6, 7]
    assert [op.BPF_IMM, op.BPF_ABS, op.BPF_IND, op.BPF_MEM] == [0, 0x20, 0x40, 0x60]
    assert [op.BPF_MEMSX, op.BPF_ATOMIC] == [0x80, 0xC0]
    assert [op.BPF_XCHG, op.BPF_CMPXCHG, op.BPF_LOAD_ACQ, op.BPF_STORE_REL] == [0xE1, 0xF1, 0x100, 0x110]
    assert op.BPF_JMP | op.BPF_JCOND == 0xE5
    assert [op.R0, op.R10] == [0, 10]


def test_the_compiler_agrees_with_every_constant(tmp_path: Path) -> None:
    source = tmp_path / "values.c"
    names = [name for name in vars(op) if name.startswith("BPF_")]
    header = Path("/usr/include/linux/bpf.h")
    if not header.exists():
        pytest.skip("linux/bpf.h is not installed")
    known = header.read_text() + Path("/usr/include/linux/bpf_common.h").read_text()
    # An older header lacks the youngest names.
    names = [name for name in names if f"{name}\t" in known or f"{name} " in known]
    checks = "".join(f'_Static_assert({name} == {getattr(op, name)}, "{name}");\n' for name in names)
    source.write_text(f"#include <linux/bpf.h>\n{checks}")
    try:
        run = subprocess.run(["cc", "-fsyntax-only", source], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    assert run.returncode == 0, run.stderr
    assert len(names) >= 60


def test_generator_reproduces_its_output() -> None:
    if importlib.util.find_spec("ruff") is None:
        pytest.skip("ruff, which formats what is generated, is not installed")
    origin = op.__doc__ or ""
    for include in (Path("/usr/include"), Path("/srv/sid/usr/include")):
        version = include / "linux" / "version.h"
        if not version.exists():
            continue
        code = version.read_text().split("LINUX_VERSION_CODE ")[1].split()[0]
        if f"LINUX_VERSION_CODE {code})" in origin:
            break
    else:
        pytest.skip("the header that the modules were generated from is not installed")
    command = [
        sys.executable,
        str(ROOT / "tools" / "gen_insn_tables.py"),
        "--include",
        str(include),
        "--check",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
