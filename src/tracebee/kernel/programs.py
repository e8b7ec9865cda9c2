"""Loading programs: symbols become descriptors, and a refusal comes with its log."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from tracebee.btf.ext import encode_func_info, encode_line_info
from tracebee.errors import VerifierError
from tracebee.insn import encode
from tracebee.insn.codec import KernelSymbol, MapFd, MapValue
from tracebee.kernel.permission import missing_right
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tracebee.insn import Ref
    from tracebee.spec.objects import ProgramSpec


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
    type_id_of: Callable[..., int],
    log_bytes: int = 1 << 24,
    log_level: int = 0,
) -> Program:
    """Load a program whose map references are the descriptors in `maps`.

    `type_id_of` gives the BTF id of what `attach_to` names, and takes the module as well if there is one;
    `log_level` is that of the verifier, 2 for every
    instruction.  Raises VerifierError with the whole log, or PermissionRefused.
    """

    def bind(ref: Ref) -> int:
        if isinstance(ref, MapFd | MapValue):
            return maps[ref.name]
        if isinstance(ref, KernelSymbol):
            return type_id_of(ref.name)
        raise AssertionError(ref)

    code = encode(spec.insns, bind)
    where = (spec.attach_to, spec.attach_module) if spec.attach_module else (spec.attach_to,)
    type_id = type_id_of(*where) if spec.attach_to else 0
    module_fd = bpf.module_btf_fd(spec.attach_module) if spec.attach_module else 0
    if module_fd < 0:
        raise VerifierError(
            spec.name, errno.ENOENT, "", f"the module {spec.attach_module} has no BTF in this kernel"
        )
    options: dict[str, Any] = {
        "license": spec.license,
        "name": spec.name,
        "expected_attach_type": spec.expected_attach_type,
        "attach_btf_id": type_id,
        "attach_btf_fd": module_fd,
        "btf_fd": btf_fd,
        "func_info": encode_func_info(spec.func_info),
        "line_info": encode_line_info(spec.line_info),
        "flags": 1 << 4 if spec.sleepable else 0,
    }
    try:
        return _load(spec, code, options, log_bytes, log_level)
    finally:
        if module_fd:
            os.close(module_fd)


def _load(spec: ProgramSpec, code: bytes, options: dict[str, Any], log_bytes: int, log_level: int) -> Program:
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
            number = refused.errno or 0
            raise VerifierError(
                spec.name, number, logged.log, quiet_errno=refused.errno or 0, spec=spec
            ) from None
        return Program(spec, *loaded)


def _explain_permission(spec: ProgramSpec, refused: bpf.LoadRefused) -> None:
    """EPERM without a word may be a missing right or a kernel that forbids this kind of program."""
    missing = missing_right("loading BPF programs")
    if missing is not None:
        raise missing from refused
    if spec.expected_attach_type in ("TRACE_FENTRY", "TRACE_FEXIT", "LSM_MAC", "MODIFY_RETURN"):
        raise VerifierError(
            spec.name,
            errno.EPERM,
            "",
            f"this kernel refuses programs of attach type {spec.expected_attach_type} to everybody, root included; "
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
