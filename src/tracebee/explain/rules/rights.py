"""The rights of the loader: capabilities, what an unprivileged program may not show, and EPERM without a word."""

from __future__ import annotations

import re

from tracebee.explain.case import Case, register_of
from tracebee.explain.rules.record import LIKELY, Finding, Rule, rule


def capability(case: Case, found: re.Match[str]) -> Finding | None:
    """Messages that name a capability."""
    text = found[0]
    needed = " and ".join(dict.fromkeys(re.findall(r"CAP_[A-Z_]{3,20}", text))) or "CAP_BPF"
    if "function calls to other bpf" in text or "loading/calling other bpf" in text:
        return Finding(
            "no-capability",
            "The program calls functions of its own (bpf-to-bpf subprograms) or kernel functions, which only "
            "a loader with CAP_BPF (or root) may "
            "do; this one is unprivileged.",
            "load it with CAP_BPF (or as root), or inline the functions: static __always_inline",
            others=("unprivileged-leak",),
            no_insn=True,
        )
    return Finding(
        "unprivileged-leak" if case.path.insns else "no-capability",
        f"The program does something that needs {needed}: {text[:120]}.",
        "load it with CAP_BPF and CAP_PERFMON (or as root)",
        sure=False,
        others=("no-capability", "unprivileged-leak"),
    )


def leaks(case: Case, found: re.Match[str]) -> Finding | None:
    register = register_of(found[0])
    where = found[1]
    return Finding(
        "unprivileged-leak",
        f"An unprivileged program would leak a kernel address: R{register} holds a pointer and goes "
        f"{where.replace('into', 'into the')}.",
        "do not store or return pointers, only numbers; or load the program with CAP_BPF and CAP_PERFMON (or "
        "as root)",
        story=case.story(case.trace(register)) if register is not None else (),
    )


def no_rights(case: Case, section_words: str) -> Finding:
    """EPERM without a log."""
    facts = case.facts
    others: tuple[str, ...] = ("lockdown",)
    sure = False
    tracing = section_words.startswith(
        ("a kprobe", "a raw", "a trace", "a perf", "a BPF tramp", "an LSM", "an iter", "a multi", "a session")
    )
    level = facts.lockdown()
    if facts.is_root() and level == "confidentiality":
        return Finding(
            "lockdown",
            "The kernel is locked down (lockdown=confidentiality), which refuses this to root as well.",
            "boot without lockdown, or use what works under it: uprobes, raw tracepoints without memory "
            "reads",
            LIKELY,
            False,
            others=("no-capability",),
        )
    if facts.privileges and not facts.is_root():
        sure = True
        have = "no capability" if facts.is_unprivileged() else facts.privileges
        if tracing and "BPF" in facts.privileges and "PERFMON" not in facts.privileges:
            sentence = (
                f"CAP_PERFMON is missing: {section_words} needs CAP_BPF and CAP_PERFMON, and the loader has "
                f"{have} (EPERM, and no log)."
            )
        else:
            need = (
                "CAP_BPF and CAP_PERFMON"
                if tracing
                else "CAP_BPF and CAP_NET_ADMIN"
                if section_words and "filter" not in section_words
                else "CAP_BPF"
            )
            sentence = (
                f"The loader lacks capabilities: it has {have}, and {section_words or 'the program'} needs "
                f"{need} (EPERM, and no log)."
            )
    else:
        sentence = (
            "The kernel answers EPERM without looking at the program: a capability (CAP_BPF with "
            "CAP_PERFMON, or CAP_SYS_ADMIN) is missing, or a container, "
            "seccomp, a user namespace or lockdown forbids it."
        )
    also: tuple[str, ...] = ()
    if case.older("5.11") is not False:
        also = ("before Linux 5.11 a low RLIMIT_MEMLOCK makes EPERM too (ulimit -l unlimited)",)
    return Finding(
        "no-capability",
        sentence,
        "grant the capabilities (setcap cap_bpf,cap_perfmon+ep FILE; docker run --cap-add BPF --cap-add "
        "PERFMON), or load as root outside of the container; "
        "see also /proc/sys/kernel/unprivileged_bpf_disabled",
        sure=sure,
        others=others,
        also=also,
        fix=(),
    )


RULES: tuple[Rule, ...] = (
    rule(
        "no-capability",
        r".*allowed (?:only )?(?:for|to) (?:CAP_\w+|root only).*"
        r"|.*(?:are required to use|requires?|require) .*CAP_\w+.*"
        r"|.*CAP_BPF and CAP_PERFMON are required.*",
        capability,
        "4.15..7.3",
    ),
    rule("unprivileged-leak", r"R\d+ leaks addr (as return value|into \w+(?: \w+)?)", leaks, "4.15..7.3"),
)
