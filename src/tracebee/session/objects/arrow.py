"""Streams of events as tables of Apache Arrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.btf.values import (
    ArrayCodec,
    BoolCodec,
    BytesCodec,
    FloatCodec,
    NumberCodec,
    RecordCodec,
    TextCodec,
)
from tracebee.errors import NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracebee.btf.values import ValueCodec


def table_of(codec: ValueCodec | None, values: Sequence[Any], metadata: Mapping[str, str]) -> Any:
    """A pyarrow.Table with a column for each member of a structure, or one called "value".

    Raises NotSupportedError without pyarrow.
    """
    try:
        import pyarrow
    except ImportError:
        raise NotSupportedError(
            "tables of Arrow without pyarrow", hint="pip install tracebee[arrow]"
        ) from None
    if isinstance(codec, RecordCodec):
        fields = [(place.name, arrow_type(place.codec)) for place in codec.places]
        rows = [tuple(value) for value in values]
        columns = [
            pyarrow.array([_plain(row[at]) for row in rows], type=kind) for at, (_, kind) in enumerate(fields)
        ]
        schema = pyarrow.schema(fields, metadata=dict(metadata))
        return pyarrow.Table.from_arrays(columns, schema=schema)
    kind = arrow_type(codec) if codec is not None else pyarrow.binary()
    schema = pyarrow.schema([("value", kind)], metadata=dict(metadata))
    return pyarrow.Table.from_arrays(
        [pyarrow.array([_plain(one) for one in values], type=kind)], schema=schema
    )


def arrow_type(codec: ValueCodec) -> Any:
    """Arrow's type for the values of a codec."""
    import pyarrow

    if isinstance(codec, BoolCodec):
        return pyarrow.bool_()
    if isinstance(codec, NumberCodec):
        if codec.size > 8:
            return pyarrow.decimal256(40)
        name = f"{'int' if codec.signed else 'uint'}{8 * codec.size}"
        return getattr(pyarrow, name)()
    if isinstance(codec, FloatCodec):
        return {2: pyarrow.float16, 4: pyarrow.float32}.get(codec.size, pyarrow.float64)()
    if isinstance(codec, TextCodec):
        return pyarrow.string()
    if isinstance(codec, BytesCodec):
        return pyarrow.binary()
    if isinstance(codec, ArrayCodec):
        return pyarrow.list_(arrow_type(codec.element))
    if isinstance(codec, RecordCodec):
        return pyarrow.struct([(place.name, arrow_type(place.codec)) for place in codec.places])
    return pyarrow.int64()


def _plain(value: Any) -> Any:
    """A value as Arrow takes it: structures by name; text of what is no UTF-8 with marks in its place."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
