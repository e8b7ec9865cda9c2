"""Values of BTF types as columns of Arrow (the package pyarrow, which is optional)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.btf.values import (
    ArrayCodec,
    BitsCodec,
    BoolCodec,
    BytesCodec,
    FloatCodec,
    NumberCodec,
    RecordCodec,
    TextCodec,
)
from tracebee.errors import NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.btf.values import ValueCodec


def arrow() -> Any:
    """The module pyarrow.  Raises NotSupportedError if it is not there."""
    try:
        import pyarrow
    except ImportError:
        raise NotSupportedError(
            "tables of Arrow need the package pyarrow", hint="pip install tracebee[arrow]"
        ) from None
    return pyarrow


def column_type(codec: ValueCodec) -> Any:
    """The type of Arrow for a type of BTF: of its width and sign; a structure is a struct.

    Numbers of 16 bytes are decimals, since Arrow has no such integers.
    """
    pa = arrow()
    if isinstance(codec, BoolCodec):
        return pa.bool_()
    if isinstance(codec, BitsCodec):
        if isinstance(codec.inner, BoolCodec):
            return pa.bool_()
        return column_type(codec.inner)
    if isinstance(codec, NumberCodec):
        if codec.size not in (1, 2, 4, 8):
            return pa.decimal256(40)
        return getattr(pa, f"{'int' if codec.signed else 'uint'}{8 * codec.size}")()
    if isinstance(codec, FloatCodec):
        return {2: pa.float16(), 4: pa.float32(), 8: pa.float64()}[codec.size]
    if isinstance(codec, TextCodec):
        return pa.string()
    if isinstance(codec, ArrayCodec):
        return pa.list_(column_type(codec.element), codec.count)
    if isinstance(codec, RecordCodec):
        return pa.struct([(place.name, column_type(place.codec)) for place in codec.places])
    return pa.binary(codec.size) if codec.size else pa.null()


def column_value(codec: ValueCodec, value: Any) -> Any:
    """A decoded value as pyarrow takes it for `column_type`."""
    if isinstance(codec, RecordCodec):
        named = value if isinstance(value, dict) else dict(zip(codec.names, value, strict=True))
        return {place.name: column_value(place.codec, named[place.name]) for place in codec.places}
    if isinstance(codec, ArrayCodec):
        return [column_value(codec.element, one) for one in value]
    if isinstance(codec, TextCodec):
        # Strings of Arrow are UTF-8, without exception.
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(codec, NumberCodec) and codec.size not in (1, 2, 4, 8):
        from decimal import Decimal

        return Decimal(value)
    return value


def table_of(columns: Sequence[tuple[str, ValueCodec, int, Iterable[Any]]]) -> Any:
    """A table of columns: each its name, its type, how many values a cell is a list of (0: it is none), values."""
    pa = arrow()
    arrays = []
    for _, codec, each, values in columns:
        plain = isinstance(codec, NumberCodec | FloatCodec | BytesCodec) and codec.size <= 8
        one = column_type(codec)
        if each:
            cells: Any = [[column_value(codec, part) for part in value] for value in values]
            arrays.append(pa.array(cells, pa.list_(one, each)))
        else:
            cells = list(values) if plain else [column_value(codec, value) for value in values]
            arrays.append(pa.array(cells, one))
    fields = [
        pa.field(name, array.type, nullable=False) for (name, *_), array in zip(columns, arrays, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))
