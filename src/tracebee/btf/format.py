"""Types as C source.

A C declaration reads from its name outwards, ``int (*fn)(void)``, while a chain of types leads the other way:
pointer, prototype, int.  So the text around the name, the declarator, is built first and grows on both sides
as the chain is followed; what ends the chain goes in front.

The output is that of libbpf's dumper, and so of ``bpftool btf dump format c`` and ``bpftrace -lv``.  Text is
bounded (MAX_TEXT), since a few bytes of BTF can ask for gigabytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.btf.types import (
    Array,
    Composite,
    Const,
    Datasec,
    DeclTag,
    Enum64,
    Enumeration,
    Func,
    FuncProto,
    Fwd,
    Modifier,
    Ptr,
    Struct,
    Typedef,
    TypeTag,
    Unknown,
    Var,
    Volatile,
)
from tracebee.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracebee.btf.reader import Btf
    from tracebee.btf.types import Param

MAX_TEXT = 1 << 20
"""Characters of the longest definition; `struct task_struct` has 7,000, the longest of a kernel 17,000."""

MAX_NESTING = 32
"""How deep anonymous structures, and prototypes in prototypes, may lie in each other."""

_MAX_CHAIN = 128
_STEP = 8  # what following a chain by one type counts, in characters


class Renames(NamedTuple):
    """What is to be written instead of what the BTF says, by type id.

    `types` are names of types, `constants` those of all constants of an enumeration.  `integers` names the integer
    types to be used in place of anonymous enumerations.
    """

    types: Mapping[int, str] = {}
    constants: Mapping[int, Sequence[str]] = {}
    integers: Mapping[int, str] = {}


_AS_IT_IS = Renames()


def declaration(btf: Btf, type_id: int, name: str = "") -> str:
    """A declaration of `name` with a type, such as ``const char *argv``, or the bare type without a name.

    An anonymous structure is written out.  A Func or Var brings its own name.  Raises FormatError.
    """
    return _Printer(btf).declare(type_id, name, 0)


def definition(btf: Btf, type_id: int, renames: Renames = _AS_IT_IS) -> str:
    """What C source would say to define the type, with its semicolon and without a newline at the end.

    Structures, unions and enumerations come with all their members, anonymous ones nested, and with the
    padding that gives them their layout.  Raises FormatError.
    """
    return _Printer(btf, renames).define(type_id)


def function_params(btf: Btf, func_id: int) -> list[tuple[str, str]]:
    """(type, name) of each parameter of a Func or FuncProto, a variable argument list as ``("...", "")``.

    Raises FormatError, also if the id is not that of a function.
    """
    return [
        ("..." if not param.type_id else declaration(btf, param.type_id), param.name)
        for param in _prototype(btf, func_id).params
    ]


def return_type(btf: Btf, func_id: int) -> str:
    """The type that a Func or FuncProto returns.  Raises FormatError."""
    return declaration(btf, _prototype(btf, func_id).return_type_id)


def _prototype(btf: Btf, func_id: int) -> FuncProto:
    found = btf.type(func_id)
    if isinstance(found, Func):
        found = btf.type(btf.resolve(found.type_id))
    if not isinstance(found, FuncProto):
        raise FormatError(f"BTF: type {func_id} is not a function")
    return found


class _Printer:
    """Writes one declaration or definition, and stops when it becomes too long."""

    def __init__(self, btf: Btf, renames: Renames = _AS_IT_IS) -> None:
        self.btf = btf
        self.renames = renames
        self.room = MAX_TEXT

    def spend(self, text: str) -> str:
        self.room -= len(text) + 1
        if self.room < 0:
            raise FormatError(f"BTF: the C source of a type is longer than {MAX_TEXT} characters")
        return text

    def define(self, type_id: int) -> str:
        found = self.btf.type(type_id)
        if isinstance(found, Composite):
            return f"{self.composite(type_id, found, 0)};"
        if isinstance(found, Enumeration):
            return f"{self.enumeration(type_id, found, 0)};"
        if isinstance(found, Typedef):
            name = self.renames.types.get(type_id, found.name)
            return f"typedef {self.declare(found.type_id, self.spend(name), 0)};"
        if isinstance(found, Datasec):
            variables = [f"{self.declare(variable.type_id, '', 0)};" for variable in found.variables]
            return "\n".join([f"/* section {self.spend(found.name)} */", *variables])
        return f"{self.declare(type_id, '', 0)};"

    def declare(self, type_id: int, name: str, depth: int) -> str:
        """A declaration; what is written out inside it is indented by `depth` tabs."""
        if depth > MAX_NESTING:
            raise FormatError(f"BTF: types are nested deeper than {MAX_NESTING}")
        declarator = name
        qualifiers: list[str] = []  # met since the last pointer, innermost last
        gap = ""  # between a `*` and the declarator that it goes in front of
        at = type_id
        for _ in range(_MAX_CHAIN):
            self.room -= _STEP
            found = self.btf.type(at)
            if isinstance(found, Ptr):
                words = "".join(f" {word}" for word in reversed(qualifiers))
                if words and declarator:
                    gap = " "
                declarator = f"*{words}{gap}{declarator}"
                qualifiers, gap = [], ""
                at = found.type_id
            elif isinstance(found, Modifier):
                word = _keyword(found)
                if word not in qualifiers:
                    qualifiers.append(word)
                at = found.type_id
            elif isinstance(found, TypeTag):
                qualifiers.append(self.spend(_attribute(found)))
                at = found.type_id
            elif isinstance(found, Array):
                if declarator.startswith("*"):
                    declarator = f"({declarator})"
                declarator = f"{declarator}[{found.count}]"
                at = found.type_id
            elif isinstance(found, FuncProto):
                # GCC writes noreturn and const functions as volatile and const prototypes: not C.
                qualifiers = []
                if declarator.startswith("*"):
                    declarator, gap = f"({declarator})", " "
                declarator = f"{declarator}({self.params(found.params, depth)})"
                at = found.return_type_id
            elif isinstance(found, Func | Var):
                declarator = declarator or self.spend(found.name)
                at = found.type_id
            elif isinstance(found, DeclTag):
                at = found.type_id
            else:
                before = [word for word in reversed(qualifiers) if not word.startswith("_")]
                after = [word for word in reversed(qualifiers) if word.startswith("_")]
                words = " ".join([*before, self.base(at, depth), *after])
                return self.spend(f"{words} {declarator}" if declarator else words)
        raise FormatError(f"BTF: type {type_id} contains itself or is nested too deeply")

    def params(self, params: tuple[Param, ...], depth: int) -> str:
        if not params or (len(params) == 1 and not params[0].type_id):
            return "void"
        texts = [
            self.declare(param.type_id, self.spend(param.name), depth + 1) if param.type_id else "..."
            for param in params
        ]
        return ", ".join(texts)

    def base(self, type_id: int, depth: int) -> str:
        """What ends a chain: the specifier of a declaration."""
        found = self.btf.type(type_id)
        name = self.renames.types.get(type_id, found.name)
        if isinstance(found, Composite):
            if name:
                return f"{_keyword(found)} {self.spend(name)}"
            return self.composite(type_id, found, depth)
        if isinstance(found, Enumeration):
            if found.name:
                return f"enum {self.spend(name)}"
            return self.renames.integers.get(type_id) or self.enumeration(type_id, found, depth)
        if isinstance(found, Fwd):
            return f"{'union' if found.is_union else 'struct'} {self.spend(name)}"
        if isinstance(found, Unknown):
            return f"/* BTF kind {found.kind} */ void"
        return self.spend(name) or "void"

    def enumeration(self, type_id: int, enum: Enumeration, depth: int) -> str:
        name = self.renames.types.get(type_id, enum.name)
        head = self.spend(f"enum {name}" if name else "enum")
        if not enum.values:
            return head
        indent = "\t" * depth
        suffix = ("LL" if enum.signed else "ULL") if isinstance(enum, Enum64) else ""
        names = self.renames.constants.get(type_id) or [value.name for value in enum.values]
        lines = [
            self.spend(f"{indent}\t{name} = {value.value}{suffix},")
            for name, value in zip(names, enum.values, strict=True)
        ]
        # Where the values do not need the size that it has, only a mode gives it.
        mode = {1: "byte", 2: "HI", 8: "word"}.get(enum.size, "")
        if enum.size == 8 and any(not -(1 << 31) <= value.value < 1 << 32 for value in enum.values):
            mode = ""
        tail = f" __attribute__((mode({mode})))" if mode else ""
        return "\n".join([f"{head} {{", *lines, f"{indent}}}{tail}"])

    def composite(self, type_id: int, composite: Composite, depth: int) -> str:
        if depth > MAX_NESTING:
            raise FormatError(f"BTF: types are nested deeper than {MAX_NESTING}")
        btf = self.btf
        is_struct = isinstance(composite, Struct)
        packed = btf.is_packed(type_id)
        indent = "\t" * depth
        name = self.renames.types.get(type_id, composite.name)
        lines = [self.spend(f"{_keyword(composite)} {name}".rstrip() + " {")]

        def pad(start: int, end: int, alignment: int, within_bits: bool) -> None:
            for unit, bits in _padding(start, end, alignment, within_bits, 8 * btf.pointer_size):
                lines.append(self.spend(f"{indent}\t{unit}: {bits};"))

        end = 0  # of the members so far, in bits
        after_bits = False
        for member in composite.members:
            size = member.bitfield_size
            if is_struct:
                alignment = 1 if packed else btf.align_of(member.type_id)
                pad(end, member.bit_offset, 8 * alignment, after_bits and size > 0)
            text = self.declare(member.type_id, self.spend(member.name), depth + 1)
            lines.append(f"{indent}\t{text}: {size};" if size else f"{indent}\t{text};")
            end = member.bit_offset + (size or 8 * btf.size_of(member.type_id))
            after_bits = size > 0
        if is_struct:
            alignment = 1 if packed else btf.align_of(type_id)
            pad(end, 8 * composite.size, 8 * alignment, False)
        tail = " __attribute__((packed))" if packed else ""
        if len(lines) == 1 and not composite.size:
            return f"{lines[0]}}}{tail}"
        return "\n".join([*lines, f"{indent}}}{tail}"])


def _padding(start: int, end: int, alignment: int, within_bits: bool, word: int) -> list[tuple[str, int]]:
    """Unnamed bitfields that make a C compiler place the next member at bit `end`, not right at `start`.

    Each is (type, bits).  `alignment` is that of the next member, in bits; `within_bits` says that the gap is
    between two bitfields; `word` are the bits of a long.  No bits, as in ``long: 0``, moves to the next
    boundary of the type.
    """
    if start >= end:
        return []
    units = (("long", word), ("int", 32), ("short", 16), ("char", 8))
    unit, bits = next((unit for unit in units if _round_up(start, unit[1]) <= end), units[-1])
    boundary = _round_up(start, bits)
    pieces: list[tuple[str, int]] = []
    if start < boundary <= end:
        if within_bits:
            pieces.append((unit, boundary - start))
        elif boundary == end:
            # The member's own alignment may lead there already.
            if _round_up(start, alignment) != boundary:
                pieces.append((unit, 0))
        elif end - boundary <= boundary - start:
            # The rest would fit in front of the boundary, and the compiler would put it there.
            pieces.append((unit, 0))
        start = boundary
    whole, rest = divmod(end - start, bits)
    pieces += [(unit, bits)] * min(whole, MAX_TEXT // 8)  # which is already more than the printer takes
    if rest:
        pieces.append((next(name for name, size in reversed(units) if size >= rest), rest))
    return pieces


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _keyword(found: Modifier | Composite) -> str:
    if isinstance(found, Composite):
        return "struct" if isinstance(found, Struct) else "union"
    if isinstance(found, Const):
        return "const"
    return "volatile" if isinstance(found, Volatile) else "restrict"


def _attribute(tag: TypeTag) -> str:
    text = tag.name if tag.is_attribute else f'btf_type_tag("{tag.name}")'
    return f"__attribute__(({text}))"
