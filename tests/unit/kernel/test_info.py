"""What the structures of BPF_OBJ_GET_INFO_BY_FD say; the bytes were recorded on Linux 6.18."""

from __future__ import annotations

import struct

import pytest

from tracebee.btf import Btf
from tracebee.btf import types as kinds
from tracebee.btf.writer import BtfBuilder
from tracebee.kernel.info import BtfInfo, LinkInfo, MapInfo
from tracebee.kernel.info.btf import decode_btf_info
from tracebee.kernel.info.fields import name_in, number_in, parse_fdinfo
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
    decode_link_info,
)
from tracebee.kernel.info.map import decode_map_info, whole_map_name
from tracebee.kernel.info.program import decode_program_info
from tracebee.syscalls import _uapi as uapi

PROGRAM = bytes.fromhex(
    "08000000c0400100b11459a0e11ca14c17000000100000000000000000000000000000000000000075d02ecaa3290000"
    "000000000000000000000000000000006964735f6367726f75705f736b62000000000000010000000000000000000000"
    "000000000000000001000000010000000000000000000000000000000000000000000000080000000000000000000000"
    "000000000000000000000000000000000000000000000000000000001000000008000000010000000000000000000000"
    "00000000000000000000000000000000000000000000000002000000000000000000000000000000"
)
PROGRAM_FDINFO = """\
pos:	0
flags:	02000002
mnt_id:	17
ino:	1038
prog_type:	8
prog_jited:	1
prog_tag:	b11459a0e11ca14c
memlock:	4096
prog_id:	82112
run_time_ns:	0
run_cnt:	0
recursion_misses:	0
verified_insns:	2
"""
OUTER = bytes.fromhex("0c000000d0440100040000000400000005000000000000006964735f6f75746572") + bytes(71)
TAILS = bytes.fromhex("03000000d1440100040000000400000004000000000000006964735f7461696c73") + bytes(71)
TAILS_FDINFO = """\
map_flags:	0x0
map_extra:	0x0
memlock:	344
map_id:	83153
frozen:	0
owner_prog_type:	1
owner_jited:	1
"""


def test_a_program() -> None:
    assert len(PROGRAM) == uapi.BPF_PROG_INFO_SIZE
    info = decode_program_info(PROGRAM, (5, 6), parse_fdinfo(PROGRAM_FDINFO))
    assert (info.id, info.type, info.name, info.tag) == (
        82112,
        "CGROUP_SKB",
        "ids_cgroup_skb",
        "b11459a0e11ca14c",
    )
    assert info.gpl_compatible is True
    assert (info.jited_prog_len, info.xlated_prog_len, info.verified_insns) == (23, 16, 2)
    assert (info.load_time, info.created_by_uid, info.memlock) == (0x29A3CA2ED075, 0, 4096)
    assert info.map_ids == (5, 6)
    assert info.nr_func_info == 0


def test_a_program_without_the_gpl() -> None:
    changed = PROGRAM[:84] + b"\0" + PROGRAM[85:]
    assert decode_program_info(changed, (), {}).gpl_compatible is False


def test_a_program_of_an_old_kernel() -> None:
    """Linux 5.10 fills 208 bytes; without /proc there is no memlock."""
    info = decode_program_info(PROGRAM[:208], (), {})
    assert (info.id, info.verified_insns, info.attach_btf_id, info.memlock) == (82112, 0, 0, None)


def test_a_whole_name() -> None:
    info = decode_program_info(PROGRAM, (), {}, "ids_cgroup_skb_and_more")
    assert (info.name, info.kernel_name) == ("ids_cgroup_skb_and_more", "ids_cgroup_skb")


def test_maps() -> None:
    assert len(OUTER) == len(TAILS) == uapi.BPF_MAP_INFO_SIZE
    info = decode_map_info(OUTER, {"frozen": "1", "memlock": "352"})
    assert info == MapInfo(
        83152, "ARRAY_OF_MAPS", "ids_outer", "ids_outer", 4, 4, 5, 0, memlock=352, frozen=True
    )
    tails = decode_map_info(TAILS, parse_fdinfo(TAILS_FDINFO))
    assert (tails.type, tails.owner_prog_type, tails.owner_jited, tails.frozen) == (
        "PROG_ARRAY",
        "SOCKET_FILTER",
        True,
        False,
    )


def test_a_kind_that_is_not_known() -> None:
    info = decode_map_info(struct.pack("=I", 250) + OUTER[4:], {})
    assert (info.type, info.frozen, info.memlock) == ("250", None, None)
    assert name_in(uapi.BPF_MAP_TYPE, 19) == "CGROUP_STORAGE"  # not …_DEPRECATED
    assert name_in(uapi.BPF_MAP_TYPE, 21) == "PERCPU_CGROUP_STORAGE"


def test_btf_objects() -> None:
    data = struct.pack("=QIIQII", 0, 5516713, 1, 0, 8, 1)
    info = decode_btf_info(data, b"vmlinux")
    assert info == BtfInfo(1, 5516713, "vmlinux", True)
    assert info.owner == "kernel"
    assert decode_btf_info(data, b"nf_tables").owner == "module"
    assert decode_btf_info(data[:28] + bytes(4)).owner == "process"


def link_bytes(kind: str, **fields: int) -> bytes:
    """struct bpf_link_info with these fields of its union."""
    data = bytearray(uapi.BPF_LINK_INFO_SIZE)
    for name, value in {"type": uapi.BPF_LINK_TYPE[kind], "id": 9, "prog_id": 8, **fields}.items():
        offset, size = uapi.BPF_LINK_INFO[name]
        data[offset : offset + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    return bytes(data)


def test_recorded_links() -> None:
    head = "04000000b42f00001f4001000000000000000000000000000d000000cd440100"
    info = decode_link_info(bytes.fromhex(head) + bytes(32), {"iter_target_name": "bpf_map_elem"})
    assert info == LinkInfo(12212, "ITER", 81951, IterTarget("bpf_map_elem", map_id=83149))
    head = "03000000b52f00002040010000000000a801000000000000"
    info = decode_link_info(bytes.fromhex(head) + bytes(40))
    assert info == LinkInfo(12213, "CGROUP", 81952, CgroupTarget(424, "CGROUP_INET_INGRESS"))
    assert info.attach_type == "CGROUP_INET_INGRESS"
    head = "0e000000b72f00002440010000000000ce44010007000000"
    info = decode_link_info(bytes.fromhex(head) + bytes(40))
    assert info == LinkInfo(12215, "SOCKMAP", 81956, SockmapTarget(83150, "SK_MSG_VERDICT"))


ATTACH = uapi.BPF_ATTACH_TYPE


@pytest.mark.parametrize(
    ("kind", "fields", "texts", "target"),
    [
        (
            "RAW_TRACEPOINT",
            {"raw_tracepoint_cookie": 5},
            {"raw_tracepoint_tp_name": "sys_enter"},
            RawTracepointTarget("sys_enter", 5),
        ),
        (
            "TRACING",
            {
                "tracing_attach_type": ATTACH["TRACE_FENTRY"],
                "tracing_target_obj_id": 1,
                "tracing_target_btf_id": 77,
                "tracing_cookie": 3,
            },
            {},
            TracingTarget("TRACE_FENTRY", 1, 77, 3),
        ),
        (
            "ITER",
            {"iter_task_tid": 4, "iter_task_pid": 0},
            {"iter_target_name": "task_file"},
            IterTarget("task_file", tid=4),
        ),
        (
            "ITER",
            {"iter_cgroup_cgroup_id": 6, "iter_cgroup_order": 2},
            {"iter_target_name": "cgroup"},
            IterTarget("cgroup", cgroup_id=6, order="DESCENDANTS_PRE"),
        ),
        # An iterator of another kind has no map, whatever lies there.
        ("ITER", {"iter_map_map_id": 6}, {"iter_target_name": "tcp"}, IterTarget("tcp")),
        (
            "NETNS",
            {"netns_netns_ino": 4026531840, "netns_attach_type": ATTACH["SK_LOOKUP"]},
            {},
            NetnsTarget(4026531840, "SK_LOOKUP"),
        ),
        ("XDP", {"xdp_ifindex": 3}, {}, XdpTarget(3)),
        ("STRUCT_OPS", {"struct_ops_map_id": 44}, {}, StructOpsTarget(44)),
        (
            "NETFILTER",
            {"netfilter_pf": 2, "netfilter_hooknum": 1, "netfilter_priority": -128, "netfilter_flags": 1},
            {},
            NetfilterTarget(2, 1, -128, 1),
        ),
        (
            "KPROBE_MULTI",
            {"kprobe_multi_count": 3, "kprobe_multi_flags": 1, "kprobe_multi_missed": 7},
            {},
            KprobeMultiTarget(3, 1, 7, (10, 20, 30), (1, 2, 3)),
        ),
        (
            "UPROBE_MULTI",
            {"uprobe_multi_count": 1, "uprobe_multi_pid": 12},
            {"uprobe_multi_path": "/bin/x"},
            UprobeMultiTarget("/bin/x", 1, 0, 12),
        ),
        (
            "PERF_EVENT",
            {"perf_event_type": 4, "perf_event_kprobe_addr": 1 << 63, "perf_event_kprobe_missed": 2},
            {"perf_event_kprobe_func_name": "do_exit"},
            PerfEventTarget("KRETPROBE", "do_exit", address=1 << 63, missed=2),
        ),
        (
            "PERF_EVENT",
            {"perf_event_type": 1, "perf_event_uprobe_offset": 16, "perf_event_uprobe_cookie": 1},
            {"perf_event_uprobe_file_name": "/bin/x"},
            PerfEventTarget("UPROBE", "/bin/x", offset=16, cookie=1),
        ),
        (
            "PERF_EVENT",
            {"perf_event_type": 5, "perf_event_tracepoint_cookie": 4},
            {"perf_event_tracepoint_tp_name": "sys_enter_open"},
            PerfEventTarget("TRACEPOINT", "sys_enter_open", cookie=4),
        ),
        (
            "PERF_EVENT",
            {"perf_event_type": 6, "perf_event_event_type": 1, "perf_event_event_config": 2},
            {},
            PerfEventTarget("EVENT", type=1, config=2),
        ),
        ("PERF_EVENT", {}, {}, PerfEventTarget("UNSPEC")),
        ("PERF_EVENT", {"perf_event_type": 99}, {}, PerfEventTarget("99")),
        (
            "TCX",
            {"tcx_ifindex": 2, "tcx_attach_type": ATTACH["TCX_EGRESS"]},
            {},
            InterfaceTarget(2, "TCX_EGRESS"),
        ),
        (
            "NETKIT",
            {"netkit_ifindex": 2, "netkit_attach_type": ATTACH["NETKIT_PEER"]},
            {},
            InterfaceTarget(2, "NETKIT_PEER"),
        ),
        (
            "CGROUP",
            {"cgroup_cgroup_id": 1 << 40, "cgroup_attach_type": 250},
            {},
            CgroupTarget(1 << 40, "250"),
        ),
    ],
)
def test_links(kind: str, fields: dict[str, int], texts: dict[str, str], target: Target) -> None:
    lists = {"kprobe_multi_addrs": (10, 20, 30), "kprobe_multi_cookies": (1, 2, 3)}
    info = decode_link_info(link_bytes(kind, **fields), texts, lists)
    assert info == LinkInfo(9, kind, 8, target)


def test_a_link_of_a_kind_to_come() -> None:
    data = struct.pack("=I", 77) + link_bytes("XDP")[4:]
    assert decode_link_info(data) == LinkInfo(9, "77", 8, None)
    assert decode_link_info(data).attach_type == ""


def test_every_kind_of_link_is_decoded() -> None:
    for kind in uapi.BPF_LINK_TYPE:
        if kind != "UNSPEC":
            assert decode_link_info(link_bytes(kind)).target is not None, kind


@pytest.mark.parametrize("length", [0, 4, 17, 40])
def test_short_structures_are_zeros(length: int) -> None:
    info = decode_link_info(link_bytes("XDP", xdp_ifindex=3)[:length])
    assert info.target in (None, XdpTarget(0), XdpTarget(3))


def test_fdinfo() -> None:
    found = parse_fdinfo("map_id:\t7\nmap_flags:\t0x480\nno colon\nname:\ta:b\nmap_id:\t8\n")
    assert found == {"map_id": "7", "map_flags": "0x480", "name": "a:b"}
    assert number_in(found, "map_id") == 7
    assert number_in(found, "map_flags") == 0x480
    assert number_in(found, "name") is None
    assert number_in(found, "other") is None


def types_with_maps(names: list[str]) -> Btf:
    """What a compiler leaves: a section .maps with a variable for each map."""
    builder = BtfBuilder()
    number = builder.add_int("int", 4)
    variables = [builder.add(kinds.Var(name, number, 1)) for name in names]
    entries = tuple(kinds.VarSecinfo(one, 0, 4) for one in variables)
    builder.add(kinds.Datasec(".maps", 4 * len(names), entries))
    return Btf.from_bytes(builder.to_bytes())


def test_whole_names_of_maps() -> None:
    btf = types_with_maps(["a_map_with_a_long_name", "a_map_with_another", "short"])
    assert whole_map_name("a_map_with_a_lo", btf) == "a_map_with_a_long_name"
    assert whole_map_name("a_map_with_a", btf) == "a_map_with_a"  # two begin so
    assert whole_map_name("opensnoo.rodata", btf) == "opensnoo.rodata"
