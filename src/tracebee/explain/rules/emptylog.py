"""Refusals without the verifier's own error: what the loader said, errno alone, and logs that were cut off."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from tracebee.explain.edits import section_edit
from tracebee.explain.rules.kfuncs import kfunc_missing
from tracebee.explain.rules.record import LIKELY, WEAK, Finding
from tracebee.explain.rules.relocation import core
from tracebee.explain.rules.rights import no_rights
from tracebee.explain.rules.targets import near_section, section_line
from tracebee.explain.versions import is_older, program_kind

if TYPE_CHECKING:
    from tracebee.explain.case import Case


def from_loader(case: Case) -> Finding | None:
    """What the loader said, where the verifier was not even asked."""
    text = case.facts.loader + "\n" + "\n".join(case.log.loader)
    if not text.strip():
        return None
    found = re.search(
        r"failed to find (?:kernel )?BTF type ID of '([^']{1,128})'|'([^']{1,128})' is not found in vmlinux "
        r"BTF",
        text,
    )
    if found:
        name = found[1] or found[2]
        section = case.facts.section
        lsm = section.startswith("lsm")
        raw = section.startswith("tp_btf")
        what = "LSM hook" if lsm else "tracepoint" if raw else "function"
        return Finding(
            "attach-target",
            f"There is no {what} named {name} on this kernel: no such name was found in its BTF (the target "
            f"to attach to does not exist).",
            "check the name: it may be misspelt, renamed in this version, inlined by the compiler, or in a "
            "module. "
            + ("LSM hooks are bpf_lsm_... in /proc/kallsyms" if lsm else "tracebee -l lists what is there"),
            fix=(section_line(case),),
        )
    found = re.search(
        r"missing BPF prog type, check ELF section name '([^']{1,200})'|failed to "
        r"(?:guess|determine|load).{0,40}program type.{0,80}"
        r"'([^']{1,200})'",
        text,
    )
    if found:
        name = found[1] or found[2]
        near = near_section(name)
        return Finding(
            "bad-sec-name",
            f'The section name SEC("{name}") is unknown to the loader (libbpf): it cannot tell the program type.',
            f"write the section as type/target with a "
            f"slash{f', such as SEC({chr(34)}{near}{chr(34)})' if near else ''}: kprobe/function, "
            f"tracepoint/category/name, fentry/function, xdp, tc",
            edit=section_edit(case.source, name, near)
            if "/" in near or near in ("xdp", "tc", "socket")
            else None,
            fix=(section_line(case),),
        )
    if re.search(r"no matching targets found|failed to resolve CO-RE relocation", text):
        return core(case, None)
    if re.search(
        r"kfunc '[^']+' is referenced but wasn't resolved|extern \(func ksym\) '[^']+': not found", text
    ):
        return kfunc_missing(case, None)
    if re.search(r"(?:Error loading|failed to load|BTF loading error|Error parsing).{0,20}\.?BTF", text):
        return Finding(
            "btf-invalid",
            "The kernel refused the BTF type information of the object (or the loader could not read it).",
            "build with a matching clang, and let the loader sanitize BTF for old kernels; or strip it "
            "(llvm-strip -g)",
            LIKELY,
            False,
        )
    if re.search(r"kernel BTF|vmlinux BTF|BTF is required", text):
        return Finding(
            "btf-invalid",
            "The loader found no usable BTF of the kernel (/sys/kernel/btf/vmlinux), which the program "
            "needs.",
            "use a kernel with CONFIG_DEBUG_INFO_BTF=y, or give the loader a BTF file for this kernel "
            "(btf_custom_path, BTFHub)",
            LIKELY,
            False,
            others=("core-relocation",),
        )
    return None


def empty_log(case: Case) -> Finding | None:
    """No line of the verifier: errno, rights and versions are all there is."""
    facts = case.facts
    errno = facts.quiet_errno or facts.errno
    section_words, since = program_kind(facts.section)
    if errno == "EPERM" or (errno == "EACCES" and not case.log.insns):
        return no_rights(case, section_words)
    if errno in ("E524", "524", "ENOTSUPP"):
        return Finding(
            "jit",
            "The kernel answers ENOTSUPP (524): its JIT compiler cannot do this on this architecture or "
            "version.",
            "enable the JIT (/proc/sys/net/core/bpf_jit_enable), or use a newer kernel: trampolines (fentry, "
            "LSM) on arm64 need Linux 6.0",
            LIKELY,
            False,
            others=("attach-target",),
        )
    if errno == "E2BIG":
        if facts.instructions > 4096 and (facts.is_unprivileged() or case.older("5.2")):
            why = "without CAP_BPF" if facts.is_unprivileged() else "before Linux 5.2"
            return Finding(
                "too-complex",
                f"The program has {facts.instructions} instructions; {why} the limit is 4096: it is too "
                f"large.",
                "make it smaller: split it with tail calls, shorten unrolled loops, or load it with CAP_BPF",
            )
        return Finding(
            "too-complex",
            "The kernel answers E2BIG without a log: the program is too large (4096 instructions without "
            "CAP_BPF or before Linux 5.2, else one million "
            "to look at), or the loader uses attributes that this kernel does not know.",
            "split the program, shorten loops (bpf_loop), load it with CAP_BPF; ask for a log (log_level 1)",
            WEAK,
            False,
        )
    if errno == "EINVAL" and since and is_older(facts.release, since):
        return Finding(
            "helper-too-new",
            f"The kernel ({facts.release}) is older than {section_words}, which came with Linux {since}: it "
            f"does not know the program type or its attach "
            f"type.",
            f"use Linux {since} or newer, or an older kind of program (kprobe, tracepoint)",
            LIKELY,
            False,
            others=("attach-target",),
        )
    if errno == "EINVAL" and section_words in ("a BPF trampoline program", "an LSM program"):
        return Finding(
            "attach-target",
            f"The kernel refuses {section_words} without a log: its target "
            f"({facts.section.partition('/')[2] or 'function'}) does not exist in BTF, or may not be "
            f"attached to.",
            "check the function's or hook's name in the kernel's BTF",
            LIKELY,
            False,
        )
    return None


def loader_errno(case: Case) -> str:
    """The error that the loader told of, which had loaded without a log first; empty if that is the log's own."""
    text = case.facts.loader + "\n" + "\n".join(case.log.loader)
    told = re.findall(r"failed to load(?: BPF skeleton)?[^\n]{0,40}: -(\d{1,3})\b", text)
    name = errno.errorcode.get(int(told[0]), "") if told else ""
    return "" if name in ("ENOSPC", case.facts.errno) else name


def log_cut(case: Case) -> Finding | None:
    """ENOSPC, or a log without its end: the buffer was too small, and the program's own error is not in it."""
    facts = case.facts
    quiet = facts.quiet_errno or loader_errno(case)
    if facts.errno != "ENOSPC" and not case.log.tail_cut:
        return None
    if quiet in ("E2BIG", "EFAULT"):
        from tracebee.explain.rules.flow import complexity

        finding = complexity(case, None)
        finding.evidence = (
            f"the load without a log ends with {quiet}; ENOSPC comes from the log's buffer alone",
        )
        finding.also = ("the log did not fit its buffer: ENOSPC speaks of the log, not of the program",)
        return finding
    said = " and the errno ENOSPC speaks of the log, not of the program" if facts.errno == "ENOSPC" else ""
    true = f" Without a log the errno is {quiet}." if quiet else ""
    size = f" of {facts.log_size} bytes" if facts.log_size else ""
    return Finding(
        "log-truncated",
        f"The log is cut off: its buffer{size} was too small (truncated), so the real error is missing from "
        f"its end{said}.{true}",
        "load again with a larger log buffer (16 MiB: log_size, kernel_log_size, bpf_object_open_opts), or "
        "with log_level 4, which has the "
        "last lines only",
        sure=facts.errno == "ENOSPC" or not case.log.gap,
    )
