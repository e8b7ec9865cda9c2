"""What a program can be attached to, where its section does not say it: by its type, from a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import UsageError
from tracebee.spec.objects import (
    Attach,
    Cgroup,
    Lirc,
    Netfilter,
    Netkit,
    NetworkNamespace,
    PerfEvent,
    SocketFilter,
    SockMap,
    Tcx,
    Trampoline,
    Xdp,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.object.hooks import Hook

PERF_TYPE_SOFTWARE = 1
PERF_COUNT_SW_CPU_CLOCK = 0


class Kind(NamedTuple):
    """What programs of a type are attached to: `words` for people, `example` of a target, what makes the place."""

    words: str
    example: str
    place: Callable[[str, Hook], Attach]


def _perf_event(text: str, hook: Hook) -> Attach:
    kind, _, number = text.partition(":")
    if kind == "hz" and number.isdecimal() and int(number):
        return PerfEvent(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, 0, int(number))
    parts = text.split(":")
    if len(parts) == 3 and all(part.isdecimal() for part in parts) and int(parts[2]):
        return PerfEvent(int(parts[0]), int(parts[1]), int(parts[2]))
    raise ValueError("hz:FREQUENCY, or TYPE:CONFIG:PERIOD in the numbers of perf_event_open(2)")


def _netfilter(text: str, hook: Hook) -> Attach:
    family, _, rest = text.partition(":")
    where, _, priority = rest.partition(":")
    try:
        return Netfilter(family, where, int(priority or "0"))
    except ValueError:
        raise ValueError("FAMILY:HOOK:PRIORITY, such as ipv4:input:0") from None


def _socket(text: str, hook: Hook) -> Attach:
    if not text.isdecimal():
        raise ValueError("the descriptor of a socket, a number")
    return SocketFilter(int(text))


_CGROUP = Kind("a control group", "/sys/fs/cgroup/NAME", lambda text, hook: Cgroup(text))
_SOCKMAP = Kind("a map of sockets of the object", "MAP", lambda text, hook: SockMap(text))
_SOCKET = Kind("a socket, by its descriptor", "", _socket)
_NAMESPACE = Kind("a network namespace", "/proc/PID/ns/net", lambda text, hook: NetworkNamespace(text))

KINDS: dict[str, Kind] = {
    "XDP": Kind("a network interface", "eth0", lambda text, hook: Xdp(*text.partition(":")[::2])),
    "SCHED_CLS": Kind(
        "a network interface",
        "eth0",
        lambda text, hook: (
            Netkit(text)
            if hook.attach_type.startswith("NETKIT")
            else Tcx(text, hook.attach_type == "TCX_EGRESS")
        ),
    ),
    "CGROUP_SKB": _CGROUP,
    "CGROUP_SOCK": _CGROUP,
    "CGROUP_SOCK_ADDR": _CGROUP,
    "CGROUP_SOCKOPT": _CGROUP,
    "CGROUP_SYSCTL": _CGROUP,
    "CGROUP_DEVICE": _CGROUP,
    "SOCK_OPS": _CGROUP,
    "SK_SKB": _SOCKMAP,
    "SK_MSG": _SOCKMAP,
    "SOCKET_FILTER": _SOCKET,
    "SK_REUSEPORT": _SOCKET,
    "SK_LOOKUP": _NAMESPACE,
    "FLOW_DISSECTOR": _NAMESPACE,
    "NETFILTER": Kind("a hook of netfilter", "ipv4:input:0", _netfilter),
    "LIRC_MODE2": Kind("an infrared receiver", "/dev/lirc0", lambda text, hook: Lirc(text)),
    "PERF_EVENT": Kind("a counter", "hz:99", _perf_event),
}
"""By the type of the program.  Those of tracing write the same as behind the slash of their sections."""

_WRITTEN = {
    "tracepoint": "CATEGORY/EVENT",
    "tp": "CATEGORY/EVENT",
    "raw_tp": "EVENT",
    "raw_tracepoint": "EVENT",
    "kprobe": "FUNCTION",
    "kretprobe": "FUNCTION",
    "kprobe.multi": "PATTERN",
    "kretprobe.multi": "PATTERN",
    "ksyscall": "CALL",
    "kretsyscall": "CALL",
    "uprobe": "PATH:FUNCTION",
    "uretprobe": "PATH:FUNCTION",
    "usdt": "PATH:PROVIDER:NAME",
    "iter": "KIND",
}


def how_to_attach(hook: Hook) -> tuple[str, str]:
    """What a program can be attached to, and an example; both are empty where there is nothing.

    There is no example of what only a program can have, such as a descriptor.
    """
    kind = _kind(hook)
    if kind is not None:
        return kind.words, kind.example
    if hook.place is not None:
        pattern = hook.pattern.removesuffix("+")
        name = pattern.removesuffix(".s").removesuffix(".w")
        return hook.words, _WRITTEN.get(name, "")
    return "", ""


def _kind(hook: Hook) -> Kind | None:
    return _CGROUP if hook.attach_type == "LSM_CGROUP" else KINDS.get(hook.type)


def read_target(target: str, hook: Hook, program: str) -> Attach:
    """The place that a few words mean.  Raises UsageError with what they should be."""
    kind = _kind(hook)
    make = kind.place if kind is not None else None
    try:
        if make is not None:
            return make(target, hook)
        if hook.place is not None and hook.target is None:
            return hook.place(target)
    except ValueError as error:
        raise UsageError(f"{program}: {target!r} is no target for {hook.words}", f"write {error}") from None
    if hook.place is not None:
        place = hook.place(target)
        if not isinstance(place, Trampoline):
            return place
        raise UsageError(
            f"{program}: what a program of {hook.pattern} is for is said when it is loaded",
            f'write it in the section: SEC("{hook.pattern.removesuffix("+")}/{target}")',
        )
    raise UsageError(
        f"{program}: there is nothing that programs of {hook.pattern} could be attached to by name"
    )
