"""Which processes hold which BPF objects: /proc/PID/fdinfo tells the id behind a descriptor (proc_pid_fdinfo(5)).

There is no question to the kernel that answers this at once, so all processes are looked through.  Who may
not look at a process learns nothing of it; such processes are counted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# What /proc/PID/fd shows for a kind of object, and the line of fdinfo that has its id.
_KINDS = {
    "anon_inode:bpf-prog": ("prog", "prog_id"),
    "anon_inode:bpf-map": ("map", "map_id"),
    "anon_inode:bpf_link": ("link", "link_id"),
    "anon_inode:bpf-link": ("link", "link_id"),
    "anon_inode:btf": ("btf", "btf_id"),
}
_PERF_EVENT = "anon_inode:[perf_event]"


class Holder(NamedTuple):
    """A process with a descriptor of an object; `comm` is its name, at most 15 bytes long."""

    pid: int
    comm: str


class PerfEvent(NamedTuple):
    """A descriptor of a perf event, on which a program may hang without a link."""

    holder: Holder
    fd: int


class Holders(NamedTuple):
    """Who holds what: `by_object` by kind and id, in order of pid; `unseen` processes were not ours to look at."""

    by_object: Mapping[tuple[str, int], tuple[Holder, ...]]
    perf_events: tuple[PerfEvent, ...]
    unseen: int

    def of(self, kind: str, object_id: int) -> tuple[Holder, ...]:
        return self.by_object.get((kind, object_id), ())


NOBODY = Holders({}, (), 0)


def read_holders(proc: str = "/proc") -> Holders:
    """Look through all processes; those that go meanwhile are left out."""
    found: dict[tuple[str, int], dict[int, Holder]] = {}
    perf_events: list[PerfEvent] = []
    unseen = 0
    for pid in sorted(_pids(proc)):
        try:
            fds = os.listdir(f"{proc}/{pid}/fd")
        except PermissionError:
            unseen += 1
            continue
        except OSError:
            continue
        holder: Holder | None = None
        for fd in fds:
            try:
                name = os.readlink(f"{proc}/{pid}/fd/{fd}")
            except OSError:
                continue
            if name != _PERF_EVENT and name not in _KINDS:
                continue
            holder = holder or Holder(pid, read_comm(pid, proc))
            if name == _PERF_EVENT:
                perf_events.append(PerfEvent(holder, int(fd)))
                continue
            kind, line = _KINDS[name]
            object_id = _id_in(f"{proc}/{pid}/fdinfo/{fd}", line)
            if object_id is not None:
                found.setdefault((kind, object_id), {})[pid] = holder
    held = {key: tuple(holders.values()) for key, holders in found.items()}
    return Holders(held, tuple(perf_events), unseen)


def _pids(proc: str) -> Iterator[int]:
    try:
        entries = os.listdir(proc)
    except OSError:
        return
    yield from (int(entry) for entry in entries if entry.isascii() and entry.isdigit())


def read_comm(pid: int, proc: str = "/proc") -> str:
    """The name of a process, or "" if it is gone."""
    try:
        with open(f"{proc}/{pid}/comm", "rb") as stream:
            return os.fsdecode(stream.read(64)).rstrip("\n")
    except OSError:
        return ""


def _id_in(path: str, line: str) -> int | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return parse_id(stream.read(1 << 16), line)
    except OSError:
        return None


def parse_id(fdinfo: str, line: str) -> int | None:
    """The number in the line ``<line>:`` of fdinfo, or None."""
    for one in fdinfo.split("\n"):
        key, separator, value = one.partition(":")
        value = value.strip()
        if separator and key == line and value.isascii() and value.isdigit() and len(value) <= 10:
            return int(value)
    return None
