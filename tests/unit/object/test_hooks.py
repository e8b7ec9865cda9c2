"""What names of sections mean."""

from __future__ import annotations

import re

import pytest

from tracebee.errors import FormatError
from tracebee.object.hooks import HOOKS, read_section
from tracebee.spec.objects import (
    Attach,
    FunctionUprobe,
    Iterator,
    Kprobe,
    KprobePattern,
    RawTracepoint,
    SystemCall,
    Tracepoint,
    Trampoline,
    UsdtProbe,
)
from tracebee.syscalls import _uapi as uapi


@pytest.mark.parametrize(
    ("name", "type_", "attach_type", "attach"),
    [
        ("tracepoint/syscalls/sys_enter_read", "TRACEPOINT", "", Tracepoint("syscalls", "sys_enter_read")),
        ("tp/sched/sched_switch", "TRACEPOINT", "", Tracepoint("sched", "sched_switch")),
        ("raw_tp/sys_enter", "RAW_TRACEPOINT", "", RawTracepoint("sys_enter")),
        ("raw_tracepoint.w/x", "RAW_TRACEPOINT_WRITABLE", "", RawTracepoint("x")),
        ("tp_btf/sched_switch", "TRACING", "TRACE_RAW_TP", RawTracepoint("sched_switch")),
        ("kprobe/vfs_read", "KPROBE", "", Kprobe("vfs_read")),
        ("kprobe/vfs_read.isra.0+0x10", "KPROBE", "", Kprobe("vfs_read.isra.0", 16)),
        ("kretprobe/vfs_read", "KPROBE", "", Kprobe("vfs_read", 0, True)),
        ("kprobe.multi/vfs_*", "KPROBE", "TRACE_KPROBE_MULTI", KprobePattern("vfs_*")),
        ("kretprobe.multi/vfs_?ead", "KPROBE", "TRACE_KPROBE_MULTI", KprobePattern("vfs_?ead", True)),
        ("ksyscall/read", "KPROBE", "", SystemCall("read")),
        ("kretsyscall/read", "KPROBE", "", SystemCall("read", True)),
        ("uprobe//bin/bash:readline", "KPROBE", "", FunctionUprobe("/bin/bash", "readline")),
        ("uprobe/libc.so.6:malloc+12", "KPROBE", "", FunctionUprobe("libc.so.6", "malloc", 12)),
        ("uretprobe.s//a:b/c:f", "KPROBE", "", FunctionUprobe("/a:b/c", "f", 0, True)),
        ("uprobe.multi//a:f*", "KPROBE", "TRACE_UPROBE_MULTI", FunctionUprobe("/a", "f*", 0, False, True)),
        ("usdt/libc.so.6:libc:setjmp", "KPROBE", "", UsdtProbe("libc.so.6", "libc", "setjmp")),
        ("fentry/vfs_read", "TRACING", "TRACE_FENTRY", Trampoline()),
        ("iter/task", "TRACING", "TRACE_ITER", Iterator("task")),
        ("kprobe", "KPROBE", "", None),
        ("tracepoint", "TRACEPOINT", "", None),
        ("socket", "SOCKET_FILTER", "", None),
        ("xdp", "XDP", "XDP", None),
        ("xdp.frags/devmap", "XDP", "XDP_DEVMAP", None),
        ("tc", "SCHED_CLS", "", None),
        ("tc/ingress", "SCHED_CLS", "TCX_INGRESS", None),
        ("perf_event", "PERF_EVENT", "", None),
        ("struct_ops/name", "STRUCT_OPS", "", None),
        ("freplace/f", "EXT", "", Trampoline()),
        ("cgroup/connect_unix", "CGROUP_SOCK_ADDR", "CGROUP_UNIX_CONNECT", None),
        ("cgroup/bind6", "CGROUP_SOCK_ADDR", "CGROUP_INET6_BIND", None),
    ],
)
def test_sections(name: str, type_: str, attach_type: str, attach: Attach | None) -> None:
    section = read_section(name)
    assert (section.hook.type, section.hook.attach_type, section.attach) == (type_, attach_type, attach)
    assert section.loads
    assert read_section(f"?{name}") == section._replace(loads=False)


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.pattern)
def test_every_type_is_in_the_uapi(hook: object) -> None:
    from tracebee.object.hooks import Hook

    assert isinstance(hook, Hook)
    assert hook.type in uapi.BPF_PROG_TYPE
    assert not hook.attach_type or hook.attach_type in uapi.BPF_ATTACH_TYPE
    assert hook.words


def test_no_pattern_is_there_twice() -> None:
    patterns = [hook.pattern for hook in HOOKS]
    assert len(set(patterns)) == len(patterns)


@pytest.mark.parametrize(
    ("name", "target"),
    [("tp_btf/x", "btf_trace_x"), ("fexit/x", "x"), ("lsm/x", "bpf_lsm_x"), ("iter/x", "bpf_iter_x")],
)
def test_what_the_load_needs(name: str, target: str) -> None:
    section = read_section(name)
    assert section.hook.target is not None
    assert section.hook.target + section.argument == target


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("\\tracepoint/a/b", r"section '\\tracepoint/a/b' is no kind", "did you mean 'tracepoint/a/b'?"),
        ("\ttracepoint/a/b", r"section '\ttracepoint/a/b' is no kind", "did you mean 'tracepoint/a/b'?"),
        (
            "tracepоint/a/b",
            r"section 'trac\u0435p\u043eint/a/b' is no kind",
            "did you mean 'tracepoint/a/b'?",
        ),
        ("krpobe/f", "section 'krpobe/f' is no kind", "did you mean 'kprobe/f'?"),
        ("soket", "section 'soket' is no kind", "did you mean 'socket'?"),
        ("xdp/", "section 'xdp/' is no kind", "did you mean 'xdp'?"),
        ("xdp/mine", "section 'xdp/mine' is no kind", ""),
        ("something", "section 'something' is no kind", ""),
        ("", "section '' is no kind", ""),
        ("kprobe/", "section 'kprobe/' is no kind", ""),
        ("kprobe/a b", "behind kprobe/ there must be function or function+offset", ""),
        ("kretprobe/f+1", "as a return has no offset", ""),
        ("tracepoint/x", "behind tracepoint/ there must be category/event", ""),
        ("uprobe/nofunction", "behind uprobe/ there must be path:function", ""),
        ("usdt/a:b", "behind usdt/ there must be path:provider:name", ""),
        ("kprobe.multi/a b", "behind kprobe.multi/ there must be pattern", ""),
    ],
)
def test_names_that_mean_nothing(name: str, message: str, hint: str) -> None:
    name = name.replace("tracep", "trac\u0435p") if "\u043e" in name else name
    with pytest.raises(FormatError, match=re.escape(message)) as caught:
        read_section(name)
    if hint:
        assert caught.value.hint == hint
