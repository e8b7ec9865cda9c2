"""Which kernel brought what: tables for the words "this kernel is too old".

The numbers are those of include/uapi/linux/bpf.h; helper numbers were given in order, and end at 211 (Linux 6.2),
after which new functions are kfuncs.
"""

from __future__ import annotations

import re
from bisect import bisect_left

_LAST_HELPER = (
    (3, "3.19"), (11, "4.1"), (16, "4.2"), (22, "4.3"), (25, "4.4"), (26, "4.5"), (30, "4.6"), (36, "4.8"),
    (41, "4.9"), (44, "4.10"), (45, "4.11"), (47, "4.12"), (50, "4.13"), (53, "4.14"), (57, "4.15"),
    (59, "4.16"), (64, "4.17"), (80, "4.18"), (83, "4.19"), (90, "4.20"), (92, "5.0"), (97, "5.1"),
    (108, "5.2"), (110, "5.3"), (115, "5.5"), (118, "5.6"), (124, "5.7"), (135, "5.8"), (141, "5.9"),
    (155, "5.10"), (162, "5.11"), (163, "5.12"), (165, "5.13"), (168, "5.14"), (175, "5.15"), (179, "5.16"),
    (185, "5.17"), (193, "5.18"), (203, "5.19"), (207, "6.0"), (209, "6.1"), (211, "6.2"),
)  # fmt: skip
"""The highest helper number of each release."""

MAP_TYPES = (
    ("unspec", "3.19"), ("hash", "3.19"), ("array", "3.19"), ("prog_array", "4.2"), ("perf_event_array", "4.3"),
    ("percpu_hash", "4.6"), ("percpu_array", "4.6"), ("stack_trace", "4.6"), ("cgroup_array", "4.8"),
    ("lru_hash", "4.10"), ("lru_percpu_hash", "4.10"), ("lpm_trie", "4.11"), ("array_of_maps", "4.12"),
    ("hash_of_maps", "4.12"), ("devmap", "4.14"), ("sockmap", "4.14"), ("cpumap", "4.15"), ("xskmap", "4.18"),
    ("sockhash", "4.18"), ("cgroup_storage", "4.19"), ("reuseport_sockarray", "4.19"),
    ("percpu_cgroup_storage", "4.20"), ("queue", "4.20"), ("stack", "4.20"), ("sk_storage", "5.2"),
    ("devmap_hash", "5.4"), ("struct_ops", "5.6"), ("ringbuf", "5.8"), ("inode_storage", "5.10"),
    ("task_storage", "5.11"), ("bloom_filter", "5.16"), ("user_ringbuf", "6.1"), ("cgrp_storage", "6.2"),
    ("arena", "6.9"), ("insn_array", "6.19"),
)  # fmt: skip
"""Map types by number: name and first release."""

_SECTIONS = (
    (r"kprobe\.multi|kretprobe\.multi", "a multi-kprobe program", "5.18"),
    (r"kprobe\.session", "a session kprobe", "6.13"),
    (r"uprobe\.multi|uretprobe\.multi", "a multi-uprobe program", "6.6"),
    (r"ksyscall|kretsyscall|k(?:ret)?probe|u(?:ret)?probe|usdt", "a kprobe program", "4.1"),
    (r"raw_tp|raw_tracepoint", "a raw tracepoint program", "4.17"),
    (r"tracepoint|tp(?=/)", "a tracepoint program", "4.7"),
    (r"perf_event", "a perf event program", "4.9"),
    (r"fentry|fexit|fmod_ret|tp_btf", "a BPF trampoline program", "5.5"),
    (r"lsm_cgroup", "a cgroup LSM program", "6.0"),
    (r"lsm", "an LSM program", "5.7"),
    (r"iter", "an iterator program", "5.8"),
    (r"xdp", "an XDP program", "4.8"),
    (r"tcx?|classifier|action", "a tc program", "4.1"),
    (r"socket", "a socket filter", "3.19"),
    (r"sk_lookup", "a socket lookup program", "5.9"),
    (r"sk_msg", "a socket message program", "4.17"),
    (r"sk_skb|sockops", "a socket program", "4.14"),
    (r"cgroup_skb|cgroup/skb|cgroup|sockops", "a cgroup program", "4.10"),
    (r"struct_ops", "a struct_ops program", "5.6"),
    (r"netfilter", "a netfilter program", "6.4"),
    (r"flow_dissector", "a flow dissector", "4.20"),
    (r"freplace", "a program extension", "5.6"),
    (r"lwt_", "a lightweight tunnel program", "4.10"),
    (r"syscall", "a syscall program", "5.14"),
)
SECTIONS = tuple((re.compile(pattern), words, since) for pattern, words, since in _SECTIONS)
"""Kinds of programs by the start of their section's name."""

CALLBACK_HELPERS = {
    "bpf_for_each_map_elem": "5.13", "bpf_timer_set_callback": "5.15", "bpf_find_vma": "5.17",
    "bpf_loop": "5.17", "bpf_user_ringbuf_drain": "6.1",
}  # fmt: skip
"""Helpers that call a function of the program."""


def release_number(release: str) -> tuple[int, int] | None:
    """The first two numbers of a release name, or None."""
    found = re.match(r"\D{0,20}(\d{1,3})\.(\d{1,4})", release)
    return (int(found[1]), int(found[2])) if found else None


def is_older(release: str, than: str) -> bool | None:
    """Whether a kernel is older than another; None where its release is not known."""
    have, need = release_number(release), release_number(than)
    return have < need if have is not None and need is not None else None


def helper_since(number: int) -> str:
    """The first release with a helper number, or empty for a number that none has."""
    numbers = [last for last, _ in _LAST_HELPER]
    at = bisect_left(numbers, number)
    return _LAST_HELPER[at][1] if number > 0 and at < len(numbers) else ""


def map_type_name(number: int) -> str:
    """``BPF_MAP_TYPE_HASH`` for 1."""
    return (
        f"BPF_MAP_TYPE_{MAP_TYPES[number][0].upper()}"
        if 0 < number < len(MAP_TYPES)
        else f"map type {number}"
    )


def program_kind(section: str) -> tuple[str, str]:
    """The kind of program in a section, and the first release that has it; empty where it is not known."""
    for pattern, words, since in SECTIONS:
        if pattern.match(section.lstrip("?")):
            return words, since
    return "", ""
