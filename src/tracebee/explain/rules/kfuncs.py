"""Kernel functions (kfuncs): missing ones, their arguments, and who may call them."""

from __future__ import annotations

import re

from tracebee.explain.case import Case, describe
from tracebee.explain.rules.record import Finding, Rule, rule
from tracebee.explain.rules.releases import perhaps_released, released


def kfunc(case: Case, found: re.Match[str]) -> Finding | None:
    """What kernel functions ask of their arguments and callers."""
    text = found[0]
    name = case.called or "the kernel function (kfunc)"
    named = re.search(r"(?:kernel func(?:tion)?|kfunc) (\w{3,128})", text)
    if named and named[1] not in ("args", "call", "calls", "expected", "is"):
        name = named[1]
    register = case.argument(text)
    value = case.value(register) if register is not None and case.called else None
    if register is not None and value is not None and value.is_scalar():
        gone = released(case, register, case.trace(register), name)
        if gone is not None:
            return gone
    if (
        "rcu pointer" in text
        or "referenced or trusted" in text
        or "must be referenced" in text
        or "trusted" in text
    ):
        known = case.value(register) if register is not None else None
        what = describe(known) if known is not None else "an untrusted pointer"
        who = f"R{register}" if register is not None else "an argument"
        return Finding(
            "kfunc",
            f"The kfunc {name} gets {what} in {who} that is not trusted: it was read from another object, or "
            f"its reference is gone, and "
            f"the function needs a trusted or referenced pointer.",
            "acquire a reference first (bpf_task_acquire(), bpf_task_from_pid(), bpf_cgroup_acquire(), "
            "bpf_kptr_xchg()), or pass the pointer "
            "that the program got as argument itself; a pointer that was read from a struct needs "
            "bpf_rcu_read_lock() around both. "
            "Where the kernel asks for an rcu pointer, a trusted one will do",
            story=case.story(case.trace(register)) if register is not None else (),
        )
    if "is not allowed" in text or "not allowed" in text:
        sentence = (
            f"The kernel function (kfunc) {name} may not be called from {case.kind}: it is not registered "
            f"for that type of program."
        )
        advice = "use a program type that may call it, or a helper that does the same"
    elif "cannot find address" in text or "failed to find BTF" in text or "is not a function" in text:
        sentence = (
            f"The kernel function (kfunc) {name} does not exist on this kernel, or is not to be found there."
        )
        advice = (
            "use a newer kernel that has the function, load its module, or test with bpf_ksym_exists() and "
            "go without"
        )
    elif "JIT" in text or "non-JITed" in text:
        return Finding(
            "jit",
            f"The JIT compiler of this kernel or architecture cannot call kernel functions (kfunc): "
            f"{text[:120]}.",
            "enable the JIT (/proc/sys/net/core/bpf_jit_enable), or use a kernel whose JIT supports it",
            others=("kfunc",),
        )
    elif "CAP_SYS_BOOT" in text:
        sentence = f"The kernel function (kfunc) {name} is destructive and needs the capability CAP_SYS_BOOT."
        advice = "load the program with that capability"
    else:
        sentence = f"The call of the kernel function (kfunc) {name} is not right: {text[:140]}."
        advice = (
            "pass arguments of exactly the types in its prototype (bpftool btf dump, or the kernel's "
            "documentation)"
        )
    return Finding("kfunc", sentence, advice, fix=(case.place(case.end),))


def kfunc_argument(case: Case, found: re.Match[str]) -> Finding | None:
    """``arg#0 pointer type STRUCT task_struct must point to scalar`` at the call of a kernel function.

    The kernel takes the argument for plain memory when the register holds no typed pointer: mostly a number.
    """
    name = case.called
    if not name or case.operation.kind != "call":
        return None
    register = case.argument(found[0]) or 1
    origin = case.trace(register)
    known = case.value(register)
    number = known is not None and known.is_scalar()
    if number or known is None:
        gone = released(case, register, origin, name) or perhaps_released(case, register, origin)
        if gone is not None:
            return gone
    struct = re.search(r"(?:STRUCT|struct|UNION|union) (\w{1,128})", found[0])
    wanted = f"a pointer to struct {struct[1]}" if struct else "a pointer of another type"
    source = f", the result of {origin.name}" if origin.kind == "call" and origin.name else ""
    have = f"a plain number{source}" if number else describe(known) if known is not None else "something else"
    advice = (
        f"pass a pointer that the verifier knows as {wanted.removeprefix('a pointer to ')}: an argument of the "
        f"hook, or the result of an acquiring function"
    )
    if origin.name == "bpf_get_current_task":
        advice = "take the task from bpf_get_current_task_btf() (Linux 5.11): its result is a typed pointer"
    return Finding(
        "kfunc",
        f"The kernel function (kfunc) {name} gets {have} as argument {register} (R{register}), but needs "
        f"{wanted}.",
        advice,
        sure=number,
        story=case.story(origin),
        fix=(case.place(origin.position), case.place(case.end)),
        others=("helper-arg-type", "direct-deref", "global-function"),
    )


def kfunc_missing(case: Case, found: re.Match[str] | None) -> Finding:
    loader = case.facts.loader + "\n" + "\n".join((*case.log.loader, *case.errors))
    named = re.search(r"kfunc '([^']{1,128})'|\(func ksym\) '([^']{1,128})'", loader)
    name = (named[1] or named[2]) if named else ""
    place = case.place(case.end)
    if not name and place is not None:
        words = re.findall(r"\b(bpf_\w{1,100})\s*\(", place.text)
        name = words[-1] if words else ""
    return Finding(
        "kfunc",
        f"The kernel function (kfunc) {name or 'that the program calls'} does not exist on this kernel: it "
        f"was not found in the BTF of the kernel "
        f"or its modules.",
        "use a newer kernel or load the module that has it; declare it __weak and test bpf_ksym_exists() "
        "before the call",
        others=("core-relocation",),
        fix=(place,),
    )


RULES: tuple[Rule, ...] = (
    rule(
        "kfunc",
        r"(?:R|arg#)\d{1,2} (?:pointer type|reference type).*",
        kfunc_argument,
        "5.13..7.3",
    ),
    rule(
        "kfunc",
        r".*(?:must be (?:a rcu pointer|referenced)|referenced or trusted|calling kernel function|kernel "
        r"function (?:\S+ )?args#"
        r"|expects refcounted PTR_TO_BTF_ID|expects referenced PTR_TO_BTF_ID|kernel "
        r"function btf_id|for kernel function"
        r"|destructive kfunc|kfunc \S+ (?:failed|conversion)|too many different kernel function|can only "
        r"take non-owning).*",
        kfunc,
        "5.18..7.3",
    ),
    rule(
        "kfunc", r"kfunc '[^']{1,128}' is referenced but wasn't resolved|<invalid kfunc call>", kfunc_missing
    ),
)
