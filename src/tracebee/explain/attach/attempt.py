"""What was asked of the kernel, what it answered call by call, and on which machine."""

from __future__ import annotations

import errno as errno_numbers
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.explain.attach.machine import Machine
from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

ENOTSUPP = "ENOTSUPP"
"""524: no errno of the C library, but the kernel gives it away (include/linux/errno.h)."""


def errno_name(number: int) -> str:
    """2 → "ENOENT"."""
    if number == 524:
        return ENOTSUPP
    name = errno_numbers.errorcode.get(number, str(number))
    return "EOPNOTSUPP" if name in ("ENOTSUP", "EOPNOTSUPP") else name


class Call(NamedTuple):
    """A system call and its answer: `what` as ``bpf(BPF_PROG_LOAD)``, `errno` a name, "" if it went well."""

    what: str
    errno: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.errno or 'ok'}"


class MapRequest(NamedTuple):
    """Attributes of a map to be made; None where they are not known."""

    type: str
    number: int | None = None
    key_size: int | None = None
    value_size: int | None = None
    max_entries: int | None = None
    flags: int | None = None


class ProbeEvent(NamedTuple):
    """A line for kprobe_events or uprobe_events: ``p:group/name place arguments``."""

    is_return: bool
    group: str
    name: str
    place: str
    arguments: tuple[str, ...]


class Attempt(Frozen):
    """What was tried.

    `kind` is one of KINDS, or the caller's own words where none fits.  `targets` are the functions, for a
    tracepoint category and name, for a uprobe the path and the place, for a pin or a file its path.  `calls` are
    the system calls in order; there are none where nothing has been tried yet.
    """

    kind: str
    targets: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    machine: Machine = Machine()
    is_return: bool = False
    offset: int = 0
    address: int | None = None
    event: ProbeEvent | None = None
    map: MapRequest | None = None
    program_type: str = ""
    attach_type: str = ""
    helper: str = ""
    kernel_version: str = ""
    context_offset: int | None = None
    dmesg: tuple[str, ...] = ()
    error_log: str = ""
    verifier_log: str = ""
    loader_text: str = ""

    @property
    def target(self) -> str:
        return self.targets[0] if self.targets else ""

    @property
    def failed(self) -> Call | None:
        """The call that was refused: the last one, or the load before it where that failed.

        Who goes on after a refused load fails a second time, and says less.
        """
        bad = [call for call in self.calls if call.errno]
        loads = [call for call in bad if "PROG_LOAD" in call.what or "MAP_CREATE" in call.what]
        return loads[0] if loads else bad[-1] if bad else None

    @property
    def errno(self) -> str:
        """The name of the errno that was the refusal; "" where nothing was refused."""
        return self.failed.errno if self.failed is not None else ""

    @property
    def was_tried(self) -> bool:
        return bool(self.calls)

    @property
    def is_silent(self) -> bool:
        """Whether everything went well: then the question is why nothing fires."""
        return self.was_tried and self.failed is None

    @property
    def failed_at_load(self) -> bool:
        """Whether it ended at the load, or before it, as the loader looked for the target's type in BTF."""
        return self.failed is not None and (
            "PROG_LOAD" in self.failed.what or re.search(r"\bBTF\b(?!_LOAD)", self.failed.what) is not None
        )

    @property
    def failed_at_attach(self) -> bool:
        """Whether the program was taken and its link was not."""
        return self.failed is not None and any(
            word in self.failed.what for word in ("LINK_CREATE", "RAW_TRACEPOINT_OPEN", "SET_BPF", "attach")
        )

    def says(self, pattern: str) -> str:
        """What a regular expression finds in the texts of kernel and loader; "" if nothing."""
        for text in (self.error_log, *self.dmesg, self.verifier_log, self.loader_text):
            found = re.search(pattern, text, re.IGNORECASE)
            if found:
                return found[0]
        return ""


KINDS = {
    # By the words of the operation; the first that fits.
    "kprobe.session": r"k(ret)?probe.?session",
    "kprobe.multi": r"k(ret)?probe.?multi",
    "uprobe.multi": r"u(ret)?probe.?(multi|session)",
    "kprobe event": r"k(ret)?probe event|kprobe_events",
    "uprobe event": r"u(ret)?probe event|uprobe_events",
    "kprobe": r"\bk(ret)?probe|\bksyscall",
    "uprobe": r"\bu(ret)?probe",
    "usdt": r"\busdt",
    "tp_btf": r"\btp_btf|btf tracepoint",
    "raw tracepoint": r"\braw.?(tp|tracepoint)",
    "tracepoint": r"\btp\b|tracepoint",
    "fentry": r"\bfentry|\bkfunc\b",
    "fexit": r"\bfexit|\bkretfunc\b|\bfsession",
    "fmod_ret": r"\bfmod",
    "freplace": r"\bfreplace|\bext\b",
    "lsm": r"\blsm",
    "iter": r"\biter",
    "map": r"\bmap\b",
    "pin": r"\bpin",
    "file": r"read(ing)? a file|\bopen\b|\bread\b",
    "load": r"\bload",
}

TRAMPOLINES = ("fentry", "fexit", "fmod_ret", "freplace", "lsm", "tp_btf", "iter")
KPROBES = ("kprobe", "kprobe event", "kprobe.multi", "kprobe.session")
UPROBES = ("uprobe", "uprobe event", "uprobe.multi", "usdt")


def kind_of(operation: str) -> str:
    """The kind of an operation that somebody has described; its own words where none fits."""
    for kind, pattern in KINDS.items():
        if re.search(pattern, operation, re.IGNORECASE):
            return kind
    return operation


def parse_probe_event(line: str) -> ProbeEvent | None:
    """A line as kprobe_events and uprobe_events take it; None if it is none.

    ``p[:[GRP/]EVENT] PLACE [ARGS]`` and ``r[MAXACTIVE][:[GRP/]EVENT] PLACE [ARGS]``
    (Documentation/trace/kprobetrace.rst).
    """
    words = line.split()
    if len(words) < 2 or not re.match(r"[prft]\d*(:|$)", words[0]):
        return None
    head, _, name = words[0].partition(":")
    slash = "/" if "/" in name else "."
    group, found, event = name.partition(slash)
    if not found:
        group, event = "", name
    is_return = head[0] == "r" or words[1].endswith("%return")
    return ProbeEvent(is_return, group, event, words[1].removesuffix("%return"), tuple(words[2:]))


def parse_place(text: str) -> tuple[str, str, int]:
    """``module:symbol+offset`` → (module, symbol, offset); an address or path is returned as the symbol."""
    module, colon, rest = text.rpartition(":")
    if "/" in text:
        return "", text, 0
    symbol, plus, offset = rest.partition("+")
    value = parse_number(offset) if plus else 0
    return (module if colon else ""), symbol, value or 0


def parse_number(text: str) -> int | None:
    """A number as C writes it, or None."""
    text = text.strip()
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,16}|\d{1,19}", text):
        return int(text, 16) if text[:2] in ("0x", "0X") else int(text)
    return None


def make_attempt(operation: str, targets: tuple[str, ...], machine: Machine, **facts: Any) -> Attempt:
    """An attempt from the words of an operation and its targets: lines and offsets are taken apart."""
    kind = kind_of(operation)
    values: dict[str, Any] = dict(facts)
    is_return = bool(re.search(r"\b[ku]retprobe", operation))
    if kind in ("kprobe event", "uprobe event"):
        event = parse_probe_event(targets[0]) if targets else None
        if event is not None:
            _, symbol, offset = parse_place(event.place)
            if kind == "uprobe event":
                path, _, place = event.place.rpartition(":")
                targets = (path, place) if path else (event.place,)
            else:
                targets, values["offset"], values["address"] = (symbol,), offset, parse_number(symbol)
            values["event"], is_return = event, is_return or event.is_return
    elif kind == "kprobe" and targets:
        _, symbol, offset = parse_place(targets[0])
        if len(targets) > 1:
            offset = parse_number(targets[1]) or offset
        address = parse_number(symbol)
        values.setdefault("offset", offset)
        if address is not None or "address" in operation:
            values["address"] = address
        targets = (symbol,)
    elif kind == "tracepoint" and len(targets) == 1:
        separator = "/" if "/" in targets[0] else ":"
        targets = tuple(targets[0].split(separator, 1))
    elif kind in UPROBES and len(targets) == 1 and ":" in targets[0]:
        path, _, place = targets[0].rpartition(":")
        targets = (path, place)
    values["is_return"] = values.get("is_return", False) or is_return
    return Attempt(kind, targets, machine=machine, **values)


def first_text(values: Mapping[str, Any], *names: str) -> str:
    """The first of some entries that is text."""
    for name in names:
        value = values.get(name)
        if isinstance(value, str) and value:
            return value
    return ""
