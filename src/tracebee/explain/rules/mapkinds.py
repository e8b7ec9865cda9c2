"""Maps of a kind that the helper, the program or the access does not take."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.edits import map_type_edit
from tracebee.explain.rules.record import LIKELY, Finding, Rule, rule
from tracebee.explain.versions import map_type_name

if TYPE_CHECKING:
    from tracebee.explain.case import Case


def map_mismatch(case: Case, found: re.Match[str]) -> Finding | None:
    number, helper = int(found[1]), found[2]
    kind = map_type_name(number)
    name = ""
    for register in (1, 2):
        name = name or case.map_name(case.end, register)
    if not name and (place := case.place(case.end)) is not None:
        argument = re.search(
            rf"{re.escape(helper.removeprefix('bpf_'))}\w*\s*\((?:[^,]{{0,80}},)?\s*&(\w{{1,64}})", place.text
        )
        name = argument[1] if argument else ""
    wanted = {
        "bpf_get_stackid": "BPF_MAP_TYPE_STACK_TRACE",
        "bpf_perf_event_output": "BPF_MAP_TYPE_PERF_EVENT_ARRAY",
        "bpf_perf_event_read": "BPF_MAP_TYPE_PERF_EVENT_ARRAY",
        "bpf_perf_event_read_value": "BPF_MAP_TYPE_PERF_EVENT_ARRAY",
        "bpf_ringbuf_reserve": "BPF_MAP_TYPE_RINGBUF",
        "bpf_ringbuf_output": "BPF_MAP_TYPE_RINGBUF",
        "bpf_ringbuf_query": "BPF_MAP_TYPE_RINGBUF",
        "bpf_tail_call": "BPF_MAP_TYPE_PROG_ARRAY",
        "bpf_redirect_map": "BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_CPUMAP or BPF_MAP_TYPE_XSKMAP",
        "bpf_sk_storage_get": "BPF_MAP_TYPE_SK_STORAGE",
        "bpf_task_storage_get": "BPF_MAP_TYPE_TASK_STORAGE",
        "bpf_inode_storage_get": "BPF_MAP_TYPE_INODE_STORAGE",
        "bpf_cgrp_storage_get": "BPF_MAP_TYPE_CGRP_STORAGE",
        "bpf_map_push_elem": "BPF_MAP_TYPE_QUEUE or BPF_MAP_TYPE_STACK",
        "bpf_map_pop_elem": "BPF_MAP_TYPE_QUEUE or BPF_MAP_TYPE_STACK",
        "bpf_map_peek_elem": "BPF_MAP_TYPE_QUEUE or BPF_MAP_TYPE_STACK",
        "bpf_sk_redirect_map": "BPF_MAP_TYPE_SOCKMAP",
        "bpf_msg_redirect_map": "BPF_MAP_TYPE_SOCKMAP",
        "bpf_sk_redirect_hash": "BPF_MAP_TYPE_SOCKHASH",
        "bpf_current_task_under_cgroup": "BPF_MAP_TYPE_CGROUP_ARRAY",
        "bpf_skb_under_cgroup": "BPF_MAP_TYPE_CGROUP_ARRAY",
        "bpf_get_local_storage": "BPF_MAP_TYPE_CGROUP_STORAGE",
        "bpf_for_each_map_elem": "a hash or array map",
        "bpf_user_ringbuf_drain": "BPF_MAP_TYPE_USER_RINGBUF",
        "bpf_sk_select_reuseport": "BPF_MAP_TYPE_REUSEPORT_SOCKARRAY",
        "bpf_map_lookup_percpu_elem": "a per-CPU hash or array map",
    }.get(helper, "another type")
    edit = map_type_edit(case.source, name, wanted)
    fix = case.source.search(rf"\}}\s*{re.escape(name)}\s+SEC") if case.source is not None and name else None
    return Finding(
        "tail-call" if helper == "bpf_tail_call" else "map-helper-mismatch",
        f"{helper} does not work on {'map ' + name if name else 'this map'}, which is of type {kind}: it "
        f"needs {wanted} (map type mismatch).",
        f"declare the map with the type that {helper} takes ({wanted}), or use the helper that fits a "
        f"{kind.removeprefix('BPF_MAP_TYPE_').lower()} map",
        fix=(fix, case.place(case.end)),
        others=("map-helper-mismatch", "tail-call") if helper == "bpf_tail_call" else (),
        edit=edit,
    )


def other_map(case: Case, found: re.Match[str]) -> Finding | None:
    return Finding(
        "map-helper-mismatch",
        f"This map's type does not allow how the program uses it: {found[0][:140]}.",
        "use a map of another type (a plain hash or array map), preallocated where the message asks for it",
        LIKELY,
        False,
    )


RULES: tuple[Rule, ...] = (
    rule(
        "map-helper-mismatch",
        r"cannot pass map_type (\d{1,4}) into func (\w{1,100})#",
        map_mismatch,
        "4.15..7.3",
    ),
    rule(
        "map-helper-mismatch",
        r".*programs? can only use preallocated hash map.*|trace type programs with run-time allocated.*|no "
        r"direct value "
        r"access support for this map type.*|map_ptr access not supported for map type.*|only one cgroup "
        r"storage of each type.*|direct value "
        r"offset of \d+ is not allowed|.*has incorrect map type.*|get_local_storage\(\) doesn't support.*",
        other_map,
        "4.15..7.3",
    ),
)
