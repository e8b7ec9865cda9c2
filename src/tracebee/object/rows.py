"""What is shown of an object as plain values for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.btf.values import untyped, value_codec
from tracebee.errors import FormatError, UsageError
from tracebee.object.describe import LARGEST_VALUE

if TYPE_CHECKING:
    from tracebee.btf.reader import Btf
    from tracebee.object.describe import GlobalRow


LARGEST_ZEROS = 1 << 10
"""Bytes of a variable that starts as zeros, and is shown part by part."""


def plain(value: Any) -> Any:
    """Named tuples as dicts, bytes as hex, all other sequences as lists."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: plain(getattr(value, name)) for name in value._fields}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    return value


def initial_value(row: GlobalRow, btf: Btf | None, byteorder: str) -> tuple[Any, str]:
    """What a variable starts as, by its type: for JSON, and in C.  None for JSON where that is too long."""
    if row.data is None or row.size > (LARGEST_VALUE if row.data else LARGEST_ZEROS):
        return None, "" if row.data is None else "0"
    data = row.data.ljust(row.size, b"\0")
    try:
        if row.type_id:
            codec = value_codec(btf, row.type_id, row.size)
        else:
            codec = untyped(row.size, "little" if byteorder == "little" else "big")
        value = codec.decode(data)
        return codec.plain(value), codec.text(value)
    except (FormatError, UsageError):
        return data.hex(), f"hex {data.hex(' ')}"
