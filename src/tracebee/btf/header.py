"""BTF as a C header, such as ``vmlinux.h``.

C wants a type to be complete where a value of it is, and declared where a pointer leads to it, while BTF has its
types in any order.  So a structure comes behind all that it holds by value, and one that is only pointed to is
declared (``struct file;``) before its first use.

BTF may have several types of one name, from different source files of a kernel, which C cannot.  A later one is
called ``name___2``, as libbpf does: CO-RE leaves out what follows the three underscores.  The constants of an
anonymous enumeration that is used twice are written once; its users have an integer type instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.btf.format import Renames, definition
from tracebee.btf.types import (
    Array,
    Composite,
    Enumeration,
    FuncProto,
    Fwd,
    Modifier,
    Ptr,
    Typedef,
    TypeTag,
    Union,
)
from tracebee.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tracebee.btf.reader import Btf
    from tracebee.btf.types import Type

HEAD = """\
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif
"""
TAIL = """\
#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
"""

MAX_TEXT = 1 << 27
"""Characters of the longest header; that of a kernel has 3 million."""

BUILT_IN = "__builtin_va_list"
"""A typedef in the BTF of kernels that no compiler lets anybody define."""

_DEFINED = (Composite, Enumeration, Typedef)
"""What C source defines by itself."""

_IN_BETWEEN = (Ptr, Array, Modifier, TypeTag, FuncProto)
"""What it writes where it is used."""

_MAX_CHAIN = 64


def header(btf: Btf, roots: Iterable[int] | None = None) -> Iterator[str]:
    """The header piece by piece: every type of `btf`, or `roots` and all that they need.

    Each piece ends with an empty line.  Raises FormatError.
    """
    yield f"{HEAD}\n"
    spent = 0
    for piece in _Writer(btf).pieces(roots):
        spent += len(piece)
        if spent > MAX_TEXT:
            raise FormatError(f"BTF: the C header is longer than {MAX_TEXT} characters")
        yield f"{piece}\n\n"
    yield TAIL


class _Needs(NamedTuple):
    """What must come before a definition: definitions, and declarations of structures."""

    definitions: list[int]
    declarations: list[int]


class _Writer:
    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        self.written: set[int] = set()
        self.declared: set[str] = set()
        self.renames = _unique_names(btf)

    def pieces(self, roots: Iterable[int] | None) -> Iterator[str]:
        btf = self.btf
        if roots is None:
            roots = btf.ids_of_kind(_DEFINED)
        for root in roots:
            found = btf.type(root)
            if self._is_defined(root, found):
                yield from self._with_needs(root)
            elif not isinstance(found, _DEFINED):
                for type_id in self._needs([(root, True)]).definitions:
                    yield from self._with_needs(type_id)

    def _is_defined(self, type_id: int, found: Type) -> bool:
        """Whether a type has a definition of its own."""
        if isinstance(found, Typedef):
            return found.name != BUILT_IN
        if isinstance(found, Enumeration):
            return bool(found.name) or type_id in self.renames.integers
        return isinstance(found, Composite) and bool(found.name)

    def _with_needs(self, type_id: int) -> Iterator[str]:
        """The definition of a type behind all that it needs and that is not written yet."""
        if type_id in self.written:
            return
        # A stack, as chains of definitions are as long as whoever made the BTF likes.
        under_way = {type_id}
        stack = [(type_id, self._needs_of(type_id), 0)]
        while stack:
            at, needs, done = stack.pop()
            definitions = needs.definitions
            while done < len(definitions) and definitions[done] in self.written:
                done += 1
            if done < len(definitions):
                following = definitions[done]
                if following in under_way:
                    raise FormatError(f"BTF: type {following} contains itself")
                under_way.add(following)
                stack.append((at, needs, done + 1))
                stack.append((following, self._needs_of(following), 0))
                continue
            # First the definition: a structure may point to itself without having been declared.
            text = self._define(at)
            yield from [declared for one in needs.declarations if (declared := self._declare(one))]
            under_way.discard(at)
            yield text

    def _define(self, type_id: int) -> str:
        self.written.add(type_id)
        found = self.btf.type(type_id)
        if isinstance(found, Composite):
            self.declared.add(self._tag(type_id, found))
        return definition(self.btf, type_id, self.renames)

    def _declare(self, type_id: int) -> str:
        """A declaration of a structure, empty if it is known already."""
        tag = self._tag(type_id, self.btf.type(type_id))
        if tag in self.declared:
            return ""
        self.declared.add(tag)
        return f"{tag};"

    def _tag(self, type_id: int, found: Type) -> str:
        return f"{_keyword(found)} {self.renames.types.get(type_id, found.name)}"

    def _needs_of(self, type_id: int) -> _Needs:
        """What the definition of a type needs."""
        found = self.btf.type(type_id)
        if isinstance(found, Composite):
            return self._needs([(member.type_id, True) for member in reversed(found.members)])
        return self._needs([(found.type_id, False)] if isinstance(found, Typedef) else [])

    def _needs(self, pending: list[tuple[int, bool]]) -> _Needs:
        """What the use of types needs, given as (type, whether it has to be complete)."""
        needs = _Needs([], [])
        seen: set[tuple[int, bool]] = set()
        while pending:
            place = pending.pop()
            if place in seen:
                continue
            seen.add(place)
            at, whole = place
            found = self.btf.type(at)
            if self._is_defined(at, found) and (whole or not isinstance(found, Composite)):
                needs.definitions.append(at)
            match found:
                case Typedef():
                    if whole:
                        pending.append((found.type_id, True))
                case Ptr():
                    pending.append((found.type_id, False))
                case Modifier() | TypeTag():
                    pending.append((found.type_id, whole))
                case Array():
                    pending.append((found.type_id, True))
                case FuncProto():
                    pending += [(param.type_id, False) for param in reversed(found.params)]
                    pending.append((found.return_type_id, False))
                case Composite():
                    if not found.name:
                        pending += [(member.type_id, True) for member in reversed(found.members)]
                    elif not whole:
                        needs.declarations.append(at)
                case Fwd():
                    needs.declarations.append(at)
        return needs


def _keyword(found: Type) -> str:
    if isinstance(found, Enumeration):
        return "enum"
    is_union = isinstance(found, Union) or (isinstance(found, Fwd) and found.is_union)
    return "union" if is_union else "struct"


def _unique_names(btf: Btf) -> Renames:
    """Names that C takes: each once."""
    tags, others = (
        _Namespace(),
        _Namespace(),
    )  # struct, union and enum share one; typedefs and constants another
    types: dict[int, str] = {}
    constants: dict[int, tuple[str, ...]] = {}
    integers: dict[int, str] = {}
    keywords: dict[str, str] = {}
    single = _written_once(btf)
    for type_id in btf.ids_of_kind(_DEFINED):
        found = btf.type(type_id)
        if found.name:
            name = (others if isinstance(found, Typedef) else tags).take(found.name)
            if name != found.name:
                types[type_id] = name
            if not isinstance(found, Typedef):
                keywords[name] = _keyword(found)
        if isinstance(found, Enumeration):
            names = tuple([others.take(value.name) for value in found.values])
            if any(new != value.name for new, value in zip(names, found.values, strict=True)):
                constants[type_id] = names
            if not found.name and type_id not in single:
                integers[type_id] = _integer(found)
    for type_id in btf.ids_of_kind(Fwd):
        found = btf.type(type_id)
        if keywords.setdefault(found.name, _keyword(found)) != _keyword(found):
            types[type_id] = tags.take(found.name)
    return Renames(types, constants, integers)


class _Namespace:
    """Names, none of them taken twice."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.last: dict[str, int] = {}

    def take(self, name: str) -> str:
        """`name`, or the first of name___2, name___3 … that is free."""
        free = name
        number = self.last.get(name, 1)
        while free in self.taken:
            number += 1
            free = f"{name}___{number}"
        self.last[name] = number
        self.taken.add(free)
        return free


def _written_once(btf: Btf) -> set[int]:
    """The anonymous enumerations that stand inside one other definition, and there once."""
    users: dict[int, int] = {}  # who uses an anonymous type, -1 if several do
    for type_id in btf.ids_of_kind((*_DEFINED, *_IN_BETWEEN)):
        found = btf.type(type_id)
        match found:
            case Composite():
                used = [member.type_id for member in found.members]
            case FuncProto():
                used = [found.return_type_id, *(param.type_id for param in found.params)]
            case Typedef() | Ptr() | Array() | Modifier() | TypeTag():
                used = [found.type_id]
            case _:
                continue
        for one in used:
            users[one] = type_id if one not in users else -1
    single = set()
    for type_id in btf.ids_of_kind(Enumeration):
        at = users.get(type_id, -1)
        for _ in range(_MAX_CHAIN):
            if at < 0:
                break
            if btf.name_of(at):
                single.add(type_id)
                break
            at = users.get(at, -1)
    return single


def _integer(found: Enumeration) -> str:
    """The integer type that an enumeration is to a compiler."""
    name = {1: "char", 2: "short", 8: "long long"}.get(found.size, "int")
    if found.signed:
        return f"signed {name}" if name == "char" else name
    return f"unsigned {name}"
