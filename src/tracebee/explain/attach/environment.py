"""Rights and settings: what stands between a process and the kernel before any program is looked at.

EPERM and EACCES have a dozen reasons, and the kernel tells none.  The order here is by what decides: the limit on
files, lockdown where the kernel's log names it, the user namespace, capabilities, sysctls, seccomp, and memlock
only where the kernel counts it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.attach import maps, versions
from tracebee.explain.attach.attempt import KPROBES
from tracebee.explain.attach.finding import GUESS, LIKELY, PROVEN, Finding, Rule
from tracebee.explain.attach.machine import LOCKDOWN, UNLIMITED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.explain.attach.attempt import Attempt
    from tracebee.explain.attach.machine import Machine

REFUSED = ("EPERM", "EACCES")

CAPABILITIES_SINCE = "5.8"
"""CAP_BPF and CAP_PERFMON; before, CAP_SYS_ADMIN was all of it (kernel commits a17b53c4a4b5, 980737282232)."""

READERS = (
    "probe_read",
    "probe_read_str",
    "probe_read_kernel",
    "probe_read_kernel_str",
    "trace_printk",
    "trace_vprintk",
    "get_current_task",
    "get_stack",
)
DOC_LOCKDOWN = "kernel_lockdown(7)"
DOC_CAPABILITIES = "capabilities(7), bpf(2)"


# ---------------------------------------------------------------------- files and limits


def _descriptors(attempt: Attempt) -> Iterator[Finding]:
    if attempt.errno not in ("EMFILE", "ENFILE"):
        return
    limit = attempt.machine.limits.get("nofile")
    whole = attempt.errno == "ENFILE"
    yield Finding(
        "too-many-files",
        PROVEN,
        "no file descriptor is left: every map, program, link and perf event takes one, and "
        + ("the system's limit fs.file-max is reached" if whole else "the limit on open files is reached")
        + (f" (RLIMIT_NOFILE is {limit})" if limit is not None and not whole else " (RLIMIT_NOFILE)"),
        "raise the limit (ulimit -n, LimitNOFILE= of systemd), or attach to fewer probes: one link can hold many "
        "(kprobe_multi, uprobe_multi)",
        (f"the answer is {attempt.errno}",),
    )


def _memlock(attempt: Attempt) -> Iterator[Finding]:
    """RLIMIT_MEMLOCK, which kernels before 5.11 hold BPF memory against, whoever asks."""
    machine = attempt.machine
    call = attempt.failed
    if call is None or attempt.errno not in ("EPERM", "ENOMEM", "EAGAIN"):
        return
    counted = machine.is_older_than(versions.MEMORY_OF_CGROUPS)
    told = attempt.says(r"memlock|locked[- ]memory")
    limit = machine.limits.get("memlock")
    if "mmap" in call.what:
        counted = True  # of perf's rings, on every kernel
    elif "MAP_CREATE" not in call.what and "PROG_LOAD" not in call.what:
        return
    if counted is False or limit == UNLIMITED or machine.has("CAP_BPF") is False or machine.is_namespaced:
        return
    if re.search(r"Lockdown:", "\n".join(attempt.dmesg)):
        return
    needs = maps.memory_of(attempt.map) if attempt.map is not None else 0
    if limit is None:
        if not counted and not (told and counted is None):
            return
        weight = GUESS + 5 if counted is None else LIKELY if told else GUESS
    else:
        weight = PROVEN if counted and needs > limit else LIKELY if counted else GUESS
    yield Finding(
        "memlock",
        weight,
        "the limit on locked memory (RLIMIT_MEMLOCK) is too low: before Linux 5.11, memory of maps and programs "
        "counts for it, whatever the rights"
        + (f"; it is {limit} bytes here" if limit is not None else "")
        + (f", and the map needs about {needs}" if needs else ""),
        "raise it before anything is made: ulimit -l unlimited, or setrlimit(RLIMIT_MEMLOCK) in the program",
        (f"the kernel is {machine.release}",) if machine.release else (),
        reference="kernel commit 3ac1f01b43b6 and its series, bpf: Eliminate rlimit-based memory accounting",
    )


# ---------------------------------------------------------------------- lockdown


def _lockdown(attempt: Attempt) -> Iterator[Finding]:
    machine = attempt.machine
    mode = machine.lockdown
    said = [line for line in attempt.dmesg if "Lockdown:" in line or "lockdown" in line]
    if attempt.was_tried and attempt.failed is None:
        return
    if mode in ("none",) and not said:
        return
    if attempt.kind == "load" or attempt.verifier_log:
        yield from _locked_helper(attempt, mode, said)
        return
    why = _what_lockdown_forbids(attempt, mode, said)
    if not why:
        return
    sentence, sure = why
    words = f"kernel lockdown ({mode})" if mode else "kernel lockdown"
    yield Finding(
        "lockdown",
        PROVEN if sure and (mode or said) else LIKELY,
        f"the kernel is locked down: {words} {sentence}",
        "boot without it (no lockdown= on the kernel's command line; Secure Boot off where that turns it on). What "
        "lockdown leaves: " + _left(mode),
        ((f"{LOCKDOWN} is {mode}",) if mode else ()) + (("the kernel's log says Lockdown",) if said else ()),
        says=tuple(said[-2:]),
        reference=DOC_LOCKDOWN,
    )


def _left(mode: str) -> str:
    if mode == "integrity":
        return "all tracing but bpf_probe_write_user and files of debugfs"
    return "uprobes, tp_btf, fentry and raw tracepoints without reads of kernel memory, and maps"


def _what_lockdown_forbids(attempt: Attempt, mode: str, said: list[str]) -> tuple[str, bool] | None:
    """What of this attempt lockdown forbids, and whether that is certain; None if nothing."""
    machine = attempt.machine
    call = attempt.failed
    what = call.what if call is not None else ""
    errno = attempt.errno
    log = "\n".join(said).lower()
    in_debugfs = "/sys/kernel/debug" in what or "/sys/kernel/debug" in attempt.target
    in_tracefs = "tracing" in what or "tracefs" in what or "tracing" in attempt.target
    if mode == "integrity" and not ("debugfs" in log and in_debugfs):
        if in_debugfs and "tracing" not in what and errno == "EPERM":
            return "forbids to open most files of debugfs", True
        if said and errno == "EPERM" and "kprobes" in log:
            return "forbids kprobes on this kernel", True
        # Before it went upstream (5.4) lockdown had one mode, which forbade more.
        if errno == "EPERM" and machine.is_older_than("5.4") and attempt.kind in (*KPROBES, "map", "load"):
            return "forbids kprobes and bpf(2) on kernels before 5.4", False
        return None
    if errno == "EPERM" and in_debugfs and ("debugfs" in log or mode):
        return "forbids to open files of debugfs; go on without them, or read them before it is set", True
    if errno == "EPERM" and in_tracefs and mode != "integrity":
        return "forbids to open files of tracefs", True
    if mode == "confidentiality" and errno == "ENOENT" and in_tracefs:
        return "was set at boot, so tracefs is empty: its files do not exist", True
    if (
        mode == "confidentiality"
        and errno == "ENOENT"
        and attempt.kind in (*("kprobe event", "uprobe event", "tracepoint"),)
    ):
        return "was set at boot, so tracefs is empty: its events do not exist", True
    if attempt.kind in KPROBES and errno in REFUSED and (mode == "confidentiality" or "kprobes" in log):
        early = "PROG_LOAD" in what or "MAP_CREATE" in what
        more = ", and on this kernel all of bpf(2)" if early else ""
        return f"forbids kprobes{more}", bool(said) or not early
    if attempt.kind in ("tracepoint", "perf_event") and errno in REFUSED and mode == "confidentiality":
        return "forbids perf events of the kernel (unsafe use of perf)", True
    if not attempt.was_tried and mode == "confidentiality" and attempt.kind in (*KPROBES, "tracepoint"):
        return "forbids kprobes and tracefs", True
    if said and errno in REFUSED and re.search(r"bpf|kprobes|perf|tracefs|debugfs|modules", log):
        return "forbids it, as the kernel's log says", True
    return None


def _locked_helper(attempt: Attempt, mode: str, said: list[str]) -> Iterator[Finding]:
    """A helper that lockdown takes away: the verifier then says that it is unknown."""
    helper = (
        attempt.helper.removeprefix("bpf_")
        or attempt.says(r"(?:unknown func|cannot use helper) bpf_\w+").rpartition("bpf_")[2].partition("#")[0]
    )
    reads = helper in READERS or helper.startswith(("probe_read", "get_stack"))
    writes = helper == "probe_write_user"
    log = "\n".join(said).lower()
    locked = (reads and (mode == "confidentiality" or "read kernel ram" in log)) or (
        writes and (mode in ("integrity", "confidentiality") or "write user ram" in log)
    )
    if not locked or attempt.errno not in ("EINVAL", "EPERM", "EACCES", ""):
        return
    what = "reads kernel memory" if reads else "writes memory of programs"
    yield Finding(
        "lockdown",
        PROVEN,
        f"the kernel is locked down ({mode or 'see its log'}): bpf_{helper}, which {what}, is refused to "
        "every program, "
        "and the verifier calls it unknown or not to be used",
        "boot without lockdown"
        + ("=confidentiality" if reads else "")
        + ", or do without: fields of BTF-typed pointers (tp_btf, fentry) are read without a helper",
        ((f"{LOCKDOWN} is {mode}",) if mode else ()) + (("the kernel's log says Lockdown",) if said else ()),
        says=tuple(said[-1:]),
        reference=DOC_LOCKDOWN,
    )


# ---------------------------------------------------------------------- capabilities


def _rights(attempt: Attempt) -> Iterator[Finding]:
    """User namespace, capabilities, perf_event_paranoid, seccomp: in this order, by what decides first."""
    machine = attempt.machine
    call = attempt.failed
    if attempt.was_tried and (call is None or attempt.errno not in (*REFUSED, "ENOSYS")):
        return
    if not attempt.was_tried:
        yield from _ahead(attempt)
        return
    assert call is not None
    what = call.what
    if (
        attempt.kind == "tracepoint"
        and attempt.errno == "EACCES"
        and any(word in what for word in ("SET_BPF", "LINK_CREATE", "attach"))
    ):
        return  # a record that is too short
    missing = missing_capabilities(attempt, what)
    if machine.is_namespaced and attempt.errno in REFUSED:
        yield user_namespace(PROVEN if machine.has("CAP_SYS_ADMIN") else LIKELY)
    opens = what.startswith("open(") or attempt.kind == "file"
    if opens and attempt.errno == "EACCES":
        yield _file_mode(attempt, what)
        return
    if attempt.kind == "pin" and "PIN" in what:
        return
    filtered = machine.seccomp == 2
    if missing and attempt.errno in REFUSED:
        # A filter would answer first, and the usual ones let pass what has the capability.
        yield no_capability(attempt, missing, GUESS + 15 if filtered else PROVEN)
    paranoid = machine.sysctl("kernel.perf_event_paranoid")
    if "perf_event_open" in what and attempt.errno in REFUSED and not missing and not machine.has_real_root:
        yield from _paranoid(machine, paranoid)
    if filtered and attempt.errno in ("EPERM", "ENOSYS", "EACCES") and _is_syscall(what):
        yield seccomp(PROVEN if not missing and machine.capabilities is not None else GUESS, attempt.errno)
    if machine.capabilities is None and attempt.errno in REFUSED and not attempt.dmesg:
        yield from _unknown_rights(attempt)


def _is_syscall(what: str) -> bool:
    return any(word in what for word in ("bpf(", "perf_event_open", "attach", "ioctl", "mount"))


def _unknown_rights(attempt: Attempt) -> Iterator[Finding]:
    """Nobody looked at the capabilities: what the texts allow."""
    machine = attempt.machine
    root = machine.uid == 0
    if attempt.says("seccomp|docker|podman|container"):
        yield seccomp(GUESS, attempt.errno)
    if machine.uid is not None and not root:
        yield no_capability(attempt, ("CAP_BPF", "CAP_PERFMON"), LIKELY)
    else:
        yield no_capability(attempt, ("CAP_BPF", "CAP_PERFMON"), GUESS)


def _ahead(attempt: Attempt) -> Iterator[Finding]:
    """Before anything is tried: which right would be missing."""
    machine = attempt.machine
    if machine.is_namespaced:
        yield user_namespace(PROVEN)
        return
    missing = missing_capabilities(attempt, "bpf(BPF_PROG_LOAD)")
    if missing:
        yield no_capability(attempt, missing, PROVEN)
        return
    paranoid = machine.sysctl("kernel.perf_event_paranoid")
    uses_perf = attempt.kind in ("kprobe", "uprobe", "tracepoint", "usdt")
    if uses_perf and paranoid is not None and paranoid > 2 and not machine.has_real_root:
        yield from _paranoid(machine, paranoid)


def missing_capabilities(attempt: Attempt, what: str) -> tuple[str, ...]:
    """The capabilities that a call needs and that are not there; empty where all are, or nobody looked."""
    machine = attempt.machine
    if machine.capabilities is None or machine.has("CAP_SYS_ADMIN"):
        return ()
    if machine.is_older_than(CAPABILITIES_SINCE):
        return ("CAP_SYS_ADMIN",)
    program = versions.program_type_name(attempt.program_type) or versions.PROGRAM_OF_KIND.get(
        attempt.kind, ""
    )
    wanted: list[str] = []
    if "perf_event_open" in what or "PERF_EVENT_IOC" in what:
        wanted = ["CAP_PERFMON"]
    elif "MAP_CREATE" in what or "BTF_LOAD" in what:
        wanted = ["CAP_BPF"]
    else:
        wanted = ["CAP_BPF"]
        if program in versions.NETWORK_TYPES:
            wanted.append("CAP_NET_ADMIN")
        elif program not in ("socket_filter", "cgroup_skb", "syscall"):
            wanted.append("CAP_PERFMON")
    return tuple(name for name in wanted if machine.has(name) is False)


def no_capability(attempt: Attempt, missing: tuple[str, ...], weight: int) -> Finding:
    machine = attempt.machine
    level = machine.sysctl("kernel.unprivileged_bpf_disabled")
    names = " and ".join(missing)
    have = [name for name in ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN") if machine.has(name)]
    more = f"; {' and '.join(have)} alone is not enough" if have else ""
    sysctl = f" (kernel.unprivileged_bpf_disabled is {level})" if level else ""
    paranoid = machine.sysctl("kernel.perf_event_paranoid")
    if attempt.failed is not None and "perf_event_open" in attempt.failed.what and paranoid is not None:
        sysctl = f" (kernel.perf_event_paranoid is {paranoid})"
    return Finding(
        "no-capability",
        weight,
        f"the process has not the privileges: {names} {'is' if len(missing) == 1 else 'are'} missing{more}{sysctl}",
        f"run as root (sudo), or grant {names}: setcap, AmbientCapabilities= of systemd, --cap-add of a container "
        "(tracing takes CAP_BPF and CAP_PERFMON, programs of the network CAP_NET_ADMIN)",
        (f"CapEff is {machine.capabilities:016x}",)
        if machine.capabilities is not None
        else (f"the answer is {attempt.errno}",),
        reference=DOC_CAPABILITIES,
    )


def user_namespace(weight: int) -> Finding:
    return Finding(
        "user-namespace",
        weight,
        "the process is root only inside of a user namespace: for bpf(2) and perf, capabilities count in the initial "
        "user namespace alone",
        "run it as real root, in the initial user namespace (not in a rootless container, not under unshare -r)",
        ("/proc/self/uid_map is not that of the initial namespace",),
        reference="user_namespaces(7)",
    )


def seccomp(weight: int, errno: str) -> Finding:
    return Finding(
        "seccomp",
        weight,
        f"a seccomp filter refuses the call ({errno}), not the kernel: the capabilities would do, but "
        "the process runs "
        "under a filter, as containers and sandboxes set one",
        "run outside of the container, or give it a profile that allows bpf and perf_event_open "
        "(docker run --security-opt seccomp=unconfined, or a profile of your own)",
        ("Seccomp is 2 (a filter) in /proc/self/status",),
        reference="seccomp(2)",
    )


def _paranoid(machine: Machine, level: int | None) -> Iterator[Finding]:
    if machine.has("CAP_PERFMON") is not True:
        return
    known = level is not None and level > 2
    if level is not None and not known:
        return
    yield Finding(
        "perf-paranoid",
        PROVEN if known else GUESS,
        f"kernel.perf_event_paranoid is {level if level is not None else 'probably above 2'}: with 3 and "
        "more, a level "
        "that Debian and Ubuntu add, perf_event_open(2) is refused to everybody without CAP_SYS_ADMIN, "
        "CAP_PERFMON or "
        "not",
        "sysctl kernel.perf_event_paranoid=2 (or lower), or add CAP_SYS_ADMIN; fentry, raw tracepoints and links of "
        "many kprobes need no perf event",
        (f"/proc/sys/kernel/perf_event_paranoid is {level}",) if level is not None else (),
        reference="Documentation/admin-guide/perf-security.rst of the kernel",
    )


def _file_mode(attempt: Attempt, what: str) -> Finding:
    machine = attempt.machine
    path = re.sub(r"^open\((.*)\)$", r"\1", what) or attempt.target
    debug = "/sys/kernel/debug" in path
    tracefs = "tracing" in path or "tracefs" in path
    where = "debugfs" if debug and not tracefs else "tracefs" if tracefs or debug else "it"
    root = machine.uid not in (0, None)
    return Finding(
        "no-capability",
        LIKELY if root or machine.uid is None else GUESS,
        f"the file permissions of {path} do not let this process in: {where} is readable by root only (its mode is "
        "0700), and capabilities for BPF do not help with that",
        "run as root, or give CAP_DAC_OVERRIDE (CAP_DAC_READ_SEARCH to read); or remount tracefs for a group "
        "(mount -o remount,gid=GROUP,mode=750). Probes by perf_event_open, fentry and raw tracepoints "
        "need no tracefs",
        (f"the answer to open is {attempt.errno}",)
        + ((f"the user is {machine.uid}",) if machine.uid is not None else ()),
    )


# ---------------------------------------------------------------------- what the kernel was built with


def _config(attempt: Attempt) -> Iterator[Finding]:
    """Kinds of probes that this kernel does not have at all."""
    machine = attempt.machine
    call = attempt.failed
    if attempt.was_tried and (
        call is None or attempt.errno not in ("ENOENT", "EINVAL", "ENODEV", "EOPNOTSUPP", "ENOSYS")
    ):
        return
    if call is not None and "PROG_LOAD" in call.what:
        return
    if attempt.kind in ("kprobe", "kprobe event"):
        source, options, other = (
            "kprobe",
            ("CONFIG_KPROBES", "CONFIG_KPROBE_EVENTS"),
            "fentry, tracepoints or uprobes",
        )
    elif attempt.kind in ("uprobe", "uprobe event", "usdt"):
        source, options, other = (
            "uprobe",
            ("CONFIG_UPROBES", "CONFIG_UPROBE_EVENTS"),
            "tracepoints, or ptrace",
        )
    else:
        return
    looked_up = (
        call is not None and f"event_source/devices/{source}" in call.what and attempt.errno == "ENOENT"
    )
    if looked_up and not machine.config and machine.event_sources is None:
        new = machine.is_older_than("4.17") is False
        yield Finding(
            "config-missing",
            LIKELY if new else GUESS,
            f"perf has no event source {source} on this kernel: it was built without {options[-1]}"
            + ("" if new else ", or it is older than 4.17, which brought that source"),
            f"use {other}; or a kernel built with {options[-1]}=y",
            (f"{call.what if call is not None else ''} answered ENOENT",),
        )
        return
    unset = [option for option in options if machine.lacks(option)]
    absent = machine.event_sources is not None and source not in machine.event_sources
    opens = call is not None and (f"{source}_events" in call.what or "event_source" in call.what)
    if not unset and not absent:
        return
    if absent and not unset and machine.is_older_than("4.17"):
        return  # the source came with 4.17; before, probe events did it
    tracing = call is None or opens or absent
    if not tracing:
        return
    option = unset[-1] if unset else options[-1]
    yield Finding(
        "config-missing",
        PROVEN,
        f"this kernel was built without {source}s: {option} is not set"
        + (f" ({unset[0]} neither)" if len(unset) > 1 else "")
        + ", so there are no such probe events",
        f"use {other}; or a kernel built with {option}=y",
        tuple(f"{one} is not set" for one in unset)
        + ((f"perf has no event source {source}",) if absent else ()),
    )


def _no_bpf(attempt: Attempt) -> Iterator[Finding]:
    """ENOSYS: there is no such system call at all."""
    call = attempt.failed
    if call is None or attempt.errno != "ENOSYS" or attempt.machine.seccomp == 2:
        return
    if "bpf" not in call.what and "perf_event_open" not in call.what:
        return
    option = "CONFIG_PERF_EVENTS" if "perf_event_open" in call.what else "CONFIG_BPF_SYSCALL"
    yield Finding(
        "config-missing",
        PROVEN if attempt.machine.lacks(option) else LIKELY,
        f"the kernel has no such system call: it was built without {option}",
        f"use a kernel built with {option}=y",
        (f"{call.what} answered ENOSYS",),
    )


def _no_btf(attempt: Attempt) -> Iterator[Finding]:
    """The kernel's types are not there, which loaders say in words of their own."""
    call = attempt.failed
    missing = call is not None and "btf/vmlinux" in call.what and attempt.errno == "ENOENT"
    # "failed to find kernel BTF type ID of ..." is about one name, not about all types.
    words = r"valid kernel BTF|kernel BTF (?:is|was) (?:missing|not found)|vmlinux BTF .{0,20}(?:not|missing)"
    if call is None or not (missing or (attempt.says(words) and attempt.machine.has_btf is not True)):
        return
    yield Finding(
        "config-missing",
        LIKELY if missing or attempt.machine.lacks("CONFIG_DEBUG_INFO_BTF") else GUESS + 5,
        "the kernel's BTF is not there: this kernel was built without CONFIG_DEBUG_INFO_BTF, so types "
        "cannot be found",
        "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, give the loader a BTF file made for this kernel (BTFHub, "
        "pahole -J), or use probes that need no types",
        ("/sys/kernel/btf/vmlinux is not there",),
    )


def _event_files(attempt: Attempt) -> Iterator[Finding]:
    """kprobe_events, uprobe_events and other files of tracefs that are not there."""
    from tracebee.explain.attach.tracepoints import is_tracefs_mounted, not_mounted

    machine = attempt.machine
    call = attempt.failed
    if call is None or attempt.errno not in ("ENOENT", "ENOTDIR") or not call.what.startswith("open("):
        return
    if attempt.kind not in ("kprobe event", "uprobe event", "file") or machine.lockdown == "confidentiality":
        return
    if not re.search(r"tracing|tracefs", call.what):
        return
    mounted = is_tracefs_mounted(machine)
    if mounted is False:
        yield not_mounted(PROVEN, evidence=())
    elif mounted is None:
        yield not_mounted(GUESS, evidence=("the file does not exist",))
    elif attempt.kind != "file":
        source = attempt.kind.partition(" ")[0]
        option = "CONFIG_KPROBE_EVENTS" if source == "kprobe" else "CONFIG_UPROBE_EVENTS"
        yield Finding(
            "config-missing",
            LIKELY,
            f"tracefs is mounted and has no {source}_events: the kernel was built without {option}",
            f"use another kind of probe, or a kernel built with {option}=y",
            (f"tracefs has no {source}_events",),
        )


RULES = (
    Rule("file descriptors", _descriptors),
    Rule("locked memory", _memlock),
    Rule("lockdown", _lockdown),
    Rule("rights", _rights),
    Rule("what the kernel was built with", _config),
    Rule("files of tracefs", _event_files),
    Rule("system calls that are not there", _no_bpf),
    Rule("types of the kernel", _no_btf),
)
