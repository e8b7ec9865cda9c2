"""A BTF type by type, as it is stored: the text of ``bpftool btf dump format raw``, and the values of its JSON.

A type is a line, and an indented one for each of its parts::

    [90] TYPEDEF 'atomic_t' type_id=89
    [89] STRUCT '(anon)' size=4 vlen=1
        'counter' type_id=21 bits_offset=0
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.btf.types import (
    Array,
    Composite,
    Datasec,
    DeclTag,
    Enumeration,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Modifier,
    Ptr,
    Typedef,
    TypeTag,
    Var,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tracebee.btf.reader import Btf

ANONYMOUS = "(anon)"

KIND_NAMES = (
    *("VOID", "INT", "PTR", "ARRAY", "STRUCT", "UNION", "ENUM", "FWD", "TYPEDEF", "VOLATILE", "CONST"),
    *("RESTRICT", "FUNC", "FUNC_PROTO", "VAR", "DATASEC", "FLOAT", "DECL_TAG", "TYPE_TAG", "ENUM64"),
)
"""The kinds by their number, as linux/btf.h calls them after BTF_KIND_."""

_ENCODINGS = {0: "(none)", 1: "SIGNED", 2: "CHAR", 4: "BOOL"}
_LINKAGES = ("static", "global", "extern")


def own_ids(btf: Btf) -> range:
    """The types that `btf` has itself, without those of the BTF that it continues."""
    return range(btf.first_id, len(btf))


def kind_name(kind: int) -> str:
    """What linux/btf.h calls a kind, without BTF_KIND_."""
    return KIND_NAMES[kind] if 0 <= kind < len(KIND_NAMES) else "UNKNOWN"


def raw_values(btf: Btf, type_ids: Iterable[int]) -> Iterator[dict[str, Any]]:
    """An object for each type, with a list of its parts if it has any.  Raises FormatError."""
    for type_id in type_ids:
        yield _fields(btf, type_id)


def raw_lines(btf: Btf, type_ids: Iterable[int]) -> Iterator[str]:
    """The lines for each type.  Raises FormatError."""
    for type_id in type_ids:
        fields = _fields(btf, type_id)
        kind = fields["kind"]
        line = f"[{fields['id']}] {kind} '{fields['name']}'"
        parts: list[dict[str, Any]] = []
        for key, value in fields.items():
            if isinstance(value, list):
                parts = value
            elif key not in ("id", "kind", "name"):
                line += f" {key}={value}"
        # bpftool has a comma here and nowhere else.
        yield line.replace(" linkage=", ", linkage=") if kind == "VAR" else line
        suffix = ""
        if kind == "ENUM64":
            suffix = "LL" if fields["encoding"] == "SIGNED" else "ULL"
        for part in parts:
            words = [f"'{value}'" if key == "name" else f"{key}={value}" for key, value in part.items()]
            if kind == "DATASEC":
                of = part["type_id"]
                words.append(f"({kind_name(btf.kind_of(of))} '{btf.name_of(of)}')")
            yield f"\t{' '.join(words)}{suffix}"


def _fields(btf: Btf, type_id: int) -> dict[str, Any]:
    found = btf.type(type_id)
    fields: dict[str, Any] = {
        "id": type_id,
        "kind": kind_name(btf.kind_of(type_id)),
        "name": found.name or ANONYMOUS,
    }
    match found:
        case Int():
            fields |= {"size": found.size, "bits_offset": found.bit_offset, "nr_bits": found.bits}
            fields["encoding"] = _ENCODINGS.get(found.encoding, "UNKN")
        case Array():
            fields |= {"type_id": found.type_id, "index_type_id": found.index_type_id}
            fields["nr_elems"] = found.count
        case Composite():
            fields |= {"size": found.size, "vlen": len(found.members)}
            fields["members"] = members = []
            for member in found.members:
                one = {"name": member.name or ANONYMOUS, "type_id": member.type_id}
                one["bits_offset"] = member.bit_offset
                if member.bitfield_size:
                    one["bitfield_size"] = member.bitfield_size
                members.append(one)
        case Enumeration():
            fields["encoding"] = "SIGNED" if found.signed else "UNSIGNED"
            fields |= {"size": found.size, "vlen": len(found.values)}
            fields["values"] = [{"name": value.name, "val": value.value} for value in found.values]
        case Fwd():
            fields["fwd_kind"] = "union" if found.is_union else "struct"
        case Func() | Var():
            linkage = _LINKAGES[found.linkage] if found.linkage < len(_LINKAGES) else "(unknown)"
            fields |= {"type_id": found.type_id, "linkage": linkage}
        case FuncProto():
            fields |= {"ret_type_id": found.return_type_id, "vlen": len(found.params)}
            fields["params"] = [
                {"name": param.name or ANONYMOUS, "type_id": param.type_id} for param in found.params
            ]
        case Datasec():
            fields |= {"size": found.size, "vlen": len(found.variables)}
            fields["vars"] = [
                {"type_id": one.type_id, "offset": one.offset, "size": one.size} for one in found.variables
            ]
        case Float():
            fields["size"] = found.size
        case DeclTag():
            fields |= {"type_id": found.type_id, "component_idx": found.component_index}
        case Ptr() | Modifier() | Typedef() | TypeTag():
            fields["type_id"] = found.type_id
        case _:
            pass  # void, and kinds younger than this list
    return fields
