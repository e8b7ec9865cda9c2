"""Functions of the kernel: whether a probe can be on one, by its name and place.

The kernel's answers do not tell these apart: "Could not probe notrace function" stands for code of the start,
data, the blacklist and notrace alike (kernel/trace/trace_kprobe.c), and ENOENT for six reasons.  The lists do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.attach import names
from tracebee.explain.attach.attempt import TRAMPOLINES
from tracebee.explain.attach.finding import GUESS, LIKELY, PROVEN, TOLD, Finding, Rule
from tracebee.explain.attach.machine import KALLSYMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.explain.attach.attempt import Attempt
    from tracebee.explain.attach.machine import Machine, Symbol

DOC_KPROBES = "Documentation/trace/kprobes.rst of the kernel"
DOC_EVENTS = "Documentation/trace/kprobetrace.rst of the kernel"

NO_SUCH = ("ENOENT", "ESRCH", "EINVAL", "unknown")
"""What a name that is not there is answered with; EINVAL through tracefs since Linux 6.12."""

HIDDEN_PARTS = (".cold", "__pfx_", "__cfi_")


def _examine(attempt: Attempt) -> Iterator[Finding]:
    """Everything about the one function of a kprobe."""
    if attempt.kind not in ("kprobe", "kprobe event") or attempt.failed_at_load or not attempt.target:
        return
    if attempt.address is not None:
        yield from _at_address(attempt)
        return
    if attempt.is_silent or (attempt.failed is not None and "SET_BPF" in attempt.failed.what):
        return
    if attempt.errno and attempt.errno not in (*NO_SUCH, "EILSEQ", "EADDRNOTAVAIL", "ERANGE"):
        return
    if attempt.failed is not None and attempt.failed.what.startswith("open("):
        return
    yield from _offset(attempt)
    yield from judge_name(attempt, attempt.target)


def judge_name(attempt: Attempt, name: str) -> Iterator[Finding]:
    """What the lists say of a name, in an attempt that was refused, or ahead of one."""
    machine = attempt.machine
    here = machine.named(name)
    if machine.is_blacklisted(name) and not here:
        # Who wrote the list had the symbol; lists of the two are of one kernel only where both were read.
        yield blacklisted(name, PROVEN, ("it is in kprobes/blacklist",))
    elif machine.symbols is None:
        yield from _unlisted(attempt, name)
    elif not here:
        if attempt.errno in (*NO_SUCH, ""):
            yield missing(machine, name, attempt.errno)
    else:
        yield from _there(attempt, name, here)


# ---------------------------------------------------------------------- names that are not there


def missing(machine: Machine, name: str, errno: str = "") -> Finding:
    """Why there is no function of that name, and what is there in its place."""
    symbols = machine.symbols or ()
    looked = machine.symbols is not None
    for found in (
        _renamed_syscall(machine, name),
        _variant(symbols, name),
        _renamed(machine, name),
        _slip(machine, name),
        _module(machine, name),
    ):
        if found is not None:
            return found
    also = hooks_instead(machine, name)
    near = [
        symbol.name
        for symbol in symbols
        if symbol.is_code and not any(part in symbol.name for part in HIDDEN_PARTS)
    ]
    advice = "hook a function that calls it or that it calls, or a tracepoint near it"
    if near:
        advice = f"hook a function nearby that exists ({', '.join(near[:3])}), or a tracepoint"
    in_btf = machine.btf_functions.get(name)
    if in_btf:
        return Finding(
            "inlined-or-missing",
            PROVEN if looked else LIKELY,
            f"{name} has no symbol: the kernel's BTF knows the function, but there is none in kallsyms, so the "
            "compiler has inlined it into its callers",
            advice,
            ("BTF has the function", "kallsyms has no symbol of that name"),
            also,
        )
    if KALLSYMS in machine.unreadable:
        return Finding(
            "inlined-or-missing",
            GUESS,
            f"the kernel knows no function {name}, it says; the list of symbols could not be read "
            f"({machine.unreadable[KALLSYMS]}), so that it is not known what is there in its place",
            "look it up in /proc/kallsyms as root",
            (f"{KALLSYMS} is unreadable, not empty",),
            also,
        )
    parts = [symbol.name for symbol in symbols if symbol.name.startswith(f"{name}.")]
    more = f"; {parts[0]} is only a piece split off" if parts else ""
    return Finding(
        "inlined-or-missing",
        LIKELY if looked else GUESS,
        f"this kernel has no symbol {name}: the function was inlined into its callers, or does not exist in this "
        f"version and configuration{more}",
        advice,
        ("kallsyms has no symbol of that name",)
        if looked
        else ((f"the answer is {errno}",) if errno else ()),
        also,
    )


def _renamed_syscall(machine: Machine, name: str) -> Finding | None:
    """``sys_openat`` where the function is ``__x64_sys_openat`` since Linux 4.17; or the other way round."""
    known = {symbol.name for symbol in machine.symbols or () if symbol.is_code}
    call = names.syscall_of(name)
    if call:
        prefixes = (*names.SYSCALL_PREFIXES, *names.RARE_PREFIXES)
        wrappers = [f"{prefix}{call}" for prefix in prefixes if f"{prefix}{call}" in known]
        usual = f"{names.PREFIX_OF_ARCH.get(machine.arch, '__x64_sys_')}{call}"
        older = machine.is_older_than(names.WRAPPERS_SINCE)
        if not wrappers and (known or older or (machine.symbols is not None and machine.symbols)):
            other = next((one for one in (f"SyS_{call}", f"sys_{call}") if one in known), "")
            if not other:
                return None
            wrappers = [other]
        wrapper = wrappers[0] if wrappers else usual
        return Finding(
            "syscall-renamed",
            PROVEN if wrappers else LIKELY if older is False else GUESS,
            f"{name} is called {wrapper} here: since Linux 4.17 the functions of system calls carry a prefix of "
            "the architecture (__x64_sys_ and the like), because they are wrappers",
            f"use {wrapper}; its one parameter is a struct pt_regs with the call's arguments. Simpler and the "
            f"same on every kernel: tracepoint:syscalls:sys_enter_{call}",
            (f"kallsyms has {wrapper}",) if wrappers else (f"{name} is a name of kernels before 4.17",),
            reference="kernel commit fa697140f9a2, syscalls/x86: Use 'struct pt_regs' based calling for 64-bit",
        )
    call = names.wrapped_syscall(name)
    if not call:
        return None
    others = [f"{prefix}{call}" for prefix in (*names.SYSCALL_PREFIXES, "sys_", "SyS_", "ksys_", "do_")]
    other = next((one for one in others if one in known and one != name), "")
    if not other:
        return None
    return Finding(
        "syscall-renamed",
        PROVEN,
        f"{name} is called {other} on this kernel: the prefix of system call functions depends on the "
        "architecture and came with Linux 4.17",
        f"use {other}, or on any kernel tracepoint:syscalls:sys_enter_{call}",
        (f"kallsyms has {other}",),
    )


def _variant(symbols: tuple[Symbol, ...], name: str) -> Finding | None:
    found = sorted({one.name for one in symbols if one.is_code and names.is_variant_of(one.name, name)})
    if not found:
        return None
    instead = names.TRACEPOINTS_INSTEAD.get(name, ())
    return Finding(
        "suffixed-variant",
        PROVEN,
        f"there is no plain {name}: the compiler made only the variant {found[0]} of it (gcc's optimisations add "
        "such a suffix when they change parameters or split a function)",
        f"attach to {found[0]}; its arguments may differ from the source's, so check them"
        + (f". Or use tracepoint:{instead[0]}" if instead else ""),
        (f"kallsyms has {', '.join(found[:4])} and no {name}",),
        tuple(f"another variant: {one}" for one in found[1:3]),
    )


def _renamed(machine: Machine, name: str) -> Finding | None:
    row = names.RENAMED.get(name)
    if row is None or machine.is_older_than(row.since):
        return None
    known = {symbol.name for symbol in machine.symbols or () if symbol.is_code}
    there = [one for one in row.successors if one in known]
    there += [one for one in sorted(known) if any(names.is_variant_of(one, new) for new in row.successors)]
    shown = there or list(row.successors)
    also = hooks_instead(machine, name)
    advice = f"use {shown[0]}"
    if not there:
        advice += " if this kernel has it as a symbol of its own (it may be inlined)"
    if also:
        advice += f"; or {also[0]}"
    return Finding(
        "renamed-function",
        PROVEN if there else LIKELY,
        f"there is no function {name} in this kernel: since Linux {row.since} {row.successors[0]} does its work"
        + (f" ({row.note})" if row.note else ""),
        advice,
        tuple(f"kallsyms has {one}" for one in there[:2]) or (f"{name} is a name from before {row.since}",),
        also,
    )


def _slip(machine: Machine, name: str) -> Finding | None:
    known = [symbol.name for symbol in machine.symbols or () if symbol.is_code]
    near = names.near_names(name, known)
    if not near:
        likely = names.near_names(name, names.WELL_KNOWN, 1)
        if not likely:
            return None
        return Finding(
            "misspelt",
            GUESS,
            f"there is no function {name}; the name looks like a slip for {likely[0]}",
            f"write {likely[0]}, if that is what was meant",
            (f"{likely[0]} is a well-known function",),
        )
    case = names.slip_between(name, near[0]) == 0
    return Finding(
        "misspelt",
        PROVEN if case else LIKELY,
        f"there is no function {name}, but there is {near[0]}: the name is misspelt"
        + (" (names are case-sensitive)" if case else ""),
        f"write {near[0]}",
        (f"kallsyms has {', '.join(near)}",),
    )


def _module(machine: Machine, name: str) -> Finding | None:
    module = names.module_of(name)
    first = name.lstrip("_").partition("_")[0]
    files = machine.module_files
    if files is not None and not module and first in files:
        module = first
    if not module:
        return None
    loaded = machine.modules
    if loaded is not None and module in loaded:
        return None
    if any(symbol.module == module for symbol in machine.symbols or ()):
        return None
    on_disk = None if files is None else module in files
    if on_disk is False:
        return None
    return Finding(
        "module-not-loaded",
        PROVEN if on_disk else LIKELY,
        f"{name} belongs to the module {module}, which is not loaded, so the kernel has no such symbol now",
        f"load the module first (modprobe {module}), then attach",
        (
            f"{module} is among the modules on disk"
            if on_disk
            else f"functions called {first}_ are {module}'s",
            "kallsyms has no symbol of that name",
        ),
    )


def _unlisted(attempt: Attempt, name: str) -> Iterator[Finding]:
    """The list of symbols was not looked at: what the answer and the name allow."""
    if attempt.errno in ("ENOENT", "ESRCH"):
        yield missing(attempt.machine, name, attempt.errno)
    elif attempt.errno == "EINVAL":
        if names.ENTRY_CODE.fullmatch(name):
            yield blacklisted(name, LIKELY, ())
        elif names.is_start_code(name):
            yield _start_code(name, LIKELY, ())
        elif attempt.event is not None and attempt.says("Invalid probed address or symbol"):
            yield missing(attempt.machine, name, attempt.errno)
        else:
            yield notrace(attempt.machine, name, GUESS, ("the answer is EINVAL",))


# ---------------------------------------------------------------------- names that are there


def _there(attempt: Attempt, name: str, here: tuple[Symbol, ...]) -> Iterator[Finding]:
    """The symbol exists: what else is in the way."""
    machine = attempt.machine
    code = [symbol for symbol in here if symbol.is_code]
    refused = attempt.errno == "EINVAL"
    ahead = not attempt.was_tried
    if len(code) > 1:
        yield from _ambiguous(attempt, name, len(code))
    if attempt.errno in ("ENOENT", "EADDRNOTAVAIL", "EILSEQ"):
        return
    if not code and (refused or ahead):
        yield Finding(
            "not-a-function",
            PROVEN,
            f"{name} is a variable, not a function: kallsyms has it as data (type {here[0].letter}), and kprobes "
            "go on code only",
            "read it in a program instead (kaddr() and a pointer, or a __ksym extern), or watch it with a "
            "hardware watchpoint",
            (f"kallsyms: {here[0].letter} {name}",),
        )
        return
    is_traceable = machine.is_traceable(name)
    if machine.is_blacklisted(name):
        yield blacklisted(name, PROVEN, ("it is in kprobes/blacklist",))
        return
    address = code[0].address
    if machine.is_start_code(address):
        yield _start_code(name, PROVEN, ("its address lies between __init_begin and __init_end",))
        return
    if is_traceable or not (refused or ahead):
        return
    by_kernel = attempt.says(r"Could not probe notrace function")
    evidence: tuple[str, ...] = (f"kallsyms: {code[0].letter} {name}",)
    if is_traceable is False:
        evidence += ("it is not in available_filter_functions",)
    if by_kernel:
        evidence += ("the kernel log says it (for five different reasons)",)
    if ahead and is_traceable is None:
        return
    if names.ENTRY_CODE.fullmatch(name) and machine.blacklist is None:
        yield blacklisted(name, LIKELY, evidence)
        return
    if machine.init_range is None:
        start = names.is_start_code(name)
        if start or (start is None and (is_traceable is False or machine.traceable is None)):
            yield _start_code(name, TOLD if start else GUESS + 5, evidence)
    if attempt.offset and is_traceable is None:
        return
    certain = is_traceable is False or by_kernel
    yield notrace(
        machine, name, LIKELY if certain and names.is_start_code(name) is not None else GUESS, evidence
    )


def _ambiguous(attempt: Attempt, name: str, count: int) -> Iterator[Finding]:
    """Several functions of one name: refused since Linux 6.6 (b022f0c7e404, and in stable kernels)."""
    told = attempt.errno == "EADDRNOTAVAIL" or attempt.says("symbol is not unique")
    if not told and attempt.was_tried and attempt.errno not in ("", "EINVAL"):
        return
    weight = PROVEN if told else GUESS
    if not attempt.was_tried and attempt.machine.is_older_than("6.6") is not True:
        weight = LIKELY
    yield ambiguous(name, weight, (f"kallsyms has {count} functions {name}",))


def ambiguous(name: str, weight: int, evidence: tuple[str, ...]) -> Finding:
    return Finding(
        "ambiguous-symbol",
        weight,
        f"the name {name} is not unique: several functions are called so (static ones of different files), and "
        "the kernel does not choose",
        "pick one of them by address, as an offset from a symbol that is unique (_text+offset); in a module, as "
        "MODULE:NAME; or choose another function, such as the caller",
        evidence,
    )


def notrace(machine: Machine, name: str, weight: int, evidence: tuple[str, ...]) -> Finding:
    return Finding(
        "notrace",
        weight,
        f"{name} exists, but may not be traced: it is marked notrace, or declared inline, which means the same, "
        "and so has no place for a hook (it is not in available_filter_functions)",
        "choose another function, such as a caller of it that is listed there, or a tracepoint",
        evidence,
        hooks_instead(machine, name),
        reference=DOC_KPROBES,
    )


def blacklisted(name: str, weight: int, evidence: tuple[str, ...]) -> Finding:
    vector = name.removeprefix("asm_").removeprefix("sysvec_")
    also: tuple[str, ...] = ()
    if "sysvec" in name:
        also = (f"for this interrupt: the tracepoints of irq_vectors, or the function sysvec_{vector}",)
    return Finding(
        "blacklisted",
        weight,
        f"{name} may not be probed: it is on the kprobe blacklist (NOKPROBE, noinstr or entry code, where a "
        "breakpoint would bring the kernel down)",
        "choose another function: one that it calls, or a tracepoint of the same event",
        evidence,
        also,
        reference=DOC_KPROBES,
    )


def _start_code(name: str, weight: int, evidence: tuple[str, ...]) -> Finding:
    return Finding(
        "init-function",
        weight,
        f"{name} is code of the boot (an __init or __exit section), which the kernel has freed since: it can no "
        "longer run, and may not be probed",
        "choose a function that still exists after the start; to trace the start itself, use boot-time tracing "
        "(kprobe_event= on the kernel's command line)",
        evidence,
        reference="Documentation/trace/boottime-trace.rst of the kernel",
    )


# ---------------------------------------------------------------------- offsets and addresses


def _offset(attempt: Attempt) -> Iterator[Finding]:
    place = f"{attempt.target}+{attempt.offset}"
    if attempt.errno == "EILSEQ" or attempt.says("instruction boundary"):
        yield Finding(
            "bad-offset",
            PROVEN,
            f"{place} is not the start of an instruction: the offset points inside one",
            f"disassemble {attempt.target} and use an offset on an instruction boundary, or leave it out to probe "
            "the entry",
            (f"the answer is {attempt.errno}",) if attempt.errno else (),
        )
        return
    if attempt.is_return and attempt.offset and attempt.errno in ("EINVAL", ""):
        yield Finding(
            "bad-offset",
            PROVEN,
            f"a return probe can only be on the entry of a function, not at an offset ({place})",
            f"drop the offset: hook the return of {attempt.target} itself, or use a plain kprobe at {place}",
            ("a return probe with an offset",),
        )
        return
    refused = attempt.errno in ("EINVAL", "ENOENT") and bool(attempt.machine.named(attempt.target))
    if attempt.errno == "ERANGE" or (attempt.offset and (refused or attempt.errno == "EINVAL")):
        there = attempt.machine.is_traceable(attempt.target)
        yield Finding(
            "bad-offset",
            TOLD if there else LIKELY,
            f"{place} is no place for a probe: the offset lies outside the function, or inside an instruction",
            f"use an offset of an instruction of {attempt.target} (disassemble it), or leave it out to "
            "probe the entry",
            ("an offset was given", f"the answer is {attempt.errno}"),
        )


def _at_address(attempt: Attempt) -> Iterator[Finding]:
    """A probe at a number: zero is what kernels show to whom they hide addresses from."""
    machine = attempt.machine
    level = machine.sysctl("kernel.kptr_restrict")
    hidden = bool(machine.symbols) and all(not symbol.address for symbol in machine.symbols or ())
    if not attempt.address:
        yield Finding(
            "kptr-restrict",
            PROVEN if level or hidden else LIKELY,
            "the address is 0, as kernel addresses are shown to whom they are hidden from: "
            + (f"kernel.kptr_restrict is {level}" if level else "kernel.kptr_restrict, or no CAP_SYSLOG"),
            "probe by name, which needs no address; or set kernel.kptr_restrict to 0 (1 for root)",
            ("all addresses in kallsyms are 0",) if hidden else ("the address asked for is 0",),
            reference="Documentation/admin-guide/sysctl/kernel.rst, kptr_restrict",
        )
        return
    if attempt.errno == "EILSEQ":
        yield Finding(
            "bad-offset",
            PROVEN,
            f"{attempt.address:#x} is not the start of an instruction: it points inside one",
            "use an address on an instruction boundary, or probe by name",
            ("the answer is EILSEQ",),
        )
        return
    inside = machine.text_range
    outside = inside is not None and not inside[0] <= attempt.address < inside[1]
    if attempt.errno == "EINVAL":
        yield Finding(
            "bad-offset",
            LIKELY if outside else GUESS,
            f"{attempt.address:#x} is no place for a probe: not an address in the kernel's code, or one that may "
            "not be probed. Addresses change with every boot (KASLR)",
            "probe by name, or by symbol and offset",
            ("the answer is EINVAL",),
        )


def hooks_instead(machine: Machine, name: str) -> tuple[str, ...]:
    """Tracepoints that tell of the same thing, as far as it is known that they are there."""
    call = names.syscall_of(name) or names.wrapped_syscall(name)
    found = [f"tracepoint:{one}" for one in names.TRACEPOINTS_INSTEAD.get(name, ())]
    if call:
        found.append(f"tracepoint:syscalls:sys_enter_{call}")
    if machine.similar_events is not None:
        known = [one for one in found if one.partition(":")[2] in machine.similar_events]
        found = known or found[:1]
    return tuple(found[:2])


def is_about_name(attempt: Attempt) -> bool:
    """Whether the kinds of this room go by the name of a kernel function."""
    return attempt.kind in ("kprobe", "kprobe event", *TRAMPOLINES)


RULES = (Rule("the function of a kprobe", _examine),)
