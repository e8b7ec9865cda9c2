"""What this kernel was built without: its JIT, its BTF, its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.rules.record import Finding, Rule, rule

if TYPE_CHECKING:
    import re

    from tracebee.explain.case import Case


def jit(case: Case, found: re.Match[str]) -> Finding | None:
    text = found[0]
    why = (
        "the program was not compiled by the JIT (it is off, or it cannot compile one of its instructions), "
        "and the interpreter cannot do this"
        if "non-JITed" in text
        else "the JIT of this architecture or kernel cannot do this"
    )
    return Finding(
        "jit",
        f"The kernel's JIT compiler is missing or too old for this program: {why} ({text[:100]}).",
        "enable the JIT (echo 1 > /proc/sys/net/core/bpf_jit_enable), use a newer kernel, or avoid what it "
        "cannot compile (atomics, callbacks, calls)",
    )


def no_kernel_btf(case: Case, found: re.Match[str]) -> Finding | None:
    return Finding(
        "btf-invalid",
        "This kernel has no BTF of its own (it was built without CONFIG_DEBUG_INFO_BTF), which the program "
        "needs.",
        "use a kernel with CONFIG_DEBUG_INFO_BTF=y (/sys/kernel/btf/vmlinux), or program types that do "
        "without: kprobe, tracepoint",
        sure=False,
        others=("attach-target", "kfunc"),
    )


RULES: tuple[Rule, ...] = (
    rule(
        "jit",
        r".*(?:non-JITed programs|JIT does(?:n't| not) support|JIT is required|requires BPF JIT|not "
        r"supported by jit).*",
        jit,
        "4.16..7.3",
    ),
    rule(
        "btf-invalid",
        r"kernel is missing BTF|in-kernel BTF is malformed|map_ptr access not supported without "
        r"CONFIG|calling kernel function is not "
        r"supported without CONFIG",
        no_kernel_btf,
        "5.5..",
    ),
)
