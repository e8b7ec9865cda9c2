"""The kinds of probes, by name; each is imported when a script first names it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracebee.language.probes.base import ProbeKind

# kind: (module, class, aliases)
KINDS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "begin": ("special", "Begin", ("BEGIN",)),
    "end": ("special", "End", ("END",)),
    "self": ("special", "Self", ()),
    "test": ("special", "Test", ()),
    "bench": ("special", "Bench", ()),
    "interval": ("timers", "Interval", ("i",)),
    "profile": ("timers", "Profile", ("p",)),
    "software": ("counters", "Software", ("s",)),
    "hardware": ("counters", "Hardware", ("h",)),
    "tracepoint": ("tracepoint", "TracepointKind", ("t",)),
    "rawtracepoint": ("rawtracepoint", "RawTracepointKind", ("rt",)),
    "uprobe": ("uprobe", "UprobeKind", ("u",)),
    "uretprobe": ("uprobe", "UretprobeKind", ("ur",)),
    "usdt": ("usdt", "UsdtKind", ("U",)),
    "watchpoint": ("watchpoint", "WatchpointKind", ("w",)),
    "iter": ("iterator", "IteratorKind", ("it",)),
    "kprobe": ("kprobe", "KprobeKind", ("k",)),
    "kretprobe": ("kprobe", "KretprobeKind", ("kr",)),
    "fentry": ("fentry", "FentryKind", ("f", "kfunc")),
    "fexit": ("fentry", "FexitKind", ("fr", "kretfunc")),
}

_NAMES = {alias: kind for kind, (_, _, aliases) in KINDS.items() for alias in (kind, *aliases)}
_made: dict[str, ProbeKind] = {}


def kind_name(word: str) -> str | None:
    """The full name of a kind from its name or short name."""
    return _NAMES.get(word)


def get_kind(name: str) -> ProbeKind:
    """The record of a kind by its full name."""
    kind = _made.get(name)
    if kind is None:
        module, class_name, _ = KINDS[name]
        kind = _made[name] = getattr(import_module(f"tracebee.language.probes.{module}"), class_name)()
    return kind
