"""Names for numbers and numbers for names: users, CPUs, cgroups, signals, system calls; and the boot time."""

from __future__ import annotations

import fnmatch
import os
import time
from typing import TYPE_CHECKING

from tracebee.errors import FormatError
from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_CPUS = 1 << 16
_MAX_CGROUPS = 1 << 20

# ---------------------------------------------------------------------- users

_user_names: dict[int, str] = {}


def user_name(uid: int) -> str:
    """The login name of a user id, or its digits where there is none."""
    name = _user_names.get(uid)
    if name is None:
        from pwd import getpwuid

        try:
            name = getpwuid(uid).pw_name
        except (KeyError, OverflowError):
            name = str(uid)
        _user_names[uid] = name
    return name


# ---------------------------------------------------------------------- clocks


def boot_time_ns() -> int:
    """What CLOCK_REALTIME showed when CLOCK_BOOTTIME was 0: plus a probe's `nsecs` it is wall-clock time."""
    best: tuple[int, int] | None = None
    for _ in range(3):
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        now = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        # The reading with the least time in it is the most exact one.
        reading = (after - before, now - (before + after) // 2)
        if best is None or reading < best:
            best = reading
    assert best is not None
    return best[1]


# ---------------------------------------------------------------------- CPUs


def parse_cpu_list(text: str) -> list[int]:
    """``0-3,5`` → [0, 1, 2, 3, 5]; strides (``0-6:2/4``) as bitmap_parselist() has them."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        part = part.strip()
        if not part:
            continue
        part, _, stride = part.partition(":")
        first, dash, last = part.partition("-")
        low = _cpu_number(first, text)
        high = _cpu_number(last, text) if dash else low
        used, group = 1, 1
        if stride:
            used_text, _, group_text = stride.partition("/")
            used, group = _cpu_number(used_text, text), _cpu_number(group_text, text)
        if high < low or not 0 < used <= group:
            raise FormatError(f"CPU list: {text[:60]!r}")
        for start in range(low, high + 1, group):
            cpus.update(range(start, min(start + used, high + 1)))
    return sorted(cpus)


def _cpu_number(text: str, whole: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 6 or int(text) >= _MAX_CPUS:
        raise FormatError(f"CPU list: {whole[:60]!r}")
    return int(text)


def read_cpus(which: str = "possible") -> list[int]:
    """The CPUs that are "possible", "present" or "online"."""
    with open(f"/sys/devices/system/cpu/{which}", encoding="ascii") as stream:
        return parse_cpu_list(stream.read(1 << 16))


# ---------------------------------------------------------------------- cgroups


class CgroupMount(Frozen):
    """A mounted cgroup hierarchy: `version` 1 or 2; `root` is the cgroup that the mount shows as its top."""

    path: str
    version: int
    root: str
    options: str


def parse_cgroup_mounts(mountinfo: str) -> list[CgroupMount]:
    """The hierarchies in /proc/PID/mountinfo (proc_pid_mountinfo(5)), cgroup2 first."""
    from tracebee.host.mountinfo import parse_mounts

    mounts = [
        CgroupMount(mount.path, 2 if mount.kind == "cgroup2" else 1, mount.root, mount.options)
        for mount in parse_mounts(mountinfo)
        if mount.kind in ("cgroup", "cgroup2")
    ]
    return sorted(mounts, key=lambda mount: -mount.version)


def read_cgroup_mounts() -> list[CgroupMount]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        return parse_cgroup_mounts(stream.read())


class CgroupPaths:
    """The path of a cgroup, from the id that bpf_get_current_cgroup_id() gives.

    The id is the inode number of the cgroup's directory in a cgroup2 file system, and is never used again
    after the cgroup is gone; so one walk answers for every cgroup that there is, and an id that a later walk
    does not find either is lost for good.
    """

    def __init__(self, mounts: Sequence[str] | None = None) -> None:
        """`mounts` are directories where cgroup2 is mounted; found in /proc/self/mountinfo if None."""
        if mounts is None:
            mounts = [mount.path for mount in read_cgroup_mounts() if mount.version == 2]
        self._mounts = tuple(mounts)
        self._paths: dict[int, str] = {}
        self._lost: set[int] = set()

    def path(self, cgroup_id: int) -> str | None:
        """The path below the mount, "/" for its top; None if there is no such cgroup (any more)."""
        if cgroup_id not in self._paths and cgroup_id not in self._lost:
            for mount in self._mounts:
                self._walk(mount)
            if cgroup_id not in self._paths:
                self._lost.add(cgroup_id)
        return self._paths.get(cgroup_id)

    def id(self, path: str) -> int:
        """The id of a cgroup by its path, below a mount or absolute.  OSError if there is none."""
        error: OSError | None = None
        for mount in ("", *self._mounts):
            full = path if not mount else os.path.join(mount, path.lstrip("/"))
            if not mount and not any(full == m or full.startswith(m.rstrip("/") + "/") for m in self._mounts):
                continue
            try:
                return os.stat(full).st_ino
            except OSError as failed:
                error = failed
        raise error or FileNotFoundError(2, os.strerror(2), path)

    def _walk(self, mount: str) -> None:
        try:
            self._paths.setdefault(os.stat(mount).st_ino, "/")
        except OSError:
            return
        pending = [""]
        while pending and len(self._paths) < _MAX_CGROUPS:
            parent = pending.pop()
            try:
                with os.scandir(mount + parent) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            path = f"{parent}/{entry.name}"
                            self._paths[entry.inode()] = path
                            pending.append(path)
            except OSError:
                # Removed while we were on our way to it.
                continue


def cgroup_of(pid: int) -> int:
    """The id of the cgroup2 that a process is in; 0 where it cannot be known (proc_pid_cgroup(5))."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as stream:
            line = next((line for line in stream if line.startswith("0::")), "")
        for mount in read_cgroup_mounts():
            if mount.version == 2 and line:
                return os.stat(mount.path + line.rstrip("\n")[3:]).st_ino
    except OSError:
        pass
    return 0


class CgroupHierarchies:
    """The paths of a cgroup id in all hierarchies: ids of different ones are not told apart."""

    def __init__(self, mounts: Sequence[CgroupMount] | None = None) -> None:
        """`mounts` are the mounted hierarchies; found in /proc/self/mountinfo if None."""
        found = [
            ("unified" if mount.version == 2 else os.path.basename(mount.path), CgroupPaths([mount.path]))
            for mount in (read_cgroup_mounts() if mounts is None else mounts)
        ]
        self._hierarchies = sorted(found, key=lambda entry: (entry[0] != "unified", entry[0]))

    def paths(self, cgroup_id: int, pattern: str = "*") -> list[str]:
        """``hierarchy:path`` for each hierarchy whose name matches a pattern and that has such a cgroup.

        The one of cgroup2 is called "unified", the others as the last part of where they are mounted.
        """
        found = [
            (name, paths.path(cgroup_id))
            for name, paths in self._hierarchies
            if fnmatch.fnmatchcase(name, pattern)
        ]
        return [f"{name}:{path}" for name, path in found if path is not None]


# ---------------------------------------------------------------------- signals


def find_signal_name(number: int) -> str | None:
    """9 → "SIGKILL"; real-time signals count from SIGRTMIN."""
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        if signal.SIGRTMIN < number < signal.SIGRTMAX:
            return f"SIGRTMIN+{number - signal.SIGRTMIN}"
    return None


def find_signal(name: str) -> int | None:
    """SIGKILL, KILL or 9 → 9; None for what is no signal."""
    import signal

    if name.isascii() and name.isdigit():
        return int(name) if len(name) < 3 and 0 < int(name) <= signal.SIGRTMAX else None
    name = name.upper()
    if not name.startswith("SIG"):
        name = f"SIG{name}"
    base, plus, offset = name.partition("+")
    if plus and base == "SIGRTMIN" and offset.isascii() and offset.isdigit() and len(offset) < 3:
        number = signal.SIGRTMIN + int(offset)
        return number if number <= signal.SIGRTMAX else None
    found = signal.Signals.__members__.get(name)
    return None if found is None else int(found)


# ---------------------------------------------------------------------- system calls


def syscall_names(machine: str = "") -> dict[int, str]:
    """Number → name for a machine as uname(2) names it (this one if ""); empty if its table is not known."""
    from tracebee.host._syscalls import SYSCALLS

    return SYSCALLS.get(machine or os.uname().machine, {})


def find_syscall_name(number: int, machine: str = "") -> str | None:
    return syscall_names(machine).get(number)


def find_syscall_number(name: str, machine: str = "") -> int | None:
    for number, known in syscall_names(machine).items():
        if known == name:
            return number
    return None
