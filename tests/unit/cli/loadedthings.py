"""A made-up kernel: what is loaded into it, and who holds it."""

from __future__ import annotations

from tracebee.host.holders import Holder, Holders, PerfEvent
from tracebee.kernel.cgroups import CgroupAttachment
from tracebee.kernel.info import BtfInfo, LinkInfo, MapInfo, ProgramInfo
from tracebee.kernel.info.link import IterTarget, PerfEventTarget, RawTracepointTarget
from tracebee.kernel.inventory import Inventory, PerfAttachment
from tracebee.syscalls.bpfids import TaskFd

SNOOP = Holder(100, "snoop")
OTHER = Holder(200, "other")


def program(number: int, name: str, kind: str = "RAW_TRACEPOINT", **facts: object) -> ProgramInfo:
    given = {
        "id": number,
        "type": kind,
        "name": name,
        "kernel_name": name[:15],
        "tag": f"{number:016x}",
        "gpl_compatible": True,
        "load_time": 0,
        "created_by_uid": 0,
        "xlated_prog_len": 16,
        "jited_prog_len": 30,
    }
    return ProgramInfo(**(given | facts))  # type: ignore[arg-type]


def table(number: int, name: str, kind: str = "HASH", flags: int = 0, **facts: object) -> MapInfo:
    return MapInfo(number, kind, name, name[:15], 4, 8, 16, flags, **facts)  # type: ignore[arg-type]


def inventory() -> Inventory:
    """Two links of one process, a pinned program with a map of maps, and what nobody is seen to hold."""
    programs = [
        program(10, "enter", map_ids=(20, 21), btf_id=40, tag="aa00000000000000"),
        program(11, "exit_of_a_long_name", map_ids=(20,), btf_id=40, tag="aa00000000000000", load_time=10**9),
        program(12, "pinned", "SOCKET_FILTER", map_ids=(22, 23), run_cnt=4, run_time_ns=2000),
        program(13, "tail", "SOCKET_FILTER"),
        program(14, "egress", "CGROUP_SKB"),
        program(15, "old", "KPROBE"),
    ]
    maps = [
        table(20, "start", flags=1, memlock=4096, frozen=False, btf_id=40),
        table(21, "events", "RINGBUF", memlock=8192, frozen=False),
        table(22, "outer", "ARRAY_OF_MAPS"),
        table(23, "tails", "PROG_ARRAY", owner_prog_type="SOCKET_FILTER", owner_jited=True),
        table(24, "inner", "ARRAY", flags=1 << 7 | 1 << 30, frozen=True),
        table(25, "alone"),
    ]
    links = [
        LinkInfo(30, "RAW_TRACEPOINT", 10, RawTracepointTarget("sys_enter")),
        LinkInfo(31, "PERF_EVENT", 11, PerfEventTarget("TRACEPOINT", "sched_switch", cookie=7)),
        LinkInfo(32, "ITER", 13, IterTarget("bpf_map_elem", map_id=25)),
    ]
    btfs = [BtfInfo(1, 5000000, "vmlinux", True), BtfInfo(40, 700, "", False), BtfInfo(41, 90, "", False)]
    held = {
        ("link", 30): (SNOOP,),
        ("link", 31): (SNOOP,),
        ("prog", 10): (SNOOP,),
        ("prog", 13): (OTHER,),
        ("map", 20): (SNOOP, OTHER),
    }
    event = TaskFd(15, "KPROBE", "vfs_read", 4, 0)
    return Inventory(
        {one.id: one for one in programs},
        {one.id: one for one in maps},
        {one.id: one for one in links},
        {one.id: one for one in btfs},
        Holders(held, (PerfEvent(OTHER, 6),), 0),
        {("prog", 12): ("/sys/fs/bpf/filter",)},
        {22: [((2).to_bytes(4, "little"), 24)], 23: [((0).to_bytes(4, "little"), 13)]},
        [PerfAttachment(OTHER, 6, event)],
        [CgroupAttachment("/web", "CGROUP_INET_EGRESS", 14)],
    )
