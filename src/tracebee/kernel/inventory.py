"""Everything that is loaded, read at one moment: objects by id, who holds them, and how they belong together."""

from __future__ import annotations

import errno
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.errors import NotSupportedError, SyscallError
from tracebee.host.holders import NOBODY, Holder, Holders, read_holders
from tracebee.kernel.cgroups import PROGRAM_TYPES, CgroupAttachment, read_cgroup_attachments
from tracebee.kernel.ids import KINDS, walk
from tracebee.kernel.info import btf_info, link_info, map_info, program_info
from tracebee.kernel.info.link import IterTarget, SockmapTarget, StructOpsTarget, TracingTarget
from tracebee.kernel.pinned import read_pins
from tracebee.syscalls import bpf, bpfids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tracebee.kernel.info import BtfInfo, LinkInfo, MapInfo, ProgramInfo

MAPS_IN_MAPS = ("ARRAY_OF_MAPS", "HASH_OF_MAPS")
HOLDING_IDS = (*MAPS_IN_MAPS, "PROG_ARRAY")
"""Maps whose values are, for user space, ids."""

MAX_ELEMENTS = 4096
"""How many elements of a map are looked at for the ids in them."""


class PerfAttachment(NamedTuple):
    """A program on a perf event without a link, as before Linux 5.15: only who has the descriptor shows it."""

    holder: Holder
    fd: int
    event: bpfids.TaskFd


class Inventory:
    """What is loaded.

    `programs`, `maps`, `links` and `btfs` are by id, in order.  `pins` are paths by kind and id.  `inside` are
    the ids in maps of maps (of maps) and in program arrays (of programs), each with its key.  Attachments are
    those without a link.
    """

    def __init__(
        self,
        programs: Mapping[int, ProgramInfo],
        maps: Mapping[int, MapInfo],
        links: Mapping[int, LinkInfo],
        btfs: Mapping[int, BtfInfo],
        holders: Holders = NOBODY,
        pins: Mapping[tuple[str, int], tuple[str, ...]] | None = None,
        inside: Mapping[int, Sequence[tuple[bytes, int]]] | None = None,
        perf_attachments: Sequence[PerfAttachment] = (),
        cgroup_attachments: Sequence[CgroupAttachment] = (),
    ) -> None:
        self.programs = dict(programs)
        self.maps = dict(maps)
        self.links = dict(links)
        self.btfs = dict(btfs)
        self.holders = holders
        self.pins = dict(pins or {})
        self.inside = dict(inside or {})
        self.perf_attachments = tuple(perf_attachments)
        self.cgroup_attachments = tuple(cgroup_attachments)

    def forget_holder(self, pid: int, kind: str, ids: Iterable[int]) -> None:
        """Leave out a process that holds objects only to look at them."""
        by_object = dict(self.holders.by_object)
        for object_id in ids:
            held = by_object.get((kind, object_id), ())
            by_object[kind, object_id] = tuple(holder for holder in held if holder.pid != pid)
        self.holders = self.holders._replace(by_object=by_object)

    def objects(self, kind: str) -> dict[int, Any]:
        """The facts of all objects of a kind, by id."""
        tables: dict[str, dict[int, Any]] = {"prog": self.programs, "map": self.maps, "link": self.links}
        return tables.get(kind, self.btfs)

    def owners(self, kind: str, object_id: int) -> tuple[Holder, ...]:
        return self.holders.of(kind, object_id)

    def pinned(self, kind: str, object_id: int) -> tuple[str, ...]:
        return self.pins.get((kind, object_id), ())

    def is_private_to(self, pid: int, kind: str, object_id: int) -> bool:
        """Whether a process alone holds an object."""
        holders = self.owners(kind, object_id)
        return (
            bool(holders)
            and all(holder.pid == pid for holder in holders)
            and not self.pinned(kind, object_id)
        )

    # --- what belongs together

    def links_of_program(self, prog_id: int) -> list[int]:
        """The links that run a program."""
        return [link.id for link in self.links.values() if link.prog_id == prog_id]

    def programs_of_map(self, map_id: int) -> list[int]:
        """The programs whose code uses a map."""
        return [program.id for program in self.programs.values() if map_id in program.map_ids]

    def links_of_map(self, map_id: int) -> list[int]:
        """The links that have a map as their target: iterators, socket maps, structures of operations."""
        return [link.id for link in self.links.values() if map_of_link(link) == map_id]

    def outer_maps_of(self, map_id: int) -> list[int]:
        """The maps of maps that a map is in."""
        return [
            outer
            for outer, elements in self.inside.items()
            if self._is_map_of_maps(outer) and any(found == map_id for _, found in elements)
        ]

    def inner_maps_of(self, map_id: int) -> list[int]:
        """The maps in a map of maps, each once."""
        if not self._is_map_of_maps(map_id):
            return []
        return list(dict.fromkeys(found for _, found in self.inside.get(map_id, ())))

    def programs_in_map(self, map_id: int) -> list[int]:
        """The programs in a program array, each once."""
        if self._is_map_of_maps(map_id):
            return []
        return list(dict.fromkeys(found for _, found in self.inside.get(map_id, ())))

    def arrays_of_program(self, prog_id: int) -> list[int]:
        """The program arrays that a program is in."""
        return [map_id for map_id in self.inside if prog_id in self.programs_in_map(map_id)]

    def programs_of_btf(self, btf_id: int) -> list[int]:
        return [program.id for program in self.programs.values() if program.btf_id == btf_id]

    def maps_of_btf(self, btf_id: int) -> list[int]:
        return [one.id for one in self.maps.values() if one.btf_id == btf_id]

    def same_code_as(self, prog_id: int) -> list[int]:
        """Other programs with the same tag: they were loaded with the same instructions."""
        tag = self.programs[prog_id].tag
        return [one.id for one in self.programs.values() if one.tag == tag and one.id != prog_id]

    def _is_map_of_maps(self, map_id: int) -> bool:
        found = self.maps.get(map_id)
        return found is not None and found.type in MAPS_IN_MAPS


def map_of_link(link: LinkInfo) -> int:
    """The map that a link is about, or 0."""
    if isinstance(link.target, IterTarget | SockmapTarget | StructOpsTarget):
        return link.target.map_id
    return 0


def program_of_link_target(link: LinkInfo) -> tuple[int, int] | None:
    """Object and type that the target of a tracing link has, if there is one."""
    if isinstance(link.target, TracingTarget) and link.target.target_btf_id:
        return link.target.target_obj_id, link.target.target_btf_id
    return None


_READERS: dict[str, Callable[[int], Any]] = {
    "prog": program_info,
    "map": map_info,
    "btf": btf_info,
}


def read_inventory(
    kinds: Sequence[str] = KINDS, *, owners: bool = True, contents: bool = True, places: bool = False
) -> Inventory:
    """Read what is loaded: the objects of these kinds, their owners and pins, and what is in maps of ids.

    `places` is whether to read all places of the links that stand for many.  A kind that the kernel does not
    number yet is empty unless it is the first one asked for.  Objects that go while they are looked at are left
    out.  Raises PermissionRefused and NotSupportedError.
    """
    found: dict[str, dict[int, Any]] = {kind: {} for kind in KINDS}
    inside: dict[int, list[tuple[bytes, int]]] = {}
    for kind in kinds:
        try:
            for object_id, fd in walk(kind):
                info: Any = link_info(fd, places=places) if kind == "link" else _READERS[kind](fd)
                found[kind][object_id] = info
                if contents and kind == "map" and info.type in HOLDING_IDS:
                    inside[object_id] = list(ids_inside(fd, info.key_size))
        except NotSupportedError:
            if kind == kinds[0]:
                raise
    holders = read_holders() if owners else NOBODY
    return Inventory(
        found["prog"],
        found["map"],
        found["link"],
        found["btf"],
        holders,
        read_pins() if owners else {},
        inside,
        _perf_attachments(holders, found["link"]) if owners and "link" in kinds else (),
        _cgroup_attachments(found["prog"], found["link"]) if owners and "link" in kinds else (),
    )


def read_some(kind: str, fds: Sequence[int]) -> Inventory:
    """The objects behind some descriptors of a kind, and nothing else.  Raises SyscallError."""
    read = _READERS.get(kind) or partial(link_info, places=True)
    infos = [read(fd) for fd in fds]
    found: dict[str, dict[int, Any]] = {one: {} for one in KINDS}
    found[kind] = {info.id: info for info in infos}
    return Inventory(found["prog"], found["map"], found["link"], found["btf"], read_holders())


def ids_inside(fd: int, key_size: int) -> list[tuple[bytes, int]]:
    """Keys and ids of a map of maps or a program array, as far as MAX_ELEMENTS reaches."""
    found: list[tuple[bytes, int]] = []
    key: bytes | None = None
    try:
        for _ in range(MAX_ELEMENTS):
            key = bpf.map_next_key(fd, key, key_size)
            if key is None:
                break
            value = bpf.map_lookup(fd, key, 4)
            if value is not None:
                found.append((key, int.from_bytes(value, sys.byteorder)))
    except SyscallError as error:
        # The descriptor of a map that may only be written, or (before Linux 4.18) no looking into such a map.
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, 524, errno.EINVAL):
            raise
    return found


def _cgroup_attachments(
    programs: Mapping[int, ProgramInfo], links: Mapping[int, LinkInfo]
) -> list[CgroupAttachment]:
    """The programs that hang on control groups without a link.

    All groups are asked only if there are programs of such types that no link runs.
    """
    linked = {link.prog_id for link in links.values()}
    free = {one.id for one in programs.values() if one.type in PROGRAM_TYPES} - linked
    if not free:
        return []
    return [one for one in read_cgroup_attachments() if one.prog_id in free]


def _perf_attachments(holders: Holders, links: Mapping[int, LinkInfo]) -> list[PerfAttachment]:
    """The perf events with a program that no link has put there."""
    linked = {link.prog_id for link in links.values() if link.type == "PERF_EVENT"}
    found = []
    for event in holders.perf_events:
        try:
            asked = bpfids.task_fd_query(event.holder.pid, event.fd)
        except SyscallError:
            continue  # no program on it, or the process is gone
        if asked.prog_id and asked.prog_id not in linked:
            found.append(PerfAttachment(event.holder, event.fd, asked))
    return found
