"""Links: which program hangs where.

What a link tells beside its program depends on its kind; each has a class below, which is `LinkInfo.target`.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from tracebee.errors import SyscallError
from tracebee.kernel.info.fields import Fields, name_in
from tracebee.records import Frozen
from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls.bpfids import read_info
from tracebee.syscalls.raw import empty_buffer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tracebee.syscalls.bpfids import Area

_NAME_BYTES = 4096
"""Room for names and paths (PATH_MAX)."""

_MAX_PLACES = 1 << 20
"""The most places that a link of many can have (MAX_KPROBE_MULTI_CNT, MAX_UPROBE_MULTI_CNT)."""


class Target(Frozen):
    """What a link hangs on."""


class RawTracepointTarget(Target):
    """A raw tracepoint by name."""

    tp_name: str
    cookie: int = 0


class TracingTarget(Target):
    """A kernel function, or a BPF program: type `target_btf_id` in the BTF object or program `target_obj_id`."""

    attach_type: str
    target_obj_id: int
    target_btf_id: int
    cookie: int = 0


class CgroupTarget(Target):
    """A cgroup by its id, the inode number of its directory."""

    cgroup_id: int
    attach_type: str


class IterTarget(Target):
    """What an iterator goes over.

    `map_id` is of those over a map's elements, `tid` and `pid` of those over tasks (0: all), `cgroup_id` and
    `order` (a name of enum bpf_cgroup_iter_order) of those over cgroups.
    """

    target_name: str
    map_id: int = 0
    tid: int = 0
    pid: int = 0
    cgroup_id: int = 0
    order: str = ""


class NetnsTarget(Target):
    """A network namespace by its inode number."""

    netns_ino: int
    attach_type: str


class XdpTarget(Target):
    """An interface of this network namespace."""

    ifindex: int


class InterfaceTarget(Target):
    """An interface and its direction: tcx and netkit."""

    ifindex: int
    attach_type: str


class StructOpsTarget(Target):
    """The map that holds the structure of operations."""

    map_id: int


class NetfilterTarget(Target):
    """A netfilter hook: protocol family, number, priority."""

    pf: int
    hooknum: int
    priority: int
    flags: int


class KprobeMultiTarget(Target):
    """Many kernel functions.

    `addrs` are zeros for who may not see kernel addresses, `cookies` those of each; both are empty if they
    were not asked for.
    """

    count: int
    flags: int
    missed: int = 0
    addrs: tuple[int, ...] = ()
    cookies: tuple[int, ...] = ()


class UprobeMultiTarget(Target):
    """Many places in a file, for one process or (`pid` 0) all; the lists as of KprobeMultiTarget."""

    path: str
    count: int
    flags: int
    pid: int
    offsets: tuple[int, ...] = ()
    ref_ctr_offsets: tuple[int, ...] = ()
    cookies: tuple[int, ...] = ()


class PerfEventTarget(Target):
    """A perf event, probe or tracepoint (Linux 6.6 tells more than that).

    `event` is a name of enum bpf_perf_event_type.  `name` is the function, the file or the tracepoint.  For
    ``EVENT`` `type` and `config` are those of struct perf_event_attr.
    """

    event: str
    name: str = ""
    offset: int = 0
    address: int = 0
    missed: int = 0
    cookie: int = 0
    ref_ctr_offset: int = 0
    type: int = 0
    config: int = 0


class SockmapTarget(Target):
    """A map of sockets."""

    map_id: int
    attach_type: str


class LinkInfo(Frozen):
    """struct bpf_link_info.  `target` is None for kinds that are not known here."""

    id: int
    type: str
    prog_id: int
    target: Target | None

    @property
    def attach_type(self) -> str:
        """The attach type, where the kind of link tells it."""
        found: str = getattr(self.target, "attach_type", "")
        return found


KPROBE_MULTI_RETURN = 1
UPROBE_MULTI_RETURN = 1

# target_name of iterators with more to tell: is_iter_*_target() of bpftool, and bpf_iter_reg in kernel/bpf/
_MAP_ITERATORS = frozenset(("bpf_map_elem", "bpf_sk_storage_map"))
_TASK_ITERATORS = frozenset(("task", "task_file", "task_vma"))


def link_info(fd: int, *, names: bool = True, places: bool = False) -> LinkInfo:
    """The facts of a link.

    `names` is whether to ask for names and paths, `places` for the lists of those that stand for many.  Raises
    SyscallError.
    """
    data = _read(fd, {})
    kind = name_in(uapi.BPF_LINK_TYPE, Fields(data, uapi.BPF_LINK_INFO)["type"])
    texts: dict[str, str] = {}
    lists: dict[str, tuple[int, ...]] = {}
    if names:
        data, texts = _with_names(fd, kind, data)
    if places:
        lists = _places(fd, kind, data)
    return decode_link_info(data, texts, lists)


def decode_link_info(
    data: bytes, texts: Mapping[str, str] | None = None, lists: Mapping[str, tuple[int, ...]] | None = None
) -> LinkInfo:
    """The facts in struct bpf_link_info; `texts` and `lists` are what its pointers led to, by field."""
    fields = Fields(data, uapi.BPF_LINK_INFO)
    kind = name_in(uapi.BPF_LINK_TYPE, fields["type"])
    decode = _DECODERS.get(kind)
    target = decode(fields, texts or {}, lists or {}) if decode is not None else None
    return LinkInfo(fields["id"], kind, fields["prog_id"], target)


def _read(fd: int, areas: Mapping[str, Area], **numbers: int) -> bytes:
    return read_info(fd, uapi.BPF_LINK_INFO, uapi.BPF_LINK_INFO_SIZE, areas, **numbers)


# The pointer and the length of the name that a kind has; perf events have theirs by event.
_NAMES = {
    "RAW_TRACEPOINT": ("raw_tracepoint_tp_name", "raw_tracepoint_tp_name_len"),
    "ITER": ("iter_target_name", "iter_target_name_len"),
    "UPROBE_MULTI": ("uprobe_multi_path", "uprobe_multi_path_size"),
}
_EVENT_NAMES = {
    "UPROBE": ("perf_event_uprobe_file_name", "perf_event_uprobe_name_len"),
    "URETPROBE": ("perf_event_uprobe_file_name", "perf_event_uprobe_name_len"),
    "KPROBE": ("perf_event_kprobe_func_name", "perf_event_kprobe_name_len"),
    "KRETPROBE": ("perf_event_kprobe_func_name", "perf_event_kprobe_name_len"),
    "TRACEPOINT": ("perf_event_tracepoint_tp_name", "perf_event_tracepoint_name_len"),
}


def _event_of(fields: Fields) -> str:
    return name_in(uapi.BPF_PERF_EVENT_TYPE, fields["perf_event_type"])


def _with_names(fd: int, kind: str, data: bytes) -> tuple[bytes, dict[str, str]]:
    """The structure asked for again, with the name that it points at."""
    names = _NAMES.get(kind)
    if kind == "PERF_EVENT":
        names = _EVENT_NAMES.get(_event_of(Fields(data, uapi.BPF_LINK_INFO)))
    if names is None:
        return data, {}
    pointer, length = names
    area = empty_buffer(_NAME_BYTES)
    try:
        data = _read(fd, {pointer: area}, **{length: _NAME_BYTES})
    except SyscallError as error:
        # A name longer than any is cut, the rest of the facts stays as it was read before.
        if error.errno != errno.ENOSPC:
            raise
    return data, {pointer: os.fsdecode(area.value)}


_LISTS = {
    "KPROBE_MULTI": ("kprobe_multi_count", ("kprobe_multi_addrs", "kprobe_multi_cookies")),
    "UPROBE_MULTI": (
        "uprobe_multi_count",
        ("uprobe_multi_offsets", "uprobe_multi_ref_ctr_offsets", "uprobe_multi_cookies"),
    ),
}


def _places(fd: int, kind: str, data: bytes) -> dict[str, tuple[int, ...]]:
    """The lists of a link that stands for many places."""
    if kind not in _LISTS:
        return {}
    counter, pointers = _LISTS[kind]
    count = min(Fields(data, uapi.BPF_LINK_INFO)[counter], _MAX_PLACES)
    if not count:
        return {}
    # Linux 6.6 and 6.7 know the addresses of kprobes but not yet their cookies, and refuse what they do not know.
    for wanted in (pointers, pointers[:1]):
        areas = {pointer: empty_buffer(8 * count) for pointer in wanted}
        try:
            _read(fd, areas, **{counter: count})
        except SyscallError as error:
            if error.errno == errno.E2BIG and len(wanted) > 1:
                continue
            raise
        return {pointer: tuple(memoryview(area).cast("B").cast("Q")) for pointer, area in areas.items()}
    return {}


# ---------------------------------------------------------------------- a decoder for each kind

if TYPE_CHECKING:
    _Decoder = Callable[[Fields, Mapping[str, str], Mapping[str, tuple[int, ...]]], Target]


def _attach_type(fields: Fields, field: str) -> str:
    return name_in(uapi.BPF_ATTACH_TYPE, fields[field])


def _signed(value: int) -> int:
    """A __s32 read as unsigned."""
    return value - (1 << 32) if value >= 1 << 31 else value


def _iter(fields: Fields, texts: Mapping[str, str], lists: Mapping[str, tuple[int, ...]]) -> Target:
    name = texts.get("iter_target_name", "")
    if name in _MAP_ITERATORS:
        return IterTarget(name, map_id=fields["iter_map_map_id"])
    if name in _TASK_ITERATORS:
        return IterTarget(name, tid=fields["iter_task_tid"], pid=fields["iter_task_pid"])
    if name == "cgroup":
        order = name_in(uapi.BPF_CGROUP_ITER_ORDER, fields["iter_cgroup_order"])
        return IterTarget(name, cgroup_id=fields["iter_cgroup_cgroup_id"], order=order)
    return IterTarget(name)


def _perf_event(fields: Fields, texts: Mapping[str, str], lists: Mapping[str, tuple[int, ...]]) -> Target:
    event = _event_of(fields)
    name = next(iter(texts.values()), "")
    match event:
        case "UPROBE" | "URETPROBE":
            return PerfEventTarget(
                event,
                name,
                offset=fields["perf_event_uprobe_offset"],
                cookie=fields["perf_event_uprobe_cookie"],
                ref_ctr_offset=fields["perf_event_uprobe_ref_ctr_offset"],
            )
        case "KPROBE" | "KRETPROBE":
            return PerfEventTarget(
                event,
                name,
                offset=fields["perf_event_kprobe_offset"],
                address=fields["perf_event_kprobe_addr"],
                missed=fields["perf_event_kprobe_missed"],
                cookie=fields["perf_event_kprobe_cookie"],
            )
        case "TRACEPOINT":
            return PerfEventTarget(event, name, cookie=fields["perf_event_tracepoint_cookie"])
        case "EVENT":
            return PerfEventTarget(
                event,
                cookie=fields["perf_event_event_cookie"],
                type=fields["perf_event_event_type"],
                config=fields["perf_event_event_config"],
            )
    return PerfEventTarget(event)


_DECODERS: dict[str, _Decoder] = {
    "RAW_TRACEPOINT": lambda fields, texts, lists: RawTracepointTarget(
        texts.get("raw_tracepoint_tp_name", ""), fields["raw_tracepoint_cookie"]
    ),
    "TRACING": lambda fields, texts, lists: TracingTarget(
        _attach_type(fields, "tracing_attach_type"),
        fields["tracing_target_obj_id"],
        fields["tracing_target_btf_id"],
        fields["tracing_cookie"],
    ),
    "CGROUP": lambda fields, texts, lists: CgroupTarget(
        fields["cgroup_cgroup_id"], _attach_type(fields, "cgroup_attach_type")
    ),
    "ITER": _iter,
    "NETNS": lambda fields, texts, lists: NetnsTarget(
        fields["netns_netns_ino"], _attach_type(fields, "netns_attach_type")
    ),
    "XDP": lambda fields, texts, lists: XdpTarget(fields["xdp_ifindex"]),
    "PERF_EVENT": _perf_event,
    "KPROBE_MULTI": lambda fields, texts, lists: KprobeMultiTarget(
        fields["kprobe_multi_count"],
        fields["kprobe_multi_flags"],
        fields["kprobe_multi_missed"],
        lists.get("kprobe_multi_addrs", ()),
        lists.get("kprobe_multi_cookies", ()),
    ),
    "STRUCT_OPS": lambda fields, texts, lists: StructOpsTarget(fields["struct_ops_map_id"]),
    "NETFILTER": lambda fields, texts, lists: NetfilterTarget(
        fields["netfilter_pf"],
        fields["netfilter_hooknum"],
        _signed(fields["netfilter_priority"]),
        fields["netfilter_flags"],
    ),
    "TCX": lambda fields, texts, lists: InterfaceTarget(
        fields["tcx_ifindex"], _attach_type(fields, "tcx_attach_type")
    ),
    "UPROBE_MULTI": lambda fields, texts, lists: UprobeMultiTarget(
        texts.get("uprobe_multi_path", ""),
        fields["uprobe_multi_count"],
        fields["uprobe_multi_flags"],
        fields["uprobe_multi_pid"],
        lists.get("uprobe_multi_offsets", ()),
        lists.get("uprobe_multi_ref_ctr_offsets", ()),
        lists.get("uprobe_multi_cookies", ()),
    ),
    "NETKIT": lambda fields, texts, lists: InterfaceTarget(
        fields["netkit_ifindex"], _attach_type(fields, "netkit_attach_type")
    ),
    "SOCKMAP": lambda fields, texts, lists: SockmapTarget(
        fields["sockmap_map_id"], _attach_type(fields, "sockmap_attach_type")
    ),
}
