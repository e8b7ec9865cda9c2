"""What this machine and this process can: facts that were read, and questions that the kernel was asked.

Nothing is guessed from versions.  A question that may not be asked has the answer "unknown", with the right that is
missing; it never counts as "no".  All of it takes about a second.
"""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.errors import PermissionRefused, SyscallError
from tracebee.explain.attach.attempt import Attempt
from tracebee.explain.attach.diagnose import obstacles
from tracebee.explain.attach.machine import MOUNTS, OPTIONS, UNLIMITED
from tracebee.session.described import describe, read_small

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.explain.attach.machine import Machine
    from tracebee.session.machine import LiveMachine

YES, NO, UNKNOWN = "yes", "no", "unknown"

SYSCTLS = (
    "kernel.unprivileged_bpf_disabled",
    "kernel.perf_event_paranoid",
    "kernel.kptr_restrict",
    "kernel.ftrace_enabled",
    "kernel.yama.ptrace_scope",
    "kernel.bpf_stats_enabled",
    "net.core.bpf_jit_enable",
    "kernel.perf_event_max_stack",
)

FILE_SYSTEMS = ("tracefs", "debugfs", "bpf", "securityfs", "cgroup2")


class Works(NamedTuple):
    """Whether something works: "yes", "no" or "unknown", and why not."""

    answer: str
    why: str = ""


class Change(NamedTuple):
    """A change of the machine or of the process, and what it would give."""

    change: str
    gives: str


class Report(NamedTuple):
    """The page.  The names are those of the JSON."""

    kernel: dict[str, Any]
    config: dict[str, str]
    btf: dict[str, Any]
    lockdown: str
    lsm: tuple[str, ...] | None
    rights: dict[str, Any]
    limits: dict[str, int]
    mounts: dict[str, tuple[str, ...]]
    sysctls: dict[str, int | None]
    probes: dict[str, Works]
    features: dict[str, str]
    program_types: dict[str, str]
    map_types: dict[str, str]
    helpers: dict[str, dict[str, str]]
    backend: dict[str, str]
    unlock: tuple[Change, ...]
    unreadable: dict[str, str]


def examine(live: LiveMachine) -> Report:
    """Look at everything, and ask the kernel what can be asked."""
    from tracebee.kernel import probing
    from tracebee.kernel.permission import missing_right
    from tracebee.session.choice import choose_backend

    machine = describe(live, tried=("kprobe", "fentry", "kprobe_multi", "uprobe", "uprobe_multi", "tp_btf"))
    mounts = _mounts()
    missing = missing_right("asking the kernel")
    may_ask = missing is None
    no_right = f"{UNKNOWN}: needs {missing.capability}" if missing is not None else ""
    choice = choose_backend("auto")
    sysctls = {name: _sysctl(name) for name in SYSCTLS}
    probes = {name: _ask(way, live, machine) for name, way in PROBES.items()}
    report = Report(
        kernel=_kernel(live),
        config={name: machine.config[name] for name in OPTIONS if name in machine.config},
        btf=_btf(live),
        lockdown=machine.lockdown,
        lsm=machine.security_modules(),
        rights=_rights(machine),
        limits=dict(machine.limits),
        mounts=mounts,
        sysctls=sysctls,
        probes=probes,
        features={name: feature(live, name) for name in _feature_names()},
        program_types=probing.program_types() if may_ask else _unknown(probing.program_types, no_right),
        map_types=probing.map_types() if may_ask else _unknown(probing.map_types, no_right),
        helpers={name: probing.helpers(name) for name in probing.HELPER_TYPES} if may_ask else {},
        backend={"auto": choice.backend, "reason": choice.reason},
        unlock=(),
        unreadable=dict(machine.unreadable),
    )
    return report._replace(unlock=tuple(changes(report, machine)))


def feature(live: LiveMachine, name: str) -> str:
    """ "yes", "no", or why the kernel could not be asked."""
    try:
        return YES if live.feature(name) else NO
    except PermissionRefused as refused:
        return f"{UNKNOWN}: needs {refused.capability}"
    except SyscallError as error:
        return f"{UNKNOWN}: {error.errno_name}"


def _unknown(question: Callable[[], object], answer: str) -> dict[str, str]:
    del question
    return {"": answer}


def _feature_names() -> tuple[str, ...]:
    from tracebee.kernel.features import FEATURES

    return tuple(FEATURES)


# ---------------------------------------------------------------------- facts


def _kernel(live: LiveMachine) -> dict[str, Any]:
    system = os.uname()
    return {
        "release": system.release,
        "version": system.version,
        "arch": system.machine,
        "cpus": live.cpu_count,
        "python": platform.python_version(),
    }


def _btf(live: LiveMachine) -> dict[str, Any]:
    folder = "/sys/kernel/btf"
    try:
        modules = sorted(name for name in os.listdir(folder) if name != "vmlinux")
    except OSError:
        modules = []
    btf = live.btf()
    return {"vmlinux": btf is not None, "types": len(btf) if btf is not None else 0, "modules": len(modules)}


def _rights(machine: Machine) -> dict[str, Any]:
    from tracebee.host.rights import capability_names

    return {
        "uid": machine.uid,
        "capabilities": capability_names(machine.capabilities or 0),
        "user_namespace": bool(machine.is_namespaced),
        "seccomp": machine.seccomp,
    }


def _mounts() -> dict[str, tuple[str, ...]]:
    """Where the file systems of tracing are mounted; none of them has to be for us."""
    text = read_small(MOUNTS).text or ""
    rows = [line.split() for line in text.splitlines()]
    return {kind: tuple(row[1] for row in rows if len(row) > 2 and row[2] == kind) for kind in FILE_SYSTEMS}


def _sysctl(name: str) -> int | None:
    from tracebee.host.rights import read_sysctl

    return read_sysctl(name)


# ---------------------------------------------------------------------- probes


def _ask(way: Callable[[LiveMachine, Machine], Works], live: LiveMachine, machine: Machine) -> Works:
    try:
        return way(live, machine)
    except PermissionRefused as refused:
        return Works(UNKNOWN, f"needs {refused.capability}")
    except SyscallError as error:
        return Works(NO, str(error))
    except OSError as error:
        return Works(UNKNOWN, error.strerror or str(error))


def _by_facts(kind: str, feature: str = "") -> Callable[[LiveMachine, Machine], Works]:
    """By what the diagnosis has against it, and then by a feature that is tried."""

    def ask(live: LiveMachine, machine: Machine) -> Works:
        for obstacle in obstacles(Attempt(kind, (), (), machine)):
            if obstacle.sure:
                return Works(NO, obstacle.sentence)
        if feature and not live.feature(feature):
            return Works(NO, f"the kernel was asked, and has no {feature}")
        return Works(YES)

    return ask


def _event(type_: int, config: int) -> Callable[[LiveMachine, Machine], Works]:
    """By opening a perf event that is not enabled, of this process alone."""

    def ask(live: LiveMachine, machine: Machine) -> Works:
        from tracebee.syscalls import perf

        try:
            os.close(perf.perf_event_open(type_, config, pid=-1, cpu=live.online_cpus[0], period=1 << 30))
        except SyscallError as error:
            return Works(NO, _perf_reason(error, machine))
        return Works(YES)

    return ask


def _perf_reason(error: SyscallError, machine: Machine) -> str:
    import errno

    if error.errno in (errno.EACCES, errno.EPERM):
        level = machine.sysctl("kernel.perf_event_paranoid")
        return f"{error.errno_name}: CAP_PERFMON is missing, and kernel.perf_event_paranoid is {level}"
    if error.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV):
        return f"{error.errno_name}: this processor (or its virtual machine) has no such counter"
    return str(error)


def _tracepoint(live: LiveMachine, machine: Machine) -> Works:
    number = live.tracefs.event_id("sched", "sched_switch")
    return _event(2, number)(live, machine)


def _raw_tracepoint(live: LiveMachine, machine: Machine) -> Works:
    from tracebee.kernel.probing import has_program_type

    for obstacle in obstacles(Attempt("raw tracepoint", ("sched_switch",), (), machine)):
        if obstacle.sure:
            return Works(NO, obstacle.sentence)
    return Works(YES) if has_program_type("RAW_TRACEPOINT") else Works(NO, "no such programs")


def _lsm(live: LiveMachine, machine: Machine) -> Works:
    from tracebee.kernel.probing import has_program_type

    for obstacle in obstacles(Attempt("lsm", ("file_open",), (), machine)):
        if obstacle.sure:
            return Works(NO, obstacle.sentence)
    return Works(YES) if has_program_type("LSM") else Works(NO, "no such programs")


def _iterators(live: LiveMachine, machine: Machine) -> Works:
    from tracebee.btf.types import Struct

    for obstacle in obstacles(Attempt("iter", ("task",), (), machine)):
        if obstacle.sure:
            return Works(NO, obstacle.sentence)
    btf = live.btf()
    if btf is None:
        return Works(NO, "there is no BTF of the kernel")
    found = btf.find("bpf_iter__task", Struct) is not None
    return Works(YES) if found else Works(NO, "the kernel's BTF has no iterators")


def _ptrace(live: LiveMachine, machine: Machine) -> Works:
    """The user backend follows its own children, which Yama lets everybody do up to scope 2 with the right."""
    del live, machine
    scope = _sysctl("kernel.yama.ptrace_scope")
    if scope == 3:
        return Works(NO, "kernel.yama.ptrace_scope is 3: nobody may trace")
    return Works(YES)


PROBES: dict[str, Callable[[LiveMachine, Machine], Works]] = {
    "kprobe": _by_facts("kprobe", "kprobe"),
    "kprobe_multi": _by_facts("kprobe.multi", "kprobe_multi"),
    "fentry": _by_facts("fentry", "fentry"),
    "tracepoint": _tracepoint,
    "rawtracepoint": _raw_tracepoint,
    "tp_btf": _by_facts("tp_btf", "tp_btf"),
    "uprobe": _by_facts("uprobe", "uprobe"),
    "uprobe_multi": _by_facts("uprobe.multi", "uprobe_multi"),
    "profile": _event(1, 0),
    "software": _event(1, 2),
    "hardware": _event(0, 0),
    "iter": _iterators,
    "lsm": _lsm,
    "user backend": _ptrace,
}
"""Kinds of probes, and how each is asked about; types and numbers are those of perf_event_attr."""


# ---------------------------------------------------------------------- what one change would unlock


def changes(report: Report, machine: Machine) -> list[Change]:
    """Single changes that would give more, those first that give most."""
    found: list[Change] = []
    paranoid = report.sysctls.get("kernel.perf_event_paranoid")
    if machine.is_namespaced:
        found.append(
            Change(
                "run in the initial user namespace, as real root", "the kernel backend: all kinds of probes"
            )
        )
    missing = [name for name in ("CAP_BPF", "CAP_PERFMON") if machine.has(name) is False]
    if missing and not machine.is_namespaced:
        found.append(
            Change(
                f"run as root, or with {' and '.join(missing)} (sudo, setpriv --ambient-caps)",
                "the kernel backend: maps, programs and probes that are unknown or refused above",
            )
        )
    elif paranoid is not None and paranoid > 2 and not machine.has_real_root:
        found.append(
            Change(
                "sysctl kernel.perf_event_paranoid=2, or CAP_SYS_ADMIN",
                "probes by perf events (kprobe, uprobe, profile)",
            )
        )
    if "tracefs" in machine.unreadable:
        found.append(
            Change(
                "CAP_DAC_READ_SEARCH (CAP_SYS_ADMIN where tracefs is not mounted)",
                "tracepoints, and lists of functions",
            )
        )
    if machine.lockdown == "confidentiality":
        found.append(
            Change("boot without lockdown=confidentiality", "kprobes, tracepoints, reads of kernel memory")
        )
    elif machine.lockdown == "integrity":
        found.append(Change("boot without lockdown", "bpf_probe_write_user, and files of debugfs"))
    for option, gives in (
        ("CONFIG_BPF_SYSCALL", "BPF at all"),
        ("CONFIG_KPROBES", "kprobes and kretprobes"),
        ("CONFIG_DEBUG_INFO_BTF", "types of the kernel: fentry, tp_btf, curtask, args by name"),
        ("CONFIG_FTRACE_SYSCALLS", "tracepoints of system calls"),
        ("CONFIG_UPROBES", "uprobes and usdt"),
        ("CONFIG_FPROBE", "one link for many kprobes"),
    ):
        if machine.lacks(option) and not (option == "CONFIG_FPROBE" and machine.lacks("CONFIG_KPROBES")):
            other = (
                "; or --backend vm:6.1, a kernel in a virtual machine" if option == "CONFIG_KPROBES" else ""
            )
            found.append(Change(f"a kernel built with {option}=y{other}", gives))
    if machine.sysctl("kernel.ftrace_enabled") == 0:
        found.append(
            Change("sysctl kernel.ftrace_enabled=1", "kprobes on function entries, and fentry, that fire")
        )
    if machine.number("/sys/kernel/debug/kprobes/enabled") == 0:
        found.append(Change("echo 1 > /sys/kernel/debug/kprobes/enabled", "kprobes that fire"))
    active = machine.security_modules()
    if active is not None and "bpf" not in active and machine.lacks("CONFIG_BPF_LSM") is False:
        found.append(Change(f"boot with lsm={','.join([*active, 'bpf'])}", "LSM programs that run"))
    if report.sysctls.get("kernel.kptr_restrict") == 2:
        found.append(
            Change("sysctl kernel.kptr_restrict=1", "names of kernel addresses (kstack, ksym) for root")
        )
    memlock = report.limits.get("memlock", UNLIMITED)
    if machine.is_older_than("5.11") and memlock != UNLIMITED:
        found.append(Change("ulimit -l unlimited", "maps larger than the limit on locked memory"))
    if report.sysctls.get("net.core.bpf_jit_enable") == 0:
        found.append(Change("sysctl net.core.bpf_jit_enable=1", "programs that run as machine code"))
    return found
