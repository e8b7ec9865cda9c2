"""Where links hang, in words."""

from __future__ import annotations

import pytest

from tracebee.cli.link import places
from tracebee.cli.link.listing import link_record
from tracebee.cli.link.places import place_of
from tracebee.kernel.info import LinkInfo
from tracebee.kernel.info.link import (
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
    Target,
    TracingTarget,
    UprobeMultiTarget,
    XdpTarget,
)

from .loadedthings import inventory, program


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that this machine would have to know."""
    monkeypatch.setattr(places, "type_name", lambda btf, number: f"type{number}of{btf}")
    monkeypatch.setattr(places, "cgroup_path", lambda number: f"/group{number}")
    monkeypatch.setattr(places, "_pmus", lambda: {9: "msr"})
    monkeypatch.setattr("tracebee.cli.facts.interface_name", lambda number: {2: "eth0"}.get(number, ""))


@pytest.mark.parametrize(
    ("kind", "target", "words"),
    [
        ("RAW_TRACEPOINT", RawTracepointTarget("sys_enter"), "raw tracepoint sys_enter"),
        ("TRACING", TracingTarget("TRACE_FENTRY", 1, 77), "fentry type77of1"),
        ("TRACING", TracingTarget("LSM_MAC", 1, 77), "lsm type77of1"),
        # The object is a program: what is traced is a function of it.
        ("TRACING", TracingTarget("TRACE_FEXIT", 10, 5), "fexit type5of40 of program 10 enter"),
        ("CGROUP", CgroupTarget(7, "CGROUP_INET_INGRESS"), "cgroup /group7 inet_ingress"),
        ("ITER", IterTarget("task", pid=4), "iterator over task of process 4"),
        ("ITER", IterTarget("task", tid=4), "iterator over task of thread 4"),
        (
            "ITER",
            IterTarget("cgroup", cgroup_id=7, order="SELF_ONLY"),
            "iterator over cgroup from /group7, self_only",
        ),
        ("NETNS", NetnsTarget(44, "SK_LOOKUP"), "network namespace 44 sk_lookup"),
        ("XDP", XdpTarget(2), "xdp of eth0(2)"),
        ("XDP", XdpTarget(3), "xdp of interface(3)"),
        ("XDP", XdpTarget(0), "xdp of an interface that is gone"),
        ("TCX", InterfaceTarget(2, "TCX_EGRESS"), "tcx egress of eth0(2)"),
        ("NETKIT", InterfaceTarget(2, "NETKIT_PEER"), "netkit peer of eth0(2)"),
        ("STRUCT_OPS", StructOpsTarget(20), "struct_ops in map 20 start"),
        ("STRUCT_OPS", StructOpsTarget(99), "struct_ops in map 99"),
        ("NETFILTER", NetfilterTarget(2, 1, -128, 0), "netfilter ip input, priority -128"),
        ("NETFILTER", NetfilterTarget(3, 1, 0, 0), "netfilter arp output, priority 0"),
        ("NETFILTER", NetfilterTarget(77, 9, 0, 0), "netfilter family 77 hook 9, priority 0"),
        ("KPROBE_MULTI", KprobeMultiTarget(1, 0), "kprobe of 1 function"),
        ("KPROBE_MULTI", KprobeMultiTarget(30, 1), "kretprobe of 30 functions"),
        (
            "UPROBE_MULTI",
            UprobeMultiTarget("/bin/x", 2, 1, 5),
            "uretprobe at 2 places in /bin/x of process 5",
        ),
        ("SOCKMAP", SockmapTarget(20, "SK_MSG_VERDICT"), "sk_msg_verdict of map 20 start"),
        ("PERF_EVENT", PerfEventTarget("UPROBE", "/bin/x", offset=16), "uprobe /bin/x+0x10"),
        ("PERF_EVENT", PerfEventTarget("KPROBE", "vfs_read"), "kprobe vfs_read"),
        ("PERF_EVENT", PerfEventTarget("KRETPROBE", "", address=0xFF, offset=1), "kretprobe 0xff+0x1"),
        ("PERF_EVENT", PerfEventTarget("TRACEPOINT", "sched_switch"), "tracepoint sched_switch"),
        ("PERF_EVENT", PerfEventTarget("EVENT", type=1, config=2), "perf event software:page-faults"),
        ("PERF_EVENT", PerfEventTarget("EVENT", type=0, config=99), "perf event hardware:0x63"),
        (
            "PERF_EVENT",
            PerfEventTarget("EVENT", type=3, config=0x10000),
            "perf event hw-cache:L1-dcache-load-miss",
        ),
        ("PERF_EVENT", PerfEventTarget("EVENT", type=6), "perf event software:cpu-clock"),
        ("PERF_EVENT", PerfEventTarget("EVENT", type=9, config=4), "perf event msr:0x4"),
        ("PERF_EVENT", PerfEventTarget("EVENT", type=55), "perf event type 55"),
        ("PERF_EVENT", PerfEventTarget("UNSPEC"), "perf event"),
        ("99", None, "type 99"),
    ],
)
def test_places(kind: str, target: Target | None, words: str) -> None:
    link = LinkInfo(9, kind, 99, target)
    things = inventory()
    assert place_of(link, things) == words
    assert link_record(link, things)["place"] == words


def test_typed_programs() -> None:
    things = inventory()
    things.programs[50] = program(50, "typed", "TRACING", attach_btf_obj_id=3, attach_btf_id=77)
    things.programs[51] = program(51, "other", "EXT", attach_btf_obj_id=40, attach_btf_id=5)
    raw = LinkInfo(9, "RAW_TRACEPOINT", 50, RawTracepointTarget("sys_enter"))
    assert place_of(raw, things) == "tp_btf sys_enter"
    traced = LinkInfo(9, "TRACING", 50, TracingTarget("TRACE_FENTRY", 3, 77))
    assert place_of(traced, things) == "fentry type77of3"
    replaced = LinkInfo(9, "TRACING", 51, TracingTarget("CGROUP_INET_INGRESS", 10, 5))
    assert place_of(replaced, things) == "in place of type5of40 of program 10 enter"


@pytest.mark.parametrize(
    ("target", "members"),
    [
        (XdpTarget(2), {"devname": "eth0", "ifindex": 2}),
        (
            InterfaceTarget(3, "TCX_EGRESS"),
            {"devname": "(unknown)", "ifindex": 3, "attach_type": "tcx_egress"},
        ),
        (NetfilterTarget(2, 1, -5, 1), {"pf": 2, "hook": 1, "prio": -5, "flags": 1}),
        (StructOpsTarget(4), {"map_id": 4}),
        (NetnsTarget(4, "SK_LOOKUP"), {"netns_ino": 4, "attach_type": "sk_lookup"}),
        (
            PerfEventTarget("KRETPROBE", "f", offset=1, address=2, missed=3, cookie=4),
            {"retprobe": True, "addr": 2, "func": "f", "offset": 1, "missed": 3, "cookie": 4},
        ),
        (
            PerfEventTarget("UPROBE", "/f", offset=1, cookie=4, ref_ctr_offset=8),
            {"retprobe": False, "file": "/f", "offset": 1, "cookie": 4, "ref_ctr_offset": 8},
        ),
        (
            PerfEventTarget("EVENT", type=1, config=0, cookie=2),
            {"event_type": "software", "event_config": "cpu-clock", "cookie": 2},
        ),
        (
            UprobeMultiTarget("/f", 1, 1, 5, (16,), (32,), (7,)),
            {
                "retprobe": True,
                "path": "/f",
                "func_count": 1,
                "pid": 5,
                "funcs": [{"offset": 16, "ref_ctr_offset": 32, "cookie": 7}],
            },
        ),
        (KprobeMultiTarget(2, 0, 3, (0, 0)), {"retprobe": False, "func_count": 2, "missed": 3, "funcs": []}),
    ],
)
def test_links_in_json(target: Target, members: dict[str, object]) -> None:
    record = link_record(LinkInfo(9, "XDP", 99, target), inventory())
    assert record.pop("place")
    assert record == {"id": 9, "type": "xdp", "prog_id": 99, **members}
