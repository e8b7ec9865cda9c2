"""The running kernel's BTF, compared with what bpftool says of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tracebee.btf import (
    Btf,
    Composite,
    Enum,
    Enum64,
    Enumeration,
    Func,
    Struct,
    Type,
    Typedef,
    Union,
)
from tracebee.btf.dump import own_ids, raw_lines
from tracebee.btf.format import declaration, definition, function_params, return_type
from tracebee.btf.header import header

if TYPE_CHECKING:
    from pathlib import Path

VMLINUX = "/sys/kernel/btf/vmlinux"
BPFTOOL = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")

pytestmark = pytest.mark.skipif(not os.access(VMLINUX, os.R_OK), reason=f"no readable {VMLINUX}")
CLANG = shutil.which("clang") or shutil.which("clang-14")
needs_bpftool = pytest.mark.skipif(BPFTOOL is None, reason="bpftool is not installed")


@pytest.fixture(scope="module")
def kernel() -> Btf:
    return Btf.from_file(VMLINUX)


def bpftool(output: str) -> str:
    command = [str(BPFTOOL), "btf", "dump", "file", VMLINUX, "format", output]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip(f"bpftool cannot read this kernel's BTF: {done.stderr.strip()}")
    return done.stdout


@needs_bpftool
def test_every_type_reads_as_bpftool_reads_it() -> None:
    btf = Btf.from_file(VMLINUX)  # not the shared one: this fills the cache with all types
    theirs = iter(bpftool("raw").splitlines())
    for line in raw_lines(btf, own_ids(btf)):
        assert line == next(theirs)
    assert next(theirs, None) is None


@pytest.mark.skipif(CLANG is None, reason="clang is not installed")
def test_the_header_compiles_to_the_same_layout(tmp_path: Path) -> None:
    """A compiler for BPF takes the whole header, and lays out all structures as the kernel has them."""
    btf = Btf.from_file(VMLINUX)
    (tmp_path / "vmlinux.h").write_text("".join(header(btf)), encoding="utf-8")
    lines = ['#include "vmlinux.h"']
    seen: set[str] = set()
    for type_id, name in btf.names_of_kind((Struct, Union, Enumeration)):
        found = btf.type(type_id)
        tag = f"{'struct' if isinstance(found, Struct) else 'union'} {name}"
        is_new = name not in seen  # what is there twice has another name in the header
        seen.add(name)
        # How large a va_list is depends on the processor.
        if not is_new or not isinstance(found, Composite) or "va_list" in declarations(btf, found):
            continue
        lines.append(f'_Static_assert(sizeof({tag}) == {found.size}, "size of {tag}");')
        for member in found.members:
            if member.name and not member.bitfield_size:
                place = f"__builtin_offsetof({tag}, {member.name}) == {member.bit_offset // 8}"
                lines.append(f'_Static_assert({place}, "{tag}.{member.name}");')
    assert len(lines) > 10000
    (tmp_path / "layout.c").write_text("\n".join([*lines, "int made;\n"]), encoding="utf-8")
    command = [str(CLANG), "-target", "bpf", "-O2", "-g", "-Wall", "-Werror", "-c", "layout.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    assert done.returncode == 0


def declarations(btf: Btf, composite: Composite) -> set[str]:
    """The names of the types of the members."""
    return {declaration(btf, member.type_id) for member in composite.members}


@needs_bpftool
def test_every_definition_prints_as_bpftool_prints_it() -> None:
    btf = Btf.from_file(VMLINUX)
    kinds: dict[str, tuple[type[Type], ...]] = {
        "struct": (Struct,),
        "union": (Union,),
        "enum": (Enum, Enum64),
        "typedef": (Typedef,),
    }
    ids: dict[tuple[str, str], list[int]] = {}
    for keyword, classes in kinds.items():
        for type_id, name in btf.names_of_kind(classes):
            ids.setdefault((keyword, name), []).append(type_id)
    compared = 0
    different = []
    for block in bpftool("c").split("\n\n"):
        block = block.strip()
        head = re.match(r"(struct|union|enum) (\w+) \{", block)
        alias = re.search(r"(\w+)(\)\(.*\)|\[\d+\])*;$", block) if block.startswith("typedef ") else None
        if head:
            key = head[1], head[2]
        elif alias:
            key = "typedef", alias[1]
        else:
            continue
        # Where types share a name, bpftool renames them, also in what refers to them.
        if "___" in block or len(ids.get(key, ())) != 1:
            continue
        compared += 1
        ours = definition(btf, ids[key][0])
        # Old bpftools forget the size of small enumerations.
        if ours != block and ours.replace(" __attribute__((mode(byte)))", "") != block:
            different.append(f"{block}\n--- printed by us as\n{ours}")
    assert not different, f"{len(different)} of {compared} differ, such as\n{different[0]}"
    assert compared > 5000


def test_well_known_names(kernel: Btf) -> None:
    task = kernel.find("task_struct", Struct)
    assert task is not None and kernel.name_of(task) == "task_struct"
    found = kernel.type(task)
    assert isinstance(found, Struct)
    assert {"pid", "tgid", "comm", "real_parent"} <= {member.name for member in found.members}
    assert kernel.size_of(task) == found.size
    assert kernel.align_of(task) >= 8
    assert kernel.find("no such type") is None
    pid_type, value = kernel.find_enumerator("PIDTYPE_TGID") or (0, 0)
    assert (kernel.name_of(pid_type), value) == ("pid_type", 1)
    assert kernel.find_enumerator("NO_SUCH_CONSTANT") is None
    assert kernel.pointer_size == 8


def test_a_function(kernel: Btf) -> None:
    read = kernel.find("vfs_read", Func)
    assert read is not None
    assert declaration(kernel, read).replace('__attribute__((btf_type_tag("user"))) ', "") == (
        "ssize_t vfs_read(struct file *file, char *buf, size_t count, loff_t *pos)"
    )
    assert function_params(kernel, read)[0] == ("struct file *", "file")
    assert return_type(kernel, read) == "ssize_t"


def test_lists_agree_with_single_questions(kernel: Btf) -> None:
    names = list(kernel.names_of_kind(Func))
    assert len(names) > 10000
    assert [type_id for type_id, _ in names] == list(kernel.ids_of_kind(Func))
    for type_id, name in names[::500]:
        assert kernel.name_of(type_id) == name
        assert type_id in kernel.find_all(name, Func)
