"""The helper table."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tracebee.errors import UsageError
from tracebee.insn.helpers import HelperArg, describe, helper_id, helper_name, helper_names

# Numbers that have been fixed since each helper was added.
KNOWN = {
    "bpf_map_lookup_elem": 1,
    "bpf_ktime_get_ns": 5,
    "bpf_get_current_pid_tgid": 14,
    "bpf_perf_event_output": 25,
    "bpf_probe_read_user_str": 114,
    "bpf_ringbuf_reserve": 131,
    "bpf_loop": 181,
    "bpf_cgrp_storage_delete": 211,
}


@pytest.mark.parametrize(("name", "number"), KNOWN.items())
def test_names_and_numbers(name: str, number: int) -> None:
    assert helper_id(name) == number
    assert helper_id(name.removeprefix("bpf_")) == number
    assert helper_name(number) == name


def test_unknown_helpers() -> None:
    assert helper_name(0) is None
    assert helper_name(-1) is None
    assert helper_name(1 << 31) is None
    for name in ("bpf_unspec", "unspec", "", "bpf_bpf_loop"):
        with pytest.raises(UsageError):
            helper_id(name)
    with pytest.raises(UsageError, match="'bpf_map_lookup_elm'") as caught:
        helper_id("bpf_map_lookup_elm")
    assert caught.value.hint == "did you mean bpf_map_lookup_elem?"


def test_a_prototype() -> None:
    proto = describe("bpf_perf_event_output")
    assert (proto.id, proto.short, proto.name) == (25, "perf_event_output", "bpf_perf_event_output")
    assert proto.signature == (
        "long bpf_perf_event_output(void *ctx, struct bpf_map *map, u64 flags, void *data, u64 size)"
    )
    assert [arg.kind for arg in proto.args] == ["ctx", "map", "scalar", "mem", "size"]
    assert not proto.variadic


def test_a_variadic_prototype() -> None:
    proto = describe("trace_printk")
    assert proto.args == (HelperArg("mem", "fmt", "const char *"), HelperArg("size", "fmt_size", "u32"))
    assert proto.variadic
    assert proto.signature == "long bpf_trace_printk(const char *fmt, u32 fmt_size, ...)"
    assert describe("ktime_get_ns").signature == "u64 bpf_ktime_get_ns(void)"


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("map_update_elem", ["map", "key", "value", "scalar"]),
        ("probe_read_kernel", ["mem", "size", "address"]),
        ("probe_write_user", ["address", "mem", "size"]),
        ("ringbuf_submit", ["record", "scalar"]),
        ("ringbuf_output", ["map", "mem", "size", "scalar"]),
        ("timer_set_callback", ["timer", "func"]),
        ("for_each_map_elem", ["map", "func", "pointer", "scalar"]),
        ("snprintf", ["mem", "size", "string", "mem", "size"]),
        ("strtol", ["mem", "size", "scalar", "number"]),
        ("skb_pull_data", ["ctx", "scalar"]),
        ("dynptr_write", ["dynptr", "scalar", "mem", "size", "scalar"]),
    ],
)
def test_kinds_of_arguments(name: str, kinds: list[str]) -> None:
    assert [arg.kind for arg in describe(name).args] == kinds


def test_every_helper_is_described() -> None:
    names = helper_names()
    assert len(names) == 211
    for name in names:
        proto = describe(name)
        assert len(proto.args) <= 5
        assert proto.summary.endswith((".", "?")), name
        assert all((arg.kind == "size") <= (before.kind == "mem") for before, arg in pairwise(proto.args)), (
            name
        )
