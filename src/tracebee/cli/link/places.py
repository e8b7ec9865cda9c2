"""Where a program hangs, in words: one line for every kind of link."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from tracebee.cli import facts as say
from tracebee.errors import TracebeeError
from tracebee.kernel.info.link import (
    KPROBE_MULTI_RETURN,
    UPROBE_MULTI_RETURN,
    CgroupTarget,
    InterfaceTarget,
    IterTarget,
    KprobeMultiTarget,
    NetfilterTarget,
    NetnsTarget,
    PerfEventTarget,
    RawTracepointTarget,
    SockmapTarget,
    StructOpsTarget,
    TracingTarget,
    UprobeMultiTarget,
    XdpTarget,
)

if TYPE_CHECKING:
    from tracebee.host.identity import CgroupPaths
    from tracebee.kernel.info import LinkInfo
    from tracebee.kernel.inventory import Inventory

TRACING = {
    "TRACE_RAW_TP": "tp_btf",
    "TRACE_FENTRY": "fentry",
    "TRACE_FEXIT": "fexit",
    "MODIFY_RETURN": "fmod_ret",
    "LSM_MAC": "lsm",
}
"""Attach types of tracing programs by what their sections are called."""

FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
"""enum nf_hook protocol families (linux/netfilter.h), as nft calls them."""

HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
"""enum nf_inet_hooks; ARP counts its own."""
_ARP_HOOKS = ("input", "output", "forward")

PERF_TYPES = ("hardware", "software", "tracepoint", "hw-cache", "raw", "breakpoint")
"""enum perf_type_id, as perf calls them."""

HARDWARE = (
    *(
        "cpu-cycles",
        "instructions",
        "cache-references",
        "cache-misses",
        "branch-instructions",
        "branch-misses",
    ),
    *("bus-cycles", "stalled-cycles-frontend", "stalled-cycles-backend", "ref-cycles"),
)
"""enum perf_hw_id, as perf calls them."""

SOFTWARE = (
    *("cpu-clock", "task-clock", "page-faults", "context-switches", "cpu-migrations", "minor-faults"),
    *("major-faults", "alignment-faults", "emulation-faults", "dummy", "bpf-output", "cgroup-switches"),
)
"""enum perf_sw_ids, as perf calls them."""

_CLOCKS = {6: "software:cpu-clock", 7: "software:task-clock"}
"""What newer kernels turn two software events into: sources of their own, which sysfs does not list.

perf_event_init() registers them first, so that they get the first numbers behind the fixed ones.
"""

_CACHES = ("L1-dcache", "L1-icache", "LLC", "dTLB", "iTLB", "branch", "node")
_CACHE_OPERATIONS = ("load", "store", "prefetch")
_CACHE_RESULTS = ("access", "miss")

_BTF_TRACE = "btf_trace_"
"""What the kernel puts before the name of a raw tracepoint's type."""


def place_of(link: LinkInfo, inventory: Inventory) -> str:
    """What a link hangs on."""
    match link.target:
        case RawTracepointTarget(tp_name):
            program = inventory.programs.get(link.prog_id)
            is_typed = program is not None and program.type == "TRACING"
            return f"{'tp_btf' if is_typed else 'raw tracepoint'} {tp_name}".rstrip()
        case TracingTarget():
            return _tracing(link, link.target, inventory)
        case CgroupTarget(cgroup_id, attach_type):
            return say.cgroup_place(cgroup_path(cgroup_id), attach_type)
        case IterTarget():
            return _iterator(link.target)
        case NetnsTarget(netns_ino, attach_type):
            return f"network namespace {netns_ino} {say.word(attach_type)}"
        case XdpTarget(ifindex):
            return f"xdp of {say.interface(ifindex)}"
        case InterfaceTarget(ifindex, attach_type):
            return f"{say.word(attach_type).replace('_', ' ')} of {say.interface(ifindex)}"
        case StructOpsTarget(map_id):
            name = inventory.maps[map_id].name if map_id in inventory.maps else ""
            return f"struct_ops in map {say.titled(map_id, name)}"
        case NetfilterTarget():
            return _netfilter(link.target)
        case KprobeMultiTarget(count, flags):
            kind = "kretprobe" if flags & KPROBE_MULTI_RETURN else "kprobe"
            return f"{kind} of {say.plural(count, 'function')}"
        case UprobeMultiTarget(path, count, flags, pid):
            kind = "uretprobe" if flags & UPROBE_MULTI_RETURN else "uprobe"
            only = f" of process {pid}" if pid else ""
            return f"{kind} at {say.plural(count, 'place')} in {path}{only}"
        case PerfEventTarget():
            return _perf_event(link.target)
        case SockmapTarget(map_id, attach_type):
            name = inventory.maps[map_id].name if map_id in inventory.maps else ""
            return f"{say.word(attach_type)} of map {say.titled(map_id, name)}"
    return say.word(link.type)


def _tracing(link: LinkInfo, target: TracingTarget, inventory: Inventory) -> str:
    program = inventory.programs.get(link.prog_id)
    kind = TRACING.get(target.attach_type, say.word(target.attach_type))
    if program is not None and program.type == "EXT":
        kind = "in place of"
    owner = target.target_obj_id
    if program is not None and program.attach_btf_obj_id:
        owner = program.attach_btf_obj_id
    elif owner in inventory.programs and owner not in inventory.btfs:
        owner = inventory.programs[owner].btf_id
    name = type_name(owner, target.target_btf_id) if target.target_btf_id else ""
    traced = inventory.programs.get(target.target_obj_id) if owner != target.target_obj_id else None
    of_program = f" of program {say.titled(traced.id, traced.name)}" if traced is not None else ""
    return f"{kind} {name}{of_program}".rstrip()


def _iterator(target: IterTarget) -> str:
    text = f"iterator over {target.target_name}".rstrip()
    if target.map_id:
        text += f" of map {target.map_id}"
    if target.tid:
        text += f" of thread {target.tid}"
    if target.pid:
        text += f" of process {target.pid}"
    if target.cgroup_id:
        text += f" from {cgroup_path(target.cgroup_id)}, {target.order.lower()}"
    return text


def _netfilter(target: NetfilterTarget) -> str:
    family = FAMILIES.get(target.pf, f"family {target.pf}")
    hooks = _ARP_HOOKS if family == "arp" else HOOKS
    hook = hooks[target.hooknum] if target.hooknum < len(hooks) else f"hook {target.hooknum}"
    return f"netfilter {family} {hook}, priority {target.priority}"


def _perf_event(target: PerfEventTarget) -> str:
    match target.event:
        case "UPROBE" | "URETPROBE":
            return f"{target.event.lower()} {target.name}+{target.offset:#x}"
        case "KPROBE" | "KRETPROBE":
            where = target.name or f"{target.address:#x}"
            return f"{target.event.lower()} {where}" + (f"+{target.offset:#x}" if target.offset else "")
        case "TRACEPOINT":
            return f"tracepoint {target.name}"
        case "EVENT":
            return f"perf event {_counter(target)}"
    # Before Linux 6.6 such a link does not say what it hangs on.
    return "perf event"


def _counter(target: PerfEventTarget) -> str:
    """What an event counts: ``software:page-faults``, ``cpu_clock``."""
    kind = perf_type(target.type)
    if isinstance(kind, int):
        kind = _pmus().get(kind) or _CLOCKS.get(kind, f"type {kind}")
        if not target.config:
            return kind
    config = perf_config(target.type, target.config)
    return f"{kind}:{config:#x}" if isinstance(config, int) else f"{kind}:{config}"


@cache
def _pmus() -> dict[int, str]:
    from tracebee.host.pmus import read_pmus

    return read_pmus()


def perf_type(number: int) -> str | int:
    """The name of a PERF_TYPE, or its number."""
    return PERF_TYPES[number] if number < len(PERF_TYPES) else number


def perf_config(kind: int, config: int) -> str | int:
    """What an event of a PERF_TYPE counts, or the number that says it."""
    tables = {0: HARDWARE, 1: SOFTWARE}
    if kind in tables and config < len(tables[kind]):
        return tables[kind][config]
    cache, operation, result = config & 0xFF, config >> 8 & 0xFF, config >> 16
    if (
        kind == 3
        and cache < len(_CACHES)
        and operation < len(_CACHE_OPERATIONS)
        and result < len(_CACHE_RESULTS)
    ):
        return f"{_CACHES[cache]}-{_CACHE_OPERATIONS[operation]}-{_CACHE_RESULTS[result]}"
    return config


@cache
def type_name(btf_id: int, type_id: int) -> str:
    """What a program is made for: a function, tracepoint or structure, with its module or BTF object if any."""
    from tracebee.kernel.ids import find_one
    from tracebee.kernel.info import btf_by_id, btf_info

    if not btf_id:
        return f"type {type_id}"
    try:
        name = btf_by_id(btf_id).name_of(type_id).removeprefix(_BTF_TRACE)
        _, fd = find_one("btf", ("id", str(btf_id)))
    except TracebeeError:
        return f"type {type_id} of BTF {btf_id}"
    import os

    try:
        info = btf_info(fd)
    finally:
        os.close(fd)
    if info.owner == "module":
        return f"{info.name}:{name}"
    return name if info.owner == "kernel" else f"{name} of BTF {btf_id}"


_paths: list[CgroupPaths] = []


def cgroup_path(cgroup_id: int) -> str:
    """The path of a cgroup below where cgroup2 is mounted, or its number."""
    from tracebee.host.identity import CgroupPaths

    try:
        if not _paths:
            _paths.append(CgroupPaths())
        return _paths[0].path(cgroup_id) or f"{cgroup_id} (gone)"
    except OSError:
        return str(cgroup_id)
