"""Which program types, map types and helpers this kernel has, found out by trying each.

A program of two instructions is loaded and let go at once; a map is made with one entry and closed.  Nothing is
attached.  Kernels answer EINVAL to a type that they do not know and to a program that is wrong for its type alike:
who got as far as writing a log knows the type (libbpf's probes rest on the same).  Names are those of the uapi enums
without prefix.  Where the rights are missing, SyscallError is raised.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.errors import SyscallError
from tracebee.insn import Builder, encode
from tracebee.insn.helpers import PREFIX, helper_names
from tracebee.kernel.features import has_helper
from tracebee.kernel.permission import missing_right
from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls import bpf
from tracebee.syscalls.bpfmaps import ENOTSUPP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LOG = 1 << 12

ATTACH_TYPES = {
    # Types that are not looked at without an attach type of theirs.
    "CGROUP_SOCK": "CGROUP_INET_SOCK_CREATE",
    "CGROUP_SOCK_ADDR": "CGROUP_INET4_CONNECT",
    "CGROUP_SOCKOPT": "CGROUP_GETSOCKOPT",
    "SK_LOOKUP": "SK_LOOKUP",
    "NETFILTER": "NETFILTER",
    "TRACING": "TRACE_RAW_TP",
    "LSM": "LSM_MAC",
    "LIRC_MODE2": "LIRC_MODE2",
}

FOR_BTF = ("TRACING", "LSM", "EXT", "STRUCT_OPS")
"""Types of programs that are for something in BTF: what is said of a wrong thing shows that they are known."""

BPF_F_SLEEPABLE = 1 << 4

BPF_F_NO_PREALLOC = 1
BPF_F_MMAPABLE = 1 << 10

HELPER_TYPES = ("KPROBE", "TRACEPOINT", "RAW_TRACEPOINT", "PERF_EVENT", "SCHED_CLS", "XDP")
"""Program types of which the helpers are told: those of tracing, and two of networking."""

NO_PROBE = frozenset(("unspec",))


class MapShape(NamedTuple):
    """Sizes that a map type takes."""

    key: int = 4
    value: int = 4
    entries: int = 1
    flags: int = 0


SHAPES = {
    "HASH": MapShape(),
    "LPM_TRIE": MapShape(key=8, flags=BPF_F_NO_PREALLOC),
    "STACK_TRACE": MapShape(value=8),
    "CGROUP_STORAGE": MapShape(key=16, value=8, entries=0),
    "PERCPU_CGROUP_STORAGE": MapShape(key=16, value=8, entries=0),
    "QUEUE": MapShape(key=0),
    "STACK": MapShape(key=0),
    "BLOOM_FILTER": MapShape(key=0),
    "RINGBUF": MapShape(0, 0, 4096),
    "USER_RINGBUF": MapShape(0, 0, 4096),
    "ARENA": MapShape(0, 0, 1, BPF_F_MMAPABLE),
    "SK_STORAGE": MapShape(entries=0, flags=BPF_F_NO_PREALLOC),
    "INODE_STORAGE": MapShape(entries=0, flags=BPF_F_NO_PREALLOC),
    "TASK_STORAGE": MapShape(entries=0, flags=BPF_F_NO_PREALLOC),
    "CGRP_STORAGE": MapShape(entries=0, flags=BPF_F_NO_PREALLOC),
}
"""What differs from a key and a value of 4 bytes and one entry."""

TYPED = ("SK_STORAGE", "INODE_STORAGE", "TASK_STORAGE", "CGRP_STORAGE")
"""Maps that must say by BTF what they hold."""


YES, NO = "yes", "no"


def probe_all(names: Iterable[str], probe: Callable[[str], bool]) -> dict[str, str]:
    """For each name "yes", "no", or "EPERM" where the kernel does not even look at the question."""
    answers = {}
    for name in names:
        try:
            answers[name] = YES if probe(name) else NO
        except SyscallError as error:
            answers[name] = error.errno_name
    return answers


def program_types() -> dict[str, str]:
    """Every program type with its answer (`probe_all`)."""
    return probe_all(tuple(name for name in uapi.BPF_PROG_TYPE if name != "UNSPEC"), has_program_type)


def probe_program_type(name: str) -> bool:
    """Whether programs of a type can be loaded; False, too, where the kernel refuses them to everybody."""
    try:
        return name != "UNSPEC" and has_program_type(name)
    except SyscallError:
        if name in FOR_BTF and missing_right("loading BPF programs") is None:
            return False
        raise


def has_program_type(name: str) -> bool:
    """Whether the kernel knows a program type.  It may refuse to be asked (EPERM) about some kinds, to anybody."""
    builder = Builder()
    builder.mov_imm(0, 1 if name in ("SK_LOOKUP", "NETFILTER") else 0)
    builder.exit()
    try:
        fd, _ = bpf.prog_load(
            name,
            encode(builder.finish()),
            attach_btf_id=1 if name in FOR_BTF else 0,
            log_level=1,
            log_size=LOG,
            **_options(name),
        )
    except bpf.LoadRefused as refused:
        if refused.errno in (errno.EPERM, errno.EACCES) and not refused.log:
            raise
        # A kernel that does not know the type has nothing to say about the program.
        return bool(refused.log) or refused.errno == ENOTSUPP
    os.close(fd)
    return True


def _options(program_type: str) -> dict[str, Any]:
    """What programs of a type have to be loaded with."""
    return {
        "expected_attach_type": ATTACH_TYPES.get(program_type, ""),
        "flags": BPF_F_SLEEPABLE if program_type == "SYSCALL" else 0,
    }


def map_types() -> dict[str, str]:
    """Every map type, named as in enum bpf_map_type, with its answer."""
    # A map of struct_ops needs the BTF id of one of the kernel's structures, and tells nothing without.
    left_out = ("UNSPEC", "CGROUP_STORAGE_DEPRECATED", "PERCPU_CGROUP_STORAGE_DEPRECATED", "STRUCT_OPS")
    return probe_all(tuple(name for name in uapi.BPF_MAP_TYPE if name not in left_out), has_map_type)


def probe_map_type(name: str) -> bool:
    """Whether maps of a type can be made here and now."""
    try:
        return name != "UNSPEC" and has_map_type(name.removesuffix("_DEPRECATED"))
    except SyscallError as error:
        if error.errno == errno.ENOMEM:
            return False
        raise


def has_map_type(name: str) -> bool:
    """Whether the kernel makes maps of a type.  ENOMEM, as SyscallError, is no answer."""
    shape = SHAPES.get(name, MapShape())
    options: dict[str, Any] = {}
    opened: list[int] = []
    try:
        if name in TYPED:
            opened.append(_int_btf())
            options = {"btf_fd": opened[0], "key_type": 1, "value_type": 1}
        elif name in ("HASH_OF_MAPS", "ARRAY_OF_MAPS"):
            opened.append(bpf.map_create("HASH", 4, 4, 1))
            options = {"inner_map_fd": opened[0]}
        elif name == "STRUCT_OPS":
            options = {"btf_fd": -1, "vmlinux_value_type": 1}
        opened.append(bpf.map_create(name, *shape[:3], flags=shape.flags, **options))
    except SyscallError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.ENOMEM):
            raise
        # What needs a structure of the kernel is told that the one given is none.
        return name == "STRUCT_OPS" and error.errno == ENOTSUPP
    finally:
        for fd in opened:
            os.close(fd)
    return True


def _int_btf() -> int:
    """BTF with one type, an int of 4 bytes, as number 1."""
    from tracebee.btf.writer import BtfBuilder

    writer = BtfBuilder()
    writer.add_int("int", 4)
    return bpf.btf_load(writer.to_bytes())


def helpers(program_type: str) -> dict[str, str]:
    """Every known helper by its short name: whether programs of a type may call it (`probe_all`)."""
    plain = (name.removeprefix(PREFIX) for name in helper_names())
    return probe_all(
        tuple(name for name in plain if name not in NO_PROBE), lambda name: probe_helper(program_type, name)
    )


def probe_helper(program_type: str, helper: str) -> bool:
    """Whether programs of a type may call a helper, by its name without ``bpf_``."""
    return has_helper(helper, program_type, **_options(program_type))
