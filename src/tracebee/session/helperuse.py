"""Which programs may call a helper on this kernel: asked with programs of two instructions that are gone at once."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from tracebee.explain.helperuse import bound, instead_of
from tracebee.explain.versions import helper_since, is_older
from tracebee.insn import Builder, encode
from tracebee.insn.helpers import PREFIX, describe, helper_id
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracebee.session.machine import LiveMachine

YES, NO, UNKNOWN, NONE = "yes", "no", "unknown", "no such programs"

BPF_F_SLEEPABLE = 1 << 4
LOG = 1 << 14

REFUSALS = (
    *("invalid func ", "unknown func ", "cannot use helper", "not allowed in probe"),
    *("might sleep in a non-sleepable", "sleepable helper"),
)
"""What the verifier says of a call that programs of a type may not make, 4.15 to 7.3."""


class Way(NamedTuple):
    """A kind of program, by the uapi's names; `target` is a function or type of the kernel that it is loaded for."""

    type: str
    attach: str = ""
    target: str = ""
    sleepable: bool = False


WAYS = {
    "kprobe": Way("KPROBE"),
    "uprobe (sleepable)": Way("KPROBE", sleepable=True),
    "tracepoint": Way("TRACEPOINT"),
    "rawtracepoint": Way("RAW_TRACEPOINT"),
    "tp_btf": Way("TRACING", "TRACE_RAW_TP", "btf_trace_sched_switch"),
    "fentry": Way("TRACING", "TRACE_FENTRY", "vfs_read"),
    "fexit": Way("TRACING", "TRACE_FEXIT", "vfs_read"),
    "iter": Way("TRACING", "TRACE_ITER", "bpf_iter_task"),
    "lsm": Way("LSM", "LSM_MAC", "bpf_lsm_file_open"),
    "lsm (sleepable)": Way("LSM", "LSM_MAC", "bpf_lsm_file_open", sleepable=True),
    "perf_event": Way("PERF_EVENT"),
    "tc": Way("SCHED_CLS"),
    "xdp": Way("XDP"),
    "socket_filter": Way("SOCKET_FILTER"),
    "cgroup_skb": Way("CGROUP_SKB", "CGROUP_INET_INGRESS"),
    "cgroup_sock_addr": Way("CGROUP_SOCK_ADDR", "CGROUP_INET4_CONNECT"),
    "sock_ops": Way("SOCK_OPS", "CGROUP_SOCK_OPS"),
    "sk_msg": Way("SK_MSG"),
    "sk_skb": Way("SK_SKB"),
    "sk_lookup": Way("SK_LOOKUP", "SK_LOOKUP"),
    "syscall": Way("SYSCALL", sleepable=True),
}
"""Kinds of programs as sections and scripts call them."""

OF_PROBE = {
    "kprobe": ("kprobe",),
    "kprobe.multi": ("kprobe",),
    "uprobe": ("kprobe", "uprobe (sleepable)"),
    "usdt": ("kprobe", "uprobe (sleepable)"),
    "tracepoint": ("tracepoint",),
    "raw tracepoint": ("rawtracepoint",),
    "tp_btf": ("tp_btf",),
    "fentry": ("fentry",),
    "fexit": ("fexit",),
    "fmod_ret": ("fentry",),
    "lsm": ("lsm", "lsm (sleepable)"),
    "iter": ("iter",),
}
"""The kinds of programs that can be at a kind of probe."""

ALLOWED_TARGET = {"d_path": "vfs_getattr"}
"""A function that a helper may be called from, where it is not from all."""


class HelperAnswer(NamedTuple):
    """What is known of a helper.

    `ways` has "yes", "no", "unknown" (the kernel would not be asked) or "no such programs" for each kind of
    program; `asked` are the kinds that the question was about, or empty for all.  `needs_gpl` is None where that
    could not be asked, `older` whether the kernel is of before the helper.
    """

    name: str
    signature: str
    since: str
    needs_gpl: bool | None
    older: bool
    ways: Mapping[str, str]
    asked: tuple[str, ...]
    bound: str
    instead: str

    @property
    def verdict(self) -> str:
        """ "yes" if one of the kinds asked for may call it, "no", or "unknown" where none could be asked."""
        answers = {self.ways[kind] for kind in self.asked or self.ways}
        if YES in answers:
            return YES
        return UNKNOWN if UNKNOWN in answers and NO not in answers else NO


def is_helper(word: str) -> bool:
    """Whether a word of a command line is about a helper: ``helper:NAME``, or the full name of one."""
    from tracebee.errors import UsageError

    if word.startswith("helper:"):
        return True
    try:
        return word.startswith(PREFIX) and bool(helper_id(word))
    except UsageError:
        return False


def about_helper(word: str, live: LiveMachine, probes: Sequence[tuple[str, str]] = ()) -> HelperAnswer:
    """Who may call a helper; `probes` are kinds and places that it is asked for.  UsageError for what is none."""
    proto = describe(word.removeprefix("helper:").strip())
    asked: dict[str, str] = {}
    for kind, place in probes:
        for one in OF_PROBE.get(kind, ()):
            asked.setdefault(one, place)
    ways = {}
    gpl = None
    for kind, way in WAYS.items():
        target = asked.get(kind, "") if kind in ("fentry", "fexit") else ""
        ways[kind] = _ask(way, proto.short, live, target)
        if gpl is None and ways[kind] == YES:
            gpl = "GPL" in _log(way, proto.short, live, target, license="Proprietary")[1]
    since = helper_since(proto.id)
    older = bool(since) and YES not in ways.values() and is_older(os.uname().release, since) is True
    return HelperAnswer(
        proto.name,
        proto.signature,
        since,
        gpl,
        older,
        ways,
        tuple(kind for kind in WAYS if kind in asked),
        bound(proto.short),
        instead_of(proto.short),
    )


def _ask(way: Way, helper: str, live: LiveMachine, target: str = "") -> str:
    """Whether programs of a kind may call a helper."""
    refused, log = _log(way, helper, live, target)
    if not refused:
        return YES
    if log:
        return NO if any(words in log for words in REFUSALS) else YES
    if refused in (errno.EPERM, errno.EACCES):
        from tracebee.kernel.permission import missing_right

        return UNKNOWN if missing_right("loading BPF programs") is not None else NONE
    return NONE


def _log(way: Way, helper: str, live: LiveMachine, target: str = "", license: str = "GPL") -> tuple[int, str]:
    """The errno and the log of a program that calls a helper with nothing; 0 if it was taken."""
    type_id = 0
    if way.target:
        found = _type_id(live, target or ALLOWED_TARGET.get(helper, "") * way.attach.startswith("TRACE_F"))
        type_id = found or _type_id(live, way.target)
        if not type_id:
            return errno.ENOENT, ""
    builder = Builder()
    builder.call(helper_id(helper))
    builder.mov_imm(0, 0)
    builder.exit()
    try:
        fd, _ = bpf.prog_load(
            way.type,
            encode(builder.finish()),
            license=license,
            expected_attach_type=way.attach,
            attach_btf_id=type_id,
            flags=BPF_F_SLEEPABLE if way.sleepable else 0,
            log_level=1,
            log_size=LOG,
        )
    except bpf.LoadRefused as refused:
        return refused.errno or errno.EINVAL, refused.log
    os.close(fd)
    return 0, ""


def _type_id(live: LiveMachine, name: str) -> int:
    from tracebee.btf.types import Func, Typedef

    btf = live.btf()
    if btf is None or not name:
        return 0
    return btf.find(name, Typedef if name.startswith("btf_trace_") else Func) or 0
