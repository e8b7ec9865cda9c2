"""``tracebee map create``, ``pin`` and ``freeze``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.btf.valuetext import number_of
from tracebee.cli.map.words import open_one
from tracebee.cli.selection import no_more, split_options
from tracebee.errors import UsageError
from tracebee.kernel.ids import find_one
from tracebee.session.objects.maps import Map, flags_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORDS = ("type", "key", "value", "entries", "name", "flags", "inner_map", "numa", "extra", "dev")
CREATE_USAGE = (
    "FILE type TYPE [key TYPE|SIZE] [value TYPE|SIZE] [entries N] [name NAME] [flags FLAGS] [inner_map MAP]"
)


def run_create(words: Sequence[str]) -> int:
    """Make a map and pin it.  Raises TracebeeError."""
    options = split_options(words)
    if not options.words:
        raise UsageError("where is the map to be pinned?", f"tracebee map create {CREATE_USAGE}")
    path, *rest = options.words
    said = _said(rest)
    if "type" not in said:
        raise UsageError("of which type?", "such as type hash; `tracebee map --help`")
    if "dev" in said:
        raise UsageError("maps of network devices cannot be made here", "bpftool can, with the driver's help")
    inner = None
    if "inner_map" in said:
        inner = Map.from_fd(find_one("map", said["inner_map"])[1])
    kind = " ".join(said["type"])
    one = Map.create(
        kind,
        key=_type(said.get("key")),
        value=_type(said.get("value")),
        max_entries=_number("entries", said.get("entries", ["0"])),
        name=" ".join(said.get("name", [os.path.basename(path)])),
        flags=_flags(said.get("flags", [])),
        inner=inner,
        extra=_number("extra", said.get("extra", ["0"])),
        numa_node=_number("numa", said["numa"]) if "numa" in said else None,
    )
    one.pin(path)
    if options.wants_json:
        print("null")
    return 0


def _said(words: Sequence[str]) -> dict[str, list[str]]:
    """The words behind each keyword."""
    found: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word in _WORDS and not (name and not found[name]):
            if word in found:
                raise UsageError(f"{word} is said twice")
            name = word
            found[name] = []
        elif name:
            found[name].append(word)
        else:
            raise UsageError(f"what is {word!r}?", f"tracebee map create {CREATE_USAGE}")
    for name, behind in found.items():
        if not behind:
            raise UsageError(f"what {name}?", f"tracebee map create {CREATE_USAGE}")
    return found


def _type(words: list[str] | None) -> str | int | None:
    """A size in bytes, or a type in words of C; None if nothing is said."""
    if words is None:
        return None
    text = " ".join(words)
    size = number_of(text)
    return text if size is None else size


def _number(what: str, words: Sequence[str]) -> int:
    found = number_of(" ".join(words))
    if found is None or found < 0:
        raise UsageError(f"{' '.join(words)!r} is no number for {what}")
    return found


def _flags(words: Sequence[str]) -> int:
    """Numbers and names, with spaces, commas or bars between."""
    number = 0
    for word in " ".join(words).replace(",", " ").replace("|", " ").split():
        one = number_of(word)
        number |= flags_of([word]) if one is None else one
    return number


def run_pin(words: Sequence[str]) -> int:
    """Pin a map that is there.  Raises TracebeeError."""
    options, one, rest = open_one(words)
    if not rest:
        raise UsageError("where is it to be pinned?", "a path in a BPF file system, such as /sys/fs/bpf/name")
    no_more(rest[1:])
    one.pin(rest[0])
    if options.wants_json:
        print("null")
    return 0


def run_freeze(words: Sequence[str]) -> int:
    """Have user space only read a map from now on.  Raises TracebeeError."""
    options, one, rest = open_one(words)
    no_more(rest)
    one.freeze()
    if options.wants_json:
        print("null")
    return 0
