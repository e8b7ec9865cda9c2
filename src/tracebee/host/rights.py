"""What the kernel would let this process do: capabilities, lockdown, and the sysctls that guard tracing."""

from __future__ import annotations

from tracebee.errors import FormatError
from tracebee.records import Frozen

# In the order of the bits, from include/uapi/linux/capability.h; a test compares.
CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)

_CAP_BPF = 39

SYSCTLS = (
    "kernel.unprivileged_bpf_disabled",
    "kernel.perf_event_paranoid",
    "kernel.kptr_restrict",
    "kernel.yama.ptrace_scope",
    "net.core.bpf_jit_enable",
)


class Rights(Frozen):
    """The facts; see `read_rights`.

    `effective` and `bounding` are capability masks.  `last_capability` is the number of the last one that
    the kernel knows.  `lockdown` is "none", "integrity", "confidentiality", or "" where it cannot be known.
    `sysctls` leaves out what does not exist or may not be read.  In another than the initial user namespace
    (`is_namespaced`) the capabilities do not count for tracing.
    """

    effective: int
    bounding: int
    last_capability: int
    lockdown: str
    sysctls: tuple[tuple[str, int], ...]
    is_namespaced: bool

    def has(self, capability: str) -> bool:
        """Whether a capability, named as "CAP_BPF", is effective."""
        return bool(self.effective >> CAPABILITIES.index(capability) & 1)

    def names(self) -> list[str]:
        """The effective capabilities."""
        return capability_names(self.effective)

    def sysctl(self, name: str) -> int | None:
        return dict(self.sysctls).get(name)

    def missing_for_tracing(self) -> str:
        """The capability without which the kernel refuses tracing programs, or "" if nothing is missing.

        Since Linux 5.8 that is CAP_BPF and CAP_PERFMON, and CAP_SYS_ADMIN stands in for both; before there
        was only CAP_SYS_ADMIN (kernel commits a17b53c4a4b5 "bpf, capability: Introduce CAP_BPF" and
        980737282232 "capabilities: Introduce CAP_PERFMON to kernel and user space").
        """
        if self.is_namespaced:
            return "CAP_SYS_ADMIN in the initial user namespace"
        if self.has("CAP_SYS_ADMIN"):
            return ""
        if self.last_capability < _CAP_BPF:
            return "CAP_SYS_ADMIN"
        missing = [name for name in ("CAP_BPF", "CAP_PERFMON") if not self.has(name)]
        return " and ".join(missing)


def capability_names(mask: int) -> list[str]:
    """The capabilities in a mask; bits without a name are left out."""
    return [name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1]


def parse_capabilities(status: str) -> dict[str, int]:
    """The Cap* lines of /proc/PID/status: "CapEff" → mask, and so on."""
    masks: dict[str, int] = {}
    for line in status.split("\n"):
        key, separator, value = line.partition(":")
        if separator and key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            try:
                mask = int(value.strip(), 16)
            except ValueError:
                mask = -1
            if not 0 <= mask < 1 << 64:
                raise FormatError(f"status: {line[:60]!r}")
            masks[key] = mask
    if "CapEff" not in masks:
        raise FormatError("status: no CapEff")
    return masks


def parse_lockdown(text: str) -> str:
    """``none [integrity] confidentiality`` → "integrity"; "" if none is marked."""
    for word in text.split():
        if word.startswith("[") and word.endswith("]"):
            return word[1:-1]
    return ""


def is_initial_namespace(uid_map: str) -> bool:
    """Whether /proc/self/uid_map is that of the initial user namespace, which maps every id to itself."""
    return uid_map.split() == ["0", "0", "4294967295"]


def read_sysctl(name: str) -> int | None:
    """A number below /proc/sys by its sysctl(8) name, or None if it is missing, secret or no number."""
    try:
        return int(_read(f"/proc/sys/{name.replace('.', '/')}"))
    except (OSError, ValueError):
        return None


def read_lockdown() -> str:
    """The lockdown mode, or "" where it cannot be known: securityfs need not be mounted."""
    try:
        return parse_lockdown(_read("/sys/kernel/security/lockdown"))
    except OSError:
        return ""


def read_rights() -> Rights:
    """The rights of this process.  OSError where there is no /proc."""
    masks = parse_capabilities(_read("/proc/self/status"))
    try:
        is_namespaced = not is_initial_namespace(_read("/proc/self/uid_map"))
    except OSError:
        # CONFIG_USER_NS=n: there is only one.
        is_namespaced = False
    last = read_sysctl("kernel.cap_last_cap")
    sysctls = tuple((name, value) for name in SYSCTLS if (value := read_sysctl(name)) is not None)
    return Rights(
        masks["CapEff"],
        masks.get("CapBnd", 0),
        last if last is not None else len(CAPABILITIES) - 1,
        read_lockdown(),
        sysctls,
        is_namespaced,
    )


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read(1 << 16)
