"""The running kernel's BTF, compared with what bpftool says of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tracebee.btf import (
    Array,
    Btf,
    Composite,
    Datasec,
    DeclTag,
    Enum,
    Enum64,
    Enumeration,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Struct,
    Type,
    Typedef,
    Union,
    Var,
)
from tracebee.btf.format import declaration, definition, function_params, return_type

if TYPE_CHECKING:
    from collections.abc import Iterator

VMLINUX = "/sys/kernel/btf/vmlinux"
BPFTOOL = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")

pytestmark = pytest.mark.skipif(not os.access(VMLINUX, os.R_OK), reason=f"no readable {VMLINUX}")
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


FUNC_LINKAGE = ("static", "global", "extern")
VAR_LINKAGE = ("static", "global", "extern")
ENCODINGS = {0: "(none)", 1: "SIGNED", 2: "CHAR", 4: "BOOL"}


def raw_lines(btf: Btf, type_id: int) -> Iterator[str]:
    """A type as `bpftool btf dump format raw` prints it."""
    found = btf.type(type_id)
    kind = re.sub("(?<=[a-z])([A-Z])", r"_\1", type(found).__name__).upper()
    head = f"[{type_id}] {kind} '{found.name or '(anon)'}'"
    match found:
        case Int():
            encoding = ENCODINGS[found.encoding]
            yield f"{head} size={found.size} bits_offset=0 nr_bits={found.bits} encoding={encoding}"
        case Array():
            parts = f"type_id={found.type_id} index_type_id={found.index_type_id} nr_elems={found.count}"
            yield f"{head} {parts}"
        case Composite():
            yield f"{head} size={found.size} vlen={len(found.members)}"
            for member in found.members:
                bits = f" bitfield_size={member.bitfield_size}" if member.bitfield_size else ""
                name = member.name or "(anon)"
                yield f"\t'{name}' type_id={member.type_id} bits_offset={member.bit_offset}{bits}"
        case Enumeration():
            sign = "SIGNED" if found.signed else "UNSIGNED"
            yield f"{head} encoding={sign} size={found.size} vlen={len(found.values)}"
            suffix = ("LL" if found.signed else "ULL") if isinstance(found, Enum64) else ""
            for value in found.values:
                yield f"\t'{value.name}' val={value.value}{suffix}"
        case Fwd():
            yield f"{head} fwd_kind={'union' if found.is_union else 'struct'}"
        case Func():
            yield f"{head} type_id={found.type_id} linkage={FUNC_LINKAGE[found.linkage]}"
        case FuncProto():
            yield f"{head} ret_type_id={found.return_type_id} vlen={len(found.params)}"
            for param in found.params:
                yield f"\t'{param.name or '(anon)'}' type_id={param.type_id}"
        case Var():
            yield f"{head} type_id={found.type_id}, linkage={VAR_LINKAGE[found.linkage]}"
        case Datasec():
            yield f"{head} size={found.size} vlen={len(found.variables)}"
            for variable in found.variables:
                name = btf.name_of(variable.type_id)
                place = f"offset={variable.offset} size={variable.size}"
                yield f"\ttype_id={variable.type_id} {place} (VAR '{name}')"
        case Float():
            yield f"{head} size={found.size}"
        case DeclTag():
            yield f"{head} type_id={found.type_id} component_idx={found.component_index}"
        case _:
            yield f"{head} type_id={found.type_id}"  # type: ignore[attr-defined]


@needs_bpftool
def test_every_type_reads_as_bpftool_reads_it() -> None:
    btf = Btf.from_file(VMLINUX)  # not the shared one: this fills the cache with all types
    theirs = iter(bpftool("raw").splitlines())
    for type_id in range(1, len(btf)):
        for line in raw_lines(btf, type_id):
            assert line == next(theirs)
    assert next(theirs, None) is None


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
