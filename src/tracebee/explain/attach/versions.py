"""What came with which release of Linux: map types, program types, attach types.

The numbers are those of enum bpf_map_type and enum bpf_prog_type in include/uapi/linux/bpf.h; the releases are
those of the kernel's history (git describe --contains of the commit that added each).
"""

from __future__ import annotations

from typing import NamedTuple


class MapType(NamedTuple):
    """A map type: its number, the first release with it, and what can stand in for it before."""

    number: int
    since: str
    instead: str = ""


MAP_TYPES = {
    "hash": MapType(1, "3.19"),
    "array": MapType(2, "3.19"),
    "prog_array": MapType(3, "4.2"),
    "perf_event_array": MapType(4, "4.3"),
    "percpu_hash": MapType(5, "4.6", "a hash with the CPU in its key"),
    "percpu_array": MapType(6, "4.6", "an array with one entry for each CPU"),
    "stack_trace": MapType(7, "4.6"),
    "cgroup_array": MapType(8, "4.8"),
    "lru_hash": MapType(9, "4.10", "a plain hash that user space empties"),
    "lru_percpu_hash": MapType(10, "4.10", "a percpu_hash that user space empties"),
    "lpm_trie": MapType(11, "4.11", "one hash for each prefix length"),
    "array_of_maps": MapType(12, "4.12"),
    "hash_of_maps": MapType(13, "4.12"),
    "devmap": MapType(14, "4.14"),
    "sockmap": MapType(15, "4.14"),
    "cpumap": MapType(16, "4.15"),
    "xskmap": MapType(17, "4.18"),
    "sockhash": MapType(18, "4.18", "a sockmap"),
    "cgroup_storage": MapType(19, "4.19", "a hash with the cgroup id as key"),
    "reuseport_sockarray": MapType(20, "4.19"),
    "percpu_cgroup_storage": MapType(21, "4.20", "a percpu_hash with the cgroup id as key"),
    "queue": MapType(22, "4.20", "an array with head and tail of your own"),
    "stack": MapType(23, "4.20", "an array with a top of your own"),
    "sk_storage": MapType(24, "5.2", "a hash with the socket cookie as key"),
    "devmap_hash": MapType(25, "5.4", "a devmap"),
    "struct_ops": MapType(26, "5.6"),
    "ringbuf": MapType(27, "5.8", "a perf_event_array"),
    "inode_storage": MapType(28, "5.10", "a hash with device and inode as key"),
    "task_storage": MapType(29, "5.11", "a hash with the thread id as key"),
    "bloom_filter": MapType(30, "5.16", "a hash"),
    "user_ringbuf": MapType(31, "6.1", "an array that user space fills"),
    "cgrp_storage": MapType(32, "6.2", "a hash with the cgroup id as key"),
    "arena": MapType(33, "6.9", "an array with BPF_F_MMAPABLE"),
    "insn_array": MapType(34, "6.19"),
}

STORAGE = ("sk_storage", "inode_storage", "task_storage", "cgrp_storage")

PROGRAM_TYPES = {
    "socket_filter": "3.19",
    "kprobe": "4.1",
    "sched_cls": "4.1",
    "sched_act": "4.1",
    "tracepoint": "4.7",
    "xdp": "4.8",
    "perf_event": "4.9",
    "cgroup_skb": "4.10",
    "cgroup_sock": "4.10",
    "lwt_in": "4.10",
    "lwt_out": "4.10",
    "lwt_xmit": "4.10",
    "sock_ops": "4.13",
    "sk_skb": "4.14",
    "cgroup_device": "4.15",
    "sk_msg": "4.17",
    "raw_tracepoint": "4.17",
    "cgroup_sock_addr": "4.17",
    "lwt_seg6local": "4.18",
    "lirc_mode2": "4.18",
    "sk_reuseport": "4.19",
    "flow_dissector": "4.20",
    "cgroup_sysctl": "5.2",
    "raw_tracepoint_writable": "5.2",
    "cgroup_sockopt": "5.3",
    "tracing": "5.5",
    "struct_ops": "5.6",
    "ext": "5.6",
    "lsm": "5.7",
    "sk_lookup": "5.9",
    "syscall": "5.14",
    "netfilter": "6.4",
}

PROGRAM_NUMBERS = (
    # enum bpf_prog_type, in its order from 1.
    *("socket_filter", "kprobe", "sched_cls", "sched_act", "tracepoint", "xdp", "perf_event", "cgroup_skb"),
    *("cgroup_sock", "lwt_in", "lwt_out", "lwt_xmit", "sock_ops", "sk_skb", "cgroup_device", "sk_msg"),
    *("raw_tracepoint", "cgroup_sock_addr", "lwt_seg6local", "lirc_mode2", "sk_reuseport", "flow_dissector"),
    *("cgroup_sysctl", "raw_tracepoint_writable", "cgroup_sockopt", "tracing", "struct_ops", "ext", "lsm"),
    *("sk_lookup", "syscall", "netfilter"),
)

PROGRAM_OPTIONS = {
    # What a program type needs besides CONFIG_BPF_SYSCALL.
    "kprobe": "CONFIG_BPF_EVENTS",
    "tracepoint": "CONFIG_BPF_EVENTS",
    "perf_event": "CONFIG_BPF_EVENTS",
    "raw_tracepoint": "CONFIG_BPF_EVENTS",
    "tracing": "CONFIG_BPF_EVENTS",
    "lsm": "CONFIG_BPF_LSM",
    "lirc_mode2": "CONFIG_BPF_LIRC_MODE2",
    "netfilter": "CONFIG_NETFILTER_BPF_LINK",
    "sk_msg": "CONFIG_NET_SOCK_MSG",
    "cgroup_skb": "CONFIG_CGROUP_BPF",
    "cgroup_sock": "CONFIG_CGROUP_BPF",
    "cgroup_device": "CONFIG_CGROUP_BPF",
    "cgroup_sysctl": "CONFIG_CGROUP_BPF",
    "cgroup_sockopt": "CONFIG_CGROUP_BPF",
    "sk_reuseport": "CONFIG_INET",
}

PROGRAM_OF_KIND = {
    "kprobe": "kprobe",
    "kprobe event": "kprobe",
    "kprobe.multi": "kprobe",
    "kprobe.session": "kprobe",
    "uprobe": "kprobe",
    "uprobe.multi": "kprobe",
    "usdt": "kprobe",
    "tracepoint": "tracepoint",
    "raw tracepoint": "raw_tracepoint",
    "tp_btf": "tracing",
    "fentry": "tracing",
    "fexit": "tracing",
    "fmod_ret": "tracing",
    "iter": "tracing",
    "freplace": "ext",
    "lsm": "lsm",
}
"""The program type that each kind of probe takes."""

NETWORK_TYPES = frozenset(
    (
        *("sched_cls", "sched_act", "xdp", "lwt_in", "lwt_out", "lwt_xmit", "sock_ops", "sk_skb", "sk_msg"),
        *("lwt_seg6local", "flow_dissector", "cgroup_sock_addr", "cgroup_sockopt", "cgroup_device"),
        *("cgroup_sock", "cgroup_sysctl", "sk_reuseport", "sk_lookup", "netfilter", "lirc_mode2"),
    )
)
"""Program types that need CAP_NET_ADMIN beside CAP_BPF (is_net_admin_prog_type() in kernel/bpf/syscall.c)."""

KINDS_SINCE = {
    "kprobe.multi": "5.18",
    "kprobe.session": "6.10",
    "uprobe.multi": "6.6",
    "fentry": "5.5",
    "fexit": "5.5",
    "fmod_ret": "5.7",
    "freplace": "5.6",
    "lsm": "5.7",
    "tp_btf": "5.5",
    "iter": "5.8",
    "raw tracepoint": "4.17",
    "tracepoint": "4.7",
}
"""The first release with a way to attach."""

TRAMPOLINE_SINCE = {
    # Architectures whose kernels can have trampolines (bpf_arch_text_poke() and direct calls of ftrace).
    "x86_64": "5.5",
    "aarch64": "6.4",
    "s390x": "6.3",
    "riscv64": "6.2",
    "loongarch64": "6.17",
    "ppc64le": "6.13",
    "ppc64": "6.13",
}

MEMORY_OF_CGROUPS = "5.11"
"""Since then BPF memory counts for the cgroup, and RLIMIT_MEMLOCK no more (kernel commit 3ac1f01b43b6 and others)."""


def map_type_name(name: str, number: int | None) -> str:
    """The name of a map type without its prefix, by its name or else its number; "" if neither is known."""
    plain = name.strip().lower().removeprefix("bpf_map_type_").replace("-", "_")
    if plain in MAP_TYPES:
        return plain
    return next((known for known, row in MAP_TYPES.items() if row.number == number), "")


def program_type_name(name: str) -> str:
    """``BPF_PROG_TYPE_SYSCALL``, ``syscall`` or ``31`` → "syscall"; as it is where it is not known."""
    plain = name.strip().lower().removeprefix("bpf_prog_type_").replace("-", "_").replace(" ", "_")
    if plain.isdigit():
        index = int(plain) - 1
        return PROGRAM_NUMBERS[index] if 0 <= index < len(PROGRAM_NUMBERS) else plain
    return plain
