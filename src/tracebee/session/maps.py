"""The maps of a script while it runs, as mappings from typed keys to typed values."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from tracebee.errors import UsageError
from tracebee.session.aggregate import merger
from tracebee.spec.types import (
    Aggregation,
    Array,
    Bool,
    Buffer,
    Enum,
    Int,
    Pointer,
    Record,
    Str,
    Struct,
    Tuple,
    Type,
    align_up,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.session.backend import Backend, BackendMap
    from tracebee.session.decode import Decoder
    from tracebee.spec.objects import MapInfo


class ScriptMap(MutableMapping[Any, Any]):
    """A map with keys.  Reading a key that is not there raises KeyError; keys and values are checked by type.

    Values of aggregations can be read, not written.
    """

    def __init__(self, info: MapInfo, store: BackendMap, decoder: Decoder) -> None:
        self.info = info
        self.store = store
        self._merge = merger(info.value)
        self._value = None if self._merge else decoder.function(info.value)
        self._key = decoder.function(info.key) if info.key is not None else None
        self._seen: dict[Any, bytes] = {}

    def __repr__(self) -> str:
        return f"<{self.info.name}: {self.info.key} → {self.info.value}>"

    def decode_value(self, data: bytes) -> Any:
        """The value out of what the kernel keeps: the CPUs' parts are merged."""
        if self._merge is None:
            assert self._value is not None
            return self._value(data)
        slot = self.store.slot
        return self._merge([data[at : at + slot] for at in range(0, len(data), slot)])

    def _encode_key(self, key: Any) -> bytes:
        """A key's bytes.  Stacks and names cannot be made from their text, but those that were read are known."""
        assert self.info.key is not None
        if self._has_names:
            known = self._seen.get(key)
            if known is not None:
                return known
        return encode(self.info.key, key, f"a key of {self.info.name}").ljust(self.store.spec.key_size, b"\0")

    def __getitem__(self, key: Any) -> Any:
        data = self.store.get(self._encode_key(key))
        if data is None:
            raise KeyError(key)
        return self.decode_value(data)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.store.put(self._encode_key(key), self.encode_value(value))

    def __delitem__(self, key: Any) -> None:
        if not self.store.remove(self._encode_key(key)):
            raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        for key, _ in self.items_now():
            yield key

    def __len__(self) -> int:
        return sum(1 for _ in self.store.items())

    @property
    def _has_names(self) -> bool:
        """Whether a key, or a part of it, is decoded to something that it cannot be made from."""
        key = self.info.key
        parts = key.elements if isinstance(key, Tuple) else (key,)
        return any(type(part) not in _ENCODERS for part in parts)

    def items_now(self) -> list[tuple[Any, Any]]:
        """All keys and values at once; what other CPUs add or remove meanwhile may be in it or not."""
        assert self._key is not None
        found = [(self._key(key), key, self.decode_value(value)) for key, value in self.store.items()]
        if self._has_names:
            self._seen = {key: data for key, data, _ in found if isinstance(key, Hashable)}
        return [(key, value) for key, _, value in found]

    def items(self) -> Any:
        return dict_items(self.items_now())

    def encode_value(self, value: Any) -> bytes:
        if isinstance(self.info.value, Aggregation):
            raise UsageError(f"{self.info.name} is built up by the script and cannot be set")
        data = encode(self.info.value, value, f"a value of {self.info.name}")
        return data.ljust(self.store.spec.value_size, b"\0")

    def clear(self) -> None:
        """Remove all keys."""
        self.store.clear()

    def zero(self) -> None:
        """Set all values to zero."""
        for key, value in list(self.store.items()):
            self.store.put(key, bytes(len(value)))


class dict_items(list[tuple[Any, Any]]):
    """Items as a list: a map that changes under the reader can have no view."""


class ScalarMap:
    """A map without keys: one value, and whether there is one."""

    def __init__(self, info: MapInfo, store: BackendMap, decoder: Decoder) -> None:
        self.info = info
        self.store = store
        self._inner = ScriptMap(info, store, decoder)
        self._flag = align_up(info.value.size, 8)

    def _data(self) -> bytes:
        return self.store.get(bytes(4)) or bytes(self.store.slot * self.store.cpus)

    @property
    def is_set(self) -> bool:
        """Whether the script, or somebody here, has given it a value."""
        data = self._data()
        slot = self.store.slot
        return any(any(data[at + self._flag : at + self._flag + 8]) for at in range(0, len(data), slot))

    @property
    def value(self) -> Any:
        """The value; zero if there is none."""
        return self._inner.decode_value(self._data())

    @value.setter
    def value(self, value: Any) -> None:
        data = self._inner.encode_value(value)[: self._flag].ljust(self._flag, b"\0")
        self.store.put(bytes(4), data + (1).to_bytes(8, "little"))

    def clear(self) -> None:
        """Back to no value."""
        self.store.put(bytes(4), bytes(self.store.slot * self.store.cpus))

    def zero(self) -> None:
        """Set the value to zero; it stays set."""
        part = bytes(self._flag) + (1).to_bytes(8, "little")
        self.store.put(bytes(4), part.ljust(self.store.slot, b"\0") * self.store.cpus)


class ScriptMaps(Mapping[str, Any]):
    """All maps of a script by name; the ``@`` may be left out.

    ``maps["@count"]`` is the value of a map without keys, and ``maps["@count"] = 5`` sets it; for one with
    keys it is a ScriptMap.
    """

    def __init__(self, infos: tuple[MapInfo, ...], backend: Backend, decoder: Decoder) -> None:
        self._maps: dict[str, ScriptMap | ScalarMap] = {}
        for info in infos:
            store = backend.maps[info.map]
            kind = ScalarMap if info.key is None else ScriptMap
            self._maps[info.name] = kind(info, store, decoder)

    def find(self, name: str) -> ScriptMap | ScalarMap:
        """The map itself, also where it has no keys.  Raises KeyError."""
        return self._maps[name if name.startswith("@") else f"@{name}"]

    def __getitem__(self, name: str) -> Any:
        found = self.find(name)
        return found.value if isinstance(found, ScalarMap) else found

    def __setitem__(self, name: str, value: Any) -> None:
        found = self.find(name)
        if isinstance(found, ScalarMap):
            found.value = value
            return
        if not isinstance(value, Mapping):
            raise UsageError(f"{found.info.name} has keys: set {found.info.name}[key], or give a mapping")
        found.clear()
        found.update(value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)


def encode(type_: Type, value: Any, what: str) -> bytes:
    """The bytes of a value, zero-padded as programs write them.

    Raises UsageError if the value does not fit the type; `what` says in the message what it is.
    """
    encoder = _ENCODERS.get(type(type_))
    if encoder is None:
        raise UsageError(f"{what} is of type {type_}, which cannot be set")
    try:
        return encoder(type_, value, what)
    except (TypeError, ValueError, OverflowError, AttributeError, LookupError) as error:
        raise UsageError(f"{what} is of type {type_}; {value!r} is none") from error


def _integer(type_: Any, value: Any, what: str) -> bytes:
    number = value.__index__()
    if isinstance(type_, Pointer):
        return int(number).to_bytes(8, "little")
    try:
        return int(number).to_bytes(type_.size, "little", signed=type_.signed)
    except OverflowError:
        raise UsageError(f"{what} is of type {type_}; {value} does not fit") from None


def _bytes(value: Any) -> bytes:
    """Bytes as they are; bytes(5) would be five of them."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError("not bytes")
    return bytes(value)


def _text(type_: Any, value: Any, what: str) -> bytes:
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else _bytes(value)
    # A string that fills its bytes counts as cut short, and would be read back as another.
    if len(data) >= type_.capacity:
        raise UsageError(f"{what} holds {type_.capacity - 1} bytes of text; {value!r} has {len(data)}")
    return data.ljust(type_.capacity, b"\0")


def _buffer(type_: Any, value: Any, what: str) -> bytes:
    data = _bytes(value)
    if len(data) > type_.capacity:
        raise UsageError(f"{what} holds {type_.capacity} bytes; the value has {len(data)}")
    return len(data).to_bytes(4, "little") + data.ljust(type_.capacity, b"\0")


def _elements(type_: Any, value: Any, what: str) -> bytes:
    if isinstance(type_, Record):
        values = [value[name] for name in type_.names]
    else:
        values = list(value)
    if len(values) != len(type_.elements):
        raise UsageError(f"{what} has {len(type_.elements)} parts; {value!r} has {len(values)}")
    data = bytearray(type_.size)
    for element, offset, part in zip(type_.elements, type_.offsets, values, strict=True):
        data[offset : offset + element.size] = encode(element, part, what)
    return bytes(data)


def _array(type_: Any, value: Any, what: str) -> bytes:
    if len(value) != type_.count:
        raise UsageError(f"{what} has {type_.count} elements; the value has {len(value)}")
    return b"".join([encode(type_.element, part, what) for part in value])


def _struct(type_: Any, value: Any, what: str) -> bytes:
    data = bytearray(type_.size)
    for name, part in value.items():
        field = type_.find(name)
        if field is None or field.bits:
            raise UsageError(f"{what}: {type_} has no member {name!r} that can be set")
        data[field.offset : field.offset + field.type.size] = encode(field.type, part, what)
    return bytes(data)


_ENCODERS: dict[type, Callable[[Any, Any, str], bytes]] = {
    Int: _integer,
    Enum: _integer,
    Pointer: _integer,
    Bool: lambda type_, value, what: bytes([bool(value)]),
    Str: _text,
    Buffer: _buffer,
    Tuple: _elements,
    Record: _elements,
    Array: _array,
    Struct: _struct,
}
