"""This machine as a value, for the diagnosis of probes: each fact read, or noted as unreadable, or left out.

Nothing is attached, and nothing is changed: file systems that are not mounted are looked into by a private mount
that vanishes with its descriptor.
"""

from __future__ import annotations

import os
import resource
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.errors import PermissionRefused, SyscallError
from tracebee.explain.attach import names as tables
from tracebee.explain.attach.machine import (
    BLACKLIST,
    KALLSYMS,
    KPROBES_ENABLED,
    LOCKDOWN,
    LSM_LIST,
    MOUNTS,
    OPTIONS,
    TRACEABLE,
    UNLIMITED,
    Machine,
    PathFacts,
    Symbol,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.host.kallsyms import KernelSymbols
    from tracebee.session.machine import LiveMachine

SYSCTLS = (
    "kernel.kptr_restrict",
    "kernel.perf_event_paranoid",
    "kernel.unprivileged_bpf_disabled",
    "kernel.ftrace_enabled",
)

MOUNTABLE = {"/sys/kernel/debug": "debugfs", "/sys/kernel/security": "securityfs"}
"""File systems that are looked into where they are not mounted."""

MAX_FILE = 1 << 16


class Found(NamedTuple):
    """The content of a file, or why there is none."""

    text: str | None
    why: str = ""


def describe(
    live: LiveMachine,
    names: Sequence[str] = (),
    *,
    event: tuple[str, str] = ("", ""),
    paths: Iterable[str] = (),
    tried: Iterable[str] = (),
) -> Machine:
    """The facts that decide about probes on functions, on an event (category and name), and in files.

    `tried` names features (tracebee.kernel.features) that are to be found out by trying.
    """
    files, unreadable = _small_files()
    facts = {
        "release": os.uname().release,
        "arch": os.uname().machine,
        "config": _config(unreadable),
        "has_btf": live.btf() is not None,
        **_rights(files),
        "limits": _limits(),
        "event_sources": _event_sources(),
        "modules": _loaded_modules(unreadable),
        "module_files": _module_files(),
        "paths": {path: path_facts(path) for path in paths},
        "features": features(live, tried),
    }
    try:
        live.tracefs_fd()
        files.pop(MOUNTS, None)  # it need not be mounted for us
    except PermissionRefused as refused:
        unreadable["tracefs"] = f"needs {refused.capability}"
    if names:
        facts |= _about_names(live, names, unreadable)
    if event[0]:
        facts |= _about_event(live, *event, unreadable)
    return Machine(files=files, unreadable=unreadable, **facts)


def read_small(path: str) -> Found:
    """A small file, by a private mount where its file system is not mounted; or why it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return Found(file.read(MAX_FILE))
    except OSError as error:
        why = error.strerror or str(error)
        root = next((root for root in MOUNTABLE if path.startswith(root + "/")), "")
        if not root or not isinstance(error, FileNotFoundError) or os.path.ismount(root):
            return Found(None, why)
    from tracebee.syscalls.mounts import mount_detached

    try:
        mount = mount_detached(MOUNTABLE[root])
    except SyscallError as error:
        return Found(None, f"{MOUNTABLE[root]} is not mounted, and mounting it is refused: {error.strerror}")
    try:
        fd = os.open(path[len(root) + 1 :], os.O_RDONLY | os.O_CLOEXEC, dir_fd=mount)
        with open(fd, encoding="utf-8", errors="replace") as file:
            return Found(file.read(1 << 24))
    except OSError as error:
        return Found(None, error.strerror or str(error))
    finally:
        os.close(mount)


def path_facts(path: str) -> PathFacts:
    """What is at a path, links followed."""
    try:
        status = os.stat(path)
    except OSError:
        return PathFacts("missing")
    if stat.S_ISREG(status.st_mode):
        return PathFacts("file", status.st_size)
    return PathFacts("directory" if stat.S_ISDIR(status.st_mode) else "other")


def features(live: LiveMachine, wanted: Iterable[str]) -> dict[str, bool]:
    """The answers of the kernel to being tried; what could not be tried is left out."""
    answers = {}
    for name in wanted:
        try:
            answers[name] = live.feature(name)
        except (PermissionRefused, SyscallError):
            continue
    return answers


# ---------------------------------------------------------------------- rights and settings


def _small_files() -> tuple[dict[str, str], dict[str, str]]:
    files: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    sysctls = [f"/proc/sys/{name.replace('.', '/')}" for name in SYSCTLS]
    for path in (LOCKDOWN, LSM_LIST, MOUNTS, KPROBES_ENABLED, *sysctls):
        found = read_small(path)
        if found.text is not None:
            files[path] = found.text
        else:
            unreadable[path] = found.why
    return files, unreadable


def _config(unreadable: dict[str, str]) -> dict[str, str]:
    """The options that matter; an option that a whole configuration does not name is not set."""
    from tracebee.host.kconfig import find_kconfig

    try:
        options = find_kconfig()
    except OSError as error:
        unreadable["the kernel's configuration"] = error.strerror or str(error)
        return {}
    return {name: options.get(name, "n") for name in OPTIONS}


def _rights(files: dict[str, str]) -> dict[str, Any]:
    from tracebee.host.rights import is_initial_namespace, parse_capabilities

    facts: dict[str, Any] = {"uid": os.geteuid()}
    status = read_small("/proc/self/status").text
    if status is not None:
        facts["capabilities"] = parse_capabilities(status)["CapEff"]
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        if fields.get("Seccomp", "").strip().isdigit():
            facts["seccomp"] = int(fields["Seccomp"])
    uid_map = read_small("/proc/self/uid_map").text
    facts["is_namespaced"] = uid_map is not None and not is_initial_namespace(uid_map)
    return facts


def _limits() -> dict[str, int]:
    found = {}
    for name, kind in (("nofile", resource.RLIMIT_NOFILE), ("memlock", resource.RLIMIT_MEMLOCK)):
        soft, _ = resource.getrlimit(kind)
        found[name] = UNLIMITED if soft == resource.RLIM_INFINITY else soft
    return found


def _event_sources() -> tuple[str, ...] | None:
    try:
        return tuple(sorted(os.listdir("/sys/bus/event_source/devices")))
    except OSError:
        return None


def _loaded_modules(unreadable: dict[str, str]) -> tuple[str, ...] | None:
    found = read_small("/proc/modules")
    if found.text is None:
        if "No such" not in found.why:
            unreadable["/proc/modules"] = found.why
        return None
    return tuple(line.split(" ", 1)[0] for line in found.text.splitlines())


def _module_files() -> tuple[str, ...] | None:
    path = f"/lib/modules/{os.uname().release}/modules.dep"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(1 << 24).splitlines()
    except OSError:
        return None
    files = (os.path.basename(line.partition(":")[0]) for line in lines)
    return tuple(name.partition(".ko")[0].replace("-", "_") for name in files)


# ---------------------------------------------------------------------- functions


def _about_names(live: LiveMachine, names: Sequence[str], unreadable: dict[str, str]) -> dict[str, Any]:
    from tracebee.btf.types import Func

    facts: dict[str, Any] = {}
    try:
        symbols = live.symbols
    except OSError as error:
        unreadable[KALLSYMS] = error.strerror or str(error)
        symbols = None
    if symbols is not None:
        facts["symbols"] = _symbols(symbols, names)
        for field, first, last in (
            ("init_range", "__init_begin", "__init_end"),
            ("text_range", "_stext", "_etext"),
        ):
            start, end = symbols.find(first), symbols.find(last)
            if start and end:
                facts[field] = (start, end)
    known = {*names, *(symbol.name for symbol in facts.get("symbols", ()))}
    try:
        text = live.tracefs.read_text("available_filter_functions")
        words = {line.partition(" ")[0] for line in text.splitlines()}
        facts["traceable"] = tuple(sorted(known & words)) if words else None
    except (OSError, PermissionRefused) as error:
        unreadable[TRACEABLE] = _reason(error)
    blacklist = read_small("/sys/kernel/debug/kprobes/blacklist")
    if blacklist.text is not None:
        listed = {line.rpartition("\t")[2] for line in blacklist.text.splitlines()}
        facts["blacklist"] = tuple(sorted(known & listed))
    else:
        unreadable[BLACKLIST] = blacklist.why
    btf = live.btf()
    if btf is not None:
        wanted = {*known, *(f"bpf_lsm_{name}" for name in names)}
        facts["btf_functions"] = {name: btf.find(name, Func) is not None for name in wanted}
    return facts


def _symbols(symbols: KernelSymbols, names: Sequence[str]) -> tuple[Symbol, ...]:
    """The lines of a few names, of what compilers and architectures make of them, and of names near to them."""
    wanted = set(names)
    for name in names:
        call = tables.syscall_of(name) or tables.wrapped_syscall(name)
        if call:
            starts = (*tables.SYSCALL_PREFIXES, "__ia32_sys_", "sys_", "SyS_", "ksys_", "__sys_", "do_")
            wanted |= {f"{start}{call}" for start in starts}
        if name in tables.RENAMED:
            wanted |= set(tables.RENAMED[name].successors)
    found = []
    for name in sorted(wanted):
        for address, letter, module in symbols.entries(name):
            found.append(Symbol(name, letter, None if symbols.hidden else address, module))
    missing = [name for name in names if not any(symbol.name == name for symbol in found)]
    if missing:
        near = []
        for one, module in symbols.names("tTwW"):
            for name in missing:
                if one.startswith(f"{name}.") or _is_near(name, one):
                    near.append((one, module))
        found += [Symbol(one, "t", None, module) for one, module in dict.fromkeys(near)]
    return tuple(found)


def _is_near(name: str, other: str) -> bool:
    """Whether names are worth comparing, and differ by a slip: to compare with each of 100,000 takes seconds."""
    if abs(len(name) - len(other)) > 2 or other in (f"__pfx_{name}", f"__cfi_{name}"):
        return False
    if name[:2].casefold() != other[:2].casefold() and name[-4:] != other[-4:]:
        return False
    return tables.slip_between(name, other) is not None


# ---------------------------------------------------------------------- events


def _about_event(live: LiveMachine, category: str, name: str, unreadable: dict[str, str]) -> dict[str, Any]:
    try:
        events = [f"{group}:{event}" for group, event in live.tracepoints()]
    except (OSError, PermissionRefused) as error:
        unreadable["the list of tracepoints (tracefs)"] = _reason(error)
        return {}
    facts: dict[str, Any] = {}
    wanted = f"{category}:{name}"
    similar = [event for event in events if event == wanted or event.partition(":")[2] == name]
    same = [event for event in events if event.startswith(f"{category}:")]
    near = tables.near_names(name, (event.partition(":")[2] for event in same or events))
    similar += [event for event in same or events if event.partition(":")[2] in near]
    facts["similar_events"] = tuple(dict.fromkeys(similar))
    if wanted in events:
        try:
            facts["event_format"] = live.tracefs.format_text(category, name)
        except OSError as error:
            unreadable[f"the format of {wanted}"] = error.strerror or str(error)
    return facts


def _reason(error: OSError | PermissionRefused) -> str:
    if isinstance(error, PermissionRefused):
        return f"needs {error.capability}"
    return error.strerror or str(error)
