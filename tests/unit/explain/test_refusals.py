"""Programs that kernels 5.10, 6.1, 6.12, 6.18 and 7.2 refused.

The programs were written for these tests, compiled by clang 14 and loaded as root, those called u_... without any
capability.  tests/data/refusals.jsonl has each with its source, its cause, the line where newer kernels say that they
stopped, and the logs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tracebee.explain.causes import CAUSES
from tracebee.explain.chooser import explain_text
from tracebee.explain.explanation import MAIN_PART
from tracebee.explain.facts import Facts, Source
from tracebee.explain.versions import release_number

DATA = Path(__file__).parents[2] / "data" / "refusals.jsonl"
PROGRAMS: list[dict[str, Any]] = [json.loads(line) for line in DATA.read_text().splitlines()]
CASES = [
    pytest.param(program, refusal, id=f"{program['name']}-{refusal['kernel'].partition('-')[0]}")
    for program in PROGRAMS
    for refusal in program["refusals"]
]

TOO_OLD = {
    "cb_each", "cb_ret", "dyn_read_uninit", "dynptr_after", "dynptr_leak", "dynptr_mem", "fmt", "fmt_nonconst",
    "helper_new", "loop_cb", "timer_kp", "timer_map",
}  # fmt: skip
"""What 5.10 has no helpers for, so that it is that which it refuses."""

NAMES = {
    "null_inverted": ["`e`", "bpf_map_lookup_elem"],
    "null_memset": ["`e`", "bpf_ringbuf_reserve", "bpf_get_current_comm"],
    "null_sock": ["`s`", "bpf_sk_lookup_tcp"],
    "deref_task": ["bpf_get_current_task", "BPF_CORE_READ"],
    "deref_probe_read_chain": ["bpf_probe_read_kernel"],
    "oob_struct": ["4 bytes", "map value"],
    "pkt_stale_xdp": ["bpf_xdp_adjust_head"],
    "pkt_stale_store": ["bpf_skb_store_bytes"],
    "uar_discard": ["`e`", "bpf_ringbuf_discard"],
    "uar_twice": ["bpf_ringbuf_submit"],
    "leak_early": ["bpf_ringbuf_reserve", "bpf_ringbuf_submit"],
    "idx_le": ["`i`", "i >= 16"],
    "map_mis": ["BPF_MAP_TYPE_PERF_EVENT_ARRAY", "BPF_MAP_TYPE_HASH"],
    "tail_arr": ["jmp", "BPF_MAP_TYPE_PROG_ARRAY"],
    "kf_leak": ["bpf_task_from_pid", "bpf_task_release"],
    "iter_nodestroy": ["bpf_iter_num_destroy"],
    "nogpl": ["MIT", "bpf_probe_read_kernel"],
    "recur": ["fib()"],
}
"""What an explanation has to name: variables, helpers, maps, functions, sizes."""


def facts_of(program: dict[str, Any], refusal: dict[str, Any]) -> Facts:
    return Facts(
        errno=refusal["errno"],
        release=refusal["kernel"],
        section=program["section"],
        license=program["license"],
        privileges=program.get("privileges", "root"),
        source=Source.of("prog.bpf.c", program["source"]),
    )


def is_too_old(program: dict[str, Any], refusal: dict[str, Any]) -> bool:
    return program["name"] in TOO_OLD and (release_number(refusal["kernel"]) or (9, 9)) < (5, 11)


@pytest.mark.parametrize(("program", "refusal"), CASES)
def test_the_cause_and_the_line(program: dict[str, Any], refusal: dict[str, Any]) -> None:
    told = explain_text(refusal["log"], facts_of(program, refusal))
    old = is_too_old(program, refusal)
    assert told.cause == ("helper-too-new" if old else program["cause"])
    assert told.cause in CAUSES
    assert len(told.main_text()) <= MAIN_PART
    if program["line"] and told.stop is not None and not old:
        assert told.stop.line == program["line"]
    if not old:
        for name in NAMES.get(program["name"], ()):
            assert name in told.main_text()


@pytest.mark.parametrize(("program", "refusal"), CASES)
def test_nothing_but_the_log_is_no_reason_to_be_wrong(
    program: dict[str, Any], refusal: dict[str, Any]
) -> None:
    told = explain_text(refusal["log"])
    if not refusal["log"]:
        assert not told.cause
        return
    assert told.cause == program["cause"] or not told.sure or is_too_old(program, refusal)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program["name"])
def test_an_edit_changes_the_line_that_it_says(program: dict[str, Any]) -> None:
    for refusal in program["refusals"]:
        told = explain_text(refusal["log"], facts_of(program, refusal))
        if told.edit is None:
            continue
        lines = program["source"].splitlines()
        start = told.edit.line - 1
        assert tuple(lines[start : start + len(told.edit.old)]) == told.edit.old
        assert told.edit.new != told.edit.old
        assert told.edit.new


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("null_percpu", ("\tif (!v)", "\t\treturn 0;", "\t__sync_fetch_and_add(v, x);")),
        ("idx_le", ("\tif (i >= 16)", "\t\treturn 0;", "\treturn ((volatile int *)arr)[i];")),
        ("nogpl", ('char LICENSE[] SEC("license") = "GPL";',)),
        ("perf_uninit", ("\tstruct k k = {};",)),
    ],
)
def test_edits_that_kernels_have_accepted(name: str, change: tuple[str, ...]) -> None:
    """Each was applied, compiled and loaded on Linux 6.18 when this test was written."""
    (program,) = [one for one in PROGRAMS if one["name"] == name]
    edits = [explain_text(one["log"], facts_of(program, one)).edit for one in program["refusals"]]
    assert edits
    assert all(edit is not None and edit.new == change for edit in edits)
