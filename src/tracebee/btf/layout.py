"""Where the members of a structure lie: its C definition with offset and size of each, and the holes between.

    struct timespec64 {           /* 16 bytes */
            time64_t tv_sec;      /*     0     8 */
            long int tv_nsec;     /*     8     8 */
    };

The first number counts from the start of the whole structure, also within anonymous parts; a bitfield's has the
bit in its byte behind a colon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.btf.format import MAX_NESTING, declaration, definition
from tracebee.btf.types import Array, Composite, Datasec, Enumeration, Func, Struct, Typedef, Union, Var
from tracebee.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.btf.reader import Btf
    from tracebee.btf.types import Type

MAX_COLUMN = 72
"""Where comments begin at most, if lines are longer."""

_TAB = 8
MAX_LINES = 1 << 16


def describe(btf: Btf, type_id: int) -> str:
    """One type in full, without a newline at the end.

    Structures and unions have their layout, enumerations their size, a typedef what it stands for, a function its
    prototype.  Raises FormatError.
    """
    found = btf.type(type_id)
    if isinstance(found, Composite):
        return _layout(btf, type_id, found)
    if isinstance(found, Typedef):
        behind = btf.resolve(type_id)
        target = btf.type(behind)
        text = definition(btf, type_id)
        if isinstance(target, Composite | Enumeration):
            if not target.name:
                head, _, tail = describe(btf, behind).rpartition("};")
                return f"{head}}} {found.name};{tail}" if head else text
            return f"{text}\n\n{describe(btf, behind)}"
    elif isinstance(found, Func):
        return f"{declaration(btf, type_id)};"
    else:
        text = definition(btf, type_id)
    size = btf.size_of(type_id)
    if not size:
        return text
    first, newline, rest = text.partition("\n")
    return f"{first}  /* {_bytes(size)} */{newline}{rest}"


def find(btf: Btf, name: str) -> list[int]:
    """The types that `name` may mean: ``struct file``, ``enum x``, or a bare name of any kind."""
    word, space, rest = name.strip().partition(" ")
    kinds: dict[str, type[Type]] = {
        "struct": Struct,
        "union": Union,
        "enum": Enumeration,
        "typedef": Typedef,
    }
    if space and word in kinds:
        return btf.find_all(rest.strip(), kinds[word])
    return btf.find_all(name.strip())


def name_at(btf: Btf, type_id: int, offset: int) -> str:
    """What begins `offset` bytes into a value, as C would name it: ``.tasks.next``, ``[3]``, ``.comm+2``.

    In a section it is a variable, such as ``counters[3].hits``.  Where several begin it is the outermost; so it is
    empty for the start of a value.  Raises FormatError.
    """
    name = part = ""
    for depth in range(MAX_NESTING):
        found = btf.type(btf.resolve(type_id))
        if isinstance(found, Var):
            type_id = found.type_id
            continue
        is_nameless = isinstance(found, Datasec) or (depth > 0 and not part)
        if not offset and not is_nameless:
            break
        inside = _part_at(btf, found, offset)
        if inside is None:
            break
        part, type_id, start = inside
        name += part
        offset -= start
    return f"{name}+{offset}" if offset else name


def _part_at(btf: Btf, found: Type, offset: int) -> tuple[str, int, int] | None:
    """The part of a value that a byte belongs to: its name, its type, and where it begins."""
    if isinstance(found, Array):
        size = btf.size_of(found.type_id)
        if not size or not 0 <= offset < size * found.count:
            return None
        return f"[{offset // size}]", found.type_id, offset // size * size
    if isinstance(found, Datasec):
        for variable in found.variables:
            if variable.offset <= offset < variable.offset + variable.size:
                return btf.name_of(variable.type_id), variable.type_id, variable.offset
    elif isinstance(found, Composite):
        for member in found.members:
            start = member.bit_offset // 8
            if not member.bitfield_size and start <= offset < start + btf.size_of(member.type_id):
                return f".{member.name}" if member.name else "", member.type_id, start
    return None


def _layout(btf: Btf, type_id: int, found: Composite) -> str:
    keyword = "struct" if isinstance(found, Struct) else "union"
    lines = [(f"{keyword} {found.name}".rstrip() + " {", _bytes(found.size))]
    _members(btf, found, 0, 1, lines)
    packed = " __attribute__((packed))" if btf.is_packed(type_id) else ""
    lines.append((f"}}{packed};", ""))
    lines = [(text.expandtabs(_TAB), comment) for text, comment in lines]
    column = min(max(len(text) for text, comment in lines if comment), MAX_COLUMN)
    return "\n".join(f"{text:<{column}}  /* {comment} */" if comment else text for text, comment in lines)


def _members(btf: Btf, composite: Composite, base: int, depth: int, lines: list[tuple[str, str]]) -> None:
    """Lines, and what is said of them, for the members of a structure that begins at bit `base`."""
    if depth > MAX_NESTING:
        raise FormatError(f"BTF: types are nested deeper than {MAX_NESTING}")
    indent = "\t" * depth
    is_struct = isinstance(composite, Struct)
    end = 0
    for member in composite.members:
        if len(lines) > MAX_LINES:
            raise FormatError(f"BTF: the layout of a type has more than {MAX_LINES} lines")
        if is_struct:
            _hole(lines, indent, end, member.bit_offset)
        size = 8 * btf.size_of(member.type_id)
        at = base + member.bit_offset
        inner = _anonymous(btf, member.type_id)
        if member.bitfield_size:
            place = f"{at // 8:5}:{at % 8:<2}{size // 8:3}"
            text = f"{declaration(btf, member.type_id, member.name)}:{member.bitfield_size};"
        else:
            place = f"{at // 8:5} {size // 8:5}"
            text = f"{declaration(btf, member.type_id, member.name)};" if inner is None else ""
        if inner is not None:
            keyword = "struct" if isinstance(inner[1], Struct) else "union"
            lines.append((f"{indent}{keyword} {{", ""))
            _members(btf, inner[1], at, depth + 1, lines)
            counts = "".join(f"[{count}]" for count in inner[0])
            lines.append((f"{indent}}} {member.name}{counts}".rstrip() + ";", place))
        else:
            *before, last = text.split("\n")
            lines += [(f"{indent}{line}", "") for line in before]
            lines.append((f"{indent}{last}", place))
        end = member.bit_offset + (member.bitfield_size or size)
    if is_struct:
        _hole(lines, indent, end, 8 * composite.size)


def _anonymous(btf: Btf, type_id: int) -> tuple[Sequence[int], Composite] | None:
    """The anonymous structure that a member is, and how many in each dimension if it is an array of them."""
    counts: list[int] = []
    for _ in range(MAX_NESTING):
        found = btf.type(type_id)
        if isinstance(found, Array):
            counts.append(found.count)
            type_id = found.type_id
        elif isinstance(found, Composite) and not found.name:
            return counts, found
        else:
            break
    return None


def _hole(lines: list[tuple[str, str]], indent: str, end: int, start: int) -> None:
    """A line for what lies unused between two bits."""
    if start <= end:
        return
    whole, bits = divmod(start - end, 8)
    parts = [_bytes(whole)] if whole else []
    parts += [f"{bits} bit{'s' if bits > 1 else ''}"] if bits else []
    lines.append((f"{indent}/* {' and '.join(parts)} unused */", ""))


def _bytes(count: int) -> str:
    return f"{count} byte" if count == 1 else f"{count} bytes"
