"""The kernel's helper functions: not for this program, too new for this kernel, or for GPL programs only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.errors import UsageError
from tracebee.explain.edits import section_edit
from tracebee.explain.explanation import Edit, SourceLine
from tracebee.explain.helperuse import instead_of
from tracebee.explain.rules.kfuncs import kfunc_missing
from tracebee.explain.rules.record import LIKELY, Finding, Rule, rule
from tracebee.explain.rules.relocation import core
from tracebee.explain.rules.sleeping import SECTION_SLEEPABLE
from tracebee.explain.versions import helper_since, is_older, program_kind
from tracebee.insn.helpers import helper_id, helper_name

if TYPE_CHECKING:
    from tracebee.explain.case import Case

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
    rule(
        "gpl-only",
        r"cannot call (?:GPL-restricted|kernel|GPL only) function from (?:non-GPL|proprietary).*|must have a "
        r"GPL compatible "
        r"license|Cannot access kernel "
        r"'struct \w+' from non-GPL.*",
        license_missing,
        "4.15..7.3",
    ),
)
