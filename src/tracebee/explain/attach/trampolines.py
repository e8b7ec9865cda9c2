"""fentry, fexit, fmod_ret, freplace and LSM programs: what BPF trampolines can be put on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.attach import functions, names, versions
from tracebee.explain.attach.attempt import ENOTSUPP
from tracebee.explain.attach.finding import GUESS, LIKELY, PROVEN, TOLD, Finding, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.explain.attach.attempt import Attempt

KINDS = ("fentry", "fexit", "fmod_ret", "freplace", "lsm", "iter")

REFUSALS = {
    # The verifier's words (bpf_check_attach_target() and check_attach_btf_id()): what they mean, what to do.
    r"noreturn function '?(\w+)": (
        "{name} never returns (noreturn), so a program for its return, fexit, is refused",
        "use fentry on {name}, or a tracepoint at that place ({instead})",
    ),
    r"(\w+)\(\) is not modifiable": (
        "fmod_ret changes a function's return value, which the kernel allows only for functions marked for error "
        "injection and for security hooks; {name} may not be modified",
        "use fentry or fexit to watch {name}; to change results, hook an LSM function (security_{name} or the like)",
    ),
    r"(\w+) is not sleepable": (
        "{name} is called where nothing may sleep, so a sleepable program (fentry.s, lsm.s) cannot be on it",
        "load the program without BPF_F_SLEEPABLE (SEC fentry/ in place of fentry.s/)",
    ),
    r"function (\w+) has \d+ arguments. Too many": (
        "{name} has more arguments than a trampoline can pass on",
        "use a kprobe on {name}, or a function that it calls",
    ),
    r"The address of function (\w+) cannot be found": (
        "the kernel's BTF has {name}, but kallsyms has no function of that name: it was inlined or renamed by the "
        "compiler, and a trampoline needs its address",
        "hook a function that calls it, a variant such as {name}.isra.0 by kprobe, or a tracepoint",
    ),
    r"attach_btf_id \d+ is not a (?:function|tracepoint)": (
        "what the program is to be attached to, {name}, is no function (or tracepoint) in the kernel's BTF",
        "name a function that is in BTF: tracebee btf dump shows them",
    ),
    r"points to disabled hook": (
        "the LSM hook {name} is one that BPF programs may not use",
        "use another LSM hook (bpf_lsm_* in kallsyms lists them)",
    ),
    r"(?:invalid btf|btf_id|attach_btf_id) \d+ .*(?:not found|invalid)": (
        "the BTF id that the program names is not one of this kernel: it was built against another kernel's BTF",
        "look {name} up in the running kernel's BTF when loading (libbpf does)",
    ),
    r"can(?:not|'t) (?:extend|replace|recursively)": (
        "{name} cannot be replaced or hooked by this program: the kernel allows no chain of tracing on tracing",
        "attach to the program that is not itself a tracing program",
    ),
}


def _examine(attempt: Attempt) -> Iterator[Finding]:
    if attempt.kind not in KINDS or attempt.is_silent:
        return
    if not attempt.was_tried:
        yield from _ahead(attempt)
    if attempt.failed_at_load or not attempt.was_tried:
        yield from _at_load(attempt)
    if attempt.failed is not None and not attempt.failed_at_load:
        yield from _at_attach(attempt)


def _ahead(attempt: Attempt) -> Iterator[Finding]:
    """What is known without trying: whether there are trampolines, and whether this function has a place for one."""
    machine = attempt.machine
    if attempt.kind == "iter":
        return
    options = ("CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS", "CONFIG_FUNCTION_TRACER")
    unset = [option for option in options if machine.lacks(option)]
    if unset and attempt.kind != "lsm":
        yield Finding(
            "fentry-unsupported",
            PROVEN,
            f"{attempt.kind} needs BPF trampolines on functions, and this kernel was built without {unset[0]}",
            "use a kprobe (kretprobe) or a tracepoint",
            (f"{unset[0]} is not set",),
        )
    elif machine.features.get("fentry") is False and attempt.kind != "lsm":
        yield Finding(
            "fentry-unsupported",
            PROVEN,
            f"this kernel refuses {attempt.kind} programs, though nothing in its configuration says so: a small one "
            "for vfs_read was not taken, which was tried",
            "use a tracepoint, a raw tracepoint or a kprobe",
            ("a program for fentry:vfs_read was refused",),
        )
    name = attempt.target
    known = machine.btf_functions.get(name)
    if machine.is_traceable(name) is False and machine.named(name) and known and attempt.kind != "lsm":
        yield functions.notrace(machine, name, PROVEN, ("it is not in available_filter_functions",))


def _at_load(attempt: Attempt) -> Iterator[Finding]:
    name = attempt.target
    machine = attempt.machine
    if attempt.errno in ("EPERM", "EACCES", "EMFILE", "ENOMEM"):
        return
    if attempt.errno == ENOTSUPP:
        yield _unsupported(attempt)
        return
    since = versions.KINDS_SINCE.get(attempt.kind, "5.5")
    if machine.is_older_than(since):
        return  # versions of programs are another rule's
    for pattern, (sentence, advice) in REFUSALS.items():
        if attempt.says(pattern):
            instead = names.TRACEPOINTS_INSTEAD.get(name, ("the one nearest to it",))
            words = {"name": name or "the function", "instead": instead[0]}
            yield Finding(
                "fentry-target",
                PROVEN,
                sentence.format(**words),
                advice.format(**words),
                ("the verifier's own words",),
                says=(attempt.says(rf".*{pattern}.*"),),
            )
            return
    if machine.has_btf is False or machine.lacks("CONFIG_DEBUG_INFO_BTF"):
        yield Finding(
            "config-missing",
            PROVEN,
            f"{attempt.kind} needs the kernel's BTF, and this kernel was built without it (CONFIG_DEBUG_INFO_BTF)",
            "use a kprobe or a tracepoint, or a kernel built with CONFIG_DEBUG_INFO_BTF=y",
            ("there is no BTF of the kernel",),
        )
        return
    if attempt.kind == "lsm":
        yield from _lsm_hook(attempt, name)
        return
    yield from _function_target(attempt, name)


def _lsm_hook(attempt: Attempt, name: str) -> Iterator[Finding]:
    machine = attempt.machine
    hook = name if name.startswith("bpf_lsm_") else f"bpf_lsm_{name}"
    if machine.lacks("CONFIG_BPF_LSM"):
        yield Finding(
            "config-missing",
            PROVEN,
            "the kernel was built without CONFIG_BPF_LSM, so there are no LSM hooks for programs",
            "use fentry on the function security_" + name.removeprefix("bpf_lsm_"),
            ("CONFIG_BPF_LSM is not set",),
        )
        return
    known = machine.btf_functions.get(hook)
    if known or (attempt.was_tried and attempt.errno not in ("EINVAL", "ENOENT", "ESRCH")):
        return
    if not attempt.was_tried and known is None:
        return
    yield Finding(
        "fentry-target",
        PROVEN if known is False else TOLD if attempt.says("must provide btf_id") else GUESS,
        f"there is no LSM hook {name}: the kernel's BTF has no function {hook}",
        "use a hook that exists: the functions bpf_lsm_* in /proc/kallsyms, without that prefix",
        (f"BTF: {hook} not found",) if known is False else (),
        reference="include/linux/lsm_hook_defs.h of the kernel",
    )


def _function_target(attempt: Attempt, name: str) -> Iterator[Finding]:
    """fentry and its kin on a name that BTF or kallsyms does not have."""
    machine = attempt.machine
    known = machine.btf_functions.get(name)
    if not name or (attempt.was_tried and attempt.errno not in ("EINVAL", "ENOENT", "ESRCH")):
        return
    told = attempt.says("must provide btf_id|not found in kernel BTF|failed to find kernel BTF type")
    if known and not machine.named(name) and machine.symbols is not None:
        yield functions.missing(machine, name, attempt.errno)
        return
    if known or (not told and known is None and machine.symbols is None):
        return
    there = bool(machine.named(name))
    found = functions.missing(machine, name, attempt.errno) if not there else None
    if found is not None and found.cause != "inlined-or-missing":
        yield found
        weight = GUESS
    else:
        weight = PROVEN if known is False else TOLD if told else GUESS
    if known is None and there:
        return
    if there and machine.is_traceable(name) is False:
        # BTF was made of the functions that can be traced.
        yield functions.notrace(
            machine, name, PROVEN, ("it is not in available_filter_functions, and so not in BTF",)
        )
        weight = GUESS
    where = (
        "has a symbol, but the kernel's BTF has no such function" if there else "is not in the kernel's BTF"
    )
    yield Finding(
        "fentry-target",
        weight,
        f"{attempt.kind} finds its target in the kernel's BTF, and {name} {where}: it was inlined, or does not "
        "exist on this kernel under that name, or belongs to a module that is not loaded",
        "use a function that BTF has (bpftool btf dump, tracebee -l 'fentry:*'), a kprobe, or a tracepoint",
        ("BTF has no function of that name",),
        functions.hooks_instead(machine, name),
    )


def _at_attach(attempt: Attempt) -> Iterator[Finding]:
    machine = attempt.machine
    name = attempt.target
    errno = attempt.errno
    if errno in (ENOTSUPP, "EOPNOTSUPP", "ENOSYS"):
        yield _unsupported(attempt)
        return
    is_enabled = machine.sysctl("kernel.ftrace_enabled")
    if is_enabled == 0 and errno in ("EBUSY", "ENODEV", "EINVAL"):
        yield ftrace_disabled(attempt)
        return
    traceable = machine.is_traceable(name)
    if errno in ("EBUSY", "EINVAL", "ENOENT", "ENODEV") and traceable is False and attempt.kind != "lsm":
        yield functions.notrace(
            machine,
            name,
            PROVEN if errno == "EBUSY" else LIKELY,
            ("it is not in available_filter_functions", f"the answer to attaching is {errno}"),
        )
    if errno == "EBUSY":
        yield Finding(
            "fentry-target",
            LIKELY if traceable else GUESS,
            f"the place for a hook at the start of {name} is taken, or cannot be patched: it is notrace, or a live "
            "patch or another trampoline holds it",
            "use a kprobe on the function, or fentry on one that it calls",
            ("the answer to attaching is EBUSY",),
        )
    elif errno == "E2BIG":
        yield Finding(
            "fentry-target",
            LIKELY,
            f"{name} has as many programs attached as a trampoline holds (38)",
            "detach some (tracebee link list shows them), or use a kprobe",
            ("the answer to attaching is E2BIG",),
        )
    elif errno in ("EINVAL", "ENOENT", "EEXIST"):
        yield Finding(
            "fentry-target",
            GUESS,
            f"a trampoline cannot be put on {name} in this way: the function, or this program for it, is refused",
            "use a kprobe on the function, or another function",
            (f"the answer to attaching is {errno}",),
        )


def _unsupported(attempt: Attempt) -> Finding:
    machine = attempt.machine
    arch = machine.arch
    since = versions.TRAMPOLINE_SINCE.get(arch, "")
    if machine.lacks("CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"):
        reason = "the kernel was built without CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"
    elif arch == "aarch64":
        reason = "arm64 (aarch64) got BPF trampolines in Linux 6.0 and direct calls of ftrace in 6.4"
    elif since:
        reason = f"on {arch} they came with Linux {since}"
    else:
        reason = f"the architecture {arch or 'of this machine'} has none, or its kernel is too old"
    old = bool(since) and machine.is_older_than(since)
    return Finding(
        "fentry-unsupported",
        PROVEN if old else LIKELY,
        f"this kernel has no BPF trampolines, which {attempt.kind} needs: {reason} (errno 524, ENOTSUPP)",
        "use a kprobe (kretprobe) or a tracepoint on this kernel; or a newer kernel"
        + (f", {since} or later" if since else ""),
        (f"{machine.release} on {arch}".strip(), f"the answer to attaching is {attempt.errno}"),
    )


def ftrace_disabled(attempt: Attempt) -> Finding:
    """kernel.ftrace_enabled is 0: no function can be hooked, and what is hooked does not fire."""
    silent = attempt.is_silent or not attempt.was_tried
    return Finding(
        "ftrace-disabled",
        PROVEN if attempt.was_tried else LIKELY,
        "function tracing is switched off: kernel.ftrace_enabled is 0, so "
        + ("the probe is attached, but never fires" if silent else "no function can be hooked"),
        "sysctl kernel.ftrace_enabled=1 (write 1 to /proc/sys/kernel/ftrace_enabled)",
        ("/proc/sys/kernel/ftrace_enabled is 0",),
        reference="Documentation/trace/ftrace.rst of the kernel, ftrace_enabled",
    )


def _typed_tracepoint(attempt: Attempt) -> Iterator[Finding]:
    """tp_btf: the typedef btf_trace_NAME must be in BTF."""
    if attempt.kind != "tp_btf" or attempt.is_silent or attempt.errno in ("EPERM", "EACCES", "EMFILE"):
        return
    name = attempt.target
    if not attempt.was_tried and attempt.machine.btf_functions.get(f"btf_trace_{name}") is not False:
        return
    if attempt.machine.is_older_than(versions.KINDS_SINCE["tp_btf"]):
        return
    if re.search(r"[:/]", name) or re.match(r"sys_(enter|exit)_", name):
        return  # the rule of raw tracepoints says it
    yield Finding(
        "tracepoint-missing",
        LIKELY if attempt.says("must provide btf_id|not a tracepoint|not found") else GUESS,
        f"this kernel's BTF has no tracepoint {name} (no typedef btf_trace_{name})",
        "use a tracepoint that exists: tracebee -l 'rawtracepoint:*' lists them",
        ("a typed raw tracepoint is found by the kernel's BTF",),
    )


RULES = (Rule("trampolines", _examine), Rule("typed tracepoints", _typed_tracepoint))
