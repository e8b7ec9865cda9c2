"""What this kernel, its configuration, the rights of the loader and the loader itself have to do with it."""

from __future__ import annotations

import errno
import re
from difflib import get_close_matches

from tracebee.errors import UsageError
from tracebee.explain.case import Case, register_of
from tracebee.explain.edits import map_type_edit, section_edit
from tracebee.explain.explanation import Edit, SourceLine
from tracebee.explain.helperuse import instead_of
from tracebee.explain.rules.record import LIKELY, WEAK, Finding, Rule, plain, rule
from tracebee.explain.rules.sleeping import SECTION_SLEEPABLE
from tracebee.explain.versions import CALLBACK_HELPERS, helper_since, is_older, map_type_name, program_kind
from tracebee.insn.helpers import helper_id, helper_name

CORE_POISON = 195896080
"""0xbad2310: libbpf and cilium/ebpf write a call of this number where a CO-RE relocation failed."""


MAP_POISON = 2001000000


KFUNC_POISON = 2002000000


POISON_SPAN = 1_000_000


PRIVILEGED = re.compile(
    r"bpf_(?:probe_read\w*|trace_printk|trace_vprintk|get_current_task\w*|snprintf\w*|seq_\w+|copy_from_user\w*|"
    r"spin_(?:un)?lock|timer_\w+|kptr_xchg|per_cpu_ptr|this_cpu_ptr|for_each_map_elem|loop|strncmp|strto\w+|kallsyms_lookup_name|"
    r"task_pt_regs|task_storage_\w+|cgrp_storage_\w+|dynptr_\w+|user_ringbuf_drain|get_current_cgroup_id|"
    r"get_current_ancestor_cgroup_id|jiffies64|ringbuf_\w*dynptr|ktime_get_tai_ns|get_task_stack|get_stack|skb_output)$"
)
"""Helpers that bpf_base_func_proto (kernel/bpf/helpers.c) gives to no one without CAP_BPF or CAP_PERFMON."""


PERFMON_ONLY = re.compile(
    r"bpf_(?:probe_read\w*|trace_v?printk|get_current_task\w*|snprintf\w*|get_task_stack|task_pt_regs)$"
)


LOCKED_READS = re.compile(r"bpf_(?:probe_read\w*|copy_from_user\w*)$")


SLEEPING = {
    "bpf_copy_from_user",
    "bpf_copy_from_user_task",
    "bpf_ima_inode_hash",
    "bpf_ima_file_hash",
    "bpf_bprm_opts_set",
    "bpf_find_vma",
}


TRACING_KINDS = (
    "a BPF trampoline program",
    "an LSM program",
    "a kprobe program",
    "a tracepoint program",
    "a raw tracepoint program",
    "a perf event program",
)


CONFIGURED = {
    "bpf_override_return": (
        "CONFIG_BPF_KPROBE_OVERRIDE",
        "a kprobe on a function marked ALLOW_ERROR_INJECTION",
    ),
    "bpf_get_cgroup_classid": ("CONFIG_CGROUP_NET_CLASSID", "a tc or cgroup program"),
    "bpf_skb_get_xfrm_state": ("CONFIG_XFRM", "a tc program"),
    "bpf_get_netns_cookie": ("CONFIG_NET_NS", "a socket program"),
    "bpf_ima_inode_hash": ("CONFIG_IMA", "a sleepable LSM program"),
}


WHERE = (
    (
        re.compile(r"bpf_(?:skb_|l[34]_csum|clone_redirect|set_hash|get_hash_recalc|csum_)"),
        "tc (and socket or cgroup) programs with an skb",
    ),
    (re.compile(r"bpf_xdp_"), "XDP programs"),
    (
        re.compile(
            r"bpf_(?:probe_read|get_stackid|get_stack$|perf_event_read|override_return|get_attach_cookie|get_func_)"
        ),
        "tracing programs (kprobe, tracepoint, perf event, fentry)",
    ),
    (
        re.compile(
            r"bpf_(?:get_current_comm|get_current_pid_tgid|get_current_uid_gid|get_current_task|send_signal)"
        ),
        "tracing programs, where there is a current task",
    ),
    (re.compile(r"bpf_(?:sk_|msg_|sock_)"), "socket programs"),
    (re.compile(r"bpf_(?:seq_)"), "iterator programs"),
    (re.compile(r"bpf_(?:redirect)"), "tc and XDP programs"),
    (re.compile(r"bpf_(?:d_path)"), "fentry programs on a short list of functions"),
)


def where_for(helper: str) -> str:
    return next((words for pattern, words in WHERE if pattern.match(helper)), "other types of programs")


def not_allowed(case: Case, found: re.Match[str]) -> Finding | None:
    """The helper exists, but not here: the environment is asked before the program."""
    helper, number = found[1], int(found[2]) if found[2] else 0
    if helper == "unknown" or not helper.startswith("bpf_"):
        return too_new(case, found)
    facts = case.facts
    level = facts.lockdown()
    writes = helper == "bpf_probe_write_user"
    if (level in ("integrity", "confidentiality") and writes) or (
        level == "confidentiality" and LOCKED_READS.match(helper)
    ):
        return Finding(
            "lockdown",
            f"The kernel is locked down (lockdown={level}), and then {helper} is not allowed to any program, "
            f"whatever its type: "
            f"it would {'write user memory' if writes else 'read kernel memory'}.",
            "do without this helper, or boot without lockdown (Secure Boot off, or lockdown= on the kernel's "
            "command line)",
            fix=(case.place(case.end),),
            evidence=(f"/sys/kernel/security/lockdown says [{level}]",),
            others=("helper-not-allowed",),
        )
    since = helper_since(number)
    older = is_older(facts.release, since) if since else None
    if older:
        return too_new(case, found)
    if (
        facts.is_unprivileged() or (facts.lacks_perfmon() and PERFMON_ONLY.match(helper))
    ) and PRIVILEGED.match(helper):
        needed = "CAP_PERFMON" if PERFMON_ONLY.match(helper) else "CAP_BPF"
        return Finding(
            "unprivileged-leak",
            f"{helper} may only be used by privileged programs: it needs {needed} (with CAP_BPF), or root, "
            f"and the loader has "
            f"{'no capability' if facts.is_unprivileged() else 'only ' + facts.privileges}.",
            "load the program with CAP_BPF and CAP_PERFMON (or as root), or do without this helper",
            fix=(case.place(case.end),),
            others=("no-capability", "helper-not-allowed"),
        )
    tracing = program_kind(facts.section)[0] in TRACING_KINDS
    if helper in SLEEPING and tracing and not SECTION_SLEEPABLE.match(facts.section):
        trampoline = program_kind(facts.section)[0] in TRACING_KINDS[:2]
        slept = facts.section.replace("/", ".s/", 1) if trampoline else "fentry.s/function"
        return Finding(
            "sleepable",
            f"{helper} may sleep, and this kernel gives it to sleepable programs only; the program is not "
            f"sleepable.",
            f'put the program into a sleepable section: SEC("{slept}"); on kernels before 6.0 kprobes cannot sleep',
            edit=section_edit(case.source, facts.section, slept) if trampoline else None,
            others=("helper-not-allowed",),
        )
    cause = "helper-not-allowed"
    others: tuple[str, ...] = ()
    if helper.startswith(("bpf_timer_", "bpf_wq_")):
        cause, others = "timer-callback", (cause,)
    advice = (
        f"use a helper that {case.kind} may call, or move this work to a program where {helper} is available"
    )
    reason = ""
    if helper in CONFIGURED:
        option, fits = CONFIGURED[helper]
        reason = f" It is only there in a kernel that was built with {option}, for {fits}."
        advice = (
            f"check the kernel's config for {option}=y; without it the helper is not available to any program"
        )
    elif writes and not level:
        reason = " A locked-down kernel (lockdown) refuses it as well."
    # Who may do more gets more helpers: without knowing the loader's rights it may be those that lack.
    rights_unknown = not facts.privileges and PRIVILEGED.match(helper) is not None
    sure = not writes and not rights_unknown and (helper not in SLEEPING or bool(facts.section))
    if rights_unknown and cause == "helper-not-allowed":
        others = ("unprivileged-leak",)
    other_way = instead_of(helper)
    if other_way and cause == "helper-not-allowed":
        advice += f". Another way: {other_way}"
    old = ' (this kernel\'s word for it is "unknown func")' if found[0].startswith("unknown") else ""
    return Finding(
        cause,
        f"The helper function {helper} is not allowed in {case.kind}: it is available to "
        f"{where_for(helper)}, and this program type "
        f"cannot use it{old}.{reason}",
        advice,
        sure=sure,
        fix=(case.place(case.end),),
        others=others,
    )


def in_probe(case: Case, found: re.Match[str]) -> Finding | None:
    helper = case.called or "the helper"
    advice = "attach to one of the functions from which it may be called, or read the data by other means"
    reason = ""
    if helper == "bpf_d_path":
        reason = (
            " bpf_d_path may only be called from functions on a short list (security_file_permission, "
            "dentry_open, vfs_getattr, ...)."
        )
        advice = "attach to a function on that list, or walk the dentries with BPF_CORE_READ"
    elif helper == "bpf_override_return":
        reason = " The function is not on the list of functions that allow error injection."
    return Finding(
        "helper-not-allowed",
        f"The helper {helper} is not allowed in a program on this function: it is only supported for some "
        f"attach points.{reason}",
        advice,
    )


def only_for(case: Case, found: re.Match[str]) -> Finding | None:
    return Finding(
        "helper-not-allowed",
        f"The helper {found[1]} is not allowed in {case.kind}: {found[0][:140]}.",
        "use it in the program types that the message names, or do without",
    )


def too_new(case: Case, found: re.Match[str]) -> Finding | None:
    """``invalid func unknown#182``: a number that this kernel does not have, or one that a loader wrote."""
    name = found[1]
    number = int(found[2]) if found[2] else 0
    if number == CORE_POISON:
        return core(case, found)
    if KFUNC_POISON <= number < KFUNC_POISON + POISON_SPAN:
        return kfunc_missing(case, found)
    if MAP_POISON <= number < MAP_POISON + POISON_SPAN:
        return Finding(
            "core-relocation",
            "The program refers to a map that the loader did not create (autocreate is off for it), so the "
            "loader poisoned the "
            "instruction.",
            "create the map, or do not reach this code without it (a const volatile flag in .rodata)",
            LIKELY,
            False,
            others=("map-helper-mismatch",),
        )
    helper = name if name.startswith("bpf_") else helper_name(number) or f"number {number}"
    try:
        since = helper_since(number or helper_id(helper))
    except UsageError:
        since = ""
    release = case.facts.release
    here = f"this kernel is {release}" if release else "this kernel is older"
    needs = f"{helper} came with Linux {since}" if since else f"{helper} is newer"
    return Finding(
        "helper-too-new",
        f"The kernel does not know the helper function {helper} (#{number}): {needs}, and {here}.",
        f"use a newer kernel ({since + ' or later' if since else 'with that helper'}), or avoid the helper "
        f"where it is missing: test for it "
        f"with bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_{helper.removeprefix('bpf_')})",
        sure=bool(since) and is_older(release, since) is not False,
        fix=(case.place(case.end),),
    )


def core_text(case: Case) -> str:
    """What the loader said of a failed relocation, or empty."""
    for text in (*case.errors, case.facts.loader, *case.log.loader):
        found = re.search(r"failed to resolve CO-RE relocation <[^>\n]{1,40}> [^\n]{1,300}", text)
        if found:
            return found[0]
    for text in (case.facts.loader, *case.log.loader):
        found = re.search(r"[^\n]{0,200}no matching targets found[^\n]{0,200}", text)
        if found:
            return found[0]
    return ""


def core(case: Case, found: re.Match[str] | None) -> Finding:
    """A CO-RE relocation that found nothing on this kernel."""
    text = core_text(case)
    detail = re.search(r"<(\w{1,40})> \[\d+\] (.{1,200})", text)
    what = detail[2].split(" (")[0].strip() if detail else ""
    kind = detail[1] if detail else ""
    field = re.search(r"(?:struct|union) (\w{1,128})\.([\w.\[\]]{1,128})", what)
    value = re.search(r"enum (\w{1,128})::(\w{1,128})", what)
    note = f" ({what})" if what else ""
    if field:
        sentence = (
            f"A CO-RE relocation failed: struct {field[1]} has no field {field[2]} in this kernel's BTF: the "
            f"field does not exist here "
            f"(renamed, moved or configured out)."
        )
        guard = f"bpf_core_field_exists(((struct {field[1]} *)0)->{field[2]})"
    elif value or kind.startswith("enumval"):
        name = f"{value[2]} of enum {value[1]}" if value else what
        sentence = f"A CO-RE relocation failed: the enum value {name} does not exist in this kernel's BTF."
        guard = (
            f"bpf_core_enum_value_exists(enum {value[1]}, {value[2]})"
            if value
            else "bpf_core_enum_value_exists()"
        )
    elif kind.startswith(("type", "local_type", "target_type")):
        sentence = f"A CO-RE relocation failed: the type{note} does not exist in this kernel's BTF."
        guard = "bpf_core_type_exists()"
    else:
        sentence = (
            f"A CO-RE relocation could not be resolved on this kernel{note}: a field, type (struct) or enum "
            f"value that the program was compiled "
            f"against does not exist in its BTF."
        )
        guard = "bpf_core_field_exists(), bpf_core_type_exists() or bpf_core_enum_value_exists()"
    fix = None
    if case.source is not None and (field or value):
        name = field[2].split(".")[0].split("[")[0] if field else value[2] if value else ""
        lines = [
            n for n, line in enumerate(case.source.lines, 1) if re.search(rf"\b{re.escape(name)}\b", line)
        ]
        fix = case.source.at(lines[-1]) if lines else None
    return Finding(
        "core-relocation",
        sentence,
        f"guard the access with if ({guard}) and offer another way else; or use the name that it has on this "
        f"kernel (bpftool btf dump file "
        f"/sys/kernel/btf/vmlinux)",
        fix=(fix,),
        also=("the call of a function with number 195896080 is how the loader marks the place",),
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


def license_missing(case: Case, found: re.Match[str]) -> Finding | None:
    """Functions that only GPL-compatible programs get."""
    helper = case.called
    given = f' (it says "{case.facts.license}")' if case.facts.license else ""
    fix: SourceLine | None = None
    edit: Edit | None = None
    new = 'char LICENSE[] SEC("license") = "GPL";'
    if case.source is not None:
        fix = case.source.search(r'SEC\("license"\)')
        if fix is not None:
            edit = Edit((case.source.lines[fix.line - 1],), (new,), fix.file, fix.line)
        else:
            edit = Edit((), (new,), case.source.file, len(case.source.lines) + 1)
    what = (
        "a kernel structure that only GPL programs may access"
        if "access kernel" in found[0]
        else helper or "a function"
    )
    return Finding(
        "gpl-only",
        f"The program's license is not GPL-compatible{given}, and {what} is for GPL programs only.",
        f"if the code may be under the GPL, declare it: {new[:-1]}; otherwise do without "
        f"{helper or 'that function'}",
        fix=(fix,),
        edit=edit,
    )


def map_mismatch(case: Case, found: re.Match[str]) -> Finding | None:
    number, helper = int(found[1]), found[2]
    kind = map_type_name(number)
    name = ""
    for register in (1, 2):
        name = name or case.map_name(case.end, register)
    if not name and (place := case.place(case.end)) is not None:
        argument = re.search(
            rf"{re.escape(helper.removeprefix('bpf_'))}\w*\s*\((?:[^,]{{0,80}},)?\s*&(\w{{1,64}})", place.text
        )
        name = argument[1] if argument else ""
    wanted = {
        "bpf_get_stackid": "BPF_MAP_TYPE_STACK_TRACE",
        "bpf_perf_event_output": "BPF_MAP_TYPE_PERF_EVENT_ARRAY",
        "bpf_perf_event_read": "BPF_MAP_TYPE_PERF_EVENT_ARRAY",
        "bpf_perf_event_read_value": "BPF_MAP_TYPE_PERF_EVENT_ARRAY",
        "bpf_ringbuf_reserve": "BPF_MAP_TYPE_RINGBUF",
        "bpf_ringbuf_output": "BPF_MAP_TYPE_RINGBUF",
        "bpf_ringbuf_query": "BPF_MAP_TYPE_RINGBUF",
        "bpf_tail_call": "BPF_MAP_TYPE_PROG_ARRAY",
        "bpf_redirect_map": "BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_CPUMAP or BPF_MAP_TYPE_XSKMAP",
        "bpf_sk_storage_get": "BPF_MAP_TYPE_SK_STORAGE",
        "bpf_task_storage_get": "BPF_MAP_TYPE_TASK_STORAGE",
        "bpf_inode_storage_get": "BPF_MAP_TYPE_INODE_STORAGE",
        "bpf_cgrp_storage_get": "BPF_MAP_TYPE_CGRP_STORAGE",
        "bpf_map_push_elem": "BPF_MAP_TYPE_QUEUE or BPF_MAP_TYPE_STACK",
        "bpf_map_pop_elem": "BPF_MAP_TYPE_QUEUE or BPF_MAP_TYPE_STACK",
        "bpf_map_peek_elem": "BPF_MAP_TYPE_QUEUE or BPF_MAP_TYPE_STACK",
        "bpf_sk_redirect_map": "BPF_MAP_TYPE_SOCKMAP",
        "bpf_msg_redirect_map": "BPF_MAP_TYPE_SOCKMAP",
        "bpf_sk_redirect_hash": "BPF_MAP_TYPE_SOCKHASH",
        "bpf_current_task_under_cgroup": "BPF_MAP_TYPE_CGROUP_ARRAY",
        "bpf_skb_under_cgroup": "BPF_MAP_TYPE_CGROUP_ARRAY",
        "bpf_get_local_storage": "BPF_MAP_TYPE_CGROUP_STORAGE",
        "bpf_for_each_map_elem": "a hash or array map",
        "bpf_user_ringbuf_drain": "BPF_MAP_TYPE_USER_RINGBUF",
        "bpf_sk_select_reuseport": "BPF_MAP_TYPE_REUSEPORT_SOCKARRAY",
        "bpf_map_lookup_percpu_elem": "a per-CPU hash or array map",
    }.get(helper, "another type")
    edit = map_type_edit(case.source, name, wanted)
    fix = case.source.search(rf"\}}\s*{re.escape(name)}\s+SEC") if case.source is not None and name else None
    return Finding(
        "tail-call" if helper == "bpf_tail_call" else "map-helper-mismatch",
        f"{helper} does not work on {'map ' + name if name else 'this map'}, which is of type {kind}: it "
        f"needs {wanted} (map type mismatch).",
        f"declare the map with the type that {helper} takes ({wanted}), or use the helper that fits a "
        f"{kind.removeprefix('BPF_MAP_TYPE_').lower()} map",
        fix=(fix, case.place(case.end)),
        others=("map-helper-mismatch", "tail-call") if helper == "bpf_tail_call" else (),
        edit=edit,
    )


def other_map(case: Case, found: re.Match[str]) -> Finding | None:
    return Finding(
        "map-helper-mismatch",
        f"This map's type does not allow how the program uses it: {found[0][:140]}.",
        "use a map of another type (a plain hash or array map), preallocated where the message asks for it",
        LIKELY,
        False,
    )


def opcode_since(opcode: int) -> tuple[str, str]:
    """What a byte of an opcode stands for and its first release, of those that came after 4.15; else empty."""
    named = NEW_OPCODES.get(opcode)
    if named is not None:
        return named
    # The class of 32-bit jumps has no call (8) and no exit (9), and ends with s<= (13).
    if opcode & 7 == 6 and opcode >> 4 in (1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13):
        return "a 32-bit jump", "5.1"
    return "", ""


def unknown_opcode(case: Case, found: re.Match[str]) -> Finding | None:
    """``unknown opcode d7``: the byte itself tells whether a later kernel has it."""
    what, since = opcode_since(int(found[1], 16))
    release = case.facts.release
    if not what or is_older(release, since) is False:
        reason = "a call through a pointer" if found[1] == "8d" else "an opcode that does not exist"
        return bad(
            case,
            f"The opcode 0x{found[1]} is no instruction that any kernel takes ({reason}).",
            not what and is_older(release, LAST_KNOWN) is not False,
        )
    here = f"this kernel is {release}" if release else "this kernel is older"
    cpu = {"5.1": "-mcpu=v2 or lower", "6.6": "-mcpu=v3 or lower"}.get(since, "an older instruction set")
    return Finding(
        "instruction-too-new",
        f"The program has {what} (opcode 0x{found[1]}), which came with Linux {since}; {here} and does not "
        f"know the instruction.",
        f"compile with {cpu}, or use a newer kernel ({since} or later)",
    )


def unknown_atomic(case: Case, operation: int) -> Finding:
    """``BPF_ATOMIC uses invalid atomic opcode 100``: the number is the instruction's imm."""
    release = case.facts.release
    since = ATOMICS.get(operation, "")
    if not since or is_older(release, since) is False:
        return bad(case, f"There is no atomic operation with the number 0x{operation:x}.", not since)
    what = "a load-acquire or store-release" if since != "5.12" else "an atomic operation with a result"
    return Finding(
        "instruction-too-new",
        f"The program has {what} (atomic opcode 0x{operation:x}), which came with Linux {since}; "
        f"{'this kernel is ' + release if release else 'this kernel is older'} and does not know the "
        f"instruction.",
        f"compile with {'-mcpu=v2 or lower' if since == '5.12' else '-mcpu=v3'}, or use a newer kernel ({since} "
        f"or later)",
    )


ATOMICS = {
    **dict.fromkeys((0x01, 0x40, 0x41, 0x50, 0x51, 0xA0, 0xA1, 0xE1, 0xF1), "5.12"),
    **dict.fromkeys((0x100, 0x110), "6.15"),
}
"""Atomic operations by number, and the first release that has them; a plain addition (0) is older than all."""


NEW_OPCODES = {
    0x06: ("a long jump (gotol)", "6.6"),
    0x81: ("a sign-extending load", "6.6"),
    0x89: ("a sign-extending load", "6.6"),
    0x91: ("a sign-extending load", "6.6"),
    0xD7: ("a byte swap (bswap)", "6.6"),
    0xE5: ("a may_goto", "6.9"),
    0xCB: ("a load-acquire or store-release of 2 bytes", "6.15"),
    0xD3: ("a load-acquire or store-release of 1 byte", "6.15"),
    0x0D: ("a jump through a register (gotox)", "6.19"),
}
"""Opcodes of include/uapi/linux/bpf.h that came later, but for the 32-bit jumps."""


LAST_KNOWN = "7.4"
"""The first release after those whose instructions are known here."""


def instruction(case: Case, found: re.Match[str]) -> Finding | None:
    """Encodings that the kernel does not know: newer than it, or never valid."""
    text = found[0]
    release = case.facts.release
    if re.match(r"BPF_(?:EXIT|ST|JMP|JMP32|LD_\[ABS\|IND\]) uses", text):
        return bad(
            case, f"An instruction is not valid, fields of it must be 0 in every version: {text[:100]}."
        )
    atomic = re.search(r"invalid atomic opcode ([0-9a-f]{2,8})$", text)
    if atomic is not None:
        return unknown_atomic(case, int(atomic[1], 16))
    new_isa = is_older(release, "6.6")
    atomics = is_older(release, "5.12")
    v4 = case.facts.cpu in ("v4", "4")
    handmade = case.source is not None and any(
        word in line for line in case.source.lines for word in (".byte", ".8byte", ".long", ".quad")
    )
    stx = "STX" in text or "XADD" in text or "atomic" in text
    if handmade and not v4:
        return bad(case, f"An instruction is not valid: {text[:100]}.", False)
    if new_isa is False and not v4:
        return bad(case, f"An instruction has an encoding that does not exist: {text[:100]}.", False)
    what = (
        "atomic operations with a result (BPF CPU version 3 with atomics)"
        if stx and atomics
        else "instructions of BPF CPU version 4 (sign-extending loads and moves, gotol, bswap, signed division)"
    )
    since = "5.12" if stx and atomics else "6.6"
    here = f"this kernel is {release}" if release else "this kernel is older"
    sure = (v4 and new_isa is not False) or (stx and atomics is True)
    return Finding(
        "instruction-too-new",
        f"The program uses {what}, which came with Linux {since}; {here} and does not know the instruction "
        f"({text[:60]}).",
        f"compile with -mcpu={'v2' if stx and atomics else 'v3'} or lower, or use a newer kernel ({since} or "
        f"later)",
        sure=sure,
        others=() if sure else ("bad-instruction",),
    )


def bad(case: Case, sentence: str, sure: bool = True) -> Finding:
    return Finding(
        "bad-instruction",
        sentence,
        "correct the instruction: it comes from handwritten assembly, or from undefined behaviour in C; no "
        "kernel takes it",
        sure=sure,
        others=() if sure else ("instruction-too-new",),
    )


def bad_operand(case: Case, found: re.Match[str]) -> Finding | None:
    text = found[0]
    if "shift" in text:
        sentence = (
            f"A shift by {found[1] or 'too many'} bits is not valid: the shift must be less than the "
            f"register's 64 (or 32) bits."
        )
    elif "div by zero" in text:
        sentence = "A division by the constant zero is not valid."
    elif "frame pointer" in text:
        sentence = "The frame pointer R10 is written, but it is read-only."
    else:
        sentence = f"An instruction uses a register or operand that does not exist: {text[:100]}."
    finding = bad(case, sentence)
    finding.advice = (
        "correct the constant or operand"
        + (" (less than 64, or mask it with & 63)" if "shift" in text else "")
        + "; in C it is undefined behaviour, or handwritten assembly"
    )
    return finding


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


def func_info(case: Case, found: re.Match[str]) -> Finding | None:
    """The functions in BTF do not match: on an old kernel the sign of a callback, which it takes for no function."""
    text = "\n".join(case.source.lines) if case.source is not None else ""
    used = [name for name in CALLBACK_HELPERS if re.search(rf"\b{name}\s*\(", text)]
    older = [name for name in used if is_older(case.facts.release, CALLBACK_HELPERS[name])]
    if older or (not text and case.older("5.13")):
        name = older[0] if older else ""
        since = CALLBACK_HELPERS[name] if name else "5.13"
        helper = f"the helper function {name}" if name else "a helper function with a callback"
        return Finding(
            "helper-too-new",
            f"The kernel ({case.facts.release}) is older than {helper}, which came with Linux {since}: it "
            f"does not know callbacks (functions that are "
            f"passed to helpers), so its count of functions differs from the program's func_info.",
            f"use a newer kernel ({since} or later), or a plain bounded loop instead of "
            f"{name or 'the helper with a callback'}",
            sure=bool(older),
            fix=(case.source.search(rf"\b{name}\s*\(") if case.source is not None and name else None,),
            others=("btf-invalid",),
        )
    return Finding(
        "btf-invalid",
        "The function information (func_info, BTF) that was sent with the program does not match its "
        "functions.",
        "build the object anew with -g and one compiler, do not strip it in part; on kernels before 5.13 "
        "programs with callbacks are refused so too",
        sure=case.older("5.13") is False,
        others=("helper-too-new",),
    )


def btf(case: Case, found: re.Match[str]) -> Finding | None:
    detail = " ".join(case.errors)[:140]
    return Finding(
        "btf-invalid",
        f"The BTF type information that was sent with the program is refused: {detail}.",
        "build with a matching clang and pahole, send no BTF of newer kinds to an old kernel (the loader "
        "should sanitize it), or strip BTF (llvm-strip -g)",
    )


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


def invariants(case: Case, found: re.Match[str]) -> Finding | None:
    """``REG INVARIANTS VIOLATION``: since 6.8 a remark, and the end where the loader asked for it (EFAULT)."""
    if any("REG INVARIANTS" not in line for line in case.errors):
        return None
    finding = bug(case, found)
    if finding is not None:
        finding.sure = case.facts.errno == "EFAULT"
    return finding


def bug(case: Case, found: re.Match[str]) -> Finding | None:
    return Finding(
        "kernel-bug",
        f"The verifier reports a fault of its own: {found[0][:140]}. That is a bug of this kernel, set off "
        f"by the program.",
        "try another kernel version, or write the place differently (simpler), and report it to "
        "bpf@vger.kernel.org",
        LIKELY,
        False,
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


def format_string(case: Case, found: re.Match[str]) -> Finding | None:
    """Format strings, and other constant strings."""
    helper = case.called or "the helper"
    if helper in ("bpf_strncmp", "bpf_kallsyms_lookup_name") or (
        "print" not in helper and "printf" not in helper and helper.startswith("bpf_")
    ):
        return Finding(
            "helper-arg-type",
            f"{helper} needs a constant string that ends in NUL and lies in a read-only map (const, "
            f".rodata): {found[0][:80]}.",
            'declare the string as static const char s[] = "..."; and pass that',
            LIKELY,
            False,
            others=("printk-format",),
        )
    if "Invalid format" in found[0] or "fmt" in found[0]:
        sentence = (
            f"The format string that {helper} gets has a specifier (after %) that it does not know, or more "
            f"than there are arguments."
        )
        advice = (
            "use only the specifiers that bpf helpers know: %d %i %u %x %ld %lu %lx %lld %llu %llx %p %pK "
            "%ps %s %c %pI4; no %f, no widths with *"
        )
    else:
        sentence = (
            f"The format string that {helper} gets is not a constant: it must be a NUL-terminated const "
            f"string in read-only memory (.rodata)."
        )
        advice = (
            'declare it as static const char fmt[] = "..."; (the kernel reads it when it loads the program)'
        )
    fix = case.source.search(r"%[^a-zA-Z]{0,4}[a-zA-Z]") if case.source is not None else None
    return Finding("printk-format", sentence, advice, fix=(fix,))


def global_rules(case: Case, found: re.Match[str]) -> Finding | None:
    text = found[0]
    function = re.search(r"(\w{1,128})\(\)", text)
    name = f"{function[1]}()" if function else f"{case.log.validating or 'the program'}()"
    return Finding(
        "global-function",
        f"The global (non-static) function {name} has an argument or result of a type that the verifier does "
        f"not support for global functions: "
        f"{text[:120]}.",
        "use numbers, pointers to structs of fixed size or the context as arguments (tags such as __arg_ctx, "
        "__arg_nonnull tell more), return a "
        "number; or make the function static",
        sure="not supported" in text or "Only those are supported" in text,
    )


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


def near_section(name: str) -> str:
    """What the section name was probably meant to be."""

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


RULES: tuple[Rule, ...] = (
    rule(
        "helper-not-allowed",
        r"(?:unknown func|program of this type cannot use helper) (bpf_\w{1,100}|unknown)#(-?\d{1,10})",
        not_allowed,
        "4.15..7.3",
    ),
    rule("helper-not-allowed", r"helper call is not allowed in probe", in_probe, "5.10..7.3"),
    rule(
        "helper-not-allowed",
        r"func (bpf_\w{1,100})#\d+ (?:supported only for|not supported for program type) .*",
        only_for,
        "5.17..7.3",
    ),
    rule("helper-too-new", r"(?:invalid func|unknown func) (\w{1,100})#(-?\d{1,10})", too_new, "4.15..7.3"),
    rule("helper-too-new", r"(?:invalid|unknown) func ()(\d{1,10})$", too_new, "4.4..4.9"),
    rule("core-relocation", r"failed to resolve CO-RE relocation|<invalid CO-RE relocation>", core),
    rule(
        "kfunc", r"kfunc '[^']{1,128}' is referenced but wasn't resolved|<invalid kfunc call>", kfunc_missing
    ),
    rule(
        "gpl-only",
        r"cannot call (?:GPL-restricted|kernel|GPL only) function from (?:non-GPL|proprietary).*|must have a "
        r"GPL compatible "
        r"license|Cannot access kernel "
        r"'struct \w+' from non-GPL.*",
        license_missing,
        "4.15..7.3",
    ),
    rule(
        "map-helper-mismatch",
        r"cannot pass map_type (\d{1,4}) into func (\w{1,100})#",
        map_mismatch,
        "4.15..7.3",
    ),
    rule(
        "map-helper-mismatch",
        r".*programs? can only use preallocated hash map.*|trace type programs with run-time allocated.*|no "
        r"direct value "
        r"access support for this map type.*|map_ptr access not supported for map type.*|only one cgroup "
        r"storage of each type.*|direct value "
        r"offset of \d+ is not allowed|.*has incorrect map type.*|get_local_storage\(\) doesn't support.*",
        other_map,
        "4.15..7.3",
    ),
    rule(
        "bad-instruction",
        r"invalid shift (-?\d+)|div by zero|frame pointer is read only|R\d+ is invalid|invalid atomic "
        r"operand size|invalid "
        r"bpf_ld_imm64 insn|invalid BPF_LD_IMM insn|unrecognized bpf_ld_imm64 insn",
        bad_operand,
        "4.15..7.3",
    ),
    rule("instruction-too-new", r"unknown opcode ([0-9a-f]{2})\b", unknown_opcode, "5.10..7.3"),
    rule(
        "instruction-too-new",
        r"BPF_\S+ uses reserved fields|unknown insn class \d+|invalid BPF_\S+ "
        r"(?:opcode|mode).*"
        r"|invalid BPF_LD mode|BPF_ATOMIC uses invalid atomic opcode.*|Unknown conditional jump.*|sign "
        r"extending loads from .*|addr_space_cast "
        r"insn can only.*|invalid may_goto.*",
        instruction,
        "4.15..7.3",
    ),
    plain(
        "bad-instruction",
        r"(BPF_LD_\[ABS\|IND\].*|at the time of BPF_LD_ABS\|IND R6 != pointer to skb|LD_ABS is .*)",
        "A direct packet load (BPF_LD_ABS, BPF_LD_IND) is not allowed here: {0}.",
        "use direct packet access or bpf_skb_load_bytes() instead",
        "4.15..",
        False,
    ),
    rule(
        "no-capability",
        r".*allowed (?:only )?(?:for|to) (?:CAP_\w+|root only).*"
        r"|.*(?:are required to use|requires?|require) .*CAP_\w+.*"
        r"|.*CAP_BPF and CAP_PERFMON are required.*",
        capability,
        "4.15..7.3",
    ),
    rule("unprivileged-leak", r"R\d+ leaks addr (as return value|into \w+(?: \w+)?)", leaks, "4.15..7.3"),
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
    rule(
        "btf-invalid",
        r"number of funcs in func_info doesn't match number of subprogs|func_info BTF section doesn't match "
        r"subprog layout.*"
        r"|invalid func info rec size \d+",
        func_info,
        "4.20..7.3",
    ),
    rule(
        "global-function",
        r"Arg#\d+ type \S+ in \w+\(\) is not supported yet|Global function \w+\(\).*|arg#\d+ (?:reference "
        r"type|pointer type|type "
        r"is not a struct|type doesn't have a name|has (?:invalid combination|unsupported set) of tags|type "
        r"tag).*|reg type unsupported for arg#.*"
        r"|Unrecognized arg#.*|func#\d+ .* doesn't match its global prototype",
        global_rules,
        "5.6..7.3",
    ),
    rule(
        "jit",
        r".*(?:non-JITed programs|JIT does(?:n't| not) support|JIT is required|requires BPF JIT|not "
        r"supported by jit).*",
        jit,
        "4.16..7.3",
    ),
    rule(
        "printk-format",
        r"[Ii]nvalid format string|.*(?:doesn't point to a const string|does not point to a readonly "
        r"map|string is not "
        r"zero-terminated|direct value access on string failed|is not a constant address).*|.*fmt string.*",
        format_string,
        "5.13..7.3",
    ),
    plain(
        "helper-arg-type",
        r"((?:R|arg#)\d+) (?:is not a scalar|expected pointer to "
        r"\w+|doesn't point to a map value|doesn't have constant offset|is not a pointer|is of type \S+ "
        r"but .*|invalid \S+ buffer access.*)",
        "An argument of the called helper ({0}) has the wrong kind or type: the helper asks for another "
        "kind of pointer or number there.",
        "pass the kind of pointer (at a constant offset) or the number that the helper's prototype asks for",
        "4.15..",
    ),
    plain(
        "helper-arg-type",
        r"(helper access to the packet is not allowed|cannot update sockmap in this context|off -?\d+ "
        r"doesn't point to .*"
        r"|pointer in \S+ isn't map pointer|release \S+ \S+ expects .*)",
        "An argument has the wrong kind for the called function: {0}.",
        "pass what the function's prototype asks for; copy packet data to the stack first",
        "4.15..",
        False,
    ),
    rule(
        "btf-invalid",
        r"kernel is missing BTF|in-kernel BTF is malformed|map_ptr access not supported without "
        r"CONFIG|calling kernel function is not "
        r"supported without CONFIG",
        no_kernel_btf,
        "5.5..",
    ),
    rule(
        "btf-invalid",
        r"(?:\[\d+\] (?:\w+ .*)?(?:Invalid|Member|size|vlen|Loop|Unsupported|No type|Max)|.* Invalid "
        r"(?:member|name|offset|size|type|index"
        r"|elem|value|kind|btf_info|func linkage|return type|arg#|bits|int).*|.*type_id=\d+ .*|magic: "
        r"0x|Invalid (?:magic|BTF|btf|insn|line_info|type|"
        r"name|string section|func).*|.*(?:Unsupported|btf_header|Section overlap|exceeds struct_size|not "
        r"byte aligned|Exceeded max|KIND_FUNC"
        r"|missing bpf_line_info|line_info|func info|meta_left|str_len|hdr_len|needs? valid BTF|without "
        r"BTF|missing btf func_info|nonzero tailing).*"
        r"|\[\d+\] [A-Z_]+ .*)",
        btf,
        "4.18..7.3",
    ),
    rule("kernel-bug", r"REG INVARIANTS VIOLATION.*", invariants, "6.8.."),
    rule(
        "kernel-bug",
        r".*(?:verifier internal error|verifier bug|[Vv]erifier BUG|\bBUG\b|internal "
        r"bug|misconfigured|BPF_PTR_POISON).*",
        bug,
        "4.15..7.3",
    ),
)
