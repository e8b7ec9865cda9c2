"""What this kernel can, found out by trying; never guessed from its version.

A record says how to find out, since which release Linux has it (for messages), and what happens without it.
Answers are kept for the life of the process; a question that could not be answered (no rights) is asked
again.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.errors import SyscallError
from tracebee.insn import Builder, encode
from tracebee.insn import opcodes as op
from tracebee.insn.helpers import helper_id
from tracebee.kernel.permission import missing_right
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tracebee.btf.types import Type


class Feature(NamedTuple):
    """One thing that kernels may have.  `without` says what is done on a kernel that has not."""

    name: str
    since: str
    description: str
    without: str
    attempt: Callable[[], bool]


def _loads(build: Callable[[Builder], None], kind: str = "RAW_TRACEPOINT", **options: Any) -> bool:
    """Whether a small program is accepted.  Raises SyscallError where the right to load is missing."""
    builder = Builder()
    build(builder)
    try:
        fd, _ = bpf.prog_load(kind, encode(builder.finish()), **options)
    except bpf.LoadRefused as refused:
        if refused.errno == errno.EPERM:
            raise
        return False
    os.close(fd)
    return True


def has_helper(name: str, kind: str = "RAW_TRACEPOINT", **options: Any) -> bool:
    """Whether programs of a type may call a helper.

    The call is made with arguments that cannot be right; what counts is whether the verifier complains about
    them or about the helper.
    """
    builder = Builder()
    builder.call(helper_id(name))
    builder.mov_imm(0, 0)
    builder.exit()
    try:
        fd, _ = bpf.prog_load(kind, encode(builder.finish()), log_level=1, log_size=1 << 16, **options)
    except bpf.LoadRefused as refused:
        if refused.errno in (errno.EPERM, errno.EACCES) and not refused.log:
            raise
        if not refused.log:
            return False  # there are no programs of this type
        unknown = ("invalid func ", "unknown func ", "cannot use helper", "not allowed in probe")
        return not any(words in refused.log for words in unknown)
    os.close(fd)
    return True


def _may_goto(builder: Builder) -> None:
    builder.label("again")
    builder.may_goto("out")
    builder.jump("again")
    builder.label("out")
    builder.mov_imm(0, 0)
    builder.exit()


def _movsx(builder: Builder) -> None:
    builder.mov_imm(1, 1)
    builder.movsx(0, 1, 8)
    builder.mov_imm(0, 0)
    builder.exit()


def _atomic_fetch(builder: Builder) -> None:
    builder.mov_imm(0, 0)
    builder.store_imm(8, 10, -8, 0)
    builder.mov_imm(1, 1)
    builder.atomic(op.BPF_ADD, 8, 10, -8, 1, fetch=True)
    builder.exit()


def _large_keys() -> bool:
    """Whether a hash map's keys may be larger than a program's stack (Linux 5.11, c6bde958a62b)."""
    try:
        os.close(bpf.map_create("HASH", 1024, 8, 1, flags=1))
    except SyscallError as error:
        # Whoever may make no map at all learns that from the first one that a script needs.
        return error.errno != errno.E2BIG
    return True


def _hash_on_demand() -> bool:
    """Whether programs that run in an NMI can use maps without preallocation (Linux 6.1, 34dd3bad1a6f)."""
    fd = bpf.map_create("HASH", 4, 8, 1, flags=1)
    try:
        builder = Builder()
        builder.store_imm(4, 10, -4, 0)
        builder.mov(2, 10)
        builder.alu_imm(op.BPF_ADD, 2, -4)
        builder.load_map(1, "map")
        builder.call(helper_id("map_lookup_elem"))
        builder.mov_imm(0, 0)
        builder.exit()
        try:
            program, _ = bpf.prog_load("PERF_EVENT", encode(builder.finish(), lambda ref: fd))
        except bpf.LoadRefused as refused:
            if refused.errno == errno.EPERM:
                raise
            return False
        os.close(program)
        return True
    finally:
        os.close(fd)


def _perf_link() -> bool:
    """Whether perf events can be attached to by a link; asked with a program, and a descriptor that is no event.

    The program comes first: kernels of every age complain about a bad one in the same way.
    """
    builder = Builder()
    builder.mov_imm(0, 0)
    builder.exit()
    program, _ = bpf.prog_load("TRACEPOINT", encode(builder.finish()))
    try:
        bpf.link_create(program, -1, "PERF_EVENT")
    except SyscallError as error:
        return error.errno == errno.EBADF
    finally:
        os.close(program)
    return True


def _event_source(name: str) -> bool:
    return os.path.isdir(f"/sys/bus/event_source/devices/{name}")


def _uprobe_multi(attach_type: str = "TRACE_UPROBE_MULTI") -> bool:
    """Whether one link can hold many uprobes: a kernel that knows them complains about the bad path."""
    builder = Builder()
    builder.mov_imm(0, 0)
    builder.exit()
    try:
        fd, _ = bpf.prog_load("KPROBE", encode(builder.finish()), expected_attach_type=attach_type)
    except bpf.LoadRefused as refused:
        if refused.errno == errno.EPERM:
            raise
        return False
    try:
        bpf.link_create(
            fd,
            0,
            attach_type,
            {"uprobe_multi_path": b"/\0", "uprobe_multi_offsets": bytes(8)},
            uprobe_multi_cnt=1,
        )
    except SyscallError as error:
        return error.errno == errno.EBADF
    finally:
        os.close(fd)
    return True


def _kprobe_links(attach_type: str) -> bool:
    """Whether one link can hold many kprobes: a kernel that can complains about the name (ESRCH).

    Where fprobe is not built in, as in Debian's Linux 6.1, the answer is EOPNOTSUPP; before, EINVAL.
    """
    builder = Builder()
    builder.mov_imm(0, 0)
    builder.exit()
    try:
        fd, _ = bpf.prog_load("KPROBE", encode(builder.finish()), expected_attach_type=attach_type)
    except bpf.LoadRefused as refused:
        if refused.errno == errno.EPERM:
            raise
        return False
    try:
        os.close(bpf.link_kprobes(fd, [0], names=["no function of any kernel"], attach_type=attach_type))
    except SyscallError as error:
        if error.errno == errno.EPERM:
            raise
        return error.errno in (errno.ESRCH, errno.ENOENT)
    finally:
        os.close(fd)
    return True


def _nothing(builder: Builder) -> None:
    builder.mov_imm(0, 0)
    builder.exit()


def _kernel_type(name: str, kind: type[Type]) -> int | None:
    """The id of a type of the kernel, or None where there is none, or no BTF."""
    from tracebee.btf import Btf

    try:
        return Btf.from_file("/sys/kernel/btf/vmlinux").find(name, kind)
    except OSError:
        return None


def _tp_btf() -> bool:
    """Whether raw tracepoints can have typed arguments; which needs the kernel's BTF."""
    from tracebee.btf.types import Typedef

    type_id = _kernel_type("btf_trace_sys_enter", Typedef)
    return type_id is not None and _loads(
        _nothing, "TRACING", expected_attach_type="TRACE_RAW_TP", attach_btf_id=type_id
    )


def _fentry() -> bool:
    """Whether functions can be traced through trampolines: a program for vfs_read is loaded, not attached."""
    from tracebee.btf.types import Func

    type_id = _kernel_type("vfs_read", Func)
    try:
        return type_id is not None and _loads(
            _nothing, "TRACING", expected_attach_type="TRACE_FENTRY", attach_btf_id=type_id
        )
    except SyscallError:
        # Some kernels refuse it to everybody; of anyone without the rights that says nothing.
        if missing_right("loading BPF programs") is not None:
            raise
        return False


def _d_path() -> bool:
    """Whether the helper is there; a program that may call it needs a path to call it with."""
    from tracebee.btf.types import Func

    return _kernel_type("bpf_d_path", Func) is not None


# --- BTF: a header, types, strings; as few as show a kind


def _takes_btf(*types: tuple[int, ...], strings: bytes = b"") -> bool:
    """Whether the kernel takes BTF with these types, after an ``int`` of id 1.  SyscallError without rights."""
    words = [1, 1 << 24, 4, 1 << 24 | 32]
    for one in types:
        words += one
    text = b"\0int\0x\0" + strings
    data = struct.pack(
        f"=HBB5I{len(words)}I", 0xEB9F, 1, 0, 24, 0, 4 * len(words), 4 * len(words), len(text), *words
    )
    try:
        os.close(bpf.btf_load(data + text))
    except SyscallError as error:
        if error.errno == errno.EPERM:
            raise
        return False
    return True


_X = 5
"""Where the name ``x`` is among those strings."""
_PROTO = (0, 13 << 24, 0)
_VAR = (_X, 14 << 24, 1, 1)

BTF_KINDS: dict[str, tuple[str, str, Callable[[], bool]]] = {
    "func": ("5.0", "types of functions", lambda: _takes_btf(_PROTO, (_X, 12 << 24, 2))),
    "global_func": (
        "5.6",
        "functions that are not static",
        lambda: _takes_btf(_PROTO, (_X, 12 << 24 | 1, 2)),
    ),
    "datasec": (
        "5.2",
        "sections of variables",
        lambda: _takes_btf(_VAR, (_X + 2, 15 << 24 | 1, 4, 2, 0, 4), strings=b".data\0"),
    ),
    "datasec_names": (
        "6.9",
        "sections with a question mark",
        lambda: _takes_btf(_VAR, (_X + 2, 15 << 24 | 1, 4, 2, 0, 4), strings=b"?.data\0"),
    ),
    "float": ("5.13", "floating-point types", lambda: _takes_btf((_X, 16 << 24, 4))),
    "decl_tag": ("5.16", "tags of declarations", lambda: _takes_btf(_VAR, (_X, 17 << 24, 2, 0xFFFFFFFF))),
    "type_tag": ("5.17", "tags of types", lambda: _takes_btf((_X, 18 << 24, 1), (0, 2 << 24, 2))),
    "enum64": ("6.0", "enumerations of 64 bits", lambda: _takes_btf((_X, 19 << 24 | 1, 8, _X, 0, 0))),
}
"""Kinds of BTF by their words in tracebee.btf.sanitize.MISSING: first release, in words, and how to ask."""


def _helper(name: str, since: str, description: str, without: str) -> Feature:
    return Feature(name, since, description, without, lambda: has_helper(name))


FEATURES = {
    feature.name: feature
    for feature in (
        Feature(
            "may_goto",
            "6.9",
            "loops that the kernel cuts short",
            "loops must have an end that the verifier can see",
            lambda: _loads(_may_goto),
        ),
        Feature("isa_v4", "6.6", "instructions of ISA v4", "shifts extend signs", lambda: _loads(_movsx)),
        Feature(
            "atomic_fetch",
            "5.12",
            "atomic operations that give the old value",
            "the value of @x++ may be that of another CPU's",
            lambda: _loads(_atomic_fetch),
        ),
        Feature(
            "hash_on_demand",
            "6.1",
            "hash maps that take memory as they fill",
            "maps take all their memory at once",
            _hash_on_demand,
        ),
        Feature("large_keys", "5.11", "keys of more than 512 bytes", "strings are shorter", _large_keys),
        Feature("perf_link", "5.15", "links for perf events", "programs are attached by ioctl", _perf_link),
        Feature("tp_btf", "5.5", "typed raw tracepoints", "arguments are read by helpers", _tp_btf),
        Feature(
            "uprobe_multi",
            "6.6",
            "one link for many uprobes",
            "a perf event for each uprobe",
            _uprobe_multi,
        ),
        Feature(
            "kprobe_multi",
            "5.18",
            "one link for many kprobes",
            "a perf event for each kprobe",
            lambda: _kprobe_links("TRACE_KPROBE_MULTI"),
        ),
        Feature(
            "kprobe_session",
            "6.10",
            "one program for starts and returns of kernel functions",
            "they are refused",
            lambda: _kprobe_links("TRACE_KPROBE_SESSION"),
        ),
        Feature(
            "uprobe_session",
            "6.13",
            "one program for starts and returns of user functions",
            "they are refused",
            lambda: _uprobe_multi("TRACE_UPROBE_SESSION"),
        ),
        Feature("fentry", "5.5", "fentry and fexit programs", "they are refused", _fentry),
        Feature("kprobe", "4.1", "kprobes", "they are refused", lambda: _event_source("kprobe")),
        Feature("uprobe", "4.1", "uprobes", "they are refused", lambda: _event_source("uprobe")),
        _helper("for_each_map_elem", "5.13", "loops over maps", "they are refused"),
        _helper("map_lookup_percpu_elem", "5.19", "reading aggregations in probes", "it is refused"),
        _helper("loop", "5.17", "loops that the kernel ends", "the verifier walks through every round"),
        _helper("get_attach_cookie", "5.15", "cookies", "a program for each attach point")._replace(
            attempt=lambda: has_helper("get_attach_cookie", "TRACEPOINT")
        ),
        _helper("get_func_ip", "5.15", "func in return probes", "it is refused")._replace(
            attempt=lambda: has_helper("get_func_ip", "KPROBE")
        ),
        _helper("ktime_get_tai_ns", "6.1", "nsecs(tai)", "it is refused"),
        _helper("ktime_get_boot_ns", "5.8", "nsecs(boot)", "nsecs does not count time asleep"),
        _helper("get_current_task_btf", "5.11", "typed curtask", "fields are read by helpers"),
        _helper("jiffies64", "5.5", "jiffies", "it is refused"),
        _helper("override_return", "4.16", "override()", "it is refused")._replace(
            attempt=lambda: has_helper("override_return", "KPROBE")
        ),
        _helper("send_signal", "5.3", "signal()", "it is refused"),
        _helper("probe_read_kernel", "5.5", "reading kernel memory", "nothing works"),
        _helper(
            "get_ns_current_pid_tgid", "5.7", "process ids of a pid namespace", "ids are those of the host"
        ),
        _helper("copy_from_user", "5.10", "reading user memory that is paged out", "such reads fail"),
        _helper(
            "ktime_get_coarse_ns",
            "5.11",
            "BPF memory charged to cgroups",
            "the limit on locked memory is raised",
        )._replace(
            name="memcg_accounting",
            # Programs of tracing may not call it since Linux 5.16 (5e0bc3082e2e).
            attempt=lambda: has_helper("ktime_get_coarse_ns", "SOCKET_FILTER"),
        ),
        _helper("skb_output", "5.5", "skboutput()", "it is refused"),
        Feature(
            "d_path",
            "5.10",
            "path()",
            "it is refused",
            _d_path,
        ),
        *(
            Feature(f"btf_{word}", since, words, "objects' types are made simpler", attempt)
            for word, (since, words, attempt) in BTF_KINDS.items()
        ),
    )
}


class Features:
    """The features of the kernel we stand on; `disabled` ones count as missing."""

    def __init__(self, disabled: Iterable[str] = ()) -> None:
        self._answers: dict[str, bool] = dict.fromkeys(disabled, False)

    def disable(self, name: str) -> None:
        """Count a feature as missing from now on."""
        self._answers[name] = False

    def has(self, name: str) -> bool:
        """Whether the kernel has a feature.

        Raises PermissionRefused or SyscallError if that cannot be found out.
        """
        answer = self._answers.get(name)
        if answer is None:
            try:
                answer = self._answers[name] = FEATURES[name].attempt()
            except SyscallError as error:
                missing = missing_right("loading BPF programs") if error.errno == errno.EPERM else None
                if missing is not None:
                    raise missing from error
                raise
        return answer
