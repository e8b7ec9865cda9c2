"""Whether a probe can be put on a place here, and what works in its place: by facts, nothing is attached."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import PermissionRefused, UsageError
from tracebee.explain.attach import names as tables
from tracebee.explain.attach.attempt import Attempt, parse_number, parse_place
from tracebee.explain.attach.diagnose import obstacles
from tracebee.explain.attach.machine import BLACKLIST, KALLSYMS, TRACEABLE
from tracebee.explain.attach.neighbours import around
from tracebee.session.described import describe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.explain.attach.machine import Machine
    from tracebee.explain.explanation import Explanation
    from tracebee.session.machine import LiveFile, LiveMachine

WAYS = {
    # How probes are written, short and long → the kind of attempt, and whether it is about returns.
    "kprobe": ("kprobe", False),
    "k": ("kprobe", False),
    "kretprobe": ("kprobe", True),
    "kr": ("kprobe", True),
    "kprobe.multi": ("kprobe.multi", False),
    "kprobe_multi": ("kprobe.multi", False),
    "fentry": ("fentry", False),
    "f": ("fentry", False),
    "kfunc": ("fentry", False),
    "fexit": ("fexit", True),
    "fr": ("fexit", True),
    "kretfunc": ("fexit", True),
    "fmod_ret": ("fmod_ret", True),
    "lsm": ("lsm", False),
    "tracepoint": ("tracepoint", False),
    "t": ("tracepoint", False),
    "rawtracepoint": ("raw tracepoint", False),
    "rt": ("raw tracepoint", False),
    "raw_tp": ("raw tracepoint", False),
    "tp_btf": ("tp_btf", False),
    "uprobe": ("uprobe", False),
    "u": ("uprobe", False),
    "uretprobe": ("uprobe", True),
    "ur": ("uprobe", True),
    "usdt": ("usdt", False),
    "U": ("usdt", False),
    "iter": ("iter", False),
    "it": ("iter", False),
}

PLACELESS = (
    *("begin", "end", "self", "bench", "test", "interval", "i", "profile", "p"),
    *("software", "s", "hardware", "h", "watchpoint", "w", "asyncwatchpoint", "aw"),
)
"""Kinds of probes that are on no function or event."""

RIGHTS = ("no-capability", "user-namespace", "perf-paranoid", "seccomp", "lockdown", "tracefs-permission")
"""Causes that say nothing about the place: with other rights it may well be one."""

NAME_CAUSES = (
    *(
        "syscall-renamed",
        "suffixed-variant",
        "inlined-or-missing",
        "renamed-function",
        "misspelt",
        "not-a-function",
    ),
    *("module-not-loaded", "ambiguous-symbol", "init-function", "blacklisted", "notrace", "bad-offset"),
)
"""Causes that are about the function, not about the machine."""

LISTS = (
    KALLSYMS,
    TRACEABLE,
    BLACKLIST,
    "tracefs",
    "the list of tracepoints (tracefs)",
    "the kernel's configuration",
)

TRIED = ("kprobe", "fentry", "kprobe_multi", "uprobe")
MOST = 6
"""So many other hooks are named."""


class Answer(NamedTuple):
    """`probe` as it was asked for; what is in the way, the first the most certain; and what works in its place.

    `unreadable` are lists that could not be read, each with the reason: without them an answer is not certain.
    `only_rights` says that nothing but rights is in the way.
    """

    probe: str
    obstacles: tuple[Explanation, ...]
    instead: tuple[str, ...]
    unreadable: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """ "yes", "no", or "unknown" where what is in the way is not certain, or lists are missing."""
        if any(obstacle.sure for obstacle in self.obstacles):
            return "no"
        return "unknown" if self.obstacles or self.unreadable else "yes"

    @property
    def only_rights(self) -> bool:
        return bool(self.obstacles) and all(obstacle.cause in RIGHTS for obstacle in self.obstacles)


class Place(NamedTuple):
    """A probe taken apart: the kind of attempt, its targets, and where in a function it is."""

    kind: str
    targets: tuple[str, ...]
    is_return: bool = False
    offset: int = 0


def parse_probe(text: str) -> Place:
    """``kind:place``, a function's plain name, ``category:event`` or ``path:function``.  Raises UsageError."""
    kind, colon, rest = text.strip().partition(":")
    if not kind:
        raise UsageError("why: no probe was named", "tracebee why kprobe:vfs_read")
    if not colon:
        if "/" in text:
            return Place("uprobe", (text,))
        return Place("kprobe", (text.strip(),))
    if kind.casefold() in PLACELESS:
        raise UsageError(
            f"why: {text}: such a probe is at no function or event",
            "tracebee doctor tells whether that kind works here",
        )
    if kind not in WAYS:
        if "/" in kind:
            return Place("uprobe", (kind, rest))
        if re.fullmatch(r"[a-z_0-9]+", kind) and re.fullmatch(r"\w+", rest):
            return Place("tracepoint", (kind, rest))
        raise UsageError(
            f"why: {text}: no kind of probe that can be looked into", f"kinds: {', '.join(WAYS)}"
        )
    if not rest:
        raise UsageError(f"why: {text}: the place is missing", f"tracebee why {kind}:PLACE")
    way, is_return = WAYS[kind]
    if way == "tracepoint":
        category, _, event = rest.partition(":")
        return Place(way, (category, event))
    if way in ("uprobe", "usdt"):
        path, _, function = rest.partition(":")
        return Place(way, (path, function))
    if way in ("raw tracepoint", "tp_btf"):
        return Place(way, (rest,))
    if way == "iter":
        return Place(way, (rest.partition(":")[0],))
    _, symbol, offset = parse_place(rest)
    return Place(way, (symbol,), is_return, offset)


def why(text: str, live: LiveMachine) -> Answer:
    """Whether the probe can be there.  Raises UsageError for what is no probe."""
    place = parse_probe(text)
    if place.kind in ("uprobe", "usdt"):
        machine = describe(live, paths=[_resolve(live, place.targets[0])], tried=("uprobe",))
        place = place._replace(targets=(_resolve(live, place.targets[0]), *place.targets[1:]))
        missing, near = (_user_symbol if place.kind == "uprobe" else _static_probe)(live, place, machine)
        return Answer(text, (*obstacles(_attempt(place, machine)), *missing), near, ())
    if place.kind == "tracepoint":
        machine = describe(live, event=(place.targets[0], place.targets[1]))
        found = obstacles(_attempt(place, machine))
        near = tuple(
            f"tracepoint:{event}"
            for event in machine.similar_events or ()
            if event != ":".join(place.targets)
        )
        near += _raw_instead(live, *place.targets)
        return Answer(text, tuple(found), near if found else (), _unreadable(machine))
    if place.kind in ("raw tracepoint", "tp_btf"):
        return _raw(text, place, live)
    if place.kind == "iter":
        return _iterator(text, place, live)
    return _function(text, place, live)


def _function(text: str, place: Place, live: LiveMachine) -> Answer:
    name = place.targets[0]
    if parse_number(name) is not None:
        raise UsageError(f"why: {text}: name a function, not an address")
    machine = describe(live, [name], tried=TRIED)
    found = obstacles(_attempt(place, machine))
    if place.kind == "kprobe":
        # A kprobe of ours is on all functions of a name, each by its address.
        found = [one for one in found if one.cause != "ambiguous-symbol"]
    if not found:
        return Answer(text, (), (), _unreadable(machine))
    # What holds for the name holds on every machine, so it is said first.
    found.sort(key=lambda one: one.cause not in NAME_CAUSES or not one.sure)
    # Names that are only alike are worth a look where the name itself is what is wrong.
    candidates = _candidates(live, name) if any(one.cause in NAME_CAUSES for one in found) else []
    others = describe(live, candidates) if candidates else machine
    others = _with(others, features=machine.features)
    instead: list[str] = []
    for kind in sorted(("fentry", "kprobe"), key=lambda kind: kind != place.kind):
        for candidate in (name, *candidates):
            other = Place(kind, (candidate,), place.is_return, 0)
            facts = machine if candidate == name else others
            if (kind, candidate) == (place.kind, name) or not facts.named(candidate):
                continue
            if not [one for one in obstacles(_attempt(other, facts)) if one.cause not in RIGHTS]:
                instead.append(f"{_written(kind, place.is_return)}:{candidate}")
    instead = [*_tracepoints(live, name, candidates), *instead]
    return Answer(text, tuple(found), tuple(dict.fromkeys(instead))[:MOST], _unreadable(machine))


def about_name(name: str, live: LiveMachine) -> str:
    """What is certainly wrong with a function's name, or with the function as a place; empty if nothing is."""
    found = obstacles(Attempt("kprobe", (name,), (), describe(live, [name])))
    return next((one.sentence for one in found if one.sure and one.cause in NAME_CAUSES), "")


def _written(kind: str, is_return: bool) -> str:
    return {"fentry": "fexit", "kprobe": "kretprobe"}[kind] if is_return else kind


def _candidates(live: LiveMachine, name: str) -> list[str]:
    """Functions that may stand in for one, the nearest first."""
    found = list(tables.RENAMED[name].successors) if name in tables.RENAMED else []
    try:
        # To be described costs a walk through all symbols, for each of them.
        found += [one for one in around(name) if live.symbols.has(one)][:MOST]
        found += live.functions.instead(name)
    except OSError:
        pass  # no list of symbols
    call = tables.syscall_of(name) or tables.wrapped_syscall(name)
    if call:
        found = [one for one in found if tables.wrapped_syscall(one) == call or one == f"do_{call}"]
    return [one for one in dict.fromkeys(found) if one != name]


def _tracepoints(live: LiveMachine, name: str, others: Iterable[str]) -> list[str]:
    """Tracepoints that tell of the same, and exist."""
    wanted: list[str] = []
    for one in (name, *others):
        wanted += tables.TRACEPOINTS_INSTEAD.get(one, ())
        call = tables.syscall_of(one) or tables.wrapped_syscall(one)
        if call:
            wanted.append(f"syscalls:sys_enter_{call}")
    found = []
    for event in dict.fromkeys(wanted):
        category, _, plain = event.partition(":")
        try:
            if live.has_tracepoint(category, plain):
                found.append(f"tracepoint:{event}")
        except (OSError, PermissionRefused):
            found.append(f"tracepoint:{event} (if it is there: tracefs cannot be read)")
    return found


def _raw(text: str, place: Place, live: LiveMachine) -> Answer:
    """Raw tracepoints are found by their type in the kernel's BTF; tracefs has those with an event."""
    from tracebee.btf.types import Typedef
    from tracebee.explain.explanation import Explanation

    name = place.targets[0]
    machine = describe(live)
    found = obstacles(_attempt(place, machine))
    plain = re.split(r"[:/]", name)[-1]
    btf = live.btf()
    known = None if btf is None else btf.find(f"btf_trace_{plain}", Typedef) is not None
    instead: tuple[str, ...] = ()
    if known and plain != name:
        instead = (f"rawtracepoint:{plain}",)
    elif (call := re.fullmatch(r"sys_(enter|exit)_\w+", plain)) is not None:
        instead = (f"rawtracepoint:sys_{call[1]}", f"tracepoint:syscalls:{plain}")
    elif known is False and not any(one.cause not in RIGHTS for one in found):
        every = btf.names_of_kind(Typedef) if btf is not None else ()
        types = [one[len("btf_trace_") :] for _, one in every if one.startswith("btf_trace_")]
        near = tables.near_names(name, types)
        instead = tuple(f"rawtracepoint:{one}" for one in near)
        found.append(
            Explanation(
                "tracepoint-missing",
                True,
                f"this kernel has no raw tracepoint {name}: its BTF has no type btf_trace_{name}",
                f"use {near[0]}" if near else "list them: tracebee -l 'rawtracepoint:*'",
                evidence=("a module's tracepoints are in the BTF of the module",),
            )
        )
    unreadable = () if known is not None else ("the kernel's BTF (not there)",)
    return Answer(text, tuple(found), instead, unreadable)


def _raw_instead(live: LiveMachine, category: str, event: str) -> tuple[str, ...]:
    """The raw tracepoint behind an event, which needs no tracefs; it is known by its type in BTF."""
    from tracebee.btf.types import Typedef

    call = re.fullmatch(r"sys_(enter|exit)_\w+", event) if category == "syscalls" else None
    if call is not None and _event_is_missing(live, category, event):
        return ()
    name = f"sys_{call[1]}" if call is not None else event
    btf = live.btf()
    known = btf is not None and btf.find(f"btf_trace_{name}", Typedef) is not None
    return (f"rawtracepoint:{name}",) if known else ()


def _event_is_missing(live: LiveMachine, category: str, event: str) -> bool:
    """Whether the lists say that there is no such event; False where they cannot be read."""
    try:
        return not live.has_tracepoint(category, event)
    except (OSError, PermissionRefused):
        return False


def _iterator(text: str, place: Place, live: LiveMachine) -> Answer:
    """Iterators have a structure ``bpf_iter__NAME`` in BTF."""
    from tracebee.btf.types import Struct
    from tracebee.explain.explanation import Explanation

    found = obstacles(_attempt(place, describe(live)))
    btf = live.btf()
    if btf is None:
        return Answer(text, tuple(found), (), ("the kernel's BTF (not there)",))
    prefix, name = "bpf_iter__", place.targets[0]
    known = [one[len(prefix) :] for _, one in btf.names_of_kind(Struct) if one.startswith(prefix)]
    if name in known:
        return Answer(text, tuple(found), (), ())
    # A double underscore further on is another view of a context.
    known = sorted(one for one in known if "__" not in one)
    near = tables.near_names(name, known) or get_close_matches(name, known, 3)
    missing = Explanation(
        "program-type-unsupported",
        True,
        f"this kernel has no iterator {name}: its BTF has no struct {prefix}{name}",
        f"use {near[0]}" if near else f"use one of those it has: {', '.join(known)}",
    )
    return Answer(text, (*found, missing), tuple(f"iter:{one}" for one in near), ())


def _user_symbol(
    live: LiveMachine, place: Place, machine: Machine
) -> tuple[list[Explanation], tuple[str, ...]]:
    """Whether the symbol is in the file; and the names there that are like it."""
    from tracebee.explain.attach.attempt import Call
    from tracebee.explain.attach.diagnose import diagnose

    path, name = place.targets
    file, bad = _open_file(live, path, machine)
    plain = name.partition("+")[0]
    if file is None or not name or parse_number(plain) is not None or file.find_function(plain) is not None:
        return bad, ()
    known = {symbol.name for symbol in file.functions()}
    near = tables.near_names(plain, known) or get_close_matches(plain, known, 3, 0.75)
    failed = (Call("resolve symbol", "ENOENT"),)
    found = diagnose(Attempt("uprobe", (path, plain), failed, machine, loader_text="symbol not found"))
    kind = "uretprobe" if place.is_return else "uprobe"
    return [found], tuple(f"{kind}:{path}:{one}" for one in near)


def _static_probe(
    live: LiveMachine, place: Place, machine: Machine
) -> tuple[list[Explanation], tuple[str, ...]]:
    """Whether the file has a static probe of that name, with its provider or without; and what it has."""
    from tracebee.explain.explanation import Explanation

    path, name = place.targets
    file, bad = _open_file(live, path, machine)
    if file is None:
        return bad, ()
    probes = {(probe.provider, probe.name) for probe in file.usdt_probes()}
    provider, colon, plain = name.rpartition(":")
    if any(one == plain and (not colon or provider in ("", theirs)) for theirs, one in probes):
        return [], ()
    names = {one for _, one in probes}
    near = (
        [plain] if plain in names else tables.near_names(plain, names) or get_close_matches(plain, names, 3)
    )
    missing = Explanation(
        "uprobe-symbol",
        True,
        f"{path} has no static probe {name}"
        + ("" if probes else ": it has none at all, as it was built without them (no section .note.stapsdt)"),
        f"list them: tracebee -l 'usdt:{path}:*'" if probes else "use a uprobe on a function of it",
        evidence=("its notes were read",),
    )
    return [missing], tuple(
        f"usdt:{path}:{theirs}:{one}" for wanted in near for theirs, one in sorted(probes) if one == wanted
    )


def _open_file(live: LiveMachine, path: str, machine: Machine) -> tuple[LiveFile | None, list[Explanation]]:
    """The program or library, or what is wrong with it as one; neither where other rules tell."""
    from tracebee.errors import FormatError
    from tracebee.explain.explanation import Explanation

    facts = machine.paths.get(path)
    if facts is None or facts.kind != "file":
        return None, []
    try:
        return live.user_file(path), []
    except FormatError as error:
        wrong = f"{path} is no ELF file: {error}"
    except OSError as error:
        wrong = f"{path} cannot be read: {error.strerror}"
    return None, [Explanation("uprobe-file", True, wrong, "name a program or library that can be read")]


def _resolve(live: LiveMachine, path: str) -> str:
    found = live.expand_paths(path)
    return found[0] if found else path


def _attempt(place: Place, machine: Machine) -> Attempt:
    return Attempt(place.kind, place.targets, (), machine, place.is_return, place.offset)


def _unreadable(machine: Machine) -> tuple[str, ...]:
    return tuple(f"{name} ({why})" for name, why in machine.unreadable.items() if name in LISTS)


def _with(machine: Machine, **facts: object) -> Machine:
    """The machine with some facts replaced."""
    values = {field: getattr(machine, field) for field in machine._fields}
    return type(machine)(**(values | facts))
