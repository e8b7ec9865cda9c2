"""The words behind the verbs that read and write maps: which map, which key, which value."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tracebee.btf.values import ArrayCodec
from tracebee.btf.valuetext import read
from tracebee.cli.selection import no_more, split_options, split_selector
from tracebee.errors import UsageError
from tracebee.kernel.ids import find, find_one
from tracebee.kernel.maprules import OBJECT_ARRAYS, OUTER
from tracebee.session.objects.maps import Map

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.cli.selection import Options

WHEN = ("any", "exist", "noexist")
_SELECTORS = ("id", "pinned", "name", "tag")


def open_one(words: Sequence[str]) -> tuple[Options, Map, list[str]]:
    """The map that the words begin with, the options among them, and the words behind.  Raises TracebeeError."""
    options = split_options(words)
    selector, rest = split_selector(options.words)
    _, fd = find_one("map", selector)
    return options, Map.from_fd(fd), rest


def open_all(words: Sequence[str]) -> tuple[Options, list[Map]]:
    """The maps that the words mean, which may be several of one name.  Raises TracebeeError."""
    options = split_options(words)
    selector, rest = split_selector(options.words)
    no_more(rest)
    return options, [Map.from_fd(fd) for _, fd in find("map", selector)]


class Words:
    """Takes ``key …``, ``value …`` and flags out of the words behind a map."""

    def __init__(self, words: Sequence[str]) -> None:
        self.rest = list(words)

    def section(self, name: str, ends: Sequence[str] = ()) -> str | None:
        """The text behind the word `name`, up to the next of `ends`; None without it."""
        if not self.rest or self.rest[0] != name:
            return None
        end = next((at for at in range(1, len(self.rest)) if self.rest[at] in ends), len(self.rest))
        text = " ".join(self.rest[1:end])
        del self.rest[:end]
        if not text:
            raise UsageError(f"what {name}?", f"something must stand behind the word {name}")
        return text

    def when(self) -> str:
        """The last word, if it says when to set an element."""
        return self.rest.pop() if self.rest and self.rest[-1] in WHEN else "any"

    def done(self) -> None:
        no_more(self.rest)


def key_of(one: Map, text: str | None) -> Any:
    """The key that somebody has written.  Raises UsageError."""
    if text is None:
        raise UsageError("which key?", f"key and one of type {shown_type(one, 'key')}")
    return one.key_codec.parse(text)


def value_of(one: Map, text: str | None) -> Any:
    """The value that somebody has written, or the descriptor of the map or program that is meant.

    Raises UsageError, TargetError.
    """
    if text is None:
        raise UsageError("which value?", f"value and one of type {shown_type(one, 'value')}")
    if one.type not in (*OBJECT_ARRAYS, *OUTER):
        if one.is_per_cpu and text.lstrip().startswith("[") and not isinstance(one.value_codec, ArrayCodec):
            # One for each CPU; all else is for all of them.
            return [one.value_codec.settle(part) for part in read(text)]
        return one.value_codec.parse(text)
    kind = "map" if one.type in OUTER else "prog"
    if one.type not in (*OUTER, "PROG_ARRAY"):
        raise UsageError(
            f"a command cannot write a map of type {one.type}",
            "it holds descriptors, which end with the process that has them",
        )
    words = text.split(" ", 1) if text.split(" ", 1)[0] in _SELECTORS else [text]
    return Held(find_one(kind, words)[1])


class Held:
    """A descriptor for as long as it is needed."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


def shown_type(one: Map, part: str) -> str:
    codec = one.key_codec if part == "key" else one.value_codec
    return codec.name or f"{codec.size} bytes"
