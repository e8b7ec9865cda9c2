"""What the name of a program's section says: its type, and where it is to be attached (libbpf's conventions).

Each pattern is a record.  One that ends in "+" takes something behind a slash, or stands alone, which leaves
the place of attachment to be said elsewhere; any other has to be the whole name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import FormatError
from tracebee.object.elf import shown
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

if TYPE_CHECKING:
    from collections.abc import Callable

    Place = Callable[[str], Attach]


class Hook(NamedTuple):
    """A pattern of section names.

    `type` and `attach_type` are names of the uapi enums without prefix.  `place` makes the attachment out of
    what is behind the slash, where that says enough; it raises ValueError, with what it should look like, if
    it makes no sense.  With a `target` it is something in the kernel whose BTF id the load needs, under a name that
    `target` is the start of; for "freplace" it is in another program.  With `frags` packets may come in pieces.
    """

    pattern: str
    type: str
    attach_type: str = ""
    words: str = ""
    place: Place | None = None
    target: str | None = None
    sleepable: bool = False
    frags: bool = False


class Section(NamedTuple):
    """A section's name, understood.  `argument` is what is behind the pattern, `loads` false after a "?"."""

    hook: Hook
    argument: str
    attach: Attach | None
    loads: bool


def _tracepoint(text: str) -> Attach:
    category, slash, event = text.partition("/")
    if not slash or not category or not event:
        raise ValueError("category/event")
    return Tracepoint(category, event)


_FUNCTION = re.compile(r"([\w.$]+)(?:\+(0[xX][0-9a-fA-F]+|[0-9]+))?")


def _kprobe(returns: bool) -> Place:
    def place(text: str) -> Attach:
        match = _FUNCTION.fullmatch(text)
        if match is None:
            raise ValueError("function or function+offset")
        if returns and match[2]:
            raise ValueError("function, as a return has no offset")
        return Kprobe(match[1], int(match[2] or "0", 0), returns)

    return place


def _kprobes(returns: bool, session: bool = False) -> Place:
    def place(text: str) -> Attach:
        if not re.fullmatch(r"[\w.*?]+", text):
            raise ValueError("pattern of letters, digits and the signs _ . * ?")
        return KprobePattern(text, returns, session)

    return place


_UPROBE = re.compile(r"(.+):([\w.@$*?]+)(?:\+(0[xX][0-9a-fA-F]+|[0-9]+))?")


def _uprobe(returns: bool, many: bool = False, session: bool = False) -> Place:
    def place(text: str) -> Attach:
        match = _UPROBE.fullmatch(text)
        if match is None:
            raise ValueError("path:function or path:function+offset")
        return FunctionUprobe(match[1], match[2], int(match[3] or "0", 0), returns, many, session)

    return place


def _usdt(text: str) -> Attach:
    path, _, rest = text.partition(":")
    provider, _, name = rest.partition(":")
    if not path or not provider or not name:
        raise ValueError("path:provider:name")
    return UsdtProbe(path, provider, name)


def _system_call(returns: bool) -> Place:
    return lambda text: SystemCall(text, returns)


def _trampoline(text: str) -> Attach:
    return Trampoline()


_FUNCTIONS = "the start of a function of the kernel"
_RETURNS = "the return of a function of the kernel"
_USER = "the start of a function of a program"
_USER_RETURN = "the return of a function of a program"
_CLS = "packets, in traffic control"
_ADDRESS = "the addresses of sockets, in a control group"

HOOKS: tuple[Hook, ...] = (
    # --- tracing
    Hook("tracepoint+", "TRACEPOINT", "", "a tracepoint", _tracepoint),
    Hook("tp+", "TRACEPOINT", "", "a tracepoint", _tracepoint),
    Hook("raw_tracepoint+", "RAW_TRACEPOINT", "", "a tracepoint, as the kernel calls it", RawTracepoint),
    Hook("raw_tp+", "RAW_TRACEPOINT", "", "a tracepoint, as the kernel calls it", RawTracepoint),
    Hook(
        "raw_tracepoint.w+", "RAW_TRACEPOINT_WRITABLE", "", "a tracepoint with writable data", RawTracepoint
    ),
    Hook("raw_tp.w+", "RAW_TRACEPOINT_WRITABLE", "", "a tracepoint with writable data", RawTracepoint),
    Hook(
        "tp_btf+", "TRACING", "TRACE_RAW_TP", "a tracepoint with typed arguments", RawTracepoint, "btf_trace_"
    ),
    Hook("kprobe+", "KPROBE", "", _FUNCTIONS, _kprobe(False)),
    Hook("kretprobe+", "KPROBE", "", _RETURNS, _kprobe(True)),
    Hook("kprobe.multi+", "KPROBE", "TRACE_KPROBE_MULTI", "the starts of many functions", _kprobes(False)),
    Hook("kretprobe.multi+", "KPROBE", "TRACE_KPROBE_MULTI", "the returns of many functions", _kprobes(True)),
    Hook(
        "kprobe.session+",
        "KPROBE",
        "TRACE_KPROBE_SESSION",
        "starts and returns of many functions",
        _kprobes(False, True),
    ),
    Hook("ksyscall+", "KPROBE", "", "the kernel's function of a system call", _system_call(False)),
    Hook("kretsyscall+", "KPROBE", "", "the return of a system call's function", _system_call(True)),
    Hook("uprobe+", "KPROBE", "", _USER, _uprobe(False)),
    Hook("uprobe.s+", "KPROBE", "", _USER, _uprobe(False), sleepable=True),
    Hook("uretprobe+", "KPROBE", "", _USER_RETURN, _uprobe(True)),
    Hook("uretprobe.s+", "KPROBE", "", _USER_RETURN, _uprobe(True), sleepable=True),
    Hook("uprobe.multi+", "KPROBE", "TRACE_UPROBE_MULTI", _USER, _uprobe(False, True)),
    Hook("uprobe.multi.s+", "KPROBE", "TRACE_UPROBE_MULTI", _USER, _uprobe(False, True), sleepable=True),
    Hook("uretprobe.multi+", "KPROBE", "TRACE_UPROBE_MULTI", _USER_RETURN, _uprobe(True, True)),
    Hook(
        "uretprobe.multi.s+",
        "KPROBE",
        "TRACE_UPROBE_MULTI",
        _USER_RETURN,
        _uprobe(True, True),
        sleepable=True,
    ),
    Hook(
        "uprobe.session+",
        "KPROBE",
        "TRACE_UPROBE_SESSION",
        "starts and returns of functions of a program",
        _uprobe(False, True, True),
    ),
    Hook(
        "uprobe.session.s+",
        "KPROBE",
        "TRACE_UPROBE_SESSION",
        "starts and returns of functions of a program",
        _uprobe(False, True, True),
        sleepable=True,
    ),
    Hook("usdt+", "KPROBE", "", "a static probe of a program", _usdt),
    Hook("usdt.s+", "KPROBE", "", "a static probe of a program", _usdt, sleepable=True),
    Hook("fentry+", "TRACING", "TRACE_FENTRY", _FUNCTIONS, _trampoline, ""),
    Hook("fentry.s+", "TRACING", "TRACE_FENTRY", _FUNCTIONS, _trampoline, "", True),
    Hook("fexit+", "TRACING", "TRACE_FEXIT", _RETURNS, _trampoline, ""),
    Hook("fexit.s+", "TRACING", "TRACE_FEXIT", _RETURNS, _trampoline, "", True),
    Hook("fmod_ret+", "TRACING", "MODIFY_RETURN", "instead of a function's return value", _trampoline, ""),
    Hook("fmod_ret.s+", "TRACING", "MODIFY_RETURN", "instead of a return value", _trampoline, "", True),
    Hook("lsm+", "LSM", "LSM_MAC", "a security hook", _trampoline, "bpf_lsm_"),
    Hook("lsm.s+", "LSM", "LSM_MAC", "a security hook", _trampoline, "bpf_lsm_", True),
    Hook("lsm_cgroup+", "LSM", "LSM_CGROUP", "a security hook, in a control group", None, "bpf_lsm_"),
    Hook("iter+", "TRACING", "TRACE_ITER", "an iterator over objects of the kernel", Iterator, "bpf_iter_"),
    Hook(
        "iter.s+",
        "TRACING",
        "TRACE_ITER",
        "an iterator over objects of the kernel",
        Iterator,
        "bpf_iter_",
        True,
    ),
    Hook("freplace+", "EXT", "", "instead of a function of another program", _trampoline, ""),
    Hook("perf_event", "PERF_EVENT", "", "a counter of perf events"),
    Hook("syscall", "SYSCALL", "", "run on request", sleepable=True),
    Hook("struct_ops+", "STRUCT_OPS", "", "a function of a structure of the kernel"),
    Hook("struct_ops.s+", "STRUCT_OPS", "", "a function of a structure of the kernel", sleepable=True),
    # --- packets
    Hook("socket", "SOCKET_FILTER", "", "packets of a socket"),
    Hook("xdp", "XDP", "XDP", "packets of a network device, first of all"),
    Hook("xdp.frags", "XDP", "XDP", "packets of a network device, first of all", frags=True),
    Hook("xdp/devmap", "XDP", "XDP_DEVMAP", "packets on their way to another device"),
    Hook("xdp.frags/devmap", "XDP", "XDP_DEVMAP", "packets on their way to another device", frags=True),
    Hook("xdp/cpumap", "XDP", "XDP_CPUMAP", "packets on their way to another processor"),
    Hook("xdp.frags/cpumap", "XDP", "XDP_CPUMAP", "packets on their way to another processor", frags=True),
    Hook("tc", "SCHED_CLS", "", _CLS),
    Hook("tc/ingress", "SCHED_CLS", "TCX_INGRESS", _CLS),
    Hook("tc/egress", "SCHED_CLS", "TCX_EGRESS", _CLS),
    Hook("tcx/ingress", "SCHED_CLS", "TCX_INGRESS", _CLS),
    Hook("tcx/egress", "SCHED_CLS", "TCX_EGRESS", _CLS),
    Hook("netkit/primary", "SCHED_CLS", "NETKIT_PRIMARY", "packets of a netkit device"),
    Hook("netkit/peer", "SCHED_CLS", "NETKIT_PEER", "packets of a netkit device"),
    Hook("classifier", "SCHED_CLS", "", _CLS),
    Hook("action", "SCHED_ACT", "", _CLS),
    Hook("lwt_in", "LWT_IN", "", "packets of a route"),
    Hook("lwt_out", "LWT_OUT", "", "packets of a route"),
    Hook("lwt_xmit", "LWT_XMIT", "", "packets of a route"),
    Hook("lwt_seg6local", "LWT_SEG6LOCAL", "", "packets of a route"),
    Hook("netfilter", "NETFILTER", "NETFILTER", "packets in netfilter"),
    Hook("flow_dissector", "FLOW_DISSECTOR", "FLOW_DISSECTOR", "the headers of packets"),
    # --- sockets
    Hook("sk_reuseport", "SK_REUSEPORT", "SK_REUSEPORT_SELECT", "the choice of a listening socket"),
    Hook("sk_reuseport/migrate", "SK_REUSEPORT", "SK_REUSEPORT_SELECT_OR_MIGRATE", "the choice of a socket"),
    Hook("sk_lookup", "SK_LOOKUP", "SK_LOOKUP", "the choice of a socket"),
    Hook("sk_skb", "SK_SKB", "", "data of sockets in a map"),
    Hook("sk_skb/stream_parser", "SK_SKB", "SK_SKB_STREAM_PARSER", "data of sockets in a map"),
    Hook("sk_skb/stream_verdict", "SK_SKB", "SK_SKB_STREAM_VERDICT", "data of sockets in a map"),
    Hook("sk_skb/verdict", "SK_SKB", "SK_SKB_VERDICT", "data of sockets in a map"),
    Hook("sk_msg", "SK_MSG", "SK_MSG_VERDICT", "messages of sockets in a map"),
    Hook("sockops", "SOCK_OPS", "CGROUP_SOCK_OPS", "what TCP sockets do, in a control group"),
    Hook("lirc_mode2", "LIRC_MODE2", "LIRC_MODE2", "an infrared receiver"),
    # --- control groups
    Hook("cgroup_skb/ingress", "CGROUP_SKB", "CGROUP_INET_INGRESS", "packets, in a control group"),
    Hook("cgroup_skb/egress", "CGROUP_SKB", "CGROUP_INET_EGRESS", "packets, in a control group"),
    Hook("cgroup/skb", "CGROUP_SKB", "", "packets, in a control group"),
    Hook("cgroup/sock", "CGROUP_SOCK", "CGROUP_INET_SOCK_CREATE", "new sockets, in a control group"),
    Hook("cgroup/sock_create", "CGROUP_SOCK", "CGROUP_INET_SOCK_CREATE", "new sockets, in a control group"),
    Hook(
        "cgroup/sock_release", "CGROUP_SOCK", "CGROUP_INET_SOCK_RELEASE", "closed sockets, in a control group"
    ),
    Hook("cgroup/post_bind4", "CGROUP_SOCK", "CGROUP_INET4_POST_BIND", _ADDRESS),
    Hook("cgroup/post_bind6", "CGROUP_SOCK", "CGROUP_INET6_POST_BIND", _ADDRESS),
    *(
        Hook(f"cgroup/{call}{end}", "CGROUP_SOCK_ADDR", f"CGROUP_{family}_{call.upper()}", _ADDRESS)
        for call, protocol in (
            ("bind", "INET"),
            ("connect", "INET"),
            ("sendmsg", "UDP"),
            ("recvmsg", "UDP"),
            ("getpeername", "INET"),
            ("getsockname", "INET"),
        )
        for end, family in (("4", f"{protocol}4"), ("6", f"{protocol}6"), ("_unix", "UNIX"))
        if (call, end) != ("bind", "_unix")
    ),
    Hook("cgroup/sysctl", "CGROUP_SYSCTL", "CGROUP_SYSCTL", "settings of the kernel, in a control group"),
    Hook(
        "cgroup/getsockopt", "CGROUP_SOCKOPT", "CGROUP_GETSOCKOPT", "options of sockets, in a control group"
    ),
    Hook(
        "cgroup/setsockopt", "CGROUP_SOCKOPT", "CGROUP_SETSOCKOPT", "options of sockets, in a control group"
    ),
    Hook("cgroup/dev", "CGROUP_DEVICE", "CGROUP_DEVICE", "the use of devices, in a control group"),
)
"""libbpf's table of sections."""

_WHOLE = {hook.pattern: hook for hook in HOOKS if not hook.pattern.endswith("+")}
_OPEN = {hook.pattern[:-1]: hook for hook in HOOKS if hook.pattern.endswith("+")}


UNKNOWN = Section(Hook("", ""), "", None, False)
"""What a section says whose name fits no pattern, for whoever only looks."""


def read_section(name: str) -> Section:
    """What a section's name says.  Raises FormatError, with the nearest name as its hint."""
    loads = not name.startswith("?")
    rest = name.removeprefix("?")
    hook = _WHOLE.get(rest)
    if hook is not None:
        return Section(hook, "", None, loads)
    # Every place is behind the first slash; those of files and tracepoints have more.
    prefix, slash, argument = rest.partition("/")
    hook = _OPEN.get(prefix)
    if hook is None or (slash and not argument):
        raise unknown_section(name)
    attach = None
    if argument and hook.place is not None:
        try:
            attach = hook.place(argument)
        except ValueError as error:
            raise FormatError(f"section {shown(name)}: behind {prefix}/ there must be {error}") from None
    return Section(hook, argument, attach, loads)


def unknown_section(name: str) -> FormatError:
    """The refusal of a name that no pattern fits."""
    from difflib import get_close_matches

    error = FormatError(f"section {shown(name)} is no kind of program")
    prefix, slash, argument = name.partition("/")
    clean = "".join(character for character in prefix if character.isprintable())
    near = get_close_matches(clean, _OPEN if slash else [*_WHOLE, *_OPEN], 1, 0.6) or get_close_matches(
        name, _WHOLE, 1, 0.6
    )
    if near:
        whole = near[0] if near[0] in _WHOLE else near[0] + slash + argument
        error.hint = f"did you mean {shown(whole)}?"
    return error
