"""Programs refused before the verifier looked, or links refused because the program is of another kind."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.attach import versions
from tracebee.explain.attach.attempt import KPROBES
from tracebee.explain.attach.finding import GUESS, LIKELY, PROVEN, Finding, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.explain.attach.attempt import Attempt


def program_type(attempt: Attempt) -> str:
    """The program type of an attempt: as it was said, or as its kind of probe takes it; "" if unknown."""
    name = versions.program_type_name(attempt.program_type) or versions.PROGRAM_OF_KIND.get(attempt.kind, "")
    if not name and attempt.kind == "load" and attempt.target:
        wanted = versions.program_type_name(attempt.target)
        return wanted if wanted in versions.PROGRAM_TYPES else ""
    return name


def _type(attempt: Attempt) -> Iterator[Finding]:
    if attempt.is_silent or attempt.errno in ("EPERM", "EACCES", "EMFILE", "ENFILE"):
        return
    if attempt.was_tried and not attempt.failed_at_load:
        return
    if attempt.verifier_log.strip() and not re.search(r"processed 0 insns", attempt.verifier_log):
        return
    machine = attempt.machine
    name = program_type(attempt)
    since = versions.PROGRAM_TYPES.get(name, "")
    option = versions.PROGRAM_OPTIONS.get(name, "")
    if since and machine.is_older_than(since):
        yield Finding(
            "program-type-unsupported",
            PROVEN,
            f"this kernel, {machine.release}, does not know the program type {name} "
            f"(BPF_PROG_TYPE_{name.upper()}): it "
            f"came with Linux {since}, so the kernel is too old",
            f"use another type of program ({_other(attempt.kind)}), or a newer kernel ({since} or later)",
            (f"the kernel is {machine.release}", f"program type {name} is since Linux {since}"),
        )
    elif option and machine.lacks(option):
        yield Finding(
            "program-type-unsupported" if name != "lsm" or attempt.kind == "load" else "config-missing",
            PROVEN,
            f"this kernel was built without {option}, and so does not have the program type {name}",
            f"use another type of program ({_other(attempt.kind)}), or a kernel built with {option}=y",
            (f"{option} is not set",),
        )
    elif attempt.kind in versions.KINDS_SINCE and machine.is_older_than(versions.KINDS_SINCE[attempt.kind]):
        if attempt.kind.endswith((".multi", ".session")):
            return
        since = versions.KINDS_SINCE[attempt.kind]
        yield Finding(
            "program-type-unsupported",
            PROVEN,
            f"this kernel, {machine.release}, does not have {attempt.kind} programs: they came with "
            f"Linux {since}, so "
            "the kernel is too old",
            f"use another type of program ({_other(attempt.kind)}), or a newer kernel ({since} or later)",
            (f"the kernel is {machine.release}",),
        )
    elif attempt.kind == "load" and attempt.errno in ("EINVAL", "E2BIG", "EOPNOTSUPP") and name:
        if name.isdigit() and int(name) > len(versions.PROGRAM_NUMBERS):
            yield Finding(
                "program-type-unsupported",
                LIKELY,
                f"program type {name} is newer than this kernel ({machine.release})",
                "use a program type that this kernel knows, or a newer kernel",
                (f"the newest type known here is {len(versions.PROGRAM_NUMBERS)}",),
            )
        elif not attempt.verifier_log.strip():
            yield Finding(
                "program-type-unsupported",
                GUESS,
                f"the kernel refused the program before it was looked at: the type {name} or its attach type is not "
                "supported by this kernel (too old, or built without it), or an attribute is wrong",
                "compare type and expected_attach_type with what this kernel has (tracebee doctor)",
                (f"the answer is {attempt.errno}, with an empty log",),
            )


def _other(kind: str) -> str:
    if kind in ("fentry", "fexit", "fmod_ret"):
        return "a kprobe or kretprobe"
    if kind == "lsm":
        return "a kprobe or fentry on security_* functions"
    if kind in ("raw tracepoint", "tp_btf"):
        return "a tracepoint"
    return "one that this kernel has"


def _kernel_version(attempt: Attempt) -> Iterator[Finding]:
    """Kernels before 5.0 compare the program's version with their own (kernel commit 6c4fc209fcf9)."""
    if not attempt.failed_at_load or attempt.errno != "EINVAL" or attempt.verifier_log.strip():
        return
    machine = attempt.machine
    old = machine.is_older_than("5.0")
    given = attempt.kernel_version
    told = attempt.says(r"kern_?version|LINUX_VERSION_CODE|KERNEL_VERSION|version section")
    kprobes = attempt.kind in KPROBES or program_type(attempt) == "kprobe"
    if not (given or told or (old and kprobes)) or old is False:
        return
    running = machine.release
    differs = bool(given) and _code(given) != _code(running)
    if given and not differs:
        return
    yield Finding(
        "kernel-version-mismatch",
        PROVEN if differs and old else LIKELY if told else GUESS,
        "before Linux 5.0, a kprobe program must carry the exact version of the running kernel (kern_version, "
        f"LINUX_VERSION_CODE): the program says {given or 'another one or none'}, the kernel is {running}",
        "give the running kernel's version when loading (libbpf does it by itself; on Debian and Ubuntu "
        "it is not that "
        "of uname, but that in /proc/version_signature or the vDSO)",
        ("the answer is EINVAL with an empty log", f"the kernel is {running}"),
    )


def _code(release: str) -> tuple[int, ...]:
    """The numbers that LINUX_VERSION_CODE is made of; the last has 8 bits."""
    numbers = [*(int(number) for number in re.findall(r"\d+", release)[:3]), 0, 0, 0]
    return numbers[0], numbers[1], min(numbers[2], 255)


OPTION_OF_HELPER = {
    "override_return": "CONFIG_BPF_KPROBE_OVERRIDE",
    "get_stackid": "CONFIG_PERF_EVENTS",
    "perf_prog_read_value": "CONFIG_PERF_EVENTS",
    "get_current_cgroup_id": "CONFIG_CGROUPS",
    "bprm_opts_set": "CONFIG_BPF_LSM",
    "ima_file_hash": "CONFIG_IMA",
    "ima_inode_hash": "CONFIG_IMA",
}
"""Helpers that a kernel has only with a certain option."""


def _link(attempt: Attempt) -> Iterator[Finding]:
    """The program was taken, and its link refused as EINVAL: it is of another kind."""
    call = attempt.failed
    if call is None or attempt.errno not in ("EINVAL", "EOPNOTSUPP", "EBADF"):
        return
    if "SET_BPF" in call.what or (
        "LINK_CREATE" in call.what
        and attempt.kind
        not in ("kprobe.multi", "kprobe.session", "uprobe.multi", "fentry", "fexit", "fmod_ret", "lsm")
    ):
        wanted = versions.PROGRAM_OF_KIND.get(attempt.kind, "")
        given = versions.program_type_name(attempt.program_type)
        differs = bool(given and wanted) and given != wanted
        yield Finding(
            "program-type-mismatch",
            PROVEN if differs else LIKELY,
            f"the program does not fit what it is attached to: its type (or expected_attach_type) is "
            f"{given or 'not the one'} that {attempt.kind or 'this'} takes"
            + (f", BPF_PROG_TYPE_{wanted.upper()}" if wanted else ""),
            f'load it with type {wanted or "and attach type of the hook"} (with libbpf: the right SEC("...") name)',
            (f"the program was loaded, and {call.what} answered {attempt.errno}",),
        )
    elif attempt.kind == "uprobe.multi":
        yield from _uprobe_multi(attempt)


def _uprobe_multi(attempt: Attempt) -> Iterator[Finding]:
    machine = attempt.machine
    since = versions.KINDS_SINCE["uprobe.multi"]
    if machine.is_older_than(since):
        yield Finding(
            "program-type-unsupported",
            PROVEN,
            f"links of many uprobes came with Linux {since}, and this kernel is {machine.release}: too old",
            "attach the uprobes one by one, or use a newer kernel",
            (f"the kernel is {machine.release}",),
        )
    elif attempt.attach_type.upper() not in ("", "BPF_TRACE_UPROBE_MULTI", "48"):
        yield Finding(
            "program-type-mismatch",
            PROVEN,
            "the program was not loaded for this: its expected_attach_type is not BPF_TRACE_UPROBE_MULTI",
            'load it with that attach type (libbpf: SEC("uprobe.multi/..."))',
            (f"expected_attach_type is {attempt.attach_type}",),
        )


def _helper(attempt: Attempt) -> Iterator[Finding]:
    """A helper that programs of this type may not call: said by the verifier."""
    said = attempt.says(r"(?:unknown func|cannot use helper|invalid func) \w+#\d+")
    if not said or not attempt.failed_at_load:
        return
    helper = re.sub(r".* (\w+)#\d+$", r"\1", said)
    option = OPTION_OF_HELPER.get(helper.removeprefix("bpf_"), "")
    if option and attempt.machine.lacks(option):
        yield Finding(
            "config-missing",
            PROVEN,
            f"this kernel was built without {option}, so it does not have the helper {helper}, and the "
            "verifier calls it unknown or not to be used",
            f"do without {helper}, or use a kernel built with {option}=y",
            (f"{option} is not set", f"the verifier says: {said}"),
        )
        return
    missing = [name for name in ("CAP_PERFMON", "CAP_BPF") if attempt.machine.has(name) is False]
    if missing:
        yield Finding(
            "no-capability",
            LIKELY,
            f"without {missing[0]} programs may not call {helper}: the verifier then calls it unknown",
            f"run as root, or grant {missing[0]}",
            (f"the verifier says: {said}",),
        )
        return
    yield Finding(
        "program-type-mismatch",
        GUESS,
        f"programs of this type may not call {helper}, or this kernel does not have it",
        "use a helper that this type may call (tracebee doctor lists what works here), or another program type",
        (f"the verifier says: {said}",),
    )


RULES = (
    Rule("the program's type", _type),
    Rule("the program's kernel version", _kernel_version),
    Rule("program and link", _link),
    Rule("helpers", _helper),
)
