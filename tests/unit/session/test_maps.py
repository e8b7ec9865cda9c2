"""Maps as mappings of typed values, over a store of bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from tracebee.errors import UsageError
from tracebee.session.decode import Decoder
from tracebee.session.maps import ScriptMap, ScriptMaps, encode
from tracebee.session.names import Names
from tracebee.spec.objects import MapInfo, MapSpec, Schema
from tracebee.spec.types import (
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT64,
    Array,
    Bool,
    Buffer,
    Count,
    Enum,
    Extreme,
    Field,
    KSym,
    Pointer,
    Record,
    Str,
    Struct,
    Tuple,
    Type,
    Void,
    align_up,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.session.backend import Backend


class Store:
    """A map of a backend: a dictionary of bytes that insists on their sizes."""

    def __init__(self, spec: MapSpec, cpus: int) -> None:
        self.spec = spec
        self.slot = align_up(spec.value_size, 8) if "PERCPU" in spec.type else spec.value_size
        self.cpus = cpus if "PERCPU" in spec.type else 1
        self.data: dict[bytes, bytes] = {}
        if "ARRAY" in spec.type:
            self.data[bytes(4)] = bytes(self.slot * self.cpus)

    def get(self, key: bytes) -> bytes | None:
        assert len(key) == self.spec.key_size
        return self.data.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        assert (len(key), len(value)) == (self.spec.key_size, self.slot * self.cpus)
        self.data[key] = value

    def remove(self, key: bytes) -> bool:
        assert len(key) == self.spec.key_size
        return self.data.pop(key, None) is not None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.data.items())

    def clear(self) -> None:
        self.data.clear()


class Stores:
    def __init__(self, *specs: MapSpec) -> None:
        self.maps = {spec.name: Store(spec, 2) for spec in specs}


def made(key: Type | None, value: Type, kind: str = "HASH") -> tuple[ScriptMaps, Store]:
    """The maps of a script with one map, ``@m``, and the store behind it."""
    key_size = 4 if key is None else align_up(key.size, 8)
    value_size = align_up(value.size, 8) + (8 if key is None else 0)
    stores = Stores(MapSpec("AT_m", kind, key_size, value_size, 100))
    info = MapInfo("@m", "AT_m", key, value, "PERCPU" in kind)
    decoder = Decoder(Names(Schema(), lambda stack_id: None), "..")
    return ScriptMaps((info,), cast("Backend", stores), decoder), stores.maps["AT_m"]


# ---------------------------------------------------------------------- maps with keys


def test_a_map_is_a_mapping() -> None:
    maps, _ = made(Tuple((INT32, Str(8))), INT64)
    found = maps["@m"]
    assert maps["m"] is found
    found[(1, "one")] = -1
    found[(2, "two")] = 2
    assert (found[(1, "one")], len(found), sorted(found)) == (-1, 2, [(1, "one"), (2, "two")])
    assert dict(found) == {(1, "one"): -1, (2, "two"): 2}
    assert sorted(found.items()) == [((1, "one"), -1), ((2, "two"), 2)]
    assert (1, "one") in found
    assert (1, "two") not in found
    del found[(1, "one")]
    assert dict(found) == {(2, "two"): 2}
    with pytest.raises(KeyError):
        found[(1, "one")]
    with pytest.raises(KeyError):
        del found[(1, "one")]
    assert found.get((1, "one"), "none") == "none"


def test_clear_and_zero() -> None:
    maps, store = made(INT64, INT64)
    found = maps["@m"]
    found[1] = 5
    found[2] = 6
    found.zero()
    assert dict(found) == {1: 0, 2: 0}
    found.clear()
    assert len(found) == 0
    assert store.data == {}


def test_a_map_can_be_set_as_a_whole() -> None:
    maps, _ = made(INT64, Str(8))
    maps["@m"] = {1: "a"}
    maps["@m"] = {2: "b", 3: "c"}
    assert dict(maps["@m"]) == {2: "b", 3: "c"}
    with pytest.raises(UsageError, match="has keys"):
        maps["@m"] = 5


def test_aggregations_are_read_not_written() -> None:
    maps, store = made(INT64, Count(), "PERCPU_HASH")
    store.put((7).to_bytes(8, "little"), (3).to_bytes(8, "little") + (4).to_bytes(8, "little"))
    found = maps["@m"]
    assert dict(found) == {7: 7}
    with pytest.raises(UsageError, match="cannot be set"):
        found[7] = 1
    found.zero()
    assert dict(found) == {7: 0}


def test_names_of_maps() -> None:
    maps, _ = made(INT64, INT64)
    assert list(maps) == ["@m"]
    assert len(maps) == 1
    assert "@other" not in maps
    assert isinstance(maps.find("m"), ScriptMap)
    assert repr(maps["@m"]) == "<@m: int64 → int64>"


# ---------------------------------------------------------------------- maps without keys


def test_a_scalar() -> None:
    maps, store = made(None, INT32, "ARRAY")
    scalar: Any = maps.find("@m")
    assert (maps["@m"], scalar.is_set) == (0, False)
    maps["@m"] = -5
    assert (maps["@m"], scalar.is_set) == (-5, True)
    maps["@m"] = 0
    assert (maps["@m"], scalar.is_set) == (0, True)
    scalar.clear()
    assert scalar.is_set is False
    assert set(store.data) == {bytes(4)}


def test_a_scalar_of_all_cpus() -> None:
    maps, store = made(None, Extreme(True, True), "PERCPU_ARRAY")
    scalar: Any = maps.find("@m")
    assert (maps["@m"], scalar.is_set) == (None, False)
    store.put(bytes(4), bytes(24) + (9).to_bytes(8, "little") + (1).to_bytes(8, "little") * 2)
    assert (maps["@m"], scalar.is_set) == (9, True)
    with pytest.raises(UsageError):
        maps["@m"] = 5


# ---------------------------------------------------------------------- values to bytes

POINT = Struct("struct", "point", 8, 4, None, lambda: (Field("x", INT32, 0), Field("b", INT32, 4, bits=3)))


@pytest.mark.parametrize(
    ("type_", "value", "data"),
    [
        (INT8, -1, b"\xff"),
        (UINT64, 2**64 - 1, b"\xff" * 8),
        (INT32, True, b"\1\0\0\0"),
        (Enum("e", 2, False, ()), 3, b"\3\0"),
        (Pointer(Void()), 0xFFFF_0000_0000_0000, bytes(6) + b"\xff\xff"),
        (Bool(), 5, b"\1"),
        (Str(6), "äb", b"\xc3\xa4b\0\0\0"),
        (Str(4), b"abc", b"abc\0"),
        (Str(4), "a\udcff", b"a\xff\0\0"),
        (Buffer(4), b"ab", b"\2\0\0\0ab\0\0"),
        (Buffer(2), bytearray(b"ab"), b"\2\0\0\0ab"),
        (Tuple((INT8, INT32)), (1, 2), b"\1\0\0\0\2\0\0\0"),
        (Tuple((INT8, INT32)), [1, 2], b"\1\0\0\0\2\0\0\0"),
        (Record(("a", "b"), (INT8, INT8)), {"b": 2, "a": 1}, b"\1\2"),
        (Array(UINT8, 3), (1, 2, 3), b"\1\2\3"),
        (POINT, {"x": 1}, b"\1\0\0\0\0\0\0\0"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_encoded(type_: Type, value: Any, data: bytes) -> None:
    assert encode(type_, value, "a key") == data


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (INT8, 128),
        (UINT8, -1),
        (INT64, 2**63),
        (INT64, "5"),
        (INT64, 5.0),
        (INT64, None),
        (Pointer(Void()), -1),
        (Pointer(Void()), 2**64),
        (Str(4), "abcdef"),
        (Str(4), 5),
        (Str(4), None),
        (Str(4), [1, 2]),
        (Str(8), 10**12),
        (Buffer(2), b"abc"),
        (Buffer(2), 2),
        (Buffer(2), "ab"),
        (Tuple((INT8, INT8)), (1,)),
        (Tuple((INT8, INT8)), (1, 2, 3)),
        (Tuple((INT8, INT8)), 5),
        (Tuple((INT8, INT8)), (1, "x")),
        (Record(("a",), (INT8,)), {"b": 1}),
        (Record(("a",), (INT8,)), 5),
        (Array(INT8, 2), [1]),
        (Array(INT8, 2), 7),
        (POINT, 5),
        (POINT, {"y": 1}),
        (POINT, {"b": 1}),
        (KSym(), 5),
        (Count(), 5),
    ],
    ids=lambda value: str(value)[:30],
)
def test_refused(type_: Type, value: Any) -> None:
    with pytest.raises(UsageError, match="a key of @m"):
        encode(type_, value, "a key of @m")


def test_a_text_that_would_be_read_back_as_another() -> None:
    """One that fills its bytes counts as cut short, and is shown with a trailer."""
    maps, _ = made(INT64, Str(4))
    maps["@m"][1] = "abc"
    assert maps["@m"][1] == "abc"
    with pytest.raises(UsageError, match="3 bytes of text"):
        maps["@m"][1] = "abcd"
