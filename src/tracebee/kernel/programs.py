"""Loading programs: symbols become descriptors, and a refusal comes with its log."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from tracebee.btf.ext import encode_func_info, encode_line_info
from tracebee.errors import NotSupportedError, VerifierError
from tracebee.insn import encode
from tracebee.insn import opcodes as op
from tracebee.insn.codec import KernelSymbol, Kfunc, MapFd, MapValue, resolve
from tracebee.kernel.permission import missing_right
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracebee.insn import Insn, Ref
    from tracebee.kernel.symbols import KernelNames
    from tracebee.spec.objects import ProgramSpec

BPF_F_SLEEPABLE = 1 << 4
BPF_F_XDP_HAS_FRAGS = 1 << 5

POISON_CALL = 2_002_000_000
"""The first of the numbers of helpers that do not exist, for weak functions that are missing; libbpf has the same."""

FORBIDDEN = ("TRACE_FENTRY", "TRACE_FEXIT", "MODIFY_RETURN")
"""Attach types that some kernels refuse to everybody, as they refuse the types EXT and LSM."""

OPTIONAL_ATTACH_TYPES = frozenset(
    (
        *("XDP", "CGROUP_INET_INGRESS", "CGROUP_INET_EGRESS", "CGROUP_INET_SOCK_CREATE", "CGROUP_SOCK_OPS"),
        *(
            "CGROUP_DEVICE",
            "SK_SKB_STREAM_PARSER",
            "SK_SKB_STREAM_VERDICT",
            "SK_SKB_VERDICT",
            "SK_MSG_VERDICT",
        ),
        *("LIRC_MODE2", "FLOW_DISSECTOR", "TCX_INGRESS", "TCX_EGRESS", "NETKIT_PRIMARY", "NETKIT_PEER"),
    )
)
"""Attach types that a program does without when it is loaded: what it is loaded for follows from its type."""


class Program:
    """A loaded program on its descriptor; `log` is what the verifier wrote, if it was asked to."""

    def __init__(self, spec: ProgramSpec, fd: int, log: str = "") -> None:
        self.spec = spec
        self.fd = fd
        self.log = log

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def info(self, field: str) -> int:
        """A number out of struct bpf_prog_info, such as run_time_ns; 0 where the kernel does not know it."""
        from tracebee.syscalls._uapi import BPF_PROG_INFO

        return bpf.info_field(bpf.object_info(self.fd, 256), BPF_PROG_INFO, field)


def load_program(
    spec: ProgramSpec,
    maps: Mapping[str, int],
    btf_fd: int,
    names: KernelNames,
    log_bytes: int = 1 << 24,
    log_level: int = 0,
    target_fd: int = 0,
) -> Program:
    """Load a program whose map references are the descriptors in `maps`.

    `names` know what it names in the kernel.  One that is for a function of another program has that program's
    descriptor as `target_fd`.  `log_level` is that of the verifier, 2 for every instruction.  Raises VerifierError
    with the whole log, NotSupportedError for what the kernel has not, or PermissionRefused.
    """
    binding = Binding(maps, names)
    insns = binding.bind(spec.insns)
    options: dict[str, Any] = {
        "license": spec.license,
        "name": spec.name,
        "expected_attach_type": spec.expected_attach_type,
        "btf_fd": btf_fd,
        "func_info": encode_func_info(spec.func_info),
        "line_info": encode_line_info(spec.line_info),
        "flags": (BPF_F_SLEEPABLE if spec.sleepable else 0) | (BPF_F_XDP_HAS_FRAGS if spec.frags else 0),
        "fd_array": binding.fd_array,
    }
    if target_fd:
        options["attach_btf_id"] = function_of_program(target_fd, spec.attach_to)
        options["attach_btf_fd"] = target_fd
    elif spec.attach_to and spec.type != "EXT":
        found = names.get(spec.attach_to, spec.attach_module)
        options["attach_btf_id"] = found.type_id
        options["attach_btf_fd"] = names.module_fd(found.module) if found.module else 0
    elif spec.type == "EXT":
        raise NotSupportedError(
            f"{spec.name} without the program whose function {spec.attach_to or '?'} it replaces (freplace)",
            hint="say which program that is",
        )
    elif spec.type == "STRUCT_OPS":
        raise NotSupportedError(
            f"{spec.name}, a function of a structure of the kernel (struct_ops)",
            hint='give its section a "?" (SEC("?struct_ops/…")) and the rest of the object can be loaded',
        )
    return _load(spec, encode(insns), options, log_bytes, log_level, binding)


class Binding:
    """Puts numbers in the place of names.

    `fd_array` is what has to be given with the program; `missing` are weak functions that the kernel has not, by
    the number of the helper that stands in their place.
    """

    def __init__(self, maps: Mapping[str, int], names: KernelNames) -> None:
        self.maps = maps
        self.names = names
        self.fd_array: list[int] = []
        self.missing: dict[int, str] = {}

    def bind(self, insns: Sequence[Insn]) -> list[Insn]:
        """The instructions without names.  Raises NotSupportedError for what the kernel has not."""
        return resolve(
            [self._settled(insn) if insn.ref is not None else insn for insn in insns], self._number
        )

    def _settled(self, insn: Insn) -> Insn:
        """One whose name may be missing from the kernel, made harmless if it is."""
        ref = insn.ref
        if isinstance(ref, KernelSymbol):
            if insn.src != op.BPF_PSEUDO_BTF_ID:
                address = self.names.address(ref.name)
                if address is None and not ref.weak:
                    raise NotSupportedError(f"the symbol {ref.name}, which is not in /proc/kallsyms")
                return insn._replace(imm=address or 0, ref=None)
            if ref.weak and self.names.find(_essential(ref.name)) is None:
                return insn._replace(src=0, imm=0, ref=None)
        elif isinstance(ref, Kfunc) and ref.weak and self.names.find(_essential(ref.name)) is None:
            # Where it is never come to the verifier takes the call out; else it says this number.
            number = POISON_CALL + len(self.missing)
            self.missing[number] = ref.name
            return insn._replace(src=0, off=0, imm=number, ref=None)
        return insn

    def _number(self, ref: Ref) -> int:
        if isinstance(ref, MapFd | MapValue):
            return self.maps[ref.name]
        if isinstance(ref, KernelSymbol):
            found = self.names.get(_essential(ref.name))
            return found.type_id | (self.names.module_fd(found.module) << 32 if found.module else 0)
        if isinstance(ref, Kfunc):
            found = self.names.get(_essential(ref.name))
            return found.type_id | self._place(found.module) << 32
        raise AssertionError(ref)

    def _place(self, module: str) -> int:
        """The index of a module's BTF in fd_array, whose first stands for the kernel itself."""
        if not module:
            return 0
        fd = self.names.module_fd(module)
        if not self.fd_array:
            self.fd_array.append(0)
        if fd not in self.fd_array:
            self.fd_array.append(fd)
        return self.fd_array.index(fd)


def _essential(name: str) -> str:
    """A name without its flavor, such as ``___new``."""
    if "___" not in name:
        return name
    from tracebee.btf.core import essential

    return essential(name)


def function_of_program(fd: int, name: str) -> int:
    """The BTF id of a function of a loaded program.  Raises NotSupportedError."""
    from tracebee.btf.reader import Btf
    from tracebee.btf.types import Func
    from tracebee.syscalls import _uapi

    number = bpf.info_field(bpf.object_info(fd, 256), _uapi.BPF_PROG_INFO, "btf_id")
    if not number:
        raise NotSupportedError(
            "a program for a function of a program without BTF", hint="compile that one with -g"
        )
    btf = Btf.from_bytes(_btf_bytes(number))
    found = btf.find(name, Func)
    if found is None:
        from tracebee.host.functions import nearest_names

        near = nearest_names(name, [other for _, other in btf.names_of_kind(Func)], 3)
        raise NotSupportedError(
            f"the function {name}, which the program to change has not",
            hint=f"did you mean {' or '.join(near)}?" if near else "",
        )
    return found


def _btf_bytes(number: int) -> bytes:
    from tracebee.syscalls import _uapi, bpfids
    from tracebee.syscalls.raw import empty_buffer

    layout, length = _uapi.BPF_BTF_INFO, _uapi.BPF_BTF_INFO_SIZE
    fd = bpfids.fd_by_id("btf", number)
    try:
        size = bpf.info_field(bpf.object_info(fd, length), layout, "btf_size")
        area = empty_buffer(size)
        bpfids.read_info(fd, layout, length, {"btf": area}, btf_size=size)
        return area.raw[:size]
    finally:
        os.close(fd)


def _load(
    spec: ProgramSpec, code: bytes, options: dict[str, Any], log_bytes: int, log_level: int, binding: Binding
) -> Program:
    """BPF_PROG_LOAD, with what a refusal means."""
    try:
        return Program(
            spec, *bpf.prog_load(spec.type, code, log_level=log_level, log_size=log_bytes, **options)
        )
    except bpf.LoadRefused as refused:
        if refused.errno == errno.EPERM:
            _explain_permission(spec, refused)
        # Asked again, so that the log is only written when somebody reads it.
        try:
            loaded = bpf.prog_load(spec.type, code, log_level=1, log_size=log_bytes, **options)
        except bpf.LoadRefused as logged:
            if not logged.log and spec.expected_attach_type in OPTIONAL_ATTACH_TYPES:
                # Old kernels want to hear nothing of it (libbpf's SEC_EXP_ATTACH_OPT).
                try:
                    without = options | {"expected_attach_type": ""}
                    return Program(spec, *bpf.prog_load(spec.type, code, **without))
                except bpf.LoadRefused:
                    pass
            number = refused.errno or 0
            hint = _hint(spec, logged, binding)
            raise VerifierError(spec.name, number, logged.log, hint, quiet_errno=number, spec=spec) from None
        return Program(spec, *loaded)


def _hint(spec: ProgramSpec, refused: bpf.LoadRefused, binding: Binding) -> str:
    """What a refusal may come from, where that can be told."""
    for number, name in binding.missing.items():
        if f"#{number}" in refused.log:
            return f"it calls {name}, which this kernel has not: ask bpf_ksym_exists({name}) first"
    if not refused.log and refused.errno in (errno.EINVAL, errno.E2BIG):
        from tracebee.kernel.probing import probe_program_type

        if not probe_program_type(spec.type):
            return f"this kernel has no programs of type {spec.type}"
        if spec.expected_attach_type:
            return f"this kernel may not know the attach type {spec.expected_attach_type}"
    return ""


def _explain_permission(spec: ProgramSpec, refused: bpf.LoadRefused) -> None:
    """EPERM without a word may be a missing right or a kernel that forbids this kind of program."""
    missing = missing_right("loading BPF programs")
    if missing is not None:
        raise missing from refused
    if spec.type in ("EXT", "LSM") or spec.expected_attach_type in FORBIDDEN:
        kind = (
            f"attach type {spec.expected_attach_type}" if spec.expected_attach_type else f"type {spec.type}"
        )
        raise VerifierError(
            spec.name,
            errno.EPERM,
            "",
            f"this kernel refuses programs of {kind} to everybody, root included; "
            "tracepoints and raw tracepoints are what it allows",
            spec=spec,
        ) from refused


def save_log(error: VerifierError) -> str:
    """Write a verifier log to a file that stays; its path, or an empty string if that fails."""
    if not error.log:
        return ""
    try:
        import tempfile

        handle, path = tempfile.mkstemp(prefix="tracebee-verifier-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(error.log)
    except OSError:
        return ""
    return path
