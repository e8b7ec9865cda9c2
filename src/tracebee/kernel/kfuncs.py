"""Which functions of the kernel (kfuncs) the programs of a type may call."""

from __future__ import annotations

import errno
import os
from typing import Any

from tracebee.insn import encode
from tracebee.insn.builder import Builder
from tracebee.syscalls import bpf

NOT_ALLOWED = ("is not allowed", "BPF_CALL uses reserved fields")
"""What the verifier says of a function that no program of the type may call, before it looks at arguments; and of any
such call before Linux 5.13."""


def kfunc_allowed(program_type: str, name: str, type_id: int, raw_tracepoint_id: int = 0) -> bool:
    """Whether programs of a type may call a function of the kernel itself, by its name and BTF id.

    A program of type TRACING has to be for something: `raw_tracepoint_id` is the BTF id of a btf_trace_…
    typedef.  Asked by loading a program that calls it without arguments.  What counts is what the verifier complains
    about.  Raises SyscallError where the right to load is missing.
    """
    builder = Builder()
    builder.call_kfunc(name)
    builder.mov_imm(0, 0)
    builder.exit()
    code = encode(builder.finish(), lambda ref: type_id)
    options: dict[str, Any] = {}
    if program_type == "TRACING":
        options = {"expected_attach_type": "TRACE_RAW_TP", "attach_btf_id": raw_tracepoint_id}
    try:
        fd, _ = bpf.prog_load(program_type, code, log_level=1, log_size=1 << 16, **options)
    except bpf.LoadRefused as refused:
        if refused.errno == errno.EPERM and not refused.log:
            raise
        return not any(text in refused.log for text in NOT_ALLOWED)
    os.close(fd)
    return True
