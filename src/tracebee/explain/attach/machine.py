"""The machine that an attach failed on, as far as it was looked at.

Every fact may be missing: None (or no entry) says that nobody looked, an empty list that somebody looked and found
nothing, and `unreadable` why a list could not be read, which is neither.  Rules must not take one for another.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

LOCKDOWN = "/sys/kernel/security/lockdown"
LSM_LIST = "/sys/kernel/security/lsm"
MOUNTS = "/proc/self/mounts"
KPROBES_ENABLED = "/sys/kernel/debug/kprobes/enabled"
KALLSYMS = "/proc/kallsyms"
TRACEABLE = "available_filter_functions"
BLACKLIST = "kprobes/blacklist"

UNLIMITED = -1

CAPABILITY_BITS = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYSLOG": 34,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
"""include/uapi/linux/capability.h"""

OPTIONS = (
    *("CONFIG_BPF_SYSCALL", "CONFIG_BPF_JIT", "CONFIG_BPF_EVENTS", "CONFIG_KPROBES", "CONFIG_KPROBE_EVENTS"),
    *("CONFIG_KPROBE_EVENTS_ON_NOTRACE", "CONFIG_UPROBES", "CONFIG_UPROBE_EVENTS", "CONFIG_FPROBE"),
    *("CONFIG_FTRACE_SYSCALLS", "CONFIG_FUNCTION_TRACER", "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"),
    *("CONFIG_DEBUG_INFO_BTF", "CONFIG_BPF_LSM", "CONFIG_BPF_UNPRIV_DEFAULT_OFF", "CONFIG_CGROUP_BPF"),
    *("CONFIG_SECURITY_LOCKDOWN_LSM", "CONFIG_BPF_KPROBE_OVERRIDE", "CONFIG_PERF_EVENTS", "CONFIG_KALLSYMS"),
)
"""The options of a kernel's configuration that decide about tracing."""

TEXT_LETTERS = "tTwW"


class Symbol(NamedTuple):
    """A line of kallsyms; `module` is "" for the core kernel, `address` None where the line has none."""

    name: str
    letter: str
    address: int | None = None
    module: str = ""

    @property
    def is_code(self) -> bool:
        return self.letter in TEXT_LETTERS


class PathFacts(NamedTuple):
    """What is at a path: `kind` is "file", "directory", "other" or "missing"; `size` in bytes."""

    kind: str
    size: int = 0


class Machine(Frozen):
    """The facts.

    =============== =============================================================================================
    release, arch   as uname(2) has them
    files           path → content, of small files that were read
    unreadable      path or list → why it could not be read
    config          option → its value, "n" for one that is not set
    symbols         the lines of kallsyms for the names in question and their variants
    traceable       of the same names, those in available_filter_functions
    blacklist       of the same names, those that kprobes must not be on
    btf_functions   name → whether the kernel's BTF has a function of that name
    has_btf         whether there is BTF at all
    capabilities    the mask of effective ones
    uid             the effective user
    seccomp         0 none, 1 strict, 2 a filter
    limits          soft limits in bytes or numbers, UNLIMITED for none: "nofile", "memlock"
    is_namespaced   whether the user namespace is another than the initial one
    event_sources   perf's sources of events: "kprobe", "uprobe" and so on
    event_format    the format file of the tracepoint in question
    similar_events  tracepoints with names like the one in question, CATEGORY:NAME
    modules         the loaded modules
    module_files    modules that could be loaded, as far as that is known
    init_range      where code and data of the start of the system lay: first address, and the one behind
    text_range      where the kernel's code is
    paths           what is at paths that the request names
    features        what was found out by trying: "kprobe", "fentry", "kprobe_multi", "uprobe" and so on
    =============== =============================================================================================
    """

    release: str = ""
    arch: str = ""
    files: Mapping[str, str] = {}
    unreadable: Mapping[str, str] = {}
    config: Mapping[str, str] = {}
    symbols: tuple[Symbol, ...] | None = None
    traceable: tuple[str, ...] | None = None
    blacklist: tuple[str, ...] | None = None
    btf_functions: Mapping[str, bool] = {}
    has_btf: bool | None = None
    capabilities: int | None = None
    uid: int | None = None
    seccomp: int | None = None
    limits: Mapping[str, int] = {}
    is_namespaced: bool | None = None
    event_sources: tuple[str, ...] | None = None
    event_format: str = ""
    similar_events: tuple[str, ...] | None = None
    modules: tuple[str, ...] | None = None
    module_files: tuple[str, ...] | None = None
    init_range: tuple[int, int] | None = None
    text_range: tuple[int, int] | None = None
    paths: Mapping[str, PathFacts] = {}
    features: Mapping[str, bool] = {}

    # --- the kernel

    def version(self) -> tuple[int, int, int] | None:
        """(6, 1, 192), or None where the release does not start with numbers."""
        found = re.match(r"(\d{1,3})\.(\d{1,4})(?:\.(\d{1,5}))?", self.release)
        return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None

    def is_older_than(self, since: str) -> bool | None:
        """Whether the kernel is older than a release such as "5.8"; None where that is not known.

        Kernels of Red Hat carry much of later ones under an old number, so that theirs says nothing.
        """
        version = self.version()
        if version is None:
            return None
        older = version[:2] < parse_release(since)
        return None if older and self.has_backports else older

    @property
    def has_backports(self) -> bool:
        return re.search(r"\.el\d", self.release) is not None

    def lacks(self, option: str) -> bool | None:
        """Whether the kernel was built without an option; None where that is not known."""
        value = self.config.get(option)
        return None if value is None else value in ("n", "")

    def number(self, path: str) -> int | None:
        """The number in a small file, or None."""
        text = self.files.get(path, "").strip()
        return int(text) if re.fullmatch(r"-?\d{1,18}", text) else None

    def sysctl(self, name: str) -> int | None:
        return self.number(f"/proc/sys/{name.replace('.', '/')}")

    @property
    def lockdown(self) -> str:
        """The mode of lockdown, or "" where it is not known."""
        found = re.search(r"\[(\w+)\]", self.files.get(LOCKDOWN, ""))
        return found[1] if found else ""

    def security_modules(self) -> tuple[str, ...] | None:
        text = self.files.get(LSM_LIST)
        return None if text is None else tuple(text.strip().split(","))

    # --- mounts

    def mount_points(self, kind: str) -> tuple[str, ...] | None:
        """Where file systems of a kind are mounted; None where nobody looked."""
        text = self.files.get(MOUNTS)
        if text is None:
            return None
        rows = [line.split() for line in text.splitlines()]
        return tuple(row[1] for row in rows if len(row) > 2 and row[2] == kind)

    # --- rights

    def has(self, capability: str) -> bool | None:
        """Whether a capability is effective; CAP_SYS_ADMIN stands in for CAP_BPF and CAP_PERFMON.

        None where nobody looked.
        """
        if self.capabilities is None:
            return None
        names = [capability]
        if capability in ("CAP_BPF", "CAP_PERFMON"):
            names.append("CAP_SYS_ADMIN")
        return any(self.capabilities >> CAPABILITY_BITS[name] & 1 for name in names)

    @property
    def has_real_root(self) -> bool:
        """Whether CAP_SYS_ADMIN counts: it is effective, in the initial user namespace."""
        return self.has("CAP_SYS_ADMIN") is True and not self.is_namespaced

    # --- names

    def named(self, name: str) -> tuple[Symbol, ...]:
        """The symbols of exactly that name."""
        return tuple(symbol for symbol in self.symbols or () if symbol.name == name)

    def is_traceable(self, name: str) -> bool | None:
        return None if self.traceable is None else name in self.traceable

    def is_blacklisted(self, name: str) -> bool | None:
        return None if self.blacklist is None else name in self.blacklist

    def is_start_code(self, address: int | None) -> bool | None:
        """Whether an address lies in what was thrown away when the system had started."""
        if not address or self.init_range is None:
            return None
        return self.init_range[0] <= address < self.init_range[1]


def parse_release(text: str) -> tuple[int, int]:
    """ "5.8" → (5, 8)."""
    major, _, minor = text.partition(".")
    return int(major), int(minor.partition(".")[0] or 0)


def parse_symbol(line: str) -> Symbol | None:
    """A line of kallsyms, with or without an address, or None."""
    found = re.fullmatch(r"\s*(?:([0-9a-fA-F]{1,16})\s+)?([a-zA-Z])\s+(\S+)(?:\s+\[([^\]]+)\])?\s*", line)
    if found is None:
        return None
    address = int(found[1], 16) if found[1] else None
    return Symbol(found[3], found[2], address, found[4] or "")
