"""Targets to attach to: missing, misspelt or closed ones, and the section names that ask for them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.rules.record import Finding, Rule, rule

if TYPE_CHECKING:
    from tracebee.explain.case import Case
    from tracebee.explain.explanation import SourceLine


def attach(case: Case, found: re.Match[str]) -> Finding | None:
    """The target of a BTF-typed program."""
    text = found[0]
    target = case.facts.section.partition("/")[2]
    which = f" ({target})" if target else ""
    if "is not modifiable" in text:
        sentence = (
            f"fmod_ret cannot be attached to {text.split(' is not')[0]}: its return value may not be "
            f"modified by a program."
        )
        advice = (
            "use a function that allows error injection (ALLOW_ERROR_INJECTION) or a security_ hook; or "
            "fexit, which only looks"
        )
    elif "noreturn" in text:
        sentence = f"fexit, fmod_ret and sessions cannot be attached to a function that never returns{which}."
        advice = "use fentry (or kprobe) on it"
    elif "address of function" in text:
        name = text.split("function ")[1].split(" ")[0]
        sentence = (
            f"The function {name} is in BTF, but its address cannot be found: it was inlined or removed, or "
            f"is in a module that is not loaded."
        )
        advice = "attach to a function that is in /proc/kallsyms under exactly this name, or load the module"
    elif "must provide btf_id" in text:
        sentence = (
            f"A tracing program was loaded without the BTF id of its target function{which}: the loader did "
            f"not find the target."
        )
        advice = (
            'name the function in the section: SEC("fentry/function"), and that it is in the kernel\'s BTF'
        )
    elif "bpf_struct_ops" in text or "struct_ops" in text or "attach to" in text:
        sentence = (
            f"The struct_ops member that the program is for does not exist or may not be attached to: "
            f"{text[:120]}."
        )
        advice = "use a member of the struct_ops type of this kernel, with the same name"
    else:
        sentence = (
            f"The function, hook or program to attach to{which} does not exist in BTF under that name, or "
            f"not as what it has to be: {text[:100]}."
        )
        advice = (
            "check the name in the kernel's BTF (tracebee -l, bpftool btf dump), and the kind of the target"
        )
    return Finding("attach-target", sentence, advice, fix=(section_line(case),))


def section_line(case: Case) -> SourceLine | None:
    """The line with the program's section."""
    if case.source is None or not case.facts.section:
        return None
    return case.source.search(rf'SEC\("\??{re.escape(case.facts.section)}"\)')


def near_section(name: str) -> str:
    """What the section name was probably meant to be."""
    from difflib import get_close_matches

    known = [
        "kprobe",
        "kretprobe",
        "uprobe",
        "uretprobe",
        "tracepoint",
        "raw_tracepoint",
        "raw_tp",
        "tp_btf",
        "fentry",
        "fexit",
        "lsm",
        "xdp",
        "tc",
        "socket",
        "perf_event",
        "iter",
        "cgroup_skb/egress",
        "sk_msg",
        "usdt",
        "tp",
        "ksyscall",
    ]
    head, separator, rest = re.match(r"([\w.]*)([/:|\- ]?)(.*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    if head in known and separator not in ("", "/"):
        return f"{head}/{rest.replace(':', '/')}"
    near = get_close_matches(head, known, 1)
    return f"{near[0]}/{rest}" if near and rest else near[0] if near else ""


RULES: tuple[Rule, ...] = (
    rule(
        "attach-target",
        r"\S+ is not modifiable|Attaching .* to (?:__noreturn )?function.*rejected.*|The address of function "
        r"\S+ cannot be found"
        r"|Tracing programs must provide btf_id|attach_btf_id .*|attach to (?:invalid|unsupported) "
        r"member.*|bpf_struct_ops map cannot be used.*"
        r"|Cannot (?:extend|replace|recursively attach|nest|attach).*|Subprog \S+ doesn't exist|Can attach "
        r"to only JITed progs|Only FENTRY/FEXIT.*"
        r"|Extension program.*|btf_id \d+ not found|.*function \S+ has \d+ arguments\. Too many.*|Function "
        r"\S+ has \d+ > \d+ args",
        attach,
        "5.5..7.3",
    ),
)
