"""``tracebee btf dump``: the types of the kernel, of a module, of loaded programs and maps, and of files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from tracebee.cli.selection import no_more, print_json, print_lines, split_options, split_selector
from tracebee.errors import TargetError, UsageError
from tracebee.session.objects.btffile import KERNEL_BTF, types_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.btf.reader import Btf

PARTS = ("key", "value", "kv", "all")
FORMATS = ("raw", "c")

_PIECES = 4096


class Source(NamedTuple):
    """Types, and which of them are meant: those of a map; None for all that the BTF has itself."""

    btf: Btf
    roots: tuple[int, ...] | None = None


def run_dump(words: Sequence[str]) -> int:
    """Print BTF as bpftool does, as a C header, or one type of it.  Raises TracebeeError."""
    words = ["base" if word in ("-B", "--base-btf") else word for word in words]
    options = split_options(words)
    rest, settings = _settings(options.words)
    base = types_of(settings["base"]) if "base" in settings else None
    source = read_source(rest, base)
    if "type" in settings:
        if settings.get("format", "c") != "c" or options.wants_json:
            raise UsageError("one type is shown as C", "leave out `format raw`, -j and -p")
        print_lines([_one_type(source.btf, settings["type"])])
        return 0
    form = settings.get("format", "raw")
    if form not in FORMATS:
        raise UsageError(f"there is no format {form!r}", f"formats are {' and '.join(FORMATS)}")
    if form == "c":
        if options.wants_json:
            raise UsageError("C source is no JSON", "leave out -j and -p, or `format c`")
        from tracebee.btf.header import header

        _print_pieces(piece.removesuffix("\n") for piece in header(source.btf, source.roots))
        return 0
    from tracebee.btf.dump import own_ids, raw_lines, raw_values

    wanted = own_ids(source.btf) if source.roots is None else source.roots
    if options.wants_json:
        print_json({"types": list(raw_values(source.btf, wanted))}, options)
    else:
        _print_pieces(raw_lines(source.btf, wanted))
    return 0


def _print_pieces(lines: Iterable[str]) -> None:
    """Print text as it comes, some lines at a time."""
    waiting: list[str] = []
    for line in lines:
        waiting.append(line)
        if len(waiting) >= _PIECES:
            print_lines(waiting)
            waiting.clear()
    if waiting:
        print_lines(waiting)


def _settings(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """What stands behind the source: ``format F``, ``type NAME``, ``base FILE``."""
    rest: list[str] = []
    settings: dict[str, str] = {}
    position = 0
    while position < len(words):
        word = words[position]
        # The first words are the source, and a BTF object may be called "type" or "base".
        is_value = bool(rest) and rest[-1] in ("id", "name", "file", "tag", "pinned")
        if word in ("format", "type", "base") and not is_value:
            if position + 1 == len(words):
                raise UsageError(f"{word} wants a value behind it", _HINTS[word])
            value = words[position + 1]
            position += 1
            if (
                word == "type"
                and value in ("struct", "union", "enum", "typedef")
                and position + 1 < len(words)
            ):
                position += 1
                value = f"{value} {words[position]}"
            settings[word] = value
        else:
            rest.append(word)
        position += 1
    return rest, settings


_HINTS = {
    "format": "formats are raw and c",
    "type": "such as `type task_struct` or `type enum pid_type`",
    "base": "the BTF that the file continues, such as /sys/kernel/btf/vmlinux",
}


def read_source(words: Sequence[str], base: Btf | None = None) -> Source:
    """The types that the words name: id N, name N, prog …, map … [key|value|kv|all], file F; the kernel's without.

    Raises TracebeeError.
    """
    if not words:
        return Source(types_of(os.path.join(KERNEL_BTF, "vmlinux")))
    if words[0] == "file":
        if len(words) != 2:
            raise UsageError("file wants one path behind it")
        return Source(types_of(words[1], base))
    if words[0] in ("prog", "map"):
        return _of_object(words[0], words[1:])
    if len(words) == 1 and "/" in words[0]:
        return Source(types_of(words[0], base))
    from tracebee.kernel.ids import find_one
    from tracebee.kernel.info import btf_by_id

    btf_id, fd = find_one("btf", words)
    os.close(fd)
    return Source(btf_by_id(btf_id))


def _of_object(kind: str, words: Sequence[str]) -> Source:
    """The types of a loaded program or map."""
    from tracebee.kernel.ids import WORDS, find_one
    from tracebee.kernel.info import btf_by_id, map_info, program_info

    selector, rest = split_selector(words)
    part = rest.pop(0) if kind == "map" and rest else "kv"
    no_more(rest)
    if part not in PARTS:
        raise UsageError(f"a map has no {part!r}", f"its parts are {', '.join(PARTS)}")
    object_id, fd = find_one(kind, selector)
    try:
        if kind == "prog":
            btf_id, key, value = program_info(fd, full_name=False).btf_id, 0, 0
        else:
            info = map_info(fd, full_name=False)
            btf_id, key, value = info.btf_id, info.btf_key_type_id, info.btf_value_type_id
    finally:
        os.close(fd)
    if not btf_id:
        raise TargetError(
            "", f"the {WORDS[kind]} {object_id} has no BTF", "it was loaded without; `-g` has clang make it"
        )
    btf = btf_by_id(btf_id)
    if kind == "prog" or part == "all":
        return Source(btf)
    roots = {"key": (key,), "value": (value,), "kv": (key, value)}[part]
    return Source(btf, tuple(dict.fromkeys(one for one in roots if one)))


def _one_type(btf: Btf, name: str) -> str:
    """All types of a name, as C with offsets and sizes."""
    from tracebee.btf.layout import describe, find

    found = find(btf, name)
    if not found and name.isdigit() and 0 < int(name) < len(btf):
        found = [int(name)]
    if not found:
        from tracebee.language.diagnostics import nearest

        names = {one for _, one in btf.names_of_kind(_named_kinds())}
        raise UsageError(f"there is no type called {name!r}", nearest(name, names))
    return "\n\n".join(dict.fromkeys(describe(btf, type_id) for type_id in found))


def _named_kinds() -> tuple[type, ...]:
    from tracebee.btf.types import Composite, Enumeration, Func, Typedef

    return Composite, Enumeration, Func, Typedef
